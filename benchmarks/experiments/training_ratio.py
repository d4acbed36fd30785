"""`edge-ct train` with sources, lesion masks and distillation against a bare Keras `fit` that does the same work.

    python -m edge_ct.benchmarks.experiments.training_ratio --out benchmarks/results/training-ratio.json

Both train the same network of two outputs on the same 600 phantoms of two sources, with a teacher that looks at every
augmented slice and with phantoms whose lesion masks are known. They take turns in one process. An epoch counts with its
validation, and with `edge-ct train` its checkpoint too; first epochs, which build the graph, do not count. Processor
time is disturbed less by other programs than time by the clock.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click
import msgspec
import numpy as np

from edge_ct import cli
from edge_ct.dataset import load, load_images
from edge_ct.errors import EdgeCTError
from edge_ct.phantom import make_slice
from edge_ct.preprocess import Preprocess
from edge_ct.run import read_split
from edge_ct.system.csv_text import read_table, to_csv
from edge_ct.system.files import write_bytes, write_text
from edge_ct.system.progress import Progress

from ..measure.machine import Machine, condition, describe
from ..measure.training_epochs import EpochTime, flip_and_rotate, timed_epochs

SIZE, BATCH, LESION_SLICES, LESION_PATIENTS = 96, 32, 8, 40
CELL = 8  # px of the input that a cell of the lesion map stands for, in each direction
# MobileNetV2 at a third of its width: the faster the network, the more everything else weighs.
NETWORK = ("mobilenetv2", "--alpha", "0.35", "--size", str(SIZE), "--batch", str(BATCH), "--patience", "99")
_LESIONS = ("--lesion-phantoms", str(LESION_PATIENTS), "--lesion-slices", str(LESION_SLICES))
METHOD = ("--augment", "flips", "--balance", "sources", *_LESIONS)


class TrainingRatio(msgspec.Struct, frozen=True):
    """How fast `edge-ct train` is, as a share of the throughput of the bare `fit`.

    Attributes:
        rounds: Number of trainings of each kind.
        epochs: Number of epochs of each training that count.
        slices: Number of labelled slices in an epoch.
        cpu_ratio: Processor time of an epoch of the bare `fit` over that of `edge-ct train`; median of the rounds.
        wall_ratio: The same for time by the clock.
        slices_per_second: Labelled slices a second of `edge-ct train`, by the clock.
        machine: The machine.
        load_before: Mean number of runnable processes in the minute before; None if unknown.
    """

    rounds: int
    epochs: int
    slices: int
    cpu_ratio: float
    wall_ratio: float
    slices_per_second: float
    machine: Machine
    load_before: float | None


def ratio_of_rounds(bare: Sequence[Sequence[float]], trained: Sequence[Sequence[float]]) -> float:
    """Return the median over the rounds of the median time of a bare epoch over that of an epoch of `edge-ct train`.

    Args:
        bare: The times of the epochs of each round, in any unit.
        trained: The same for `edge-ct train`.
    """
    return median(median(without) / median(times) for without, times in zip(bare, trained, strict=True))


def write_phantoms(folder: Path) -> Path:
    """Write 600 phantoms of two sources, the second half as large as the first; return their table."""
    synthesise = ("data", "synth", str(folder), "--patients", "300", "--slices", "2", "--size", str(SIZE))
    _run(*synthesise)
    table = folder / "slices.csv"
    rows = read_table(table, "path,label,group")
    sources = {group: "ab"[number % 3 == 2] for number, group in enumerate(dict.fromkeys(row["group"] for row in rows))}
    lines = ([row["path"], row["label"], row["group"], sources[row["group"]]] for row in rows)
    write_text(table, to_csv(["path", "label", "group", "source"], lines))
    return table


def lesion_phantoms() -> tuple[np.ndarray, np.ndarray]:
    """Draw slices with lesion masks.

    Returns:
        Slices, float32 [n, s, s, 1], grey levels; and targets, float32 [n, s / 8, s / 8, 2]: the share of each cell
        that is lesion, and 1.
    """
    preprocess, images, targets = Preprocess(SIZE), [], []
    for patient in range(LESION_PATIENTS):
        phantom = make_slice(patient, 3, patient % 2 == 1, 256, 0, 8)
        images.append(preprocess(phantom.image).astype(np.float32))
        mask = preprocess.resized(phantom.lesion * np.uint8(255))[:, :, 0]
        shares = mask.reshape(SIZE // CELL, CELL, SIZE // CELL, CELL).mean((1, 3), dtype=np.float32) / 255
        targets.append(np.stack([shares, np.ones_like(shares)], axis=-1))
    return np.stack(images), np.stack(targets)


def bare_fit(model: Any, teacher: Any, table: Path, run: Path, epochs: int) -> int:
    """Train a network as one would without edge-ct, on the split of a run; return the number of slices in an epoch.

    Args:
        model: A Keras network with the outputs logits and lesion map.
        teacher: A Keras network with logits as its output.
        table: The CSV of the slices.
        run: The run whose split is used.
        epochs: Number of epochs.
    """
    import keras

    dataset = load(table)
    images = load_images(dataset, Preprocess(SIZE)).images.astype(np.float32)
    labels, split = dataset.labels.astype(np.int32), read_split(run / "split.csv")
    with_masks, masks = lesion_phantoms()
    generator, labelled = np.random.default_rng(0), BATCH - LESION_SLICES
    cells = (SIZE // CELL, SIZE // CELL, 2)

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self, chosen: np.ndarray) -> None:
            super().__init__()
            self.chosen = chosen

        def __len__(self) -> int:
            return len(self.chosen) // labelled

        def __getitem__(self, index: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
            batch = self.chosen[index * labelled : (index + 1) * labelled]
            drawn = generator.integers(len(masks), size=LESION_SLICES)
            views = np.stack([flip_and_rotate(image, generator) for image in [*images[batch], *with_masks[drawn]]])
            views = views[..., np.newaxis] / 127.5 - 1
            soft = keras.ops.convert_to_numpy(keras.ops.softmax(teacher.predict_on_batch(views[: len(batch)])))
            targets = (np.eye(2)[labels[batch]] + soft) / 2
            targets = np.concatenate([targets, np.zeros((LESION_SLICES, 2))]).astype(np.float32)
            return views, (targets, np.concatenate([np.zeros((len(batch), *cells), np.float32), masks[drawn]]))

    def lesion_loss(truth: Any, logits: Any) -> Any:
        known = truth[..., 1:]
        entropy = keras.ops.binary_crossentropy(truth[..., :1], logits, from_logits=True)
        return keras.ops.sum(entropy * known) / keras.ops.maximum(keras.ops.sum(known), 1.0)

    validation = split.where("validation")
    model.compile(
        keras.optimizers.Adam(5e-4),
        [keras.losses.CategoricalCrossentropy(from_logits=True), lesion_loss],
        metrics=[["accuracy"], []],
        jit_compile=False,
    )
    validation_targets = (np.eye(2)[labels[validation]], np.zeros((len(validation), *cells), np.float32))
    batches = Batches(split.where("train"))
    model.fit(
        batches,
        validation_data=(images[validation] / 127.5 - 1, validation_targets),
        epochs=epochs,
        verbose=0,
    )
    return len(batches) * labelled


def compare_trainings(folder: Path, rounds: int, epochs: int, progress: Progress) -> TrainingRatio:
    """Train with `edge-ct train` and bare in turns; runs are written to `folder`."""
    import keras

    before = condition()
    table, teacher_run = write_phantoms(folder / "phantoms"), folder / "teacher"
    progress.say("training the teacher")
    _run("train", *NETWORK, "--data", str(table), "--epochs", "1", "--out", str(teacher_run))
    teacher = keras.saving.load_model(teacher_run / "model.keras", compile=False)
    times: dict[str, list[list[EpochTime]]] = {"bare": [], "edge-ct": []}
    slices = 0
    for number in range(rounds):
        progress.say(f"round {number + 1} of {rounds}")
        run = folder / f"run-{number}"
        command = ("train", *NETWORK, *METHOD, "--data", str(table), "--epochs", str(epochs + 1), "--out", str(run))
        with timed_epochs() as measured:
            _run(*command, "--teacher", str(teacher_run))
        times["edge-ct"].append(measured)
        trained = keras.saving.load_model(run / "model.keras", compile=False)
        with timed_epochs() as measured:
            slices = bare_fit(keras.Model.from_config(trained.get_config()), teacher, table, run, epochs + 1)
        times["bare"].append(measured)
    cpu, wall = (
        {name: [[epoch[clock] for epoch in found] for found in times[name]] for name in times} for clock in (1, 0)
    )
    return TrainingRatio(
        rounds=rounds,
        epochs=epochs,
        slices=slices,
        cpu_ratio=round(ratio_of_rounds(cpu["bare"], cpu["edge-ct"]), 3),
        wall_ratio=round(ratio_of_rounds(wall["bare"], wall["edge-ct"]), 3),
        slices_per_second=round(slices / median(seconds for found in wall["edge-ct"] for seconds in found), 1),
        machine=describe(),
        load_before=before.load,
    )


def _run(*command: str) -> None:
    if code := cli.run(list(command)):
        raise EdgeCTError(f"exit code {code} from: edge-ct {' '.join(command)}")


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="JSON file to write the result to.")
@click.option(
    "--rounds", type=click.IntRange(1), default=3, show_default=True, help="Number of trainings of each kind."
)
@click.option(
    "--epochs", type=click.IntRange(1), default=4, show_default=True, help="Number of epochs that count in a training."
)
def command(out: Path | None, rounds: int, epochs: int) -> None:
    """Compare the throughput of `edge-ct train` with that of a bare Keras training."""
    with tempfile.TemporaryDirectory() as work:
        ratio = compare_trainings(Path(work), rounds, epochs, Progress())
    content = msgspec.json.format(msgspec.json.encode(ratio), indent=2)
    click.echo(content.decode())
    if out is not None:
        write_bytes(out, content + b"\n")


if __name__ == "__main__":
    cli.run_program(command)
