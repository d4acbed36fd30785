"""Bundles that earlier versions wrote must go on being read: a file of each schema is kept beside this test.

`schema-1.tflite`: CustomCNN at 48 px, ten epochs on phantom slices, converted on the day before the manifest had any
optional field.
"""

from pathlib import Path

import pytest

from edge_ct import cli
from edge_ct.bundle import read_bundle
from edge_ct.classifier import Classifier
from edge_ct.phantom import make_slice
from edge_ct.slices import Slice

OLD = sorted((Path(__file__).parent / "bundles").glob("schema-*.tflite"))


def test_there_is_one_of_each_schema() -> None:
    assert [path.name for path in OLD] == ["schema-1.tflite"]


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_it_opens_and_its_golden_slices_match(path: Path) -> None:
    opened = read_bundle(path)
    assert (opened.manifest.schema, opened.manifest.outliers, opened.manifest.shrinking) == (1, None, "")
    assert opened.manifest.gate is not None
    assert opened.manifest.gate.passed
    Classifier(opened).check_golden()
    assert cli.run(["bundle", "verify", str(path)]) == 0
    assert cli.run(["bundle", "inspect", str(path)]) == 0


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_it_classifies(path: Path) -> None:
    """Better than a coin: 40 of 60 or more, of which a coin has a chance of 1 in 150."""
    classifier = Classifier(path)
    right = rejected = 0
    for number in range(60):
        phantom = make_slice(5000 + number, 4, number % 2 == 1, 96, seed=8)
        result = classifier.judge_slice(Slice(phantom.image, "phantom")).result
        if result.probability is None:  # the check of the picture, which is no part of the bundle
            rejected += 1
            continue
        assert result.decision in ("positive", "negative", "refer")
        right += (result.probability >= classifier.manifest.operating_point.threshold) == phantom.positive
    assert rejected <= 1
    assert right >= 40
