"""Classify CT slices from Python.

    python examples/classify_from_python.py SLICE [SLICE ...] [--model accurate]

A slice is a PNG, JPEG or TIFF file, or with `pip install 'edge-ct[dicom]'` a DICOM file. Research use only.
"""

import argparse
import sys
from pathlib import Path

from edge_ct import Classifier
from edge_ct.errors import EdgeCTError


def main() -> None:
    """Print the decision and the calibrated probability for each slice."""
    parser = argparse.ArgumentParser(description="Classify CT slices. Research use only.")
    parser.add_argument("slices", nargs="+", help="slice files")
    parser.add_argument("--model", default="accurate", help="shipped model (accurate or fast), or path of a bundle")
    arguments = parser.parse_args()
    classifier = Classifier(arguments.model)  # opening a bundle takes time, so open it once
    for path in arguments.slices:
        result = classifier.classify(path)
        if result.probability is None:
            print(f"{path}: {result.decision}: {result.reason}")
        else:
            print(f"{path}: {result.decision}, P(COVID-19) = {result.probability:.3f}")


if __name__ == "__main__":
    try:
        main()
    except EdgeCTError as error:  # one line on standard error, as the commands print it
        sys.exit(f"{Path(__file__).name}: {error}")
