"""Judging received objects on several threads, and storing a row for each slice."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import replace

from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier
from edge_ct.errors import EdgeCTError, InputRejected

from ..judging import dicom_objects, series
from ..judging.series import JudgedFrame, SeriesResult
from ..worklist.records import Entry, prepare_entry
from ..worklist.worklist import Worklist
from .receive.spool import Arrival, Spool
from .series_clock import OpenSeries, SeriesClock

LOG = logging.getLogger("edge_ct.listen")
ORIGIN = "listen"
# Rows are stored in batches, because each transaction waits for the disk.
_BATCH = 16


class SeriesJudge:
    """Threads that judge objects, each with its own interpreter."""

    def __init__(
        self, worklist: Worklist, spool: Spool, bundle: Bundle, clock: SeriesClock, workers: int, show_identity: bool
    ) -> None:
        """Load the interpreters.

        Args:
            worklist: Where rows are stored.
            spool: Where the objects are.
            bundle: The bundle that judges.
            clock: The open series; it is told what has been judged.
            workers: Number of threads.
            show_identity: Store PatientID in clear instead of its pseudonym.
        """
        self._worklist, self._spool, self._bundle, self._clock = worklist, spool, bundle, clock
        self._show_identity = show_identity
        self._tasks: queue.SimpleQueue[tuple[OpenSeries, Arrival] | None] = queue.SimpleQueue()
        # Loaded here and not in the threads: loading a model redirects the standard error of the whole process.
        self._classifiers = [Classifier(bundle) for _ in range(workers)]
        self._threads = [
            threading.Thread(target=self._work, args=(classifier,), name=f"judge {number}", daemon=True)
            for number, classifier in enumerate(self._classifiers)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads after the objects that were submitted."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(30)

    def submit(self, open_series: OpenSeries, arrivals: Sequence[Arrival]) -> None:
        """Queue objects of a series for judging."""
        for arrival in arrivals:
            self._tasks.put((open_series, arrival))

    def conclude(self, judged: Sequence[JudgedFrame]) -> SeriesResult:
        """Return the result of a series from its judged frames, at least one."""
        return series.conclude(self._classifiers[0], judged)

    def store(self, open_series: OpenSeries, entries: Sequence[Entry]) -> None:
        """Store rows; a failure is logged, and the objects of the series stay in the spool."""
        try:
            self._worklist.add_all(entries)
        except EdgeCTError as error:
            LOG.error("%s: %d rows could not be stored in the worklist: %s", open_series.uid, len(entries), error)

    def _work(self, classifier: Classifier) -> None:
        while (task := self._tasks.get()) is not None:
            open_series, arrival = task
            judged: list[JudgedFrame] = []
            try:
                judged = self._judge(classifier, arrival)
            except Exception as error:  # One malformed object must not end the thread.
                LOG.error("%s: %s while it was judged", arrival.instance, type(error).__name__)
            entries = [self._entry(frame) for frame in judged if not frame.skipped]
            stored = [replace(frame, judgement=None) for frame in judged]
            ready = self._clock.add_judged(open_series, stored, entries, _BATCH)
            if ready:
                self.store(open_series, ready)
            self._clock.finish_object(open_series)

    def _judge(self, classifier: Classifier, arrival: Arrival) -> list[JudgedFrame]:
        path = self._spool.folder / arrival.file
        try:
            if not path.is_file():
                return []  # It was judged before, and its file has been deleted since.
            return list(dicom_objects.judge_object(classifier, path, f"DICOM {arrival.instance}"))
        except InputRejected:
            LOG.warning("%s cannot be read", arrival.instance)
            return []

    def _entry(self, frame: JudgedFrame) -> Entry:
        assert frame.judgement is not None
        attributes = frame.attributes
        entry = prepare_entry(
            frame.judgement,
            self._bundle,
            origin=ORIGIN,
            patient=attributes.patient,
            key=f"dicom {attributes.key}",
            series=attributes.series,
        )
        return replace(entry, show_identity=self._show_identity)
