"""`edge-ct classify`: what is done with each judgement, on the workers."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier, Result
from edge_ct.engines.names import DEFAULT_ENGINE, EngineName
from edge_ct.system import native_output
from edge_ct.system.files import printable, write_bytes

from ..judging.judge import SECONDS, InProcess, Judge, SliceJudgement
from ..judging.rollup import Tally
from ..judging.sources import Source, find_sources

if TYPE_CHECKING:
    from ..heatmaps.heatmap import Heat
    from ..worklist.records import Entry
    from ..worklist.worklist import Worklist


# Columns of a table of results: of CSV, where `id` comes before the last, and of the Parquet files of a cluster.
COLUMNS = (
    "source",
    "decision",
    "probability",
    "reason",
    "series",
    "model",
    "decode_ms",
    "preprocess_ms",
    "inference_ms",
    "lesion_share",
)


class Recorded(Result, frozen=True, kw_only=True):
    """A result that is on the disk.

    Attributes:
        id: Its number in the worklist.
    """

    id: int


@dataclass(frozen=True, eq=False)
class Maps:
    """Heat maps as numbers, in the order of their slices. Rejected slices have none."""

    sources: list[str] = field(default_factory=list)
    heats: list[Heat] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write a NumPy archive: `sources`, `methods`, and the evidence of each slice, float32 [h, w], as `0`, `1`, ...

        The evidence is in calibrated log-odds of COVID-19; its mean is the log-odds of the slice if the method is
        `class map`.
        """
        arrays: dict[str, Any] = {str(number): heat.evidence for number, heat in enumerate(self.heats)}
        buffer = BytesIO()
        np.savez(buffer, sources=np.array(self.sources), methods=np.array([h.method for h in self.heats]), **arrays)
        write_bytes(path, buffer.getvalue())


@dataclass(frozen=True, eq=False)
class Prepared:
    """A judgement without its pixels, with what was made of them."""

    judgement: SliceJudgement
    entry: Entry | None
    heat: Heat | None


@dataclass(frozen=True)
class ClassifyOptions:
    """What `edge-ct classify` is asked to do besides judging.

    Attributes:
        state: Folder of the device key, and of the worklist.
        record: Store each result in the worklist before it is yielded.
        series: Name of the series of all slices.
        patient: Identifier of the patient of all slices, in clear.
        heatmaps: Folder for pictures of heat maps.
        budget: Maximum time in seconds for the heat map of a network without class map.
        maps: File for the heat maps as numbers.
        threads: Number of threads of each interpreter.
        workers: Number of slices judged at the same time; by default, the number of processors / `threads`.
        engine: The program that computes the network.
    """

    state: Path
    record: bool = False
    series: str | None = None
    patient: str | None = None
    heatmaps: Path | None = None
    budget: float = 2.0
    maps: Path | None = None
    threads: int = 1
    workers: int | None = None
    engine: EngineName = DEFAULT_ENGINE

    def prepare(self, judgement: SliceJudgement, classifier: Classifier) -> Prepared:
        """Name, draw and encode a judgement, on the worker that judged it."""
        result = judgement.result
        source = printable(result.source)
        if self.series or source is not result.source:
            result = msgspec.structs.replace(result, source=source, series=self.series or result.series)
            judgement = replace(judgement, result=result)
        heat: Heat | None = None
        if self.heatmaps or self.maps:
            from ..heatmaps import evidence

            heat = evidence.heat_of(judgement, classifier, self.budget)
        if self.heatmaps:
            from ..heatmaps import heatmap

            heatmap.write_heatmap(judgement, heat, self.heatmaps)
        entry = None
        if self.record:
            from ..worklist.records import prepare_entry

            patient = self.patient or judgement.patient
            entry = prepare_entry(
                judgement, classifier.bundle, origin="classify", patient=patient, key=judgement.key, heat=heat
            )
        frame = judgement.frame and replace(judgement.frame, class_map=None, lesion_map=None)
        return Prepared(replace(judgement, slice=None, outputs=None, frame=frame), entry, heat if self.maps else None)


def _open_judge(bundle: Bundle, options: ClassifyOptions, single: bool) -> AbstractContextManager[Judge]:
    """Return what judges; a single slice is judged in this process, as a worker process would only delay its answer."""
    if single:
        return InProcess(Classifier(bundle, options.threads, options.engine))
    from ..judging.pool import open_judge

    return open_judge(bundle, options.workers, options.threads, options.engine)


@contextmanager
def open_results(
    bundle: Bundle, names: Iterable[str], options: ClassifyOptions
) -> Iterator[tuple[Iterator[Result], Tally]]:
    """Judge what is named on a command line.

    Args:
        bundle: The bundle.
        names: Files, folders, globs, or `-` for one image on standard input.
        options: What else to do.

    Yields:
        The results in the order of the names, judged as they are read, and the tally that counts them. A result that is
        stored is on the disk when it is read, and is `Recorded`.
    """
    tally = Tally(lambda: _key_of(options.state), options.series, options.patient)
    sources = find_sources(names, tally.left_out.append)
    first = list(itertools.islice(sources, 2))
    maps = Maps() if options.maps else None
    with contextlib.ExitStack() as stack:
        judge = stack.enter_context(_open_judge(bundle, options, single=len(first) < 2))
        worklist = None
        if options.record:
            from ..worklist.worklist import Worklist

            worklist = stack.enter_context(Worklist(options.state))
        stack.enter_context(native_output.captured_native_stderr())
        yield _results(judge, itertools.chain(first, sources), tally, options, worklist, maps), tally
    if options.maps and maps:
        maps.write(options.maps)


def _results(
    judge: Judge,
    sources: Iterable[Source],
    tally: Tally,
    options: ClassifyOptions,
    worklist: Worklist | None,
    maps: Maps | None,
) -> Iterator[Result]:
    seconds = SECONDS + (options.budget if options.heatmaps or maps else 0)
    for batch in judge.judge_each(sources, options.prepare, seconds):
        entries = [prepared.entry for prepared in batch if prepared.entry is not None]
        added = worklist.add_all(entries) if worklist else []
        for place, prepared in enumerate(batch):
            result = prepared.judgement.result
            tally.add(prepared.judgement)
            if maps is not None and prepared.heat is not None:
                maps.sources.append(result.source)
                maps.heats.append(prepared.heat)
            yield Recorded(**_fields(result), id=added[place].row.id) if added else result


def _key_of(state: Path) -> bytes:
    from ..pseudonym import temporary_key

    return temporary_key(state)


def csv_lines(results: Iterable[Result]) -> Iterator[str]:
    """Yield the header of a CSV table, and one line for each result."""
    from edge_ct.system.csv_text import safe_csv_line

    yield safe_csv_line((*COLUMNS[:-1], "id", COLUMNS[-1]))
    for result in results:
        ms = result.ms
        yield safe_csv_line(
            (
                result.source,
                result.decision,
                result.probability,
                result.reason,
                result.series,
                result.model,
                ms.decode,
                ms.preprocess,
                ms.inference,
                getattr(result, "id", None),
                result.lesion_share,
            )
        )


def _fields(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in result.__struct_fields__}
