"""Received series -> judged slices, rows of the worklist, reports and captures, parcels.

A slice is judged as soon as it is here; a series is concluded when its instance count is complete or it has been quiet
for a while. After a restart, series without a result are judged from the disk; what comes late opens its series again.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier
from edge_ct.decision import SeriesVerdict
from edge_ct.errors import EdgeCTError, InputRejected

from ..judging import dicom_objects, series
from ..judging.dicom_frames import FrameAttributes
from ..judging.series import JudgedFrame, SeriesResult
from ..worklist.records import Entry
from ..worklist.worklist import Worklist
from .receive.spool import Arrival, Spool
from .reply import answers
from .send.outbox import Courier, Outbox, Parcel, Target

LOG = logging.getLogger("edge_ct.listen")
ORIGIN = "listen"
_BATCH = 16


@dataclass(frozen=True)
class Options:
    """quiet: seconds without a new object after which a series is judged. captures: how many a series gets.

    keep_seconds: for which objects stay on the disk after they were judged or sent.
    """

    quiet: float = 10.0
    captures: int = 3
    workers: int = 2
    show_identity: bool = False
    keep_seconds: float = 24 * 3600.0


@dataclass
class _Open:
    """A series that is being received."""

    topic: str
    last: float
    arrivals: dict[str, Arrival] = field(default_factory=dict)
    judged: list[JudgedFrame] = field(default_factory=list)
    pending: int = 0
    entries: list[Entry] = field(default_factory=list)
    concluding: bool = False

    def is_due(self, now: float, quiet: float) -> bool:
        """Whether nothing of it is being judged, and it is complete or quiet."""
        if self.pending or self.concluding or not self.arrivals:
            return False
        expected = max((arrival.expected or 0) for arrival in self.arrivals.values())
        return (0 < expected <= len(self.arrivals)) or now - self.last >= quiet


class Node:
    """Judges what the spool receives. Threads: workers with an interpreter each, one that concludes, couriers."""

    def __init__(
        self,
        worklist: Worklist,
        spool: Spool,
        bundle: Bundle,
        targets: Sequence[Target] = (),
        options: Options | None = None,
    ) -> None:
        self._worklist, self._spool, self._bundle = worklist, spool, bundle
        self._options = options or Options()
        self._outbox = Outbox(worklist)
        self._couriers = [Courier(self._outbox, target) for target in targets]
        self._open: dict[str, _Open] = {}
        self._changed = threading.Condition()
        self._tasks: queue.SimpleQueue[tuple[_Open, Arrival] | None] = queue.SimpleQueue()
        self._stopping = False
        # Here and not in the threads: loading a model moves the process's standard error for a moment.
        self._classifier, *workers = (Classifier(bundle) for _ in range(self._options.workers + 1))
        self._threads = [
            threading.Thread(target=self._work, args=(own,), name=f"judge {number}", daemon=True)
            for number, own in enumerate(workers)
        ] + [threading.Thread(target=self._conclude_all, name="conclude", daemon=True)]

    def start(self) -> None:
        """Begin, with the series that a restart left without a result."""
        answers.warm_up()
        for topic in self._spool.queue.topics():
            with self._changed:
                self._load(topic.topic)
        for thread in (*self._threads, *self._couriers):
            thread.start()

    def arrived(self, arrival: Arrival) -> None:
        """A new object is on the disk."""
        with self._changed:
            self._load(arrival.topic, arrival)

    def stop(self) -> None:
        """End; what is not finished is done again at the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for _ in range(self._options.workers):
            self._tasks.put(None)
        for courier in self._couriers:
            courier.stop()
        for thread in (*self._threads, *self._couriers):
            if thread.is_alive():
                thread.join(30)

    def is_idle(self) -> bool:
        """Whether every series that was received has its result."""
        with self._changed:
            return not self._open

    def _load(self, topic: str, arrival: Arrival | None = None) -> None:
        """Take an object into its series. A series that is new here may have been judged before: all of it counts."""
        one = self._open.get(topic)
        known = [arrival] if arrival else []
        if one is None:
            one = self._open[topic] = _Open(topic, time.monotonic())
            known = self._spool.arrivals(topic)
        for own in known:
            if own.instance not in one.arrivals:
                one.arrivals[own.instance] = own
                one.pending += 1
                self._tasks.put((one, own))
        one.last = time.monotonic()

    # Slices.

    def _work(self, classifier: Classifier) -> None:
        while (task := self._tasks.get()) is not None:
            one, arrival = task
            found: list[JudgedFrame] = []
            try:
                found = self._judge(classifier, arrival)
            except Exception as error:  # a worker must outlive whatever an object does to it
                LOG.error("%s: %s while it was judged", arrival.instance, type(error).__name__)
            entries = [self._entry(own) for own in found if not own.skipped]
            with self._changed:
                one.judged.extend(replace(own, judgement=None) for own in found)
                one.entries.extend(entries)
                ready, one.entries = (one.entries, []) if len(one.entries) >= _BATCH else ([], one.entries)
            if ready:
                self._keep(one, ready)
            with self._changed:
                one.pending -= 1
                if not one.pending:
                    self._changed.notify_all()

    def _judge(self, classifier: Classifier, arrival: Arrival) -> list[JudgedFrame]:
        path = self._spool.folder / arrival.file
        source = f"DICOM {arrival.instance}"
        try:
            if not path.is_file():
                return []  # judged before, and its time to be kept is over
            return list(dicom_objects.judge_object(classifier, path, source))
        except InputRejected:
            LOG.warning("%s cannot be read", arrival.instance)
            return []

    def _entry(self, own: JudgedFrame) -> Entry:
        assert own.judgement is not None
        facts = own.attributes
        entry = self._worklist.entry(
            own.judgement,
            self._bundle,
            origin=ORIGIN,
            patient=facts.patient,
            key=f"dicom {facts.key}",
            series=facts.series,
        )
        return replace(entry, patient=facts.patient or None) if self._options.show_identity else entry

    def _keep(self, one: _Open, entries: Sequence[Entry]) -> None:
        try:
            self._worklist.add_all(entries)
        except EdgeCTError as error:
            LOG.error("%s: %d rows are not in the worklist: %s", one.topic.split(" ")[0], len(entries), error)

    # Series.

    def _conclude_all(self) -> None:
        last_forget = time.monotonic()
        while True:
            with self._changed:
                now = time.monotonic()
                due = [one for one in self._open.values() if one.is_due(now, self._options.quiet)]
                for one in due:
                    one.concluding = True
                if not due:
                    if self._stopping:
                        return
                    self._changed.wait(min(0.5, self._options.quiet))
            for one in due:
                self._conclude(one)
            if now - last_forget > 60:
                last_forget = now
                self._spool.forget(self._options.keep_seconds)

    def _conclude(self, one: _Open) -> None:
        arrivals, judged = list(one.arrivals.values()), list(one.judged)
        try:
            if judged:
                result = series.conclude(self._classifier, judged)
                self._answer(arrivals, judged, result)
                self._keep(one, one.entries)
                patient = self._patient_so_far(judged[0].attributes)
                self._worklist.note(ORIGIN, "series", summary(result, patient))
                log_result(result, patient)
            self._spool.finish(arrivals)
        except EdgeCTError as error:  # a full disk: it stays open, and is tried again when it has been quiet once more
            LOG.error("series %s has no result yet: %s", one.topic.split(" ")[0], error)
            with self._changed:
                one.concluding, one.last = False, time.monotonic() + self._options.quiet
            return
        except Exception as error:
            LOG.error("series %s cannot be answered: %s", one.topic.split(" ")[0], type(error).__name__)
            self._spool.finish(arrivals)
        with self._changed:
            one.concluding = False
            one.entries.clear()
            if len(one.arrivals) == len(arrivals) and not one.pending:
                del self._open[one.topic]
            self._changed.notify_all()

    def _patient_so_far(self, facts: FrameAttributes) -> SeriesVerdict | None:
        """Of all series of the patient in this study whose slices are in the worklist; None where nobody is named.

        It is in no report: the same slices would then not always give the same one.
        """
        patient = facts.patient if self._options.show_identity else self._worklist.pseudonym(facts.patient)
        if not patient:
            return None
        seal = self._bundle.seal
        return series.mean_verdict(
            self._bundle.manifest,
            (
                row.probability
                for row in self._worklist.rows(patient=patient, by="number")
                if (row.origin, row.study, row.bundle) == (ORIGIN, facts.study, seal)
            ),
        )

    def _answer(self, arrivals: Sequence[Arrival], judged: Sequence[JudgedFrame], result: SeriesResult) -> None:
        """Build what is to be sent, the report first, and hand it to the couriers."""
        if not self._couriers:
            return
        files = {arrival.instance: self._spool.folder / arrival.file for arrival in arrivals}
        for made in answers.build(files, judged, result, self._bundle, self._options.captures):
            self._post(made)

    def _post(self, made: Any) -> None:
        file = self._spool.write_out(str(made.SOPInstanceUID), answers.encode(made))
        parcel = Parcel(str(made.SOPInstanceUID), str(made.SOPClassUID), str((self._spool.folder / file).resolve()))
        for courier in self._couriers:
            if self._outbox.put(parcel, str(courier.target)):
                courier.wake()


def summary(result: SeriesResult, patient: SeriesVerdict | None) -> dict[str, object]:
    """A series for the audit trail; patient: of all series of its patient so far, without the patient's key."""
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
    """A line for the log."""
    verdict = result.verdict
    p = f"{verdict.probability:.1%} of {verdict.slices} slices" if verdict else str(result.reason)
    whole = f"{patient.decision}, {patient.probability:.1%} of {patient.slices} slices" if patient else "no result"
    skipped = sum(result.skipped.values())
    LOG.info("series %s: %s, %s; %d skipped; patient so far: %s", result.series, result.decision, p, skipped, whole)
