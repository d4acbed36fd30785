"""What is said of a trained network at its end."""

import msgspec
import numpy as np
import pytest

from edge_ct.bundle import read_bundle
from edge_ct.metrics import score
from edge_ct.train.score import commands
from edge_ct.train.score.evaluate import Evaluation
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


def test_evaluate_prints_the_two_thresholds_that_decide(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a bundle of an earlier version, too, whose operating point never decides."""
    rule = read_bundle("accurate").manifest.decision_rule
    labels = np.arange(60) % 2
    p = np.linspace(0, 1, 60)
    at_rule = score(labels, p, rule.negative_below)
    common = {"model": "m", "split": "random", "part": "test", "left_out": 0, "decisions": None}
    scores = msgspec.structs.asdict(score(labels, p))
    commands._print_evaluation(Evaluation(**scores, **common, operating_point=at_rule, decision_rule=rule))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "m: 60 slices scored (part: test), random split; 0 slices left out"
    assert lines[-2:] == [
        f"  decision rule: negative below P {rule.negative_below:.3f}, positive from P {rule.positive_from:.3f}, "
        "refer between",
        f"  from the threshold for negative on (P >= {rule.negative_below:.3f}): sensitivity "
        f"{at_rule.sensitivity.text()}, specificity {at_rule.specificity.text()}",
    ]
