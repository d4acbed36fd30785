"""The TFLite files of one network, one for each variant and as the settings say."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edge_ct.errors import DataRejected
from edge_ct.manifest import Variant

from ..networks import to_deployed_form
from ..options import INTEGER_VARIANTS, ConversionOptions, FileFormat, LayerPrecision
from ..run_slices import RunSlices
from ..shrink.steps import ShrunkNetwork
from . import ai_edge
from .keras_to_tflite import check_integer, to_flatbuffer
from .layer_errors import LayerError, measure_layer_errors
from .rounding import round_kernels

# Representative slices on which layers are compared.
_COMPARED_SLICES = 32


class VariantBuilder:
    """Builds the files of one network; its kernels are rounded when the first integer file is asked for.

    Attributes:
        shrunk: The network.
        slices: The slices of its run.
    """

    def __init__(self, shrunk: ShrunkNetwork, slices: RunSlices, options: ConversionOptions) -> None:
        """Prepare to build files of a network.

        Args:
            shrunk: The network; building integer files changes its weights.
            slices: The slices of its run.
            options: The settings; the variants among them are ignored.
        """
        self.shrunk, self.slices = shrunk, slices
        self._options = options
        self._original = [np.array(values) for values in shrunk.model.get_weights()] if options.stability else []
        self._sets: list[np.ndarray] = []
        self._rounded_for = -1

    def name(self, variant: Variant, note: str = "") -> str:
        """Return a name for tables and bundles: the steps before, the variant, a note."""
        sparse = "sparse" if self._options.sparse else ""
        return "-".join(part for part in (self.shrunk.label, sparse, variant, note) if part)

    def layer_names(self) -> tuple[str, ...]:
        """Return the names of the Keras layers."""
        return tuple(layer.name for layer in self.shrunk.model.layers)

    def build(self, variant: Variant, keep: Mapping[str, LayerPrecision] = {}, which: int = 0) -> bytes:
        """Build the file of a variant. Integer files must come last, as rounding changes the network.

        Args:
            variant: The variant.
            keep: Name of a layer -> what it is computed in instead of 8 bits.
            which: Index of the set of representative slices.

        Raises:
            DataRejected: The network is not one of the zoo.
            EdgeCTError: The network cannot be converted.
        """
        options, name = self._options, self.name(variant)
        file_format = options.file_format(variant)
        integer = variant in INTEGER_VARIANTS
        by_ai_edge = options.quantizer == "ai-edge" and (integer or variant == "dynamic")
        self.slices.progress.say(f"converting to {name}")
        if not integer and not by_ai_edge:
            return self._convert(file_format)
        representative = self._representative(which)
        if integer:
            self._round_kernels(representative, which)
        with self.slices.progress.bar(f"quantising {name}", len(representative)) as on_slice:
            if not by_ai_edge:
                return self._convert(file_format, representative, on_slice)
            flatbuffer = ai_edge.quantise(
                self.build_float(),
                self.slices.preprocess,
                variant,
                representative,
                options.calibration,
                keep,
                options.float_io,
                on_slice,
            )
        if integer and not keep:
            check_integer(flatbuffer, self.slices.preprocess, file_format)
        return flatbuffer

    def build_float(self) -> bytes:
        """Build a float file with float input of the network as it is now."""
        return self._convert(FileFormat("fp32", float_io=True))

    def measure_errors(self, quantised: bytes) -> tuple[LayerError, ...]:
        """Measure the noise of each layer of a quantised file against float, on representative slices."""
        images = self._representative(0)
        images = images[:: max(1, len(images) // _COMPARED_SLICES)][:_COMPARED_SLICES]
        return measure_layer_errors(self.build_float(), quantised, images, self.slices.preprocess, self.layer_names())

    def _convert(
        self,
        file_format: FileFormat,
        representative: np.ndarray | None = None,
        on_slice: Callable[[int], None] = lambda steps: None,
    ) -> bytes:
        try:
            model = to_deployed_form(self.shrunk.model)
            return to_flatbuffer(model, self.slices.preprocess, file_format, representative, on_slice)
        except ValueError as error:
            raise DataRejected(
                f"{self.slices.run.model_path}: the network has no layer 'features', so it is not one of edge-ct's"
            ) from error

    def _representative(self, which: int) -> np.ndarray:
        if not self._sets:
            options = self._options
            self._sets = self.slices.representative(options.representative, options.seed, 1 + options.stability)
        return self._sets[which]

    def _round_kernels(self, representative: np.ndarray, which: int) -> None:
        # With `mse` the quantiser chooses the steps of the weights itself, and rounding would be done twice.
        if self.shrunk.exact or self._options.calibration == "mse" or self._rounded_for == which:
            return
        if self._rounded_for >= 0:
            self.shrunk.model.set_weights(self._original)
        normalised = self.slices.preprocess.normalise(representative)
        round_kernels(self.shrunk.model, normalised, self._options.seed, self.slices.progress)
        self._rounded_for = which
