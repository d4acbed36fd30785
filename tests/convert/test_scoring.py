"""Calibration on the slices whose labels are trusted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from edge_ct.convert.cross_fit import OutOfFold
from edge_ct.convert.scoring import _calibrate
from edge_ct.run import SplitTable


def _folds(trusted: np.ndarray) -> Any:
    generator = np.random.default_rng(0)
    labels = np.tile([0, 1], 200)
    logits = np.stack([np.zeros(400), generator.normal(2.0 * labels - 1.0, 1.0)], axis=1).astype(np.float32)
    labels = np.where(trusted, labels, 1 - labels)  # a label that is not trusted is wrong here
    folds = OutOfFold("grouped", labels, logits, trusted, None, np.full(400, np.nan))
    return SimpleNamespace(out_of_fold=folds, calibration_split="train", fuse_lesions=False)


def test_a_label_that_is_not_trusted_does_not_calibrate() -> None:
    trusted = np.arange(400) < 300
    calibration, cases = _calibrate(_folds(trusted), {}, {})
    # Normal scores of unit variance at -1 and 1 have log odds of 2 x: the slope that a logistic regression finds.
    assert abs(calibration.slope - 2) < 0.5
    assert (calibration.positives, calibration.negatives) == (150, 150)
    assert len(cases.labels) == len(cases.probabilities) == 400
    assert not cases.trusted[300:].any()
    everything, _ = _calibrate(_folds(np.ones(400, bool)), {}, {})
    assert (everything.positives, everything.negatives) == (200, 200)


def test_labels_of_less_than_full_weight_are_not_trusted() -> None:
    table = SplitTable(("a", "b"), np.array([0, 1]), ("", ""), ("train", "train"), ("0" * 64, "1" * 64))
    assert table.trusted.tolist() == [True, True]
    weighted = SplitTable(
        *(table.paths, table.labels, table.groups, table.parts, table.sha256, ()), np.array([0.6, 1.0])
    )
    assert weighted.trusted.tolist() == [False, True]
