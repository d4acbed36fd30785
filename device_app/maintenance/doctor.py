"""Whether a device is fit to judge slices: checks of the model, the machine, the clock, the disk and the worklist.

checks = examine(model, state)
worst_status(checks)          # "good", "warning" or "failure"
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from edge_ct.bundle import Bundle, read_bundle
from edge_ct.classifier import Classifier
from edge_ct.engines.comparison import compare_engines, fastest_engine
from edge_ct.engines.names import DEFAULT_ENGINE, describe_engine, installed_engines
from edge_ct.errors import EdgeCTError, ModelRejected
from edge_ct.manifest import Manifest
from edge_ct.reporting.counts import count_of
from edge_ct.system import host
from edge_ct.trust.opening import check_signature, try_once

from .. import pseudonym
from ..judging.incidents import MAX_ENDS
from ..worklist.database import FILE
from ..worklist.reader import WorklistReader
from ..worklist.time_evidence import LONGEST_GAP
from .health import (
    CLOCK_AHEAD,
    CLOCK_BEHIND,
    DISK,
    MIB,
    KnownMoment,
    Status,
    clock_status,
    disk_status,
    known_moments,
    memory_status,
    temperature_status,
)

SIGNATURE = "signature"
# Instructions that multiply bytes and add up: without them, LiteRT's int8 is no faster than float.
_VNNI = frozenset({"avx512_vnni", "avx_vnni"})
_NOT_REPORTED = "not reported by this machine"
_DELEGATES = {
    None: "the runtime does not report whether a delegate is used",
    True: "XNNPACK or another delegate runs the graph",
    False: "no delegate runs the graph, so inference is slow",
}


class Check(msgspec.Struct, frozen=True):
    """The outcome of one check.

    Attributes:
        detail: What was found, for people.
        value: What was measured, if it is a number.
    """

    name: str
    status: Status
    detail: str
    value: float | None = None


def examine(
    model: Path,
    state: Path,
    again: bool = False,
    root: Path = Path("/"),
    moment: datetime | None = None,
    key: Path | None = None,
) -> list[Check]:
    """Run all checks. A check that cannot be run is a failed check; nothing is raised.

    Args:
        model: The bundle.
        state: The folder of the worklist.
        again: Run the golden slices even if they passed on this installation before.
        root: Root of the file system whose `/proc` and `/sys` are read.
        moment: The time to take as now, with its time zone.
        key: Public key that the bundle must be signed with; by default the pinned key, if there is one.
    """
    now = moment or datetime.now(timezone.utc)
    return [*_check_model(model, state, again, key, root), *_check_machine(root), *_check_state(state, now, model)]


def worst_status(checks: Sequence[Check]) -> Status:
    """Return the most serious status."""
    order: tuple[Status, ...] = ("good", "warning", "failure")
    return max((check.status for check in checks), key=order.index, default="good")


def _check_model(model: Path, state: Path, again: bool, key: Path | None, root: Path) -> Iterator[Check]:
    try:
        bundle = read_bundle(model)
    except EdgeCTError as error:
        yield Check("bundle", "failure", str(error))
        return
    yield Check("bundle", "good", f"{bundle.identity}: the seal is intact, {len(bundle.content):,} bytes")
    try:
        signed = check_signature(bundle, key)
    except EdgeCTError as error:
        yield Check(SIGNATURE, "failure", str(error))
        return
    if signed:
        yield Check(SIGNATURE, "good", f"signed with key {signed}")
    golden = _check_golden(bundle, state, again)
    yield golden
    if golden.status == "failure":  # It may end the process that loads it.
        return
    try:
        classifier = Classifier(bundle)
    except ModelRejected as error:
        yield Check("runtime", "failure", str(error))
        return
    delegated = classifier.runtime.delegated
    yield Check("runtime", "warning" if delegated is False else "good", f"{runtime()}; {_DELEGATES[delegated]}")
    yield from _check_engines(bundle, host.instruction_sets(root))
    if classifier.manifest.decision_rule.source == "operating point":
        yield Check("decision rule", "warning", "the bundle never refers a slice: it was calibrated on too few cases")


def _check_golden(bundle: Bundle, state: Path, again: bool) -> Check:
    """Run the golden slices once for each bundle, runtime and machine; success is remembered beside the worklist."""
    number = len(bundle.manifest.golden)
    if number == 0:
        detail = "the bundle has no golden slices, so nothing shows that it computes the same on this machine"
        return Check("golden", "failure", detail)
    try:
        known = try_once(bundle, state, again)
    except ModelRejected as error:
        return Check("golden", "failure", str(error))
    return Check(
        "golden", "good", f"{count_of(number, 'golden slice')} passed{' on this installation before' * known}", number
    )


def _check_engines(bundle: Bundle, instructions: frozenset[str]) -> Iterator[Check]:
    """Suggest OpenVINO where it is faster, or where it may be: an x86 processor that multiplies bytes slowly."""
    if len(installed_engines()) < 2:
        if "avx2" in instructions and not instructions & _VNNI:
            detail = (
                "no VNNI instructions, so OpenVINO may be faster: pip install 'edge-ct[openvino]' and run this again"
            )
            yield Check("engine", "good", detail)
        return
    try:
        times = compare_engines(bundle)
    except EdgeCTError as error:
        yield Check("engine", "warning", str(error))
        return
    fastest = fastest_engine(times)
    if fastest.engine != DEFAULT_ENGINE:
        detail = f"{fastest.version} takes {fastest.of_litert:.2f} times LiteRT's time: use --engine {fastest.engine}"
        yield Check("engine", "good", detail, fastest.of_litert)
        return
    others = [time for time in times if time.engine != DEFAULT_ENGINE]
    detail = "; ".join(time.refused or f"{time.version} takes {time.of_litert:.2f} times its time" for time in others)
    yield Check("engine", "good", f"LiteRT is the fastest engine that can be used: {detail}", 1.0)


def _check_machine(root: Path) -> Iterator[Check]:
    free = host.available_memory(root)
    yield Check(
        "memory", memory_status(free), _NOT_REPORTED if free is None else f"{free / MIB:.0f} MiB available", free
    )
    degrees = host.temperature(root)
    detail = _NOT_REPORTED if degrees is None else f"{degrees:.0f} degrees Celsius"
    yield Check("temperature", temperature_status(degrees), detail, degrees)


def _check_state(state: Path, now: datetime, model: Path) -> Iterator[Check]:
    manifest = _manifest_of(model)
    known = known_moments(manifest, None)
    try:
        if (state / FILE).exists():
            with WorklistReader.open(state) as worklist:
                known = known_moments(manifest, worklist)
                yield _check_worklist(worklist)
                yield _check_retention(worklist, now)
                yield _check_quarantine(worklist)
            yield _check_key(state)
        else:
            yield Check("worklist", "good", f"no worklist in {state} yet", 0)
    except EdgeCTError as error:
        yield Check("worklist", "failure", str(error))
    yield _check_clock(now, known)
    yield _check_disk(state)


def _check_quarantine(worklist: WorklistReader) -> Check:
    known = worklist.quarantine(MAX_ENDS).files()
    files = [file for file in known if file.quarantined]
    if not known:
        return Check("quarantine", "good", "no file has ended worker processes", 0)
    if not files:
        ends = count_of(sum(file.ends for file in known), "worker process")
        return Check("quarantine", "good", f"{ends} ended over {count_of(len(known), 'file')}; none is quarantined", 0)
    detail = (
        f"{count_of(len(files), 'file')} quarantined, because worker processes ended over them; see edge-ct "
        "worklist quarantine"
    )
    return Check("quarantine", "warning", detail, len(files))


def _check_worklist(worklist: WorklistReader) -> Check:
    verification = worklist.verify()
    waiting = sum(worklist.counts("open").values())
    counts = (
        f"{count_of(verification.results, 'result')}, {waiting} open, "
        f"{count_of(verification.entries, 'entry', 'entries')}"
    )
    status: Status = "failure" if verification.problem else "good"
    return Check("worklist", status, verification.problem or counts, verification.results)


def _check_retention(worklist: WorklistReader, now: datetime) -> Check:
    state = worklist.compare_clock(now)
    if state.status == "good" or state.latest is None:
        return Check("retention", "good", "the clock agrees with the audit trail")
    relation = "behind" if state.status == "behind" else f"more than {LONGEST_GAP.days} days ahead of"
    latest = f"the worklist's latest entry ({state.latest:%Y-%m-%d %H:%M} UTC)"
    return Check("retention", "warning", f"the clock is {relation} {latest}: no old result is deleted")


def _check_key(state: Path) -> Check:
    path = state / pseudonym.FILE
    if not path.exists():
        return Check("device key", "failure", f"{path} is missing; restore it from a backup")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Check("device key", "warning", f"other users can read it (mode {mode:o}); run: chmod 600 {path}")
    return Check("device key", "good", "only its owner can read it")


def _check_clock(now: datetime, known: Sequence[KnownMoment]) -> Check:
    status = clock_status(now, known)
    if status == "failure":
        moment = next(moment for moment in known if now < moment.time - CLOCK_BEHIND)
        detail = f"the clock shows {now:%Y-%m-%d %H:%M} UTC, but {moment.event} at {moment.time:%Y-%m-%d %H:%M}"
        return Check("clock", status, f"{detail}; set the clock")
    if status == "warning":
        years = CLOCK_AHEAD.days // 365
        return Check("clock", status, f"the clock shows {now:%Y-%m-%d}, over {years} years after the last known event")
    return Check("clock", status, f"{now:%Y-%m-%d %H:%M:%S} UTC", now.timestamp())


def _check_disk(state: Path) -> Check:
    folder = next((folder for folder in (state, *state.parents) if folder.exists()), Path("/"))
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("disk", "failure", f"{folder}: {error.strerror}")
    detail = f"{free / MIB:,.0f} MiB free in {folder}; below {DISK.failure / MIB:.0f} MiB nothing is stored"
    return Check("disk", disk_status(free), detail, free)


def _manifest_of(model: Path) -> Manifest | None:
    try:
        return read_bundle(model).manifest
    except ModelRejected:
        return None


def runtime() -> str:
    """Return the name and version of the installed runtime."""
    name = describe_engine(DEFAULT_ENGINE)
    return "no TFLite runtime is installed" if name == "none" else name
