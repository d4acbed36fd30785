"""Judging an archive of any size on a Ray cluster: files -> blocks -> parts of a Parquet table.

The command walks the archive, hands out blocks of neighbouring files and writes a part for each block that comes back,
so it holds a few blocks at a time. All nodes read the archive under the same paths; only the command writes. The same
command, repeated after a kill, skips blocks whose part exists and is about the same files.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from edge_ct.bundle import Bundle
from edge_ct.engines.names import DEFAULT_ENGINE, EngineName
from edge_ct.errors import EdgeCTError, MissingExtra
from edge_ct.system.files import exclusive_lock, write_bytes
from edge_ct.system.progress import QUIET, Progress
from edge_ct.system.ray_cluster import connected, count_places, import_ray

from ..judging.rollup import DECISIONS
from ..judging.sources import STANDARD_INPUT, Source, find_sources
from .block_judge import JudgeOrder, installed_versions
from .block_workers import Block, BlockWorker, judge_blocks

# The first blocks are small, so that a small archive keeps all workers busy; later ones are large, so that a large
# archive has few parts.
_SMALLEST, _LARGEST, _OF_A_SIZE = 8, 2048, 16
_SAY_SECONDS = 10.0
_STUDY = "_study.json"  # readers of Parquet ignore names that begin with an underscore
_OBJECT_STORE_BYTES = 256 << 20


class ArchiveStudy(msgspec.Struct, frozen=True):
    """What is stored beside the parts, and what `classify --cluster --json` prints.

    Attributes:
        model: Name and seal of the bundle.
        seal: SHA-256 of the bundle.
        engine: The program that computed the network.
        complete: True once every block of the archive has its part.
        files: Number of files.
        slices: Number of rows.
        counts: Number of slices by decision.
        unread: Number of files and frames that could not be read.
    """

    model: str
    seal: str
    engine: EngineName
    complete: bool = False
    files: int = 0
    slices: int = 0
    counts: dict[str, int] = {}
    unread: int = 0


@dataclass(frozen=True)
class ArchiveOptions:
    """How an archive is judged.

    Attributes:
        out: Folder of the Parquet parts.
        threads: Number of threads of each interpreter.
        workers: Maximum number of workers; None for as many as the cluster has processors for.
        engine: The program that computes the network.
    """

    out: Path
    threads: int = 1
    workers: int | None = None
    engine: EngineName = DEFAULT_ENGINE


@dataclass
class _Tally:
    files: int = 0
    unread: int = 0
    judged: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    begun: float = field(default_factory=perf_counter)
    reported: float = field(default_factory=perf_counter)

    def add(self, info: Any, judged: bool) -> None:
        self.files += info.files
        self.unread += info.unread
        self.counts.update(info.counts)
        self.judged += sum(info.counts.values()) if judged else 0

    def line(self) -> str:
        rate = self.judged / max(perf_counter() - self.begun, 1e-9)
        return f"{self.counts.total():,} slices of {self.files:,} files, {rate:.0f} slices a second"


def classify_archive(
    bundle: Bundle, names: Iterable[str], address: str | None, options: ArchiveOptions, progress: Progress = QUIET
) -> ArchiveStudy:
    """Judge an archive on a cluster, or go on with it.

    Args:
        bundle: The bundle.
        names: Files, folders and globs, as for a local `classify`.
        address: HOST:PORT of a Ray cluster; None to start Ray on this machine.
        options: How the archive is judged.
        progress: Where progress is shown.

    Raises:
        MissingExtra: Ray or PyArrow is not installed.
        EdgeCTError: No cluster answers, a node has other versions, or `out` belongs to another study.
    """
    ray = import_ray()
    _require_pyarrow()
    with connected(ray, address, _OBJECT_STORE_BYTES):
        return judge_archive(ray, bundle, names, options, progress)


def judge_archive(
    ray: Any, bundle: Bundle, names: Iterable[str], options: ArchiveOptions, progress: Progress = QUIET
) -> ArchiveStudy:
    """Do the work of `classify_archive` on a cluster that is connected."""
    from . import parquet_parts

    places = count_places(ray, {"CPU": options.threads}, "lower --threads")
    count = min(places, options.workers or places)
    study = _open_study(bundle, options)
    tally, blocks, left_out = _Tally(), 0, list[str]()
    with exclusive_lock(options.out):
        _write_study(options.out, study)

        def unfinished() -> Iterator[Block]:
            nonlocal blocks
            for block in cut_blocks(find_sources(names, left_out.append)):
                blocks += 1
                info = parquet_parts.read_part_info(options.out, block.number)
                if info is None or info.digest != block.digest:
                    yield block
                else:
                    tally.add(info, judged=False)

        # The bundle is put into Ray's object store once.
        order = ray.put(JudgeOrder(bundle.content, bundle.source, options.threads, options.engine))
        actor = ray.remote(num_cpus=options.threads, max_restarts=0)(BlockWorker)
        progress.say(f"{count} workers on {len(ray.nodes())} nodes")
        versions = installed_versions(options.engine)
        for block, rows in judge_blocks(ray, unfinished(), lambda: actor.remote(order), count, versions):
            info = parquet_parts.write_part(options.out, block.number, block.digest, len(block.sources), rows)
            tally.add(info, judged=True)
            if perf_counter() - tally.reported > _SAY_SECONDS:
                tally.reported = perf_counter()
                progress.say(tally.line())
        parquet_parts.remove_parts_from(options.out, blocks)
        for line in left_out:
            progress.say(line)
        progress.say(tally.line())
        counts = {name: tally.counts[name] for name in DECISIONS}
        study = msgspec.structs.replace(
            study, complete=True, files=tally.files, slices=tally.counts.total(), counts=counts, unread=tally.unread
        )
        _write_study(options.out, study)
    return study


def cut_blocks(sources: Iterable[Source]) -> Iterator[Block]:
    """Cut the archive into blocks of neighbouring files; the same archive gives the same blocks."""
    number, files = 0, list[Source]()
    for source in sources:
        if source.name == "<stdin>":
            raise EdgeCTError(
                f"{STANDARD_INPUT}: standard input cannot be judged with --cluster; name files or folders"
            )
        # The nodes do not share the working folder of this command.
        files.append(source if source.reason else replace(source, path=Path(source.name).absolute()))
        if len(files) == min(_LARGEST, _SMALLEST << (number // _OF_A_SIZE)):
            yield _block(number, files)
            number, files = number + 1, []
    if files:
        yield _block(number, files)


def _block(number: int, files: list[Source]) -> Block:
    names = "\0".join(f"{file.name}\0{file.reason or ''}" for file in files)
    return Block(number, files, hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest())


def _open_study(bundle: Bundle, options: ArchiveOptions) -> ArchiveStudy:
    """Return the study to run; raise `EdgeCTError` if `out` holds anything else."""
    study, out = ArchiveStudy(bundle.identity, bundle.seal, options.engine), options.out
    if not out.exists():
        return study
    try:
        known = msgspec.json.decode((out / _STUDY).read_bytes(), type=ArchiveStudy)
    except (OSError, msgspec.MsgspecError) as error:
        raise EdgeCTError(f"{out}: exists and holds no results of classify --cluster; name another --out") from error
    if (known.seal, known.engine) != (study.seal, study.engine):
        raise EdgeCTError(f"{out}: was judged with {known.model} and {known.engine}; name another --out for this model")
    return study


def _write_study(out: Path, study: ArchiveStudy) -> None:
    write_bytes(out / _STUDY, msgspec.json.format(msgspec.json.encode(study), indent=1))


def _require_pyarrow() -> None:
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise MissingExtra("--cluster needs PyArrow: pip install 'edge-ct[cluster]'")
