"""What is said of a trained network at its end."""

import numpy as np

from edge_ct.metrics import score
from edge_ct.train.score.run_scores import describe_chance


def test_a_network_at_chance_is_called_so_in_plain_words() -> None:
    labels = np.arange(60) % 2
    p = np.random.default_rng(3).random(60)
    scores = score(labels, p)
    assert describe_chance(scores, "test") == (
        f"This network tells the classes apart no better than chance: the AUC on 60 test slices is "
        f"{scores.auc.text()}, "
        "and 0.5 is chance. Train longer or on more slices, and check the labels with edge-ct data check."
    )
    assert describe_chance(score(labels, labels * 0.8 + 0.1), "test") is None
    assert describe_chance(score(np.ones(5, int), p[:5]), "test") is None  # one class: unknown
