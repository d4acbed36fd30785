"""Try quantisation-aware training on each network of the zoo, and write a CSV of the results.

python scripts/qat_networks.py OUT.csv [NETWORK ...]

Each network is built at its smallest size with random weights, gets quantisation nodes, and is converted to a
full-integer file, whose outputs are compared with those of the network in training. Networks that OUT.csv already lists
are not tried again.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from edge_ct.convert.networks import to_deployed_form
from edge_ct.convert.options import FileFormat
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


def qat_row(name: str) -> dict[str, object]:
    """Return the row of one network.

    `int8` says whether a full-integer file results. `steps_apart` is the largest difference of a logit between the file
    and the network in training, in quantisation steps of the file's logits, over eight phantom slices.
    """
    architecture = find(name)
    size = architecture.minimum
    keras.utils.set_random_seed(1)
    model = to_deployed_form(build(keras, name, size))
    row: dict[str, object] = dict.fromkeys(COLUMNS, "") | {"network": name, "size": size, "int8": "no"}
    preprocess = Preprocess(size)
    slices = np.stack([preprocess(make_slice(k, 3, k % 2 == 0, 96).image) for k in range(8)])
    try:
        quantised, taken = qat.insert_rounding(model)
        row |= {"qat": taken.qat, "reason": taken.reason}
        row |= {name: " ".join(getattr(taken, name)) for name in ("folded", "ruled", "left")}
        qat.set_activation_ranges(quantised, preprocess, slices)
        expected = np.asarray(quantised(preprocess.normalise(slices), training=False)[0])
        flatbuffer = keras_to_tflite.to_flatbuffer(quantised, preprocess, FileFormat("int8"), slices)
    except EdgeCTError as error:
        return row | {"qat": row["qat"] or "none", "reason": str(error)}
    runtime = Runtime(flatbuffer, tensors := read_tensors(flatbuffer))
    logits = []
    for image in slices:
        runtime.invoke(image)
        logits.append(runtime.outputs().logits)
    apart = np.abs(np.stack(logits) - expected).max() / tensors.logits.scale
    return row | {"int8": "yes", "steps_apart": f"{apart:.2f}"}


def main(out: str, *names: str) -> None:
    """Add the missing networks to the table, which is written after each network."""
    path = Path(out)
    rows: dict[str, dict[str, object]] = {}
    if path.exists():
        with path.open(newline="") as file:
            rows = {row["network"]: dict(row) for row in csv.DictReader(file)}
    for name in names or NETWORK_NAMES:
        if name not in rows:
            rows[name] = qat_row(name)
            print({key: str(value)[:60] for key, value in rows[name].items()}, file=sys.stderr)
        ordered = [rows[known] for known in NETWORK_NAMES if known in rows]
        write_text(path, to_csv(COLUMNS, ([row[column] for column in COLUMNS] for row in ordered)))


if __name__ == "__main__":
    main(*sys.argv[1:])
