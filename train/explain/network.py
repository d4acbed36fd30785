"""A trained run opened for looking into: its network, its spatial layers, its log-odds."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_ct import slices
from edge_ct.errors import DataRejected, EdgeCTError, InputRejected
from edge_ct.imaging.slice_check import check_slice
from edge_ct.network_analysis import receptive_field
from edge_ct.phantom import preprocessed_phantoms
from edge_ct.preprocess import Preprocess
from edge_ct.run import Run, load_finished_run
from edge_ct.system import native_output

with native_output.captured_native_stderr():
    import keras

BATCH = 16
LAST = "features"
# Log-odds of COVID-19, float64 [n], of images uint8 [n, s, s, 1].
LogOdds = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Network:
    """A run's Keras network. layers: its layers of spatial output [n, h, w, c], from the slice inwards."""

    run: Run
    model: Any
    layers: tuple[Any, ...]

    @property
    def preprocess(self) -> Preprocess:
        """What turns a slice into the network's input."""
        return self.run.info.preprocess

    @property
    def name(self) -> str:
        """Short name for tables and captions."""
        return self.run.name

    @property
    def has_class_map(self) -> bool:
        """Whether its head is the mean of a class map."""
        return any(layer.name == "class_map" for layer in self.model.layers)

    def layer(self, name: str | None = None) -> Any:
        """A layer of spatial output; by default the last convolution's, after its activation.

        Raises `EdgeCTError` that suggests the nearest names.
        """
        by_name = {layer.name: layer for layer in self.layers}
        wanted = LAST if name is None else name
        if wanted in by_name:
            return by_name[wanted]
        near = difflib.get_close_matches(wanted, by_name, n=4, cutoff=0.4)
        others = ", ".join(near) or f"{self.layers[0].name} ... {self.layers[-1].name}"
        if any(layer.name == wanted for layer in self.model.layers):
            raise EdgeCTError(f"{self.name}: layer {wanted!r} has no spatial output to draw a map of; try {others}")
        raise EdgeCTError(f"{self.name}: no layer named {wanted!r}; near are {others}")

    def deepest(self, cells: int) -> Any:
        """The last layer with at least `cells` cells a side; of all, where none has. For small inputs."""
        last = self.layer()
        fine = [
            layer
            for layer in self.layers
            if layer.output.shape[1] >= cells
            and layer.name != "class_map"
            and not isinstance(layer, keras.layers.ZeroPadding2D)
        ]
        return last if last in fine or not fine else fine[-1]

    def centres(self, name: str | None = None) -> receptive_field.Centres:
        """Where the cells of a layer's maps look, measured; by default those of the class map, where there is one."""
        by_class = name is None and self.has_class_map
        model = keras.Model(self.model.inputs, self.layer("class_map" if by_class else name).output)

        def respond(images: np.ndarray) -> np.ndarray:
            maps = np.asarray(model.predict_on_batch(self.preprocess.normalise(images)))
            return np.diff(maps, axis=3) if by_class else maps

        return receptive_field.measure_cell_centres(respond, preprocessed_phantoms(self.preprocess))

    def log_odds(self, images: np.ndarray) -> np.ndarray:
        """logit[1] - logit[0], float64 [n], of images uint8 [n, s, s, 1]."""
        found = [self.model.predict_on_batch(batch) for batch in batches(self, images)]
        return np.diff(np.concatenate(found).astype(np.float64), axis=1)[:, 0]


def batches(network: Network, images: np.ndarray) -> list[np.ndarray]:
    """Normalised batches, float32 [b, s, s, 1]."""
    return [network.preprocess.normalise(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]


def load(folder: Path) -> Network:
    """Open a finished run. Raises `DataRejected` for what is none, an ensemble, or a network without convolutions."""
    run = load_finished_run(folder)
    return of(run, run.load_model(partial(keras.saving.load_model, compile=False)))


def of(run: Run, model: Any) -> Network:
    """As `load`, of a model in memory."""
    spatial = tuple(
        layer
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer)
        and not isinstance(layer.output, (list, tuple))
        and len(layer.output.shape) == 4
    )
    if not spatial:
        raise DataRejected(f"{run.folder}: the network has no convolution output, so there is no map of it")
    return Network(run, model, spatial)


def read(paths: list[Path], preprocess: Preprocess, named: bool = False) -> tuple[list[np.ndarray], np.ndarray]:
    """The slices as they are, uint8 [h, w] each, and as a network sees them, uint8 [n, s, s, 1].

    named: one by one, by a user, who is told of what a device would reject. Raises `InputRejected` for such a slice,
    and for one that cannot be read.
    """
    found = [slices.read(path) for path in paths]
    for path, one in zip(paths, found, strict=True) if named else ():
        if reason := check_slice(one.pixels, one.colour).reason:
            raise InputRejected(f"{path}: rejected, so there is nothing to explain: {reason}")
    return [one.pixels for one in found], np.stack([preprocess(one.pixels) for one in found])
