"""Is this device fit to judge? Model, machine, clock, disk and worklist, each a check with what was found.

checks = examine(model, state)
worst(checks)          # "good", "warning" or "failure"
"""

from __future__ import annotations

import platform
import shutil
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import msgspec

from edge_ct.bundle import read_bundle
from edge_ct.classifier import Classifier
from edge_ct.errors import EdgeCTError, ModelRejected
from edge_ct.system import host
from edge_ct.system.files import write_bytes

from .. import pseudonym
from ..worklist.database import FILE, MIN_FREE
from ..worklist.worklist import Worklist

Status = Literal["good", "warning", "failure"]
GOLDEN = "golden.json"
_MIB = 1 << 20


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at. value: the figure, where there is one."""

    name: str
    status: Status
    detail: str
    value: float | None = None


def examine(
    model: Path, state: Path, again: bool = False, root: Path = Path("/"), moment: datetime | None = None
) -> list[Check]:
    """Look at everything; nothing raises.

    again: run the golden slices although they were right at this installation before. root: of the file system that
    tells of the machine. moment: the time to take for now, with its zone.
    """
    now = moment or datetime.now(timezone.utc)
    return [*_model(model, state, again), *_machine(root), *_state(state, now, model)]


def worst(checks: list[Check]) -> Status:
    """The gravest status."""
    order: tuple[Status, ...] = ("good", "warning", "failure")
    return max((check.status for check in checks), key=order.index, default="good")


def _model(model: Path, state: Path, again: bool) -> Iterator[Check]:
    try:
        classifier = Classifier(model)
    except EdgeCTError as error:
        yield Check("bundle", "failure", str(error))
        return
    yield Check("bundle", "good", f"{classifier.identity}: sealed, {len(classifier.bundle.content):,} bytes")
    yield _golden(classifier, state, again)
    delegated = classifier.runtime.delegated
    how = {None: "it does not tell of delegates", True: "a delegate (XNNPACK) runs it", False: "no delegate: slow"}
    yield Check("runtime", "warning" if delegated is False else "good", f"{runtime()}; {how[delegated]}")
    if classifier.manifest.zone is None:
        yield Check("zone", "warning", "the bundle refers nothing: too few cases calibrated it")


def _golden(classifier: Classifier, state: Path, again: bool) -> Check:
    """Once for each bundle, runtime and machine; remembered beside the worklist."""
    here = {"bundle": classifier.bundle.seal, "runtime": runtime(), "machine": platform.machine()}
    path, number = state / GOLDEN, len(classifier.manifest.golden)
    if number == 0:
        return Check("golden", "warning", "the bundle has no golden slices")
    if not again and _remembered(path) == here:
        return Check("golden", "good", f"{number} golden slices were as expected at this installation", number)
    try:
        classifier.check_golden()
    except ModelRejected as error:
        return Check("golden", "failure", str(error))
    try:
        write_bytes(path, msgspec.json.encode(here))
    except EdgeCTError as error:
        return Check("golden", "warning", f"{number} golden slices as expected; not remembered: {error}", number)
    return Check("golden", "good", f"{number} golden slices as expected", number)


def _remembered(path: Path) -> object:
    try:
        return msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def _machine(root: Path) -> Iterator[Check]:
    free = host.available_memory(root)
    if free is None:
        yield Check("memory", "warning", "this machine does not tell")
    else:
        status: Status = "failure" if free < 64 * _MIB else "warning" if free < 192 * _MIB else "good"
        yield Check("memory", status, f"{free / _MIB:.0f} MiB available", free)
    degrees = host.temperature(root)
    if degrees is None:
        yield Check("temperature", "good", "this machine does not tell")
    else:
        # A Raspberry Pi begins to slow down at 80 degrees and does so in earnest at 85.
        status = "failure" if degrees >= 85 else "warning" if degrees >= 78 else "good"
        yield Check("temperature", status, f"{degrees:.0f} degrees Celsius", degrees)


def _state(state: Path, now: datetime, model: Path) -> Iterator[Check]:
    exists = (state / FILE).exists()
    newest = [_made(model)]
    try:
        if exists:
            with Worklist(state) as worklist:
                found = worklist.verify()
                last = worklist.trail(limit=1)
                waiting = worklist.counts("open")
            if last:
                newest.append(_time(str(last[0]["time"]), "the worklist's last entry was written"))
            said = f"{found.results} results, {sum(waiting.values())} open, {found.entries} entries"
            status: Status = "failure" if found.problem else "good"
            yield Check("worklist", status, found.problem or said, found.results)
            yield _key(state)
        else:
            yield Check("worklist", "good", f"none yet in {state}", 0)
    except EdgeCTError as error:
        yield Check("worklist", "failure", str(error))
    yield _clock(now, [own for own in newest if own])
    yield _disk(state)


def _key(state: Path) -> Check:
    mode = stat.S_IMODE((state / pseudonym.FILE).stat().st_mode)
    if mode & 0o077:
        return Check("device key", "warning", f"others can read it: mode {mode:o}; chmod 600 {state / pseudonym.FILE}")
    return Check("device key", "good", "readable by its owner alone")


def _clock(now: datetime, known: list[tuple[datetime, str]]) -> Check:
    """A machine without a battery wakes up in the past; results would bear wrong times."""
    for moment, what in known:
        if now < moment - timedelta(minutes=5):
            return Check(
                "clock", "failure", f"it is {now:%Y-%m-%d %H:%M} UTC here, but {what} at {moment:%Y-%m-%d %H:%M}"
            )
    if known and now > max(moment for moment, _ in known) + timedelta(days=3650):
        return Check("clock", "warning", f"it is {now:%Y-%m-%d} here, ten years after anything known")
    return Check("clock", "good", f"{now:%Y-%m-%d %H:%M:%S} UTC", now.timestamp())


def _disk(state: Path) -> Check:
    place = next((own for own in (state, *state.parents) if own.exists()), Path("/"))
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Check("disk", "failure", f"{place}: {error.strerror}")
    status: Status = "failure" if free < MIN_FREE else "warning" if free < 4 * MIN_FREE else "good"
    return Check(
        "disk", status, f"{free / _MIB:,.0f} MiB free at {place}; nothing is stored below {MIN_FREE // _MIB}", free
    )


def _made(model: Path) -> tuple[datetime, str] | None:
    try:
        return _time(read_bundle(model).manifest.created, "the bundle was made")
    except ModelRejected:
        return None


def _time(text: str, what: str) -> tuple[datetime, str] | None:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)), what


def runtime() -> str:
    """The installed runtime and its version."""
    for name in ("ai-edge-litert", "tflite-runtime"):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "no runtime"
