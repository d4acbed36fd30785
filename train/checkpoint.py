"""What a training needs to go on after a kill, written after every epoch; and early stopping, which rests on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import keras
import msgspec

from edge_ct.errors import EdgeCTError
from edge_ct.files import replacing, write_bytes, write_text
from edge_ct.progress import Progress
from edge_ct.run import to_csv

from . import optimise
from .options import Options


class State(msgspec.Struct):
    """checkpoint/state.json: written last, it names the files that belong together."""

    history: list[dict[str, float]] = []
    best_epoch: int = -1


class Checkpoint(keras.callbacks.Callback):
    """Saves the model and the best weights after each epoch; stops when validation loss has not fallen for a while."""

    def __init__(self, run: Path, options: Options, progress: Progress) -> None:
        """run: the run folder. options: those of the training."""
        super().__init__()
        self._run, self._folder = run, run / "checkpoint"
        self._options, self._progress = options, progress
        # Validated and kept are the averaged weights; the plain ones go on being trained.
        self._average = keras.callbacks.SwapEMAWeights() if options.ema else None
        self._state = State()
        if (self._folder / "state.json").exists():
            self._state = msgspec.json.decode((self._folder / "state.json").read_bytes(), type=State)

    def callbacks(self) -> list[Any]:
        """All that `fit` must call back: this, and what the options ask for."""
        others = [self._average] if self._average else []
        if self._options.tensorboard:
            others.append(keras.callbacks.TensorBoard(self._run / "tensorboard"))
        return [*others, self]

    @property
    def next_epoch(self) -> int:
        """Index of the first epoch that has not been trained."""
        return len(self._state.history)

    @property
    def done(self) -> bool:
        """Whether all epochs are trained or patience has run out."""
        return self.next_epoch >= self._options.epochs or self._exhausted()

    def restore(self) -> Any | None:
        """The model, compiled and with its optimiser, as it was after the last finished epoch; None at the start."""
        if self.next_epoch == 0:
            return None
        self._progress.say(f"going on from epoch {self.next_epoch}")
        return keras.saving.load_model(self._model_file(self.next_epoch - 1))

    def best(self, model: Any) -> Any:
        """`model` with the weights of its best epoch."""
        if self._state.best_epoch >= 0:
            model.load_weights(self._weights_file(self._state.best_epoch))
        return model

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Called by Keras."""
        for index, layer in enumerate(self.model.layers):
            # Keras does not save where dropout's random numbers are; drawn anew each epoch, a resumed training has
            # the same ones as an unbroken one.
            if hasattr(layer, "seed_generator"):
                layer.seed_generator.state.assign([self._options.seed + index, epoch])
        if self._options.schedule == "plateau" and epoch >= self._options.freeze:
            losses = [row["val_loss"] for row in self._state.history[self._options.freeze :]]
            self.model.optimizer.learning_rate = optimise.plateau_rate(losses, self._options.learning_rate)
        self._started = perf_counter()
        self._bar = self._progress.bar(f"epoch {epoch + 1}/{self._options.epochs}", self.params["steps"])
        self._advance = self._bar.__enter__()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Called by Keras."""
        self._advance(1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Called by Keras: save, report, and stop where patience has run out."""
        self._bar.__exit__(None, None, None)
        row = {"epoch": float(epoch + 1), **{name: float(value) for name, value in (logs or {}).items()}}
        row["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row["seconds"] = perf_counter() - self._started
        history = self._state.history
        best = min((earlier["val_loss"] for earlier in history), default=float("inf"))
        improved = row["val_loss"] < best
        self._save(epoch, row, improved)
        self._progress.say(
            f"  loss {row['loss']:.3f}, accuracy {row['accuracy']:.3f}; validation loss {row['val_loss']:.3f}, "
            f"accuracy {row['val_accuracy']:.3f}; {row['seconds']:.0f} s{'; best so far' if improved else ''}"
        )
        if self._exhausted():
            self.model.stop_training = True

    def _save(self, epoch: int, row: dict[str, float], improved: bool) -> None:
        previous_best = self._state.best_epoch
        try:
            with replacing(self._model_file(epoch)) as temporary:
                self.model.save(temporary)
            if improved:
                with self._averaged(), replacing(self._weights_file(epoch)) as temporary:
                    self.model.save_weights(temporary)
        except (EdgeCTError, OSError, RuntimeError, ValueError) as error:  # h5py raises what it likes on a full disk
            kept = f"epoch {epoch} is kept" if epoch else "there was none before"
            raise EdgeCTError(
                f"{self._folder}: the checkpoint of epoch {epoch + 1} cannot be written ({error}); {kept}: "
                "make room and go on with --resume"
            ) from error
        self._state.best_epoch = epoch if improved else previous_best
        self._state.history.append(row)
        write_bytes(self._folder / "state.json", msgspec.json.encode(self._state))
        # Only now are the older files of no use to anyone.
        self._model_file(epoch - 1).unlink(missing_ok=True)
        if improved and previous_best >= 0:
            self._weights_file(previous_best).unlink(missing_ok=True)
        rows = ([f"{value:.6g}" for value in entry.values()] for entry in self._state.history)
        write_text(self._run / "history.csv", to_csv(tuple(row), rows))

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Inside, the model has its averaged weights, where there are some."""
        if self._average:
            self._average.on_test_begin()
        try:
            yield
        finally:
            if self._average:
                self._average.on_test_end()

    def _exhausted(self) -> bool:
        # Patience begins when the whole network is trained.
        since = max(self._state.best_epoch, self._options.freeze - 1)
        return self.next_epoch > self._options.freeze and self.next_epoch - 1 - since >= self._options.patience

    def _model_file(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch + 1:04d}.keras"

    def _weights_file(self, epoch: int) -> Path:
        return self._folder / f"best-{epoch + 1:04d}.weights.h5"
