"""Run in, verified bundles out: shrink, quantise, calibrate, gate, score, pack, check, write.

One conversion is `load -> shrink -> flatbuffer of a variant -> scored on validation and test -> gate -> bundle`; each
arrow is a module of its own, and `convert_all` the order they come in.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from edge_ct.bundle import unpack_bundle
from edge_ct.classifier import Classifier
from edge_ct.errors import EdgeCTError, GateFailed
from edge_ct.manifest import Variant
from edge_ct.run import Run, load_finished_run, model_name
from edge_ct.system import malloc
from edge_ct.system.files import refuse_existing, write_bytes
from edge_ct.system.progress import QUIET, Progress

from . import bundling, gate
from .options import VARIANTS, Options
from .quantise import keras_to_tflite, mixed_precision
from .quantise.keras_to_tflite import Form
from .quantise.layer_errors import LayerError
from .quantise.variants import Files, flatbuffer
from .run_slices import Material
from .scoring import CALIBRATION_SPLIT, Scored, run_file
from .shrink.steps import Steps

__all__ = ["Converted", "Made", "Options", "convert", "convert_all"]

PATTERN = "{variant}"


class Converted(msgspec.Struct, frozen=True):
    """One file. bundle: its path, None where the gate failed and nothing was written. bytes: of the whole bundle.

    variant: what it is, with what was done before ("int8", "pruned-0.7-int8"). layers: how far each is from float,
    where that was asked for. mixed: what `auto_mixed` tried. stability: the gate again, with other representative
    slices.
    """

    bundle: str | None
    bytes: int
    variant: str
    gate: gate.GateReport
    layers: tuple[LayerError, ...] = ()
    mixed: tuple[mixed_precision.Step, ...] = ()
    stability: tuple[gate.GateReport, ...] = ()


class Made(msgspec.Struct, frozen=True):
    """All files of a conversion. shrinking: what the step before has to say of itself.

    peak_memory_mb: the most the process held, since it began.
    """

    bundles: tuple[Converted, ...]
    seconds: float
    peak_memory_mb: float
    shrinking: dict[str, Any] = {}

    def document(self) -> dict[str, Any]:
        """What `--json` prints: of a single bundle its own fields first, of several a list of them."""
        fields = {name: getattr(self, name) for name in ("seconds", "peak_memory_mb", "shrinking")}
        if len(self.bundles) == 1:
            return msgspec.structs.asdict(self.bundles[0]) | fields
        return {"bundles": self.bundles, **fields}

    def worst_layers(self) -> tuple[tuple[LayerError, ...], str]:
        """The layers of the smallest file that was compared, and its name. Raises `EdgeCTError` where none was."""
        compared = [one for one in self.bundles if one.layers]
        if not compared:
            raise EdgeCTError("--debug compares integer files with float: add --int8")
        return compared[-1].layers, compared[-1].variant

    def enforce(self) -> None:
        """Raise `GateFailed` where one of them lost too much."""
        failed = [one.gate for one in self.bundles if not one.gate.passed]
        if len(self.bundles) == 1 and failed:
            gate.enforce(failed[0])
        if failed:
            names = ", ".join(f"{one.variant} ({one.gate.reason})" for one in self.bundles if not one.gate.passed)
            raise GateFailed(f"not written, as they broke the gate's rule: {names}")


def convert(
    run_folder: Path,
    out: Path,
    options: Options = Options(),  # noqa: B008  (frozen)
    data: Path | None = None,
    force: bool = False,
    progress: Progress = QUIET,
    steps: Steps = Steps(),  # noqa: B008  (frozen)
) -> Converted:
    """As `convert_all`, of one variant; raises `GateFailed` where it lost too much, and nothing is written."""
    made = convert_all(run_folder, out, options, data, force, progress, steps)
    made.enforce()
    return made.bundles[0]


def convert_all(
    run_folder: Path,
    out: Path,
    options: Options = Options(),  # noqa: B008  (frozen)
    data: Path | None = None,
    force: bool = False,
    progress: Progress = QUIET,
    steps: Steps = Steps(),  # noqa: B008  (frozen)
    debug: bool = False,
) -> Made:
    """Convert a finished run into a bundle for each of `options.variants`.

    out: the bundle, where there is one variant; of several a folder, or a name that holds `{variant}`. data: where the
    run's slices are now, if they have moved. steps: what is done to the network first. debug: also compare the integer
    files with float, layer by layer. A file that loses more than the gate allows is not written, and its
    `Converted.bundle` is None. Raises `DataRejected` for a run or data that cannot be used.
    """
    begun = perf_counter()
    malloc.keep_freed_memory()
    options.check()
    run = load_finished_run(run_folder)
    targets = _targets(run, out, options, steps)
    for target in targets.values():
        refuse_existing(target, force)
    model = keras_to_tflite.load(run)
    material = Material(run, data, progress)
    if options.reference:
        _reference(material, options)  # refused now, not after minutes
    progress.say("converting to fp32")
    fp32 = run_file(flatbuffer(model, material, Form("fp32")), material, "fp32")
    shrunk = steps(model, material)
    files = Files(shrunk, material, options)
    made = [
        _make(files, variant, fp32, targets[variant], options, debug)
        for variant in VARIANTS
        if variant in options.variants
    ]
    return Made(tuple(made), perf_counter() - begun, peak_memory_mb(), shrunk.account)


def peak_memory_mb() -> float:
    """The most memory this process has held at once, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _make(files: Files, variant: Variant, fp32: Scored, target: Path, options: Options, debug: bool) -> Converted:
    material, keep = files.material, options.keep if variant in keras_to_tflite.INTEGER else {}
    name = files.name(variant, "mixed" if keep else "")
    steps: tuple[mixed_precision.Step, ...] = ()
    if name == "fp32" and options.form(variant) == Form("fp32"):
        scored = fp32
    else:
        scored = run_file(files.of(variant, keep), material, name)
    report = _gate(material, fp32, scored, options)
    if variant == "int8" and options.auto_mixed:
        search = mixed_precision.Search(files, scored, report)
        steps = search.run(lambda one: _gate(material, fp32, one, options))
        scored, report = search.scored, search.report
    layers = files.errors(scored.flatbuffer) if debug and variant in keras_to_tflite.INTEGER else ()
    content = bundling.bundle_bytes(material, fp32, scored, variant, files.shrunk, report.verdict(), options)
    if not report.passed and options.report_only:
        write_bytes(gate.failed_name(target), content)
    if report.passed:
        Classifier(unpack_bundle(content, str(target))).check_golden()
        write_bytes(target, content)
    other = ()
    if variant == "int8" and options.stability:
        other = (_gate(material, fp32, run_file(files.of(variant, keep, 1), material, f"{name}, set 2"), options),)
    return Converted(str(target) if report.passed else None, len(content), scored.name, report, layers, steps, other)


def _reference(material: Material, options: Options) -> gate.Reference | None:
    if options.reference is None:
        return None
    return gate.reference_of(Path(options.reference), material.table, CALIBRATION_SPLIT)


def _gate(material: Material, fp32: Scored, scored: Scored, options: Options) -> gate.GateReport:
    return gate.compare(
        material.labels(CALIBRATION_SPLIT),
        fp32.probabilities[CALIBRATION_SPLIT],
        scored.probabilities[CALIBRATION_SPLIT],
        options.rule,
        CALIBRATION_SPLIT,
        _reference(material, options),
    )


def _targets(run: Run, out: Path, options: Options, steps: Steps) -> dict[Variant, Path]:
    """Where each file goes; in a folder, a name that says what was done to the network first."""
    variants = options.variants
    if PATTERN in out.name:
        return {variant: out.with_name(out.name.replace(PATTERN, variant)) for variant in variants}
    if len(variants) == 1 and not out.is_dir():
        return {variants[0]: out}
    if out.suffix == ".tflite" or out.is_file():
        raise EdgeCTError(f"{out}: several files need a folder, or a name with {PATTERN} in it")
    stem = model_name(run.info.network, run.info.preprocess.size)
    parts = (stem, steps.label, "sparse" * options.sparse)
    return {variant: out / f"{'-'.join(filter(None, (*parts, variant)))}.tflite" for variant in variants}
