"""The flatbuffers of one network, each as its variant and the options say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_ct.errors import DataRejected
from edge_ct.manifest import Variant

from ..options import Options
from ..run_slices import Material
from ..shrink.shrinking import Shrunk
from . import ai_edge, keras_to_tflite, rounding
from .ai_edge import Precision
from .keras_to_tflite import Form
from .layer_errors import LayerError, layer_errors

_COMPARED = 32


class Files:
    """Flatbuffers of one network; its kernels are rounded when the first integer one is asked for."""

    def __init__(self, shrunk: Shrunk, material: Material, options: Options) -> None:
        """options: all but the variants."""
        self.shrunk, self.material = shrunk, material
        self._options = options
        self._original = [np.array(values) for values in shrunk.model.get_weights()] if options.stability else []
        self._sets: list[np.ndarray] = []
        self._rounded_for = -1

    def name(self, variant: Variant, note: str = "") -> str:
        """For tables and bundles: what was done before, and the variant."""
        return "-".join(part for part in (self.shrunk.label, "sparse" * self._options.sparse, variant, note) if part)

    def layer_names(self) -> tuple[str, ...]:
        """Of the Keras network."""
        return tuple(layer.name for layer in self.shrunk.model.layers)

    def of(self, variant: Variant, keep: Mapping[str, Precision] = {}, which: int = 0) -> bytes:
        """The file of that variant; those of integers come last, as rounding changes the network.

        keep: as in `ai_edge.quantise`. which: of the two sets of representative slices.
        """
        options, name = self._options, self.name(variant)
        form = options.form(variant)
        self.material.progress.say(f"converting to {name}")
        ai_edges = options.quantizer == "ai-edge" and variant in (*keras_to_tflite.INTEGER, "dynamic")
        if variant not in keras_to_tflite.INTEGER and not ai_edges:
            return flatbuffer(self.shrunk.model, self.material, form)
        representative = self._representative(which)
        if variant in keras_to_tflite.INTEGER:
            self._round(representative, which)
        with self.material.progress.bar(f"quantising {name}", len(representative)) as on_slice:
            if not ai_edges:
                return flatbuffer(self.shrunk.model, self.material, form, representative, on_slice)
            made = ai_edge.quantise(
                self.as_float(),
                self.material.preprocess,
                variant,
                representative,
                options.calibration,
                keep,
                options.float_io,
                on_slice,
            )
        if variant in keras_to_tflite.INTEGER and not keep:
            keras_to_tflite.check_integer(made, self.material.preprocess, form)
        return made

    def as_float(self) -> bytes:
        """The network as it is now, of float inputs."""
        return flatbuffer(self.shrunk.model, self.material, Form("fp32", float_io=True))

    def errors(self, quantised: bytes) -> tuple[LayerError, ...]:
        """Layer by layer, how far that file is from `as_float`, on representative slices."""
        images = self._representative(0)
        some = images[:: max(1, len(images) // _COMPARED)][:_COMPARED]
        return layer_errors(self.as_float(), quantised, some, self.material.preprocess, self.layer_names())

    def _representative(self, which: int) -> np.ndarray:
        if not self._sets:
            options = self._options
            self._sets = self.material.representative(options.representative, options.seed, 1 + options.stability)
        return self._sets[which]

    def _round(self, representative: np.ndarray, which: int) -> None:
        model = self.shrunk.model
        # Weights whose steps the quantiser chooses itself would be rounded twice.
        if self.shrunk.exact or keras_to_tflite.is_tf_keras(model) or self._options.calibration == "mse":
            return
        if self._rounded_for == which:
            return
        if self._rounded_for >= 0:
            model.set_weights(self._original)
        normalised = self.material.preprocess.normalise(representative)
        rounding.round_kernels(model, normalised, self._options.seed, self.material.progress)
        self._rounded_for = which


def flatbuffer(model: Any, material: Material, form: Form, *representative: Any) -> bytes:
    """A Keras network of the zoo as a file; raises `DataRejected` where it is another."""
    try:
        return keras_to_tflite.to_flatbuffer(
            keras_to_tflite.deployed(model), material.preprocess, form, *representative
        )
    except ValueError as error:
        raise DataRejected(f"{material.run.model_path}: not a network of this zoo: no features") from error
