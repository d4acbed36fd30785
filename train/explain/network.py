"""A trained run opened for explanation: its network, its spatial layers, its log-odds."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_ct import slices
from edge_ct.errors import DataRejected, EdgeCTError, InputRejected
from edge_ct.imaging.slice_check import check_slice
from edge_ct.network_analysis.receptive_field import Centres, measure_cell_centres
from edge_ct.phantom import preprocessed_phantoms
from edge_ct.preprocess import Preprocess
from edge_ct.run import Run, load_finished_run
from edge_ct.system import native_output
from edge_ct.system.progress import Progress

with native_output.captured_native_stderr():
    import keras

BATCH = 16
# Every network of the zoo calls its last convolution, after its activation, by this name.
LAST_CONVOLUTION = "features"
# Images uint8 [n, s, s, 1] -> log-odds of COVID-19, float64 [n].
LogOdds = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class RunNetwork:
    """The Keras network of a run.

    Attributes:
        run: The run.
        model: The Keras network.
        layers: Its layers with spatial output [n, h, w, c], from the input to the output.
    """

    run: Run
    model: Any
    layers: tuple[Any, ...]

    @property
    def preprocess(self) -> Preprocess:
        """The preprocessing that turns a slice into the network's input."""
        return self.run.info.preprocess

    @property
    def name(self) -> str:
        """Short name for tables and captions."""
        return self.run.name

    @property
    def has_class_map(self) -> bool:
        """Whether the logits are the mean of a class map."""
        return any(layer.name == "class_map" for layer in self.model.layers)

    def layer(self, name: str | None = None) -> Any:
        """Return a layer with spatial output.

        Args:
            name: Name of the layer; by default the last convolution, after its activation.

        Raises:
            EdgeCTError: There is no such layer; the message suggests similar names.
        """
        by_name = {layer.name: layer for layer in self.layers}
        wanted = LAST_CONVOLUTION if name is None else name
        if wanted in by_name:
            return by_name[wanted]
        near = difflib.get_close_matches(wanted, by_name, n=4, cutoff=0.4)
        others = ", ".join(near) or f"{self.layers[0].name} ... {self.layers[-1].name}"
        if any(layer.name == wanted for layer in self.model.layers):
            raise EdgeCTError(f"{self.name}: layer {wanted!r} has no spatial output to draw a map of; try {others}")
        raise EdgeCTError(f"{self.name}: there is no layer {wanted!r}; similar names are {others}")

    def deepest(self, cells: int) -> Any:
        """Return the last layer with at least `cells` cells per side, or the last of all if none has so many.

        A small input leaves only a few cells to the last convolution.
        """
        last = self.layer()
        fine = [
            layer
            for layer in self.layers
            if layer.output.shape[1] >= cells
            and layer.name != "class_map"
            and not isinstance(layer, keras.layers.ZeroPadding2D)
        ]
        return last if last in fine or not fine else fine[-1]

    def centres(self, name: str | None = None) -> Centres:
        """Measure the centres of the regions that the cells of a layer's maps look at.

        Args:
            name: Name of the layer; by default the class map if there is one, else the last convolution.
        """
        of_class_map = name is None and self.has_class_map
        model = keras.Model(self.model.inputs, self.layer("class_map" if of_class_map else name).output)

        def respond(images: np.ndarray) -> np.ndarray:
            maps = np.asarray(model.predict_on_batch(self.preprocess.normalise(images)))
            return np.diff(maps, axis=3) if of_class_map else maps

        return measure_cell_centres(respond, preprocessed_phantoms(self.preprocess))

    def log_odds(self, images: np.ndarray) -> np.ndarray:
        """Return logit[1] - logit[0], float64 [n], of images uint8 [n, s, s, 1]."""
        logits = [self.model.predict_on_batch(batch) for batch in batches(self, images)]
        return np.asarray(np.diff(np.concatenate(logits).astype(np.float64), axis=1)[:, 0])


def batches(network: RunNetwork, images: np.ndarray) -> list[np.ndarray]:
    """Split images uint8 [n, s, s, 1] into normalised batches, float32 [b, s, s, 1]."""
    return [network.preprocess.normalise(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]


def load_network(folder: Path) -> RunNetwork:
    """Open a finished run.

    Raises:
        DataRejected: The folder holds no finished run of a single network, or its network has no convolution.
    """
    run = load_finished_run(folder)
    return wrap_model(run, run.load_model(partial(keras.saving.load_model, compile=False)))


def wrap_model(run: Run, model: Any) -> RunNetwork:
    """Return the network of a run from a Keras model that is already loaded; raises as `load_network`."""
    spatial = tuple(
        layer
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer)
        and not isinstance(layer.output, (list, tuple))
        and len(layer.output.shape) == 4
    )
    if not spatial:
        raise DataRejected(f"{run.folder}: the network has no convolution, so there is no map to draw")
    return RunNetwork(run, model, spatial)


def read_slices(paths: list[Path], preprocess: Preprocess) -> tuple[list[np.ndarray], np.ndarray]:
    """Read slices and preprocess them.

    Args:
        paths: The slice files.
        preprocess: The preprocessing of the network.

    Returns:
        The slices as they are, uint8 [h, w] each, and as the network sees them, uint8 [n, s, s, 1].

    Raises:
        InputRejected: A slice cannot be read.
    """
    read = [slices.read(path) for path in paths]
    return [slice_.pixels for slice_ in read], np.stack([preprocess(slice_.pixels) for slice_ in read])


def accepted_slices(
    paths: Sequence[Path], progress: Progress, reason_of: Callable[[Path], str | None] | None = None
) -> list[Path]:
    """Return the slices that a device would judge; the others have no decision to explain and are named.

    Args:
        paths: The slice files.
        progress: Told which slices are left out, and why.
        reason_of: Returns why a slice is rejected, or None; by default the check of pictures decides.

    Raises:
        InputRejected: All slices are rejected, or cannot be read.
    """
    accepted, rejected = [], []
    for path in paths:
        if reason := (reason_of or _reason_by_pixels)(path):
            rejected.append(f"{path}: the slice is rejected, so there is no decision to explain: {reason}")
        else:
            accepted.append(path)
    if not accepted:
        raise InputRejected(rejected[0])
    for line in rejected:
        progress.say(line)
    return accepted


def _reason_by_pixels(path: Path) -> str | None:
    try:
        slice_ = slices.read(path)
    except InputRejected as error:
        return str(error).removeprefix(f"{path}: ")
    return check_slice(slice_.pixels, slice_.colour).reason
