"""From a run to verified bundles: shrink, convert, score, check against fp32, bundle, verify, write.

One conversion is `load -> shrink -> file of a variant -> scored on validation and test -> gate -> bundle`. Each arrow
is a module of its own, and `convert_all` is the order they come in.
"""

from __future__ import annotations

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
from edge_ct.system.host import peak_memory
from edge_ct.system.progress import QUIET, Progress

from . import gate
from .bundling import make_bundle
from .gate import GateReport
from .networks import load_network
from .options import INTEGER_VARIANTS, VARIANTS, ConversionOptions, FileFormat
from .quantise.layer_errors import LayerError
from .quantise.mixed_precision import MixedPrecisionSearch, MixedStep
from .quantise.variants import VariantBuilder
from .run_slices import RunSlices
from .scoring import ScoredFile, score_file
from .shrink.steps import ShrunkNetwork, shrink_network

# Stands for the variant in the name of the target.
PATTERN = "{variant}"


class ConvertedFile(msgspec.Struct, frozen=True):
    """One file of a conversion.

    Attributes:
        bundle: Path of the bundle; None if the gate failed and nothing was written.
        bytes: Size of the bundle.
        variant: The variant, with the steps before it ("int8", "pruned-0.7-int8").
        gate: What the gate found.
        layers: Noise of each layer, if it was asked for.
        mixed: The files that `auto_mixed` tried.
        stability: What the gate found for a second set of representative slices.
        for_inspection: Path of the file if the gate failed and `report_only` had it written all the same.
    """

    bundle: str | None
    bytes: int
    variant: str
    gate: GateReport
    layers: tuple[LayerError, ...] = ()
    mixed: tuple[MixedStep, ...] = ()
    stability: tuple[GateReport, ...] = ()
    for_inspection: str | None = None


class Conversion(msgspec.Struct, frozen=True):
    """All files of a conversion.

    Attributes:
        bundles: The files.
        seconds: Time that the conversion took.
        peak_memory_mb: Peak memory of the process since it started, in MB.
        shrinking: Step ("slim", "prune", "qat") -> its account.
    """

    bundles: tuple[ConvertedFile, ...]
    seconds: float
    peak_memory_mb: float
    shrinking: dict[str, Any] = {}

    def document(self) -> dict[str, Any]:
        """Return what `--json` prints: the fields of a single bundle at the top, or a list of several bundles."""
        fields = {name: getattr(self, name) for name in ("seconds", "peak_memory_mb", "shrinking")}
        if len(self.bundles) == 1:
            return msgspec.structs.asdict(self.bundles[0]) | fields
        return {"bundles": self.bundles, **fields}

    def worst_layers(self) -> tuple[tuple[LayerError, ...], str]:
        """Return the layer noise of the smallest file that was compared with float, and its name.

        Raises:
            EdgeCTError: No file was compared.
        """
        compared = [file for file in self.bundles if file.layers]
        if not compared:
            raise EdgeCTError("--debug compares integer files with float: add --int8 or --int16x8")
        return compared[-1].layers, compared[-1].variant

    def enforce(self) -> None:
        """Raise `GateFailed` if a file lost more than the rule allows."""
        failed = [file for file in self.bundles if not file.gate.passed]
        if len(self.bundles) == 1 and failed:
            gate.enforce(failed[0].gate, failed[0].for_inspection)
        if failed:
            names = ", ".join(
                f"{file.variant} ({file.gate.reason}; {gate.describe_kept(file.for_inspection)})" for file in failed
            )
            raise GateFailed(f"these files broke the gate's rule: {names}")


def convert(
    run_folder: Path,
    out: Path,
    options: ConversionOptions = ConversionOptions(),  # noqa: B008  (frozen)
    data: Path | None = None,
    force: bool = False,
    progress: Progress = QUIET,
) -> ConvertedFile:
    """Convert a finished run into one bundle.

    Args:
        run_folder: The run.
        out: The bundle to write.
        options: The settings; with several variants use `convert_all`.
        data: Where the run's slices are now, if they have moved.
        force: Replace an existing bundle.
        progress: Where progress is shown.

    Raises:
        DataRejected: The run or its slices cannot be used.
        GateFailed: The converted model lost more than the rule allows; nothing was written.
    """
    conversion = convert_all(run_folder, out, options, data, force, progress)
    conversion.enforce()
    return conversion.bundles[0]


def convert_all(
    run_folder: Path,
    out: Path,
    options: ConversionOptions = ConversionOptions(),  # noqa: B008  (frozen)
    data: Path | None = None,
    force: bool = False,
    progress: Progress = QUIET,
    debug: bool = False,
) -> Conversion:
    """Convert a finished run into one bundle for each of `options.variants`.

    A file that loses more than the gate allows is not written, and its `ConvertedFile.bundle` is None.

    Args:
        run_folder: The run.
        out: The bundle to write; for several variants a folder, or a name that holds `{variant}`.
        options: The settings.
        data: Where the run's slices are now, if they have moved.
        force: Replace existing bundles.
        progress: Where progress is shown.
        debug: Also compare the integer files with float, layer by layer.

    Raises:
        DataRejected: The run or its slices cannot be used.
        EdgeCTError: The settings do not go together, or the network cannot be converted.
    """
    begun = perf_counter()
    malloc.keep_freed_memory()
    options.check()
    run = load_finished_run(run_folder)
    targets = _targets(run, out, options)
    for target in targets.values():
        refuse_existing(target, force)
    model = load_network(run)
    slices = RunSlices(run, data, progress, options.cross_fit, options.fuse_lesions)
    # Read now, so that a reference that cannot be used is refused at once and not after minutes.
    reference = (
        gate.load_reference(Path(options.reference), slices.table, slices.calibration_split)
        if options.reference
        else None
    )
    builder = VariantBuilder(ShrunkNetwork(model), slices, ConversionOptions())
    fp32 = score_file(builder.build("fp32"), slices, "fp32")
    shrunk = shrink_network(model, slices, options.shrink)
    maker = _FileMaker(VariantBuilder(shrunk, slices, options), fp32, options, reference, debug)
    files = [maker.make(variant, targets[variant]) for variant in VARIANTS if variant in options.variants]
    memory = peak_memory() / 1e6
    return Conversion(tuple(files), perf_counter() - begun, memory, shrunk.account)


class _FileMaker:
    """Makes the files of one network, and writes those that pass the gate."""

    def __init__(
        self,
        builder: VariantBuilder,
        fp32: ScoredFile,
        options: ConversionOptions,
        reference: gate.ReferenceModel | None,
        debug: bool,
    ) -> None:
        self._builder, self._slices = builder, builder.slices
        self._fp32, self._options, self._reference, self._debug = fp32, options, reference, debug

    def make(self, variant: Variant, target: Path) -> ConvertedFile:
        """Build, score and check one file, and write its bundle."""
        builder, options = self._builder, self._options
        keep = options.keep if variant in INTEGER_VARIANTS else {}
        name = builder.name(variant, "mixed" if keep else "")
        if name == "fp32" and options.file_format(variant) == FileFormat("fp32"):
            scored = self._fp32
        else:
            scored = score_file(builder.build(variant, keep), self._slices, name)
        report = self._compare(scored)
        steps: tuple[MixedStep, ...] = ()
        if variant == "int8" and options.auto_mixed:
            search = MixedPrecisionSearch(builder, scored, report)
            steps = search.run(self._compare)
            scored, report = search.scored, search.report
        layers = builder.measure_errors(scored.flatbuffer) if self._debug and variant in INTEGER_VARIANTS else ()
        content = make_bundle(self._slices, self._fp32, scored, variant, builder.shrunk, report.verdict(), options)
        kept = gate.failed_path(target) if options.report_only and not report.passed else None
        if kept:
            write_bytes(kept, content)
        if report.passed:
            Classifier(unpack_bundle(content, str(target))).check_golden()
            write_bytes(target, content)
        stability: tuple[GateReport, ...] = ()
        if variant == "int8" and options.stability:
            second = score_file(builder.build(variant, keep, 1), self._slices, f"{name}, set 2")
            stability = (self._compare(second),)
        bundle = str(target) if report.passed else None
        for_inspection = str(kept) if kept else None
        return ConvertedFile(bundle, len(content), scored.name, report, layers, steps, stability, for_inspection)

    def _compare(self, scored: ScoredFile) -> GateReport:
        split = self._slices.calibration_split
        report = gate.compare_with_fp32(
            self._slices.labels(split),
            self._fp32.probabilities[split],
            scored.probabilities[split],
            self._options.rule,
            split,
            self._reference,
        )
        if split not in scored.lesion_maps:
            return report
        return gate.with_lesion_maps(report, self._fp32.lesion_maps[split], scored.lesion_maps[split])


def _targets(run: Run, out: Path, options: ConversionOptions) -> dict[Variant, Path]:
    """Return where the file of each variant is written; in a folder, its name tells how the network was shrunk."""
    variants = options.variants
    if PATTERN in out.name:
        return {variant: out.with_name(out.name.replace(PATTERN, variant)) for variant in variants}
    if len(variants) == 1 and not out.is_dir():
        return {variants[0]: out}
    if out.suffix == ".tflite" or out.is_file():
        raise EdgeCTError(f"{out}: several formats need a folder, or a name with {PATTERN} in it")
    stem = model_name(run.info.network, run.info.preprocess.size)
    parts = (stem, options.shrink.label, "sparse" if options.sparse else "")
    return {variant: out / f"{'-'.join(filter(None, (*parts, variant)))}.tflite" for variant in variants}
