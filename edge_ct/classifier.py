"""`Classifier`: slice in, `Result` out. The device, the gate, `evaluate` and the benchmarks all call this one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import numpy as np

from .bundle import Bundle, read_bundle, reject_on_error
from .decision import Decision, decide, probability
from .engines.names import DEFAULT_ENGINE, EngineName
from .errors import InputRejected, ModelRejected
from .imaging.exact_resize import use_single_thread
from .imaging.limits import check_sides
from .imaging.lung_box import Box, find_lung_fields
from .imaging.slice_check import UNLIKE, check_slice
from .lesions import LesionAreas, measure_lesions, strongest_lesion
from .manifest import Golden, Tensors
from .network_analysis.outliers import read_outlier_detector
from .runtime import Outputs, Runtime, output_kind
from .slices import Slice, decode, read_bytes
from .system.malloc import reuse_freed_arrays

if TYPE_CHECKING:
    from pydicom import Dataset

    SliceSource: TypeAlias = Path | str | bytes | np.ndarray | Dataset


class Milliseconds(msgspec.Struct, frozen=True):
    """Wall time of each step; None for a step that was not reached."""

    decode: float | None = None
    preprocess: float | None = None
    inference: float | None = None


class Result(msgspec.Struct, frozen=True):
    """The result for one slice, as `classify --json` prints it.

    Attributes:
        source: The name of the file or object.
        decision: `positive`, `negative`, `refer` or `rejected`.
        probability: Calibrated P(positive); None for a rejected slice.
        reason: Why the slice was referred or rejected; None otherwise.
        series: The series instance UID of a DICOM object; None for other formats.
        model: Name and short seal of the bundle.
        ms: Time of each step.
        lesion_share: Share of the lungs that shows opacities, 0 to 1; None where the bundle has no lesion map, no lungs
            were found, or the slice was rejected.
    """

    source: str
    decision: Decision
    probability: float | None
    reason: str | None
    series: str | None
    model: str
    ms: Milliseconds
    lesion_share: float | None = None


@dataclass(frozen=True, eq=False)
class Judgement:
    """A result with its evidence.

    Attributes:
        result: The result.
        slice: The slice; None where the file could not be read.
        outputs: The outputs of the graph; None for a rejected slice.
        region: The part of the slice that the network saw; None for a rejected slice.
        areas: Areas of the lungs and of the opacities in them; None where `Result.lesion_share` is None.
    """

    result: Result
    slice: Slice | None = None
    outputs: Outputs | None = None
    region: Box | None = None
    areas: LesionAreas | None = None


class Classifier:
    """The inference engine of one bundle. It must not be shared between threads: create one for each thread."""

    def __init__(self, bundle: Bundle | Path | str, threads: int = 1, engine: EngineName = DEFAULT_ENGINE) -> None:
        """Open and check a bundle.

        OpenCV uses a single thread in this process from now on: its work on one slice takes less time than to wake
        further threads, which then wait for more on another core. The process keeps up to 16 MiB of freed memory for
        the next slice.

        Args:
            bundle: An open bundle, the path of one, or the name of a shipped one.
            threads: Number of threads of one inference.
            engine: The program that computes the network. Another one than LiteRT is compared with it first, on the
                golden slices of the bundle.

        Raises:
            ModelRejected: The bundle is missing, damaged, or does not fit its manifest; or the engine computes other
                outputs than LiteRT.
            MissingExtra: The engine is not installed.
        """
        use_single_thread()
        reuse_freed_arrays()
        self.bundle = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        self.manifest = self.bundle.manifest
        self.identity = self.bundle.identity
        size = self.manifest.preprocess.size
        if self.manifest.tensors.input.shape != (1, size, size, 1):
            raise ModelRejected(
                f"{self.bundle.source}: the graph does not take slices of {size} x {size} px, as its manifest states"
            )
        _check_shapes(self.manifest.tensors, self.bundle.source)
        with reject_on_error(self.bundle.source, "it does not fit its manifest"):
            self.runtime = Runtime(self.bundle.content, self.manifest.tensors, threads, self.bundle.source, engine)
            self._outliers = read_outlier_detector(self.bundle)
        self.engine = engine
        if engine != DEFAULT_ENGINE:
            self._verify_engine()

    def infer(self, image: np.ndarray) -> tuple[float, Outputs]:
        """Return the calibrated P(positive) and the outputs of one preprocessed image, uint8 [size, size, 1]."""
        self.runtime.invoke(image)
        outputs = self.runtime.outputs()
        calibration = self.manifest.calibration
        lesion = 0.0
        if calibration.lesion_slope and outputs.lesion_map is not None:
            lesion = strongest_lesion(outputs.lesion_map)
        return probability(outputs.logits, calibration, lesion), outputs

    def classify(self, source: SliceSource, name: str | None = None) -> Result:
        """Classify one slice.

        Args:
            source: The path of a file; the content of a file as bytes; grey pixels in a lung window, uint8 [h, w]; or a
                pydicom Dataset with one frame.
            name: The name of the slice in the result and in messages; the path by default.

        Returns:
            The result. A slice that cannot be read or judged gives a `rejected` result with its reason.

        Raises:
            MissingExtra: The slice is DICOM and pydicom is not installed.
            TypeError: `source` is none of these types, or an array of another dtype or shape.
        """
        return self.judge(source, name).result

    def judge(self, source: SliceSource, name: str | None = None) -> Judgement:
        """Classify one slice as `classify` does, and keep the slice and the outputs of the graph."""
        start = perf_counter()
        label = name or (str(source) if isinstance(source, str | Path) else f"<{type(source).__name__}>")
        try:
            slice_ = _load(source, label)
        except InputRejected as error:
            reason = str(error).removeprefix(f"{label}: ")
            return Judgement(Result(label, "rejected", None, reason, None, self.identity, Milliseconds()))
        return self.judge_slice(slice_, 1000 * (perf_counter() - start))

    def judge_slice(self, slice_: Slice, decode_ms: float | None = None, lung_found: bool = False) -> Judgement:
        """Classify a slice that has been read already.

        Args:
            slice_: The slice.
            decode_ms: Time that reading took, in milliseconds, for the result.
            lung_found: True if lung was found in the Hounsfield units of a DICOM slice; see `check_slice`.
        """
        start = perf_counter()
        check = check_slice(slice_.pixels, slice_.colour, lung_found)
        series = slice_.dicom.series if slice_.dicom else None

        def rejected(reason: str, times: Milliseconds) -> Judgement:
            return Judgement(Result(slice_.source, "rejected", None, reason, series, self.identity, times), slice_)

        if check.reason:
            return rejected(check.reason, Milliseconds(decode_ms, 1000 * (perf_counter() - start)))
        preprocess = self.manifest.preprocess
        needs_lungs = preprocess.crop == "lungs" or self.manifest.tensors.lesion_map is not None
        lungs = (check.lungs or find_lung_fields(slice_.pixels)) if needs_lungs else None
        region = preprocess.region_around(lungs, *slice_.pixels.shape)
        image = preprocess.resized(slice_.pixels, region)
        prepared = perf_counter()
        p, outputs = self.infer(image)
        outlier = self._outliers is not None and check.doubtful and self._outliers.is_outlier(outputs.embedding)
        areas = None
        if outputs.lesion_map is not None and lungs is not None:
            areas = measure_lesions(outputs.lesion_map, lungs, region, slice_.pixels.shape)
        verdict = decide(p, self.manifest.decision_rule)
        times = Milliseconds(decode_ms, 1000 * (prepared - start), 1000 * (perf_counter() - prepared))
        if outlier:
            return rejected(UNLIKE, times)
        share = None if areas is None else areas.share
        result = Result(slice_.source, verdict.decision, p, verdict.reason, series, self.identity, times, share)
        return Judgement(result, slice_, outputs, region, areas)

    def check_golden(self) -> None:
        """Run the golden slices of the bundle and compare the logits with those stored in it.

        Raises:
            ModelRejected: A logit differs by more than one stored step, or by 0.001 in a float graph; or a golden slice
                cannot be run.
        """
        with reject_on_error(self.bundle.source, "its golden slices cannot be run"):
            for golden, image in self._golden_slices():
                self._check_logits(golden, image)

    def _check_logits(self, golden: Golden, image: np.ndarray) -> None:
        step = 1 if self.manifest.tensors.logits.dtype != "float32" else 1e-3
        self.runtime.invoke(image)
        stored = self.runtime.outputs().stored
        # NaN is not within a step of anything.
        if (
            stored.shape != (len(golden.logits),)
            or not np.abs(stored.astype(np.float64) - np.asarray(golden.logits)).max() <= step
        ):
            default = self.engine == DEFAULT_ENGINE
            raise ModelRejected(
                f"{self.bundle.source}: golden slice {golden.input} gives {stored.tolist()} instead of "
                f"{list(golden.logits)} "
                + ("on this machine; do not use it here" if default else f"with {self.engine}; use --engine litert")
            )

    def _golden_slices(self) -> Iterator[tuple[Golden, np.ndarray]]:
        """Yield the golden slices with their images, uint8 [size, size, 1]."""
        size = self.manifest.preprocess.size
        for golden in self.manifest.golden:
            try:
                pixels = decode(self.bundle.member(golden.input), golden.input).pixels
            except InputRejected as error:
                raise ModelRejected(f"{self.bundle.source}: golden slice: {error}") from error
            if pixels.shape != (size, size):
                raise ModelRejected(f"{self.bundle.source}: golden slice {golden.input} must be {size} x {size} px")
            yield golden, pixels[:, :, np.newaxis]

    def _verify_engine(self) -> None:
        """Raise `ModelRejected` if the engine computes other outputs than LiteRT."""
        from .engines.verification import compare_outputs

        source, tensors = self.bundle.source, self.manifest.tensors
        if not self.manifest.golden:
            raise ModelRejected(f"{source}: no golden slices to check {self.engine} with; use --engine litert")
        self.check_golden()
        litert = Runtime(self.bundle.content, tensors, source=source)
        with reject_on_error(source, "its golden slices cannot be run"):
            for _, image in self._golden_slices():
                compare_outputs(self.runtime, litert, tensors, image, source)


def _check_shapes(tensors: Tensors, source: str) -> None:
    """Raise `ModelRejected` if an output has not the shape that `Tensors` states."""
    fits = tensors.logits.shape == (1, 2) and output_kind(tensors.embedding.shape) == "embedding"
    for tensor, kind in ((tensors.class_map, "class_map"), (tensors.lesion_map, "lesion_map")):
        fits &= tensor is None or (output_kind(tensor.shape) == kind and tensor.shape[0] == 1)
    if not fits:
        raise ModelRejected(f"{source}: edge-ct cannot use the shapes of the graph's outputs")


def _load(source: SliceSource, label: str) -> Slice:
    if isinstance(source, str | Path):
        return decode(read_bytes(Path(source), label), label)
    if isinstance(source, bytes):
        return decode(source, label)
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 2:
            raise TypeError(f"a slice must be uint8 [height, width], not {source.dtype} {list(source.shape)}")
        check_sides(source.shape[1], source.shape[0], label)
        return Slice(np.ascontiguousarray(source), label)
    if any(kind.__name__ == "Dataset" for kind in type(source).__mro__):
        from . import dicom

        return Slice(dicom.frame_pixels(source, label), label, dicom.ids_of(source))
    raise TypeError(f"a slice must be a path, bytes, an array or a pydicom Dataset, not {type(source).__name__}")
