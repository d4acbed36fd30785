"""What bfloat16 saves in a training on processors that have it, and what it costs in accuracy.

    python -m edge_ct.benchmarks.experiments.training_precision SLICES --weights FILE --out training-precision.csv

trains MobileNetV2 in float32 and in mixed bfloat16 on the same split, in turns, and writes one row for each: the time
of an epoch, without the first one, and the accuracy on the test part. Processor time is disturbed less by other
programs than time by the clock. A processor without bfloat16 emulates it, which the column `bfloat16` tells.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import click
import msgspec

from edge_ct import cli
from edge_ct.errors import EdgeCTError
from edge_ct.manifest import Estimate
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_text
from edge_ct.system.host import instruction_sets
from edge_ct.system.progress import Progress

from ..measure.machine import describe
from ..measure.training_epochs import EpochTime, timed_epochs

PRECISIONS = ("float32", "mixed_bfloat16")
# x86-64 vectors and tiles, and 64-bit Arm.
_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")


class Training(msgspec.Struct, frozen=True):
    """One training.

    Attributes:
        precision: Keras dtype policy.
        epochs: Time of each epoch but the first.
        accuracy: Accuracy on the test part at probability 0.5.
        slices: Number of slices in the test part.
    """

    precision: str
    epochs: list[EpochTime]
    accuracy: Estimate
    slices: int


def train(words: Sequence[str], precision: str, run: Path) -> Training:
    """Train with `edge-ct train` and the given options in one precision; the run is written to the folder `run`."""
    with timed_epochs() as epochs:
        command = ["train", *words, "--precision", precision, "--out", str(run)]
        if code := cli.run(command):
            raise EdgeCTError(f"exit code {code} from: edge-ct {' '.join(command)}")
    scores = json.loads((run / "metrics.json").read_bytes())["parts"]["test"]
    return Training(precision, epochs, msgspec.convert(scores["accuracy"], Estimate), scores["n"])


def table_rows(trainings: Sequence[Training]) -> list[dict[str, object]]:
    """Return one row for each precision.

    Args:
        trainings: The trainings, each precision in turn, so that the n-th of one was made beside the n-th of another.
            The accuracy of a row is that of the first training of its precision.
    """
    times = {
        precision: [
            tuple(median(epoch[clock] for epoch in training.epochs) for clock in (0, 1))
            for training in trainings
            if training.precision == precision
        ]
        for precision in PRECISIONS
    }
    machine = describe()
    rows: list[dict[str, object]] = []
    for precision in PRECISIONS:
        first = next(training for training in trainings if training.precision == precision)
        row: dict[str, object] = {"precision": precision, "trainings": len(times[precision])}
        for clock, name in enumerate(("epoch_s", "epoch_cpu_s")):
            pairs = list(zip(times[precision], times[PRECISIONS[0]], strict=True))
            row[name] = f"{median(own[clock] for own, _ in pairs):.2f}"
            row[f"{name.removesuffix('_s')}_of_float32"] = (
                f"{median(own[clock] / base[clock] for own, base in pairs):.3f}"
            )
        accuracy = first.accuracy
        row |= {"n": first.slices, "accuracy": _rounded(accuracy.value)}
        row |= {"accuracy_low": _rounded(accuracy.low), "accuracy_high": _rounded(accuracy.high)}
        rows.append(
            row
            | {
                "bfloat16": " ".join(name for name in _BFLOAT16 if name in instruction_sets()) or "emulated",
                "cpu": machine.cpu,
                "vectors": " ".join(machine.vectors),
                "cores": machine.cores,
            }
        )
    return rows


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--weights", required=True, help="ImageNet weights file of MobileNetV2, or none.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="CSV file to write the rows to.")
@click.option("--size", type=click.IntRange(32), default=128, show_default=True, help="Side of the input in pixels.")
@click.option("--epochs", type=click.IntRange(2), default=8, show_default=True, help="Number of epochs of a training.")
@click.option("--trainings", type=click.IntRange(1), default=1, show_default=True, help="Trainings of each precision.")
def command(data: Path, weights: str, out: Path | None, size: int, epochs: int, trainings: int) -> None:
    """Train in float32 and in bfloat16 on the slices of DATA, and compare time and accuracy."""
    progress = Progress()
    options = ["--size", str(size), "--epochs", str(epochs), "--keep", "last"]
    words = ["mobilenetv2", "--data", str(data), "--weights", weights, *options]
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(trainings):
            for precision in PRECISIONS:
                progress.say(f"training {number + 1} of {trainings} in {precision}")
                made.append(train(words, precision, Path(folder) / f"{precision}-{number}"))
    rows = table_rows(made)
    table = to_csv(list(rows[0]), (row.values() for row in rows))
    click.echo(table, nl=False)
    if out is not None:
        write_text(out, table)


if __name__ == "__main__":
    cli.run_program(command)
