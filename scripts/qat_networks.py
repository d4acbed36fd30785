"""What quantisation-aware training takes of each network of the zoo, tried out: a CSV.

python scripts/qat_networks.py OUT.csv [NETWORK ...]

Each network is built at its least size with random weights, given the roundings, converted to a full-integer file, and
the file compared with the network that training would see. Networks that OUT.csv has already are not tried again.
"""

import csv
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from edge_ct.convert.quantise import keras_to_tflite
from edge_ct.convert.shrink import qat
from edge_ct.errors import EdgeCTError
from edge_ct.phantom import make_slice
from edge_ct.preprocess import Preprocess
from edge_ct.runtime import Runtime, read_tensors
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_text
from edge_ct.train.zoo.architectures import NETWORK_NAMES, find
from edge_ct.train.zoo.builder import build

COLUMNS = ("network", "size", "qat", "int8", "steps_apart", "folded", "ruled", "left", "reason")


def row(name: str) -> dict[str, object]:
    """One network. int8: whether a full-integer file results. steps_apart: largest difference of a logit between the
    file and the network in training, in steps of the file's logits, over eight phantom slices."""
    architecture = find(name)
    size = architecture.minimum
    keras.utils.set_random_seed(1)
    model = keras_to_tflite.deployed(build(keras, name, size))
    found: dict[str, object] = dict.fromkeys(COLUMNS, "") | {"network": name, "size": size, "int8": "no"}
    preprocess = Preprocess(size)
    slices = np.stack([preprocess(make_slice(k, 3, k % 2 == 0, 96).image) for k in range(8)])
    try:
        quantised, taken = qat.prepare(model)
        found |= {"qat": taken.qat, "reason": taken.reason}
        found |= {name: " ".join(getattr(taken, name)) for name in ("folded", "ruled", "left")}
        qat.set_ranges(quantised, preprocess, slices)
        expected = np.asarray(quantised(preprocess.normalise(slices), training=False)[0])
        flatbuffer = keras_to_tflite.to_int8(quantised, preprocess, slices)
    except EdgeCTError as error:
        return found | {"qat": found["qat"] or "none", "reason": str(error)}
    runtime = Runtime(flatbuffer, tensors := read_tensors(flatbuffer))
    logits = []
    for image in slices:
        runtime.invoke(image)
        logits.append(runtime.outputs().logits)
    apart = np.abs(np.stack(logits) - expected).max() / tensors.logits.scale
    return found | {"int8": "yes", "steps_apart": f"{apart:.2f}"}


def main(out: str, *names: str) -> None:
    """Fill the table, written after each network."""
    path = Path(out)
    rows: dict[str, dict[str, object]] = {}
    if path.exists():
        with path.open(newline="") as file:
            rows = {one["network"]: one for one in csv.DictReader(file)}
    for name in names or NETWORK_NAMES:
        if name not in rows:
            rows[name] = row(name)
            print({key: str(value)[:60] for key, value in rows[name].items()}, file=sys.stderr)
        ordered = [rows[known] for known in NETWORK_NAMES if known in rows]
        write_text(path, to_csv(COLUMNS, ([one[column] for column in COLUMNS] for one in ordered)))


if __name__ == "__main__":
    main(*sys.argv[1:])
