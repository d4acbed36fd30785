"""Checkpoints written after every epoch, so that a killed training can be resumed; and early stopping."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, time
from typing import Any

import msgspec
import numpy as np

from edge_ct.errors import EdgeCTError
from edge_ct.system import native_output
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import replace_atomically, write_bytes, write_text
from edge_ct.system.progress import Progress

from . import tensorboard
from .optimise import plateau_rate
from .options import TrainingOptions

with native_output.captured_native_stderr():
    import keras


class CheckpointState(msgspec.Struct):
    """Content of checkpoint/state.json; written last, so it only names files that are complete."""

    history: list[dict[str, float]] = []
    best_epoch: int = -1


@contextmanager
def replace_with_saved(path: Path) -> Iterator[Path]:
    """Replace a file atomically with what Keras saves; on a full disk h5py raises RuntimeError or ValueError."""
    try:
        with replace_atomically(path) as temporary:
            yield temporary
    except (RuntimeError, ValueError) as error:
        raise EdgeCTError(f"{path}: cannot be written: {error}") from error


class AveragedWeights(keras.callbacks.Callback):
    """Swap in the moving averages of the weights, which the optimiser keeps, while the model is validated or saved.

    Keras' own `SwapEMAWeights` adds and subtracts on TensorFlow, so that the weights come back with rounding errors.
    """

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Swap in the averages before validation (called by Keras)."""
        self.swap()

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        """Swap the weights back after validation (called by Keras)."""
        self.swap()

    def swap(self) -> None:
        """Exchange the trained weights and their averages."""
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # inside an optimiser that scales the loss
        pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
        for variable, average in pairs:
            value = np.array(keras.ops.convert_to_numpy(variable))
            variable.assign(average)
            average.assign(value)


class Checkpoint(keras.callbacks.Callback):
    """Save the model and the best weights after each epoch, and stop early by validation loss."""

    def __init__(self, run: Path, options: TrainingOptions, progress: Progress) -> None:
        """Read the state of the last training in the run folder, if there is one.

        Args:
            run: Run folder.
            options: Options of the training.
            progress: Where to report progress.
        """
        super().__init__()
        self._run, self._folder = run, run / "checkpoint"
        self._options, self._progress = options, progress
        # The averaged weights are validated and saved as the best; the plain ones continue to be trained.
        self._average = AveragedWeights() if options.ema else None
        self._state = CheckpointState()
        if (self._folder / "state.json").exists():
            self._state = msgspec.json.decode((self._folder / "state.json").read_bytes(), type=CheckpointState)
            progress.say(f"resuming after epoch {self.next_epoch}")
            self._write_history()  # a killed training may have left it one epoch short
        if options.tensorboard:  # rewritten: a killed training may have left half an entry
            tensorboard.begin(run / "tensorboard", time())
            for row in self._state.history:
                tensorboard.add(run / "tensorboard", row, time())

    def callbacks(self) -> list[Any]:
        """Return the callbacks that `model.fit` needs."""
        return [self._average, self] if self._average else [self]

    @property
    def next_epoch(self) -> int:
        """Index of the first epoch that is not trained yet."""
        return len(self._state.history)

    @property
    def done(self) -> bool:
        """True if all epochs are trained or patience has run out."""
        return self.next_epoch >= self._options.epochs or self._exhausted()

    def restore(self) -> Any | None:
        """Return the model after the last finished epoch, not compiled; None if no epoch is finished."""
        if self.next_epoch == 0:
            return None
        network = json.loads(self._network_file.read_bytes())
        network.pop("compile_config", None)
        model = keras.saving.deserialize_keras_object(network)
        with np.load(self._state_file(self.next_epoch - 1)) as saved:
            _assign(model.variables, saved, "model")
        return model

    def restore_optimizer(self, model: Any) -> None:
        """Restore the optimiser of a restored and compiled model to its state after the last finished epoch.

        Keras could compile the model by itself, but it does not save which layers were frozen.
        """
        model.optimizer.build(model.trainable_variables)
        with np.load(self._state_file(self.next_epoch - 1)) as saved:
            _assign(model.optimizer.variables, saved, "optimizer")

    def kept(self) -> Any:
        """Return the model, not compiled, with the weights of the epoch that is kept."""
        if (model := self.restore()) is None:
            raise EdgeCTError(f"{self._run}: no epoch is finished; train at least one")
        with np.load(self._weights_file(self._state.best_epoch)) as saved:
            _assign(model.variables, saved, "model")
        model.trainable = True  # network.json may be from an epoch with a frozen backbone
        return model

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Seed dropout, set the learning rate and start the progress bar (called by Keras)."""
        for index, layer in enumerate(self.model.layers):
            # Keras does not save the state of dropout's random generators. Seeding them each epoch gives a resumed
            # training the same numbers as an uninterrupted one.
            if hasattr(layer, "seed_generator"):
                layer.seed_generator.state.assign([self._options.seed + index, epoch])
        if self._options.schedule == "plateau" and epoch >= self._options.freeze:
            losses = [row["val_loss"] for row in self._state.history[self._options.freeze :]]
            self.model.optimizer.learning_rate = plateau_rate(losses, self._options.learning_rate)
        self._started = perf_counter()
        self._bar = self._progress.bar(f"epoch {epoch + 1}/{self._options.epochs}", self.params["steps"])
        self._advance = self._bar.__enter__()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Advance the progress bar (called by Keras)."""
        self._advance(1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Save, report, and stop once patience has run out (called by Keras)."""
        self._bar.__exit__(None, None, None)
        # Keras puts the name of the output in front where a network has two.
        row = {"epoch": float(epoch + 1)}
        row |= {name.replace("logits_accuracy", "accuracy"): float(value) for name, value in (logs or {}).items()}
        row["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row["seconds"] = perf_counter() - self._started
        if not math.isfinite(row["loss"] + row["val_loss"]):
            raise EdgeCTError(
                f"{self._run}: loss became NaN or infinite in epoch {epoch + 1}; start again with a lower "
                "--learning-rate, or with --clip 1"
            )
        history = self._state.history
        best = min((earlier["val_loss"] for earlier in history), default=float("inf"))
        improved = row["val_loss"] < best
        self._save(epoch, row, improved or self._options.keep == "last")
        self._progress.say(
            f"  loss {row['loss']:.3f}, accuracy {row['accuracy']:.3f}; validation loss {row['val_loss']:.3f}, "
            f"accuracy {row['val_accuracy']:.3f}; {row['seconds']:.0f} s{'; best so far' if improved else ''}"
        )
        if self._exhausted():
            self.model.stop_training = True

    def _save(self, epoch: int, row: dict[str, float], keep: bool) -> None:
        previous_best = self._state.best_epoch
        try:
            if not self._network_file.exists():
                write_text(self._network_file, self.model.to_json())
            weights = _values(self.model.variables, "model")
            with replace_with_saved(self._state_file(epoch)) as temporary:
                _save_arrays(temporary, weights | _values(self.model.optimizer.variables, "optimizer"))
            if keep:
                with self._averaged(), replace_with_saved(self._weights_file(epoch)) as temporary:
                    _save_arrays(temporary, _values(self.model.variables, "model"))
        except EdgeCTError as error:
            kept = f"the checkpoint of epoch {epoch} is kept" if epoch else "no checkpoint was written yet"
            raise EdgeCTError(f"{error}; {kept}: free some disk space and continue with --resume") from error
        self._state.best_epoch = epoch if keep else previous_best
        self._state.history.append(row)
        write_bytes(self._folder / "state.json", msgspec.json.encode(self._state))
        # The older files are needed until state.json names the new ones.
        self._state_file(epoch - 1).unlink(missing_ok=True)
        if keep and previous_best >= 0:
            self._weights_file(previous_best).unlink(missing_ok=True)
        self._write_history()
        if self._options.tensorboard:
            tensorboard.add(self._run / "tensorboard", row, time())

    def _write_history(self) -> None:
        rows = ([f"{value:.6g}" for value in entry.values()] for entry in self._state.history)
        write_text(self._run / "history.csv", to_csv(tuple(self._state.history[0]), rows))

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Swap in the averaged weights, if there are any, inside a `with` block."""
        if self._average:
            self._average.swap()
        try:
            yield
        finally:
            if self._average:
                self._average.swap()

    def _exhausted(self) -> bool:
        # Patience starts once the whole network is trained.
        since = max(self._state.best_epoch, self._options.freeze - 1)
        return self.next_epoch > self._options.freeze and self.next_epoch - 1 - since >= self._options.patience

    @property
    def _network_file(self) -> Path:
        return self._folder / "network.json"

    def _state_file(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch + 1:04d}.npz"

    def _weights_file(self, epoch: int) -> Path:
        return self._folder / f"best-{epoch + 1:04d}.npz"


def _values(variables: Sequence[Any], kind: str) -> dict[str, np.ndarray]:
    # For NumPy's savez: Keras' own files take ten times as long to write, a quarter of the epoch of a small network.
    return {f"{kind}-{index}": keras.ops.convert_to_numpy(variable) for index, variable in enumerate(variables)}


def _save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    np.savez(path, **arrays)


def _assign(variables: Sequence[Any], saved: Any, kind: str) -> None:
    for index, variable in enumerate(variables):
        variable.assign(saved[f"{kind}-{index}"])


def explain_new_start(out: Path, force: bool, progress: Progress) -> None:
    """Say that there is nothing to resume; raise `EdgeCTError` if `out` holds something that is not a run."""
    if not out.exists():
        progress.say(f"{out}: no run to resume yet; the training starts with the first epoch")
    elif not force and (not out.is_dir() or any(out.iterdir())):
        raise EdgeCTError(f"{out}: not a run, so it cannot be resumed; name the run folder, or start anew with --force")
