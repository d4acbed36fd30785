"""Judging received objects on worker processes, and storing a row for each slice."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_ct.bundle import Bundle
from edge_ct.errors import EdgeCTError, InputRejected

from ..judging import series
from ..judging.entries import rejected_entry
from ..judging.incidents import MAX_ENDS
from ..judging.judge import SECONDS, Judge
from ..judging.pool import open_judge
from ..judging.series import JudgedFrame, SeriesResult
from ..judging.sources import Source
from ..worklist.records import Entry
from ..worklist.worklist import Worklist
from .receive.spool import Arrival, Spool
from .received_jobs import ORIGIN, JudgeReceived, ReadFrame, unreadable_key
from .series_clock import OpenSeries, SeriesClock

LOG = logging.getLogger("edge_ct.listen")
# Rows are stored in batches, because each transaction waits for the disk.
_BATCH = 16


class SeriesJudge:
    """Threads that give objects to worker processes and take their results."""

    def __init__(
        self,
        worklist: Worklist,
        spool: Spool,
        bundle: Bundle,
        clock: SeriesClock,
        workers: int,
        show_identity: bool,
        judge: Judge | None = None,
    ) -> None:
        """Begin to load the bundle.

        Args:
            worklist: Where rows are stored.
            spool: Where the objects are.
            bundle: The bundle that judges.
            clock: The open series; it is told what has been judged.
            workers: Number of objects judged at once.
            show_identity: Store PatientID in clear instead of its pseudonym.
            judge: The worker processes; by default a pool is opened here.
        """
        self._worklist, self._spool, self._bundle, self._clock = worklist, spool, bundle, clock
        self._show_identity = show_identity
        self._tasks: queue.SimpleQueue[tuple[OpenSeries, Arrival] | None] = queue.SimpleQueue()
        self.judge = judge or open_judge(bundle, workers)
        self.judge.incidents = worklist.quarantine(MAX_ENDS)
        # These threads wait for the worker processes.
        self._threads = [
            threading.Thread(target=self._work, name=f"judge {number}", daemon=True) for number in range(workers)
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
        self.judge.close()

    def submit(self, open_series: OpenSeries, arrivals: Sequence[Arrival]) -> None:
        """Queue objects of a series for judging."""
        for arrival in arrivals:
            self._tasks.put((open_series, arrival))

    def conclude(self, judged: Sequence[JudgedFrame]) -> SeriesResult:
        """Return the result of a series from its judged frames, at least one."""
        return series.conclude(self._bundle.manifest, judged)

    def read_pixels(self, path: Path, frame: int) -> np.ndarray:
        """Decode a frame of an object on a worker: uint8 [h, w], lung window. Raises `InputRejected`."""
        values: list[np.ndarray] = []
        reason = self.judge.run_contained(ReadFrame(path, frame), Source(str(path)), SECONDS, values)
        if reason is not None:
            raise InputRejected(f"capture: {reason}")
        return values[0]

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            open_series, arrival = task
            frames: list[JudgedFrame] = []
            entries: list[Entry] = []
            try:
                frames, entries = self._judge_arrival(arrival)
            except Exception as error:  # One malformed object must not end the thread.
                LOG.error("%s: %s while it was judged", arrival.instance, type(error).__name__)
            ready = self._clock.add_judged(open_series, frames, entries, _BATCH)
            if ready:
                self._store(open_series, ready)
            self._clock.finish_object(open_series)

    def _store(self, open_series: OpenSeries, rows: Sequence[Entry]) -> None:
        """Store rows of a series; those that cannot be stored now are stored with its next ones or its result."""
        try:
            self._worklist.add_all(rows)
        except EdgeCTError as error:  # The disk is full, for example.
            LOG.error("%s: %d rows are not stored in the worklist yet: %s", open_series.uid, len(rows), error)
            self._clock.keep_rows(open_series, rows)

    def _judge_arrival(self, arrival: Arrival) -> tuple[list[JudgedFrame], list[Entry]]:
        """Judge an object on a worker; return its frames and its rows. If it cannot be read, it is a rejected row."""
        path, uid = self._spool.folder / arrival.file, arrival.topic.split(" ")[0]
        if not path.is_file():
            return [], []  # It was judged before, and its file has been deleted since.
        values: list[tuple[JudgedFrame | None, Entry]] = []
        job = JudgeReceived(path, arrival.instance, uid)
        reason = self.judge.run_contained(job, Source(str(path)), SECONDS, values)
        if reason is not None:
            name, key = f"DICOM {arrival.instance}", unreadable_key(arrival.instance)
            values = [(None, rejected_entry(self._bundle, ORIGIN, name, reason, key, uid))]
        if any(frame is None for frame, _ in values):
            LOG.warning("%s cannot be read", arrival.instance)
        entries = [replace(row, show_identity=self._show_identity) for _, row in values]
        return [frame for frame, _ in values if frame is not None], entries
