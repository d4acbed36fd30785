"""From received series to results: rows in the worklist, entries in the audit trail, and objects to send.

A slice is judged as soon as it is received, a series when it is due (see `series_clock`). After a restart, series
without a result are judged from the disk; an object that comes late opens its series again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_ct.bundle import Bundle
from edge_ct.decision import SeriesVerdict
from edge_ct.engines.names import DEFAULT_ENGINE, EngineName
from edge_ct.errors import EdgeCTError
from edge_ct.reporting.counts import count_of

from ..judging.dicom_frames import FrameAttributes
from ..judging.judge import Judge
from ..judging.series import JudgedFrame, SeriesResult, mean_verdict
from ..worklist.worklist import Worklist
from .receive.spool import Arrival, Spool
from .received_jobs import ORIGIN
from .reply.answers import build_answers, encode_dataset, preload_libraries
from .reply.structured_report import READINGS
from .send.outbox import Courier, Outbox, Parcel, Target
from .series_clock import DueSeries, SeriesClock
from .series_judge import SeriesJudge

LOG = logging.getLogger("edge_ct.listen")
_DELETE_EVERY_SECONDS = 60.0


@dataclass(frozen=True)
class NodeOptions:
    """Options of the node.

    Attributes:
        quiet: Seconds without a new object after which a series is due.
        captures: Maximum number of heat maps sent for a series.
        workers: Number of processes that judge.
        show_identity: Store PatientID in clear instead of its pseudonym.
        keep_seconds: Seconds for which objects stay on the disk after they were judged or sent.
        engine: The program that computes the network.
    """

    quiet: float = 10.0
    captures: int = 3
    workers: int = 2
    show_identity: bool = False
    keep_seconds: float = 24 * 3600.0
    engine: EngineName = DEFAULT_ENGINE


class Node:
    """Judges the series that the spool receives, and sends the answers."""

    def __init__(
        self,
        worklist: Worklist,
        spool: Spool,
        bundle: Bundle,
        targets: Sequence[Target] = (),
        options: NodeOptions | None = None,
        judge: Judge | None = None,
    ) -> None:
        """Begin to load the bundle.

        Args:
            worklist: Where rows, the audit trail and the queues are.
            spool: Where received objects are.
            bundle: The bundle that judges.
            targets: Where answers are sent.
            options: Options of the node.
            judge: The worker processes; by default a pool is opened here.
        """
        self._worklist, self._spool, self._bundle = worklist, spool, bundle
        self._options = options or NodeOptions()
        self._outbox = Outbox(worklist)
        self._couriers = [Courier(self._outbox, target) for target in targets]
        self.clock = SeriesClock(self._options.quiet, spool.arrivals)
        self._judge = SeriesJudge(
            worklist, spool, bundle, self.clock, self._options.workers, self._options.show_identity, judge
        )
        self._thread = threading.Thread(target=self._conclude_due, name="conclude", daemon=True)

    def start(self) -> None:
        """Start all threads; series that a restart left without a result are judged first."""
        preload_libraries()
        for topic in self._spool.queue.topics():
            self._judge.submit(*self.clock.add(topic.topic))
        self._judge.start()
        for thread in (self._thread, *self._couriers):
            thread.start()

    def arrived(self, arrival: Arrival) -> None:
        """Take a new object that the spool has stored."""
        self._judge.submit(*self.clock.add(arrival.topic, arrival))

    @property
    def alive(self) -> bool:
        """True while the threads that judge and send are running."""
        return all(thread.is_alive() for thread in (self._thread, *self._couriers))

    def stop(self) -> None:
        """End all threads; unfinished series are judged again at the next start."""
        self.clock.stop()
        for courier in self._couriers:
            courier.stop()
        self._judge.stop()
        for thread in (self._thread, *self._couriers):
            if thread.is_alive():
                thread.join(30)

    def _conclude_due(self) -> None:
        last_deletion = time.monotonic()
        while (due := self.clock.wait_for_due()) is not None:
            for series in due:
                self._conclude(series)
            if time.monotonic() - last_deletion > _DELETE_EVERY_SECONDS:
                last_deletion = time.monotonic()
                self._spool.delete_old(self._options.keep_seconds)

    def _conclude(self, due: DueSeries) -> None:
        """Make the result of a series: rows, answers, an entry in the audit trail, a log line."""
        uid, arrivals, judged = due.series.uid, due.arrivals, due.judged
        try:
            # The rows come first, so that an object has one whatever becomes of the result of its series.
            self._worklist.add_all(due.entries)
            if judged:
                result = self._judge.conclude(judged)
                self._answer(arrivals, judged, result)
                patient = self._patient_so_far(judged[0].attributes)
                self._worklist.note(ORIGIN, "series", summarise(result, patient))
                log_result(result, patient)
            self._spool.finish(arrivals)
        except EdgeCTError as error:  # The disk is full, for example.
            LOG.error("series %s has no result yet: %s", uid, error)
            self.clock.postpone(due.series)
            return
        except Exception as error:
            LOG.error("series %s cannot be answered: %s", uid, type(error).__name__)
            self._spool.finish(arrivals)
        self.clock.conclude(due)

    def _patient_so_far(self, attributes: FrameAttributes) -> SeriesVerdict | None:
        """Return the verdict over all series of a patient in this study that are in the worklist.

        None if the series names no patient. It appears in no report, because the same slices would then not always
        give the same report.
        """
        shown = self._options.show_identity
        patient = attributes.patient if shown else self._worklist.pseudonym(attributes.patient)
        if not patient:
            return None
        seal = self._bundle.seal
        return mean_verdict(
            self._bundle.manifest,
            (
                row.probability
                for row in self._worklist.rows(patient=patient, by="number")
                if (row.origin, row.study, row.bundle) == (ORIGIN, attributes.study, seal)
            ),
        )

    def _answer(self, arrivals: Sequence[Arrival], judged: Sequence[JudgedFrame], result: SeriesResult) -> None:
        """Build the answers to a series and put them into the outbox, the report first."""
        if not self._couriers:
            return
        files = {arrival.instance: self._spool.folder / arrival.file for arrival in arrivals}
        reading = self._reading(result)
        for answer in build_answers(
            files, judged, result, self._bundle, self._options.captures, self._judge.read_pixels, reading
        ):
            self._post(answer)

    def _reading(self, result: SeriesResult) -> str | None:
        """Return how reviewers have read an earlier part of a series, which now has grown; None if they have not."""
        rows = [
            row
            for row in self._worklist.rows(state="reviewed", series=result.series, by="number")
            if (row.study, row.bundle) == (result.study, self._bundle.seal)
        ]
        readings = {row.reading for row in rows}
        reading = next((name for name in ("positive", "refer", "negative", "rejected") if name in readings), None)
        if reading is None:
            return None
        names = ", ".join(dict.fromkeys(row.review.reviewer for row in rows if row.review))
        read = f"{READINGS[reading]}, read by {names} on {count_of(len(rows), 'slice')}"
        return f"{read}. This counts before the decision of the model."

    def _post(self, answer: Any) -> None:
        """Put one object into the outbox, once for each target."""
        file = self._spool.write_out(str(answer.SOPInstanceUID), encode_dataset(answer))
        path = (self._spool.folder / file).resolve()
        parcel = Parcel(str(answer.SOPInstanceUID), str(answer.SOPClassUID), str(path))
        for courier in self._couriers:
            if self._outbox.put(parcel, str(courier.target)):
                courier.wake()


def summarise(result: SeriesResult, patient: SeriesVerdict | None) -> dict[str, object]:
    """Return the entry of a series in the audit trail.

    Args:
        result: The result of the series.
        patient: The verdict over all series of its patient so far; it is stored without the patient's key.
    """
    verdict = result.verdict
    return {
        "study": result.study,
        "series": result.series,
        "decision": result.decision,
        "probability": verdict.probability if verdict else None,
        "reason": result.reason,
        "slices": verdict.slices if verdict else 0,
        "skipped": result.skipped,
        "patient": patient and {name: getattr(patient, name) for name in ("decision", "probability", "slices")},
    }


def log_result(result: SeriesResult, patient: SeriesVerdict | None) -> None:
    """Log the result of a series, and that of its patient so far."""
    verdict = result.verdict
    detail = f"{verdict.probability:.1%} over {count_of(verdict.slices, 'slice')}" if verdict else str(result.reason)
    so_far = (
        f"{patient.decision}, {patient.probability:.1%} over {count_of(patient.slices, 'slice')}"
        if patient
        else "no result"
    )
    skipped = sum(result.skipped.values())
    LOG.info(
        "series %s: %s, %s; %d slices skipped; patient so far: %s",
        result.series,
        result.decision,
        detail,
        skipped,
        so_far,
    )
