"""The table of results by split, model and source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge_ct.metrics import score
from edge_ct.system.csv_text import estimate_columns

from .fold_predictions import TestPredictions
from .source_recipe import Comparison
from .source_tables import matches

METRICS = ("auc", "accuracy", "sensitivity", "specificity", "ece")
_OF_ORDER = ("n", "positives", "auc", "auc_low", "auc_high")
_DECISIONS = ("positive", "negative", "refer", "rejected")


def evidence_rows(
    split: str, model: str, folds: Sequence[TestPredictions], comparisons: Mapping[str, Comparison]
) -> list[dict[str, object]]:
    """Compute the rows of one model: all test slices together, each source, each comparison.

    Args:
        split: Name of the split.
        model: Name of the model.
        folds: The test parts of its folds.
        comparisons: Name -> two sets of slices that are told apart.
    """
    labels, p, shares = (
        np.concatenate([getattr(fold, name) for fold in folds]) for name in ("labels", "probabilities", "shares")
    )
    sources = np.array([name for fold in folds for name in fold.sources])
    paths = [Path(path) for fold in folds for path in fold.paths]
    decisions = np.array([name for fold in folds for name in fold.decisions])
    head = {"split": split, "model": model, "folds": len(folds)}
    rows = [{**head, "slices": "all", "by": "probability", **_columns(labels, p, decisions)}]
    for source in sorted(set(sources.tolist())):
        chosen = sources == source
        rows.append(
            {**head, "slices": source, "by": "probability", **_columns(labels[chosen], p[chosen], decisions[chosen])}
        )
    for name, comparison in comparisons.items():
        positive = np.array([matches(path, comparison.positive) for path in paths])
        negative = np.array([matches(path, comparison.negative) for path in paths])
        chosen = positive | negative
        for by, values in (("probability", p), ("lesion share", shares)):
            if chosen.any() and not np.isnan(values[chosen]).all():
                columns = _columns(positive[chosen].astype(int), values[chosen], decisions[chosen])
                if by == "lesion share":  # a share is no probability: only the order of slices means anything
                    columns = {
                        key: value if key.startswith(("n", "auc", "pos")) else "" for key, value in columns.items()
                    }
                rows.append({**head, "slices": name, "by": by, **columns})
    return rows


def _columns(labels: np.ndarray, p: np.ndarray, decisions: np.ndarray) -> dict[str, object]:
    known = ~np.isnan(p)
    scores = score(labels[known], p[known])
    columns: dict[str, object] = {"n": int(known.sum()), "positives": int((labels[known] == 1).sum())}
    for name in METRICS:
        columns |= estimate_columns(name, msgspec.to_builtins(getattr(scores, name)))
    balanced = (scores.sensitivity.value, scores.specificity.value)
    columns["balanced_accuracy"] = "" if None in balanced else f"{np.mean(balanced):.5f}"  # type: ignore[arg-type]
    columns |= {f"said_{name}": int((decisions == name).sum()) for name in _DECISIONS}
    return columns
