"""Train a small network on synthetic slices, convert it to an int8 bundle, and classify a slice with it.

    pip install 'edge-ct[all]'
    python examples/train_and_convert.py FOLDER

takes about a minute. Each step is an `edge-ct` command, so the same steps work in a shell. The slices are synthetic:
the figures say nothing about patients.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from edge_ct import Classifier
from edge_ct.errors import EdgeCTError
from edge_ct.system.child_command import run_command


def edge_ct(*words: object) -> Any:
    """Run an `edge-ct` command and return what it prints as JSON."""
    return json.loads(run_command([*words, "--json"], same_process=True).text)


def main() -> None:
    """Make phantom slices, train, convert, evaluate and classify."""
    parser = argparse.ArgumentParser(description="Train and convert a small network on synthetic slices.")
    parser.add_argument("folder", type=Path, help="folder for slices, run and bundle")
    folder = parser.parse_args().folder
    data, run, bundle = folder / "phantoms" / "slices.csv", folder / "run", folder / "model.tflite"

    shape = ("--patients", 300, "--slices", 2, "--size", 96)
    run_command(["data", "synth", data.parent, *shape], same_process=True)
    training = ("--size", 64, "--epochs", 8, "--learning-rate", "2e-3", "--augment", "flips", "--split", "grouped")
    edge_ct("train", "customcnn", "--data", data, *training, "--out", run)
    # So small a network may lose more than the gate allows by default, so this example allows any loss.
    gate = edge_ct("convert", run, "--int8", "--max-drop", 100, "--out", bundle)["gate"]
    scores = edge_ct("evaluate", bundle, "--data", data)

    print(f"fp32 and int8 agree on {gate['agreement']:.0%} of the validation slices")
    print(f"accuracy on {scores['n']} test slices: {scores['accuracy']['value']:.0%}")
    slice_ = sorted((data.parent / "COVID").iterdir())[0]
    print(f"{slice_.name}: {Classifier(bundle).classify(slice_).decision}")


if __name__ == "__main__":
    try:
        main()
    except EdgeCTError as error:  # one line on standard error, as the commands print it
        sys.exit(f"{Path(__file__).name}: {error}")
