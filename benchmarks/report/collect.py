"""Accuracy beside latency for any bundles and runs on the same slices, with one run as the reference.

Each figure comes from a command in a process of its own: `edge-ct evaluate` or `edge-ct benchmark run`. Its output is
kept below `parts/`, so that an interrupted report need not measure again.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, cast

import msgspec
import numpy as np

from edge_ct import __version__, slices
from edge_ct.bundle import read_bundle
from edge_ct.dataset import fingerprint, load
from edge_ct.errors import DataRejected, EdgeCTError, ModelRejected
from edge_ct.imaging.slice_files import list_slices
from edge_ct.manifest import INTENDED_USE
from edge_ct.metrics import Scores
from edge_ct.reporting.outcomes import OutcomeTable, SourceScores
from edge_ct.run import load_finished_run
from edge_ct.system.child_command import run_command
from edge_ct.system.files import write_bytes
from edge_ct.system.progress import QUIET, Progress

from ..measure.accelerators import WantedDevice
from ..measure.bundle import Benchmark
from .evaluation import Evaluation, read_predictions
from .verdict import (
    Candidate,
    ReferenceComparison,
    compare_with_reference,
    costs,
    pareto_front,
    scores_at,
    verdict_sentence,
)

PARTS = "parts"
SubjectKind = Literal["bundle", "network", "ensemble"]


class Subject(msgspec.Struct, frozen=True):
    """One model of a report.

    Attributes:
        label: Short unique name.
        kind: Bundle, run of one network, or run of an ensemble.
        reference: Whether the others are compared with it.
        benchmark: Latency and memory.
        scores: Scores at probability 0.5 on the slices that all models were scored on.
        at_threshold: Scores at the bundle's own operating point.
        decisions: Number of slices with each decision.
        split: Split that the slices belong to.
        against: Comparison with the reference.
        front: Whether no other model is at once as fast, as sensitive and as specific.
        reason: Why the model was not measured; the other results are then missing.
        exit_code: Exit code of the error behind `reason`.
        outcomes: How positives and negatives were decided, by slice and by likely patient.
        sources: Metrics by source, where the data name sources.
    """

    label: str
    kind: SubjectKind
    reference: bool
    benchmark: Benchmark | None = None
    scores: Scores | None = None
    at_threshold: Scores | None = None
    decisions: dict[str, int] | None = None
    split: str | None = None
    against: ReferenceComparison | None = None
    front: bool = False
    reason: str | None = None
    exit_code: int = 0
    outcomes: tuple[OutcomeTable, ...] = ()
    sources: dict[str, SourceScores] = {}


class ReportData(msgspec.Struct, frozen=True):
    """The slices of a report.

    Attributes:
        name: Name of the data's folder.
        labelled: Whether the data has classes; without them there is only latency.
        n: Number of slices that all models were scored on.
        positives: Number of positive slices among them.
        dropped: Number of slices that some models were scored on, but not all.
        fingerprint: Fingerprint of the slices.
        splits: Splits that the models' slices belong to.
    """

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
    data: ReportData
    quick: bool
    subjects: tuple[Subject, ...]
    commands: tuple[str, ...]
    not_measured: tuple[str, ...]


class ReportOptions(msgspec.Struct, frozen=True):
    """How to measure.

    Attributes:
        data: Folder or CSV of slices.
        positive: Name of the positive class.
        device: Device that computes runs.
        threads: Threads of each model.
        quick: Whether 200 queries are enough.
        reuse: Whether results in `parts/` that are newer than the model are used again.
    """

    data: Path
    positive: str = "COVID"
    device: WantedDevice = "auto"
    threads: int = 1
    quick: bool = False
    reuse: bool = False


def collect(
    targets: Sequence[Path], reference: Path, options: ReportOptions, out: Path, progress: Progress = QUIET
) -> tuple[Report, dict[str, np.ndarray], np.ndarray]:
    """Score and measure all models, and write report.json.

    Args:
        targets: Bundles and run folders.
        reference: The run that the others are compared with.
        options: How to measure.
        out: Folder of the report.
        progress: Where to show progress.

    Returns:
        The report; P(positive), float [n], by label; and the labels, int8 [n]. A bundle that fails is in the report
        with the reason.

    Raises:
        CommandFailed: The reference cannot be scored or measured.
        DataRejected: No slice was scored by all models.
    """
    paths = list(dict.fromkeys((reference, *targets)))
    labels = _short_labels(paths)
    labelled = _has_labels(options)
    commands = _ReportCommands(options, out / PARTS, progress)
    rows = []
    for number, path in enumerate(paths, 1):
        progress.say(f"[{number}/{len(paths)}] {labels[path]}")
        try:
            if path.is_file() or not path.exists():
                read_bundle(path)  # a damaged bundle is neither scored nor measured
            rows.append(commands.measure(path, labels[path], labelled))
        except EdgeCTError as error:
            if path == reference:
                raise
            progress.say(f"  not measured: {error}")
            kind: SubjectKind = "network" if path.is_dir() else "bundle"
            rows.append(_ModelOutputs(labels[path], kind, reason=str(error), exit_code=error.exit_code))
    report, probabilities, truth = _assemble(rows, labels[reference], labelled, options, commands.lines)
    write_bytes(out / "report.json", msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    return report, probabilities, truth


def failure(report: Report) -> EdgeCTError | None:
    """Return the error to end with if a model was not measured, or None."""
    failed = [subject for subject in report.subjects if subject.reason]
    if not failed:
        return None
    kind = {error.exit_code: error for error in (ModelRejected, DataRejected)}.get(failed[0].exit_code, EdgeCTError)
    return kind(f"{len(failed)} of {len(report.subjects)} not measured: {failed[0].reason}")


class _ModelOutputs(msgspec.Struct):
    """What the commands printed about one model.

    Attributes:
        predictions: Path of a slice -> (label, P(positive), None if the slice was rejected).
    """

    label: str
    kind: SubjectKind
    evaluation: Evaluation | None = None
    predictions: dict[str, tuple[int, float | None]] = {}
    benchmark: Benchmark | None = None
    reason: str | None = None
    exit_code: int = 0


class _ReportCommands:
    """Runs the commands of a report, keeps their output below `parts/`, and lists them as a user would type them."""

    def __init__(self, options: ReportOptions, parts: Path, progress: Progress) -> None:
        self.options, self.parts, self.progress = options, parts, progress
        self.lines: list[str] = []

    def measure(self, path: Path, label: str, labelled: bool) -> _ModelOutputs:
        """Score one model, if there are labels, and measure it."""
        is_run = path.is_dir()
        outputs = _ModelOutputs(label, cast(SubjectKind, load_finished_run(path).info.kind) if is_run else "bundle")
        if labelled:
            csv = self.parts / f"{label}.predictions.csv"
            words = ["evaluate", str(path), "--data", str(self.options.data), "--positive", self.options.positive]
            answer = self._run([*words, "--json", "--predictions", str(csv)], f"{label}.evaluate.json", path, (csv,))
            outputs.evaluation = msgspec.json.decode(answer, type=Evaluation)
            outputs.predictions = read_predictions(csv)
        words = ["benchmark", "run", str(path), "--data", str(self.options.data)]
        words += ["--threads", str(self.options.threads)]
        words += ["--device", self.options.device] if is_run else []
        words += ["--quick"] if self.options.quick else []
        answer = self._run([*words, "--json"], f"{label}.benchmark.json", path, ())
        outputs.benchmark = msgspec.json.decode(answer, type=Benchmark)
        return outputs

    def _run(self, words: list[str], name: str, model: Path, others: tuple[Path, ...]) -> bytes:
        line = shlex.join(["edge-ct", *words])
        self.lines.append(line)
        output, command = self.parts / name, self.parts / f"{name}.command"
        model_time = (model / "run.json" if model.is_dir() else model).stat().st_mtime
        is_newer = all(file.exists() and file.stat().st_mtime > model_time for file in (output, command, *others))
        if self.options.reuse and is_newer and command.read_text(encoding="utf-8") == line:
            return output.read_bytes()
        self.progress.say(f"  {line}")
        self.parts.mkdir(parents=True, exist_ok=True)
        printed = run_command(words, show_progress=False).text.encode()
        write_bytes(output, printed)
        write_bytes(command, line.encode())
        return printed


def _assemble(
    rows: Sequence[_ModelOutputs], reference: str, labelled: bool, options: ReportOptions, commands: Sequence[str]
) -> tuple[Report, dict[str, np.ndarray], np.ndarray]:
    scored = [row for row in rows if row.evaluation]
    common, truth, probabilities = _common_slices(scored)
    if labelled and not common:
        raise DataRejected(
            f"{options.data}: no slice that every model can be scored on: each was trained on the slices that are "
            "left for the others; add slices that none was trained on"
        )
    data = ReportData(
        name=options.data.resolve().name if options.data.is_dir() else options.data.resolve().parent.name,
        labelled=labelled,
        n=len(common),
        positives=int(truth.sum()),
        dropped=len(set().union(*(row.predictions for row in scored))) - len(common) if scored else 0,
        fingerprint=fingerprint([slices.read(Path(path)).sha256 for path in common], truth) if common else None,
        splits=tuple(dict.fromkeys(row.evaluation.split for row in scored if row.evaluation)),
    )
    base = next(row for row in rows if row.label == reference)
    subjects = [_subject(row, base, truth, probabilities) for row in rows]
    front = pareto_front([costs(subject.scores, _p50_ms(subject.benchmark)) for subject in subjects])
    subjects = [
        msgspec.structs.replace(subject, front=is_front) for subject, is_front in zip(subjects, front, strict=True)
    ]
    report = Report(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version=__version__,
        intended_use=INTENDED_USE,
        verdict=_verdict(subjects, base, data),
        data=data,
        quick=options.quick,
        subjects=tuple(subjects),
        commands=tuple(commands),
        not_measured=tuple(_not_measured(subjects, data)),
    )
    return report, probabilities, truth


def _subject(
    row: _ModelOutputs, base: _ModelOutputs, truth: np.ndarray, probabilities: dict[str, np.ndarray]
) -> Subject:
    is_reference = row is base
    if not row.evaluation:
        return Subject(row.label, row.kind, is_reference, row.benchmark, reason=row.reason, exit_code=row.exit_code)
    operating_point = row.evaluation.operating_point
    scores, at_threshold = scores_at(
        truth, probabilities[row.label], None if operating_point is None else operating_point.threshold
    )
    model_ms, base_ms = _p50_ms(row.benchmark), _p50_ms(base.benchmark)
    comparison = None
    if not is_reference and 0 < truth.sum() < len(truth):
        comparison = compare_with_reference(
            truth,
            probabilities[row.label],
            probabilities[base.label],
            base_ms / model_ms if model_ms and base_ms else None,
        )
    return Subject(
        row.label,
        row.kind,
        is_reference,
        row.benchmark,
        scores=scores,
        at_threshold=at_threshold,
        decisions=row.evaluation.decisions,
        split=row.evaluation.split,
        against=comparison,
        outcomes=row.evaluation.outcomes,
        sources=row.evaluation.sources,
    )


def _common_slices(rows: Sequence[_ModelOutputs]) -> tuple[list[str], np.ndarray, dict[str, np.ndarray]]:
    """Return the slices that every model gave a probability for, their labels [n], and P(positive) [n] by model."""
    common = [
        path
        for path in (rows[0].predictions if rows else {})
        if all(row.predictions.get(path, (0, None))[1] is not None for row in rows)
    ]
    truth = np.array([rows[0].predictions[path][0] for path in common], np.int8)
    return common, truth, {row.label: np.array([row.predictions[path][1] for path in common], float) for row in rows}


def _verdict(subjects: Sequence[Subject], base: _ModelOutputs, data: ReportData) -> str:
    if not data.labelled:
        return "Latency only: the data has no labels, so the report says nothing about accuracy."
    assert base.benchmark is not None
    candidates = [
        Candidate(
            subject.label,
            subject.benchmark.model_only.p50_ms,
            subject.benchmark.bytes,
            subject.front,
            subject.against,
        )
        for subject in subjects
        if subject.benchmark and subject.against and subject.kind == "bundle"
    ]
    benchmark = base.benchmark
    device = benchmark.device if benchmark.device != "cpu" else f"the same {benchmark.machine.cpu}"
    split = " and ".join(data.splits)
    return verdict_sentence(candidates, base.label, benchmark.model_only.p50_ms, device, data.n, split)


def _not_measured(subjects: Sequence[Subject], data: ReportData) -> list[str]:
    gaps = [f"{subject.label}: {subject.reason}" for subject in subjects if subject.reason]
    if not data.labelled:
        gaps.append("accuracy: the data has no labels")
    elif "external" not in data.splits:
        gaps.append("slices of another hospital: these slices belong to the set that the models were trained on")
    benchmarks = [subject.benchmark for subject in subjects if subject.benchmark]
    if {benchmark.device for benchmark in benchmarks} <= {"cpu"}:
        gaps.append("a GPU: everything ran on the processor")
    if not {benchmark.machine.architecture for benchmark in benchmarks} & {"aarch64", "armv7l"}:
        gaps.append("a Raspberry Pi or any other Arm device: the times are those of the machine named here")
    gaps.append("energy")
    return gaps


def _p50_ms(benchmark: Benchmark | None) -> float | None:
    return benchmark.model_only.p50_ms if benchmark else None


def _short_labels(paths: Sequence[Path]) -> dict[Path, str]:
    """Return a unique name for each path: the file's stem or the folder's name, with the parent folder if needed."""
    short = {path: path.resolve().stem if path.suffix == ".tflite" else path.resolve().name for path in paths}
    repeated = {name for name in short.values() if list(short.values()).count(name) > 1}
    return {path: f"{path.resolve().parent.name}-{name}" if name in repeated else name for path, name in short.items()}


def _has_labels(options: ReportOptions) -> bool:
    """Return whether the data has classes; raises `DataRejected` for data that is damaged and not just unlabelled."""
    try:
        load(options.data, options.positive, one_class=True)
    except DataRejected:
        if options.data.is_dir() and list_slices(options.data).paths and not (options.data / options.positive).is_dir():
            return False
        raise
    return True
