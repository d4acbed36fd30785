"""Accuracy beside latency, of any set of bundles and runs on the same slices, with one run as the reference.

Every figure comes from a command of its own, in a process of its own: `edge-ct evaluate`, `edge-ct benchmark run`. What
they print is kept below `parts/`, so that a report that was cut short, or is to be drawn again, need not measure again.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from csv import DictReader
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from edge_ct import __version__, slices
from edge_ct.bundle import read_bundle
from edge_ct.dataset import fingerprint, load
from edge_ct.errors import DataRejected, EdgeCTError, ModelRejected
from edge_ct.manifest import INTENDED_USE
from edge_ct.metrics import Scores
from edge_ct.run import load_finished_run
from edge_ct.system.files import write_bytes
from edge_ct.system.progress import QUIET, Progress

from ..measure.accelerators import Wanted
from ..measure.bundle import Benchmark
from . import verdict
from .verdict import Against, Candidate

PARTS = "parts"


class Evaluated(msgspec.Struct, frozen=True):
    """What this wing reads of `evaluate --json`."""

    model: str
    split: str
    part: str
    n: int
    left_out: int
    operating_point: Scores | None
    decisions: dict[str, int] | None


class Subject(msgspec.Struct, frozen=True):
    """One model. reason: why it was not measured, then nothing else is there.

    scores: at probability 0.5 on the slices that all models were scored on; at_threshold: at the bundle's own. front:
    whether no other is at once as fast, as sensitive and as specific.
    """

    label: str
    kind: Literal["bundle", "network", "ensemble"]
    reference: bool
    benchmark: Benchmark | None = None
    scores: Scores | None = None
    at_threshold: Scores | None = None
    decisions: dict[str, int] | None = None
    split: str | None = None
    against: Against | None = None
    front: bool = False
    reason: str | None = None
    exit_code: int = 0


class Data(msgspec.Struct, frozen=True):
    """The slices. n: scored by all models; dropped: scored by some, but not by all. labelled: else latency only."""

    name: str
    labelled: bool
    n: int
    positives: int
    dropped: int
    fingerprint: str | None
    splits: tuple[str, ...]


class Report(msgspec.Struct, frozen=True):
    """The content of report.json."""

    created: str
    version: str
    intended_use: str
    verdict: str
    data: Data
    quick: bool
    subjects: tuple[Subject, ...]
    commands: tuple[str, ...]
    not_measured: tuple[str, ...]


class Options(msgspec.Struct, frozen=True):
    """How to measure. reuse: take what an earlier report left in `parts/` where it is newer than the model."""

    data: Path
    positive: str = "COVID"
    device: Wanted = "auto"
    threads: int = 1
    quick: bool = False
    reuse: bool = False


class Failed(EdgeCTError):
    """A command that a report is made of failed; its exit code and its one line."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def collect(
    targets: Sequence[Path], reference: Path, options: Options, out: Path, progress: Progress = QUIET
) -> tuple[Report, dict[str, np.ndarray], np.ndarray]:
    """Score and measure everything. Returns the report, P(positive) [n] by label, and the labels [n].

    A bundle that fails is in the report with the reason. Raises `Failed` where the reference does, `DataRejected` where
    no slice was scored by all.
    """
    paths = list(dict.fromkeys((reference, *targets)))
    names = _labels(paths)
    labelled = _has_labels(options)
    work = _Work(options, out / PARTS, progress)
    rows = []
    for number, path in enumerate(paths, 1):
        progress.say(f"[{number}/{len(paths)}] {names[path]}")
        try:
            if path.is_file() or not path.exists():
                read_bundle(path)  # what is damaged is neither scored nor measured
            rows.append(work.row(path, names[path], labelled))
        except EdgeCTError as error:
            if path == reference:
                raise
            progress.say(f"  not measured: {error}")
            rows.append(_Row(names[path], path.is_dir(), reason=str(error), exit_code=error.exit_code))
    report, found, truth = _assembled(rows, names[reference], labelled, options, work)
    write_bytes(out / "report.json", msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    return report, found, truth


def failure(report: Report) -> EdgeCTError | None:
    """The error to end with where some model was not measured."""
    failed = [subject for subject in report.subjects if subject.reason]
    if not failed:
        return None
    kind = {error.exit_code: error for error in (ModelRejected, DataRejected)}.get(failed[0].exit_code, EdgeCTError)
    return kind(f"{len(failed)} of {len(report.subjects)} not measured: {failed[0].reason}")


class _Row(msgspec.Struct):
    """What the commands said of one model. predictions: path of the slice -> (label, P or None)."""

    label: str
    is_run: bool
    evaluated: Evaluated | None = None
    predictions: dict[str, tuple[int, float | None]] = {}
    benchmark: Benchmark | None = None
    reason: str | None = None
    exit_code: int = 0
    kind: str = "bundle"


class _Work:
    """Runs the commands, keeps what they print, and remembers them as a user would type them."""

    def __init__(self, options: Options, parts: Path, progress: Progress) -> None:
        self.options, self.parts, self.progress = options, parts, progress
        self.commands: list[str] = []

    def row(self, path: Path, label: str, labelled: bool) -> _Row:
        """Score (where there are labels) and measure one model."""
        own = _Row(label, path.is_dir())
        if own.is_run:
            own.kind = load_finished_run(path).info.kind
        if labelled:
            csv = self.parts / f"{label}.predictions.csv"
            words = ["evaluate", str(path), "--data", str(self.options.data), "--positive", self.options.positive]
            answer = self._run([*words, "--json", "--predictions", str(csv)], f"{label}.evaluate.json", path, (csv,))
            own.evaluated = msgspec.json.decode(answer, type=Evaluated)
            with csv.open(newline="", encoding="utf-8") as file:
                own.predictions = {
                    row["path"]: (int(row["label"]), float(row["probability"]) if row["probability"] else None)
                    for row in DictReader(file)
                }
        words = ["benchmark", "run", str(path), "--data", str(self.options.data)]
        words += ["--threads", str(self.options.threads)]
        words += ["--device", self.options.device] if own.is_run else []
        words += ["--quick"] if self.options.quick else []
        own.benchmark = msgspec.json.decode(
            self._run([*words, "--json"], f"{label}.benchmark.json", path, ()), type=Benchmark
        )
        return own

    def _run(self, words: list[str], name: str, model: Path, others: tuple[Path, ...]) -> bytes:
        self.commands.append(shlex.join(["edge-ct", *words]))
        kept, said = self.parts / name, self.parts / f"{name}.command"
        newest = max(file.stat().st_mtime for file in _files(model))
        ready = all(file.exists() and file.stat().st_mtime > newest for file in (kept, said, *others))
        if self.options.reuse and ready and said.read_text() == self.commands[-1]:
            return kept.read_bytes()
        self.progress.say(f"  {self.commands[-1]}")
        self.parts.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([sys.executable, "-m", "edge_ct", *words], capture_output=True, check=False)
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise Failed(lines[-1].removeprefix("edge-ct: "), done.returncode)
        write_bytes(kept, done.stdout)
        write_bytes(said, self.commands[-1].encode())
        return done.stdout


def _assembled(
    rows: Sequence[_Row], reference: str, labelled: bool, options: Options, work: _Work
) -> tuple[Report, dict[str, np.ndarray], np.ndarray]:
    scored = [row for row in rows if row.evaluated]
    common, truth, found = _common(scored)
    if labelled and not common:
        raise DataRejected(
            f"{options.data}: no slice that every model can be scored on: each was trained on the others'"
        )
    data = Data(
        name=options.data.resolve().name if options.data.is_dir() else options.data.resolve().parent.name,
        labelled=labelled,
        n=len(common),
        positives=int(truth.sum()),
        dropped=len(set().union(*(row.predictions for row in scored))) - len(common) if scored else 0,
        fingerprint=fingerprint([slices.read(path).sha256 for path in common], truth) if common else None,
        splits=tuple(dict.fromkeys(row.evaluated.split for row in scored if row.evaluated)),
    )
    base = next(row for row in rows if row.label == reference)
    subjects = [_subject(row, base, truth, found) for row in rows]
    front = verdict.pareto([verdict.costs(own.scores, _ms(own.benchmark)) for own in subjects])
    subjects = [msgspec.structs.replace(own, front=on) for own, on in zip(subjects, front, strict=True)]
    report = Report(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version=__version__,
        intended_use=INTENDED_USE,
        verdict=_verdict(subjects, base, data),
        data=data,
        quick=options.quick,
        subjects=tuple(subjects),
        commands=tuple(work.commands),
        not_measured=tuple(_not_measured(subjects, data)),
    )
    return report, found, truth


def _subject(row: _Row, base: _Row, truth: np.ndarray, found: dict[str, np.ndarray]) -> Subject:
    kind: Any = row.kind
    own = Subject(row.label, kind, row is base, row.benchmark, reason=row.reason, exit_code=row.exit_code)
    if not row.evaluated:
        return own
    at = row.evaluated.operating_point
    scores, at_threshold = verdict.scores_at(truth, found[row.label], at and at.threshold)
    speed_up, mine, theirs = None, _ms(row.benchmark), _ms(base.benchmark)
    if mine and theirs:
        speed_up = theirs / mine
    both = 0 < truth.sum() < len(truth)
    return msgspec.structs.replace(
        own,
        scores=scores,
        at_threshold=at_threshold,
        decisions=row.evaluated.decisions,
        split=row.evaluated.split,
        against=None
        if row is base or not both
        else verdict.against(truth, found[row.label], found[base.label], speed_up),
    )


def _common(rows: Sequence[_Row]) -> tuple[list[str], np.ndarray, dict[str, np.ndarray]]:
    """The slices that every model gave a probability for, their labels [n], and P(positive) [n] by model."""
    common = [
        path
        for path in (rows[0].predictions if rows else {})
        if all(row.predictions.get(path, (0, None))[1] is not None for row in rows)
    ]
    truth = np.array([rows[0].predictions[path][0] for path in common], np.int8)
    return common, truth, {row.label: np.array([row.predictions[path][1] for path in common], float) for row in rows}


def _verdict(subjects: Sequence[Subject], base: _Row, data: Data) -> str:
    if not data.labelled:
        return "Latency only: the data has no labels, so nothing is said of accuracy."
    assert base.benchmark is not None
    candidates = [
        Candidate(own.label, own.benchmark.model_only.p50_ms, own.benchmark.bytes, own.front, own.against)
        for own in subjects
        if own.benchmark and own.against and own.kind == "bundle"
    ]
    where = base.benchmark.device if base.benchmark.device != "cpu" else f"the same {base.benchmark.machine.cpu}"
    split = " and ".join(data.splits)
    return verdict.sentence(candidates, base.label, base.benchmark.model_only.p50_ms, where, data.n, split)


def _not_measured(subjects: Sequence[Subject], data: Data) -> list[str]:
    found = [f"{own.label}: {own.reason}" for own in subjects if own.reason]
    if not data.labelled:
        found.append("accuracy: the data has no labels")
    elif "external" not in data.splits:
        found.append("slices of another hospital: these are of the set that the models were trained on")
    devices = {own.benchmark.device for own in subjects if own.benchmark}
    if devices <= {"cpu"}:
        found.append("a GPU: everything ran on the processor")
    machines = {own.benchmark.machine.architecture for own in subjects if own.benchmark}
    if not machines & {"aarch64", "armv7l"}:
        found.append("a Raspberry Pi or any other Arm device: times are of the machine named here")
    found.append("energy")
    return found


def _ms(benchmark: Benchmark | None) -> float | None:
    return benchmark.model_only.p50_ms if benchmark else None


def _labels(paths: Sequence[Path]) -> dict[Path, str]:
    """Short and unique names: a bundle's stem, a run's folder; with the folder above where two are alike."""
    short = {path: path.resolve().stem if path.suffix == ".tflite" else path.resolve().name for path in paths}
    alike = {name for name in short.values() if list(short.values()).count(name) > 1}
    return {path: f"{path.resolve().parent.name}-{name}" if name in alike else name for path, name in short.items()}


def _has_labels(options: Options) -> bool:
    """Whether the data has classes. Raises `DataRejected` for data that is wrong, not just unlabelled."""
    try:
        load(options.data, options.positive, one_class=True)
    except DataRejected:
        if options.data.is_dir() and slices.find(options.data) and not (options.data / options.positive).is_dir():
            return False
        raise
    return True


def _files(model: Path) -> list[Path]:
    return [model / "run.json"] if model.is_dir() else [model]
