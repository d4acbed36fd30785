"""Against the reference, by hand: what is kept, the front, speed-up at equal sensitivity, and the sentence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_ct.benchmarks.report import verdict
from edge_ct.manifest import Estimate

LABELS = np.array([1] * 10 + [0] * 10)


def test_what_is_kept_is_the_ratio_of_sensitivities() -> None:
    reference = np.array([True] * 8 + [False] * 12)
    own = np.array([True] * 6 + [False] * 2 + [True] + [False] * 11)  # two lost, one gained, of eight
    found = verdict.kept_sensitivity(LABELS, own, reference)
    assert found.value == pytest.approx(7 / 8)
    assert found.low is not None and found.high is not None
    assert found.low < 7 / 8 < found.high


def test_no_difference_on_few_slices_is_no_certainty() -> None:
    """Wilson: of 8 slices none was lost, so up to z^2 / (8 + z^2) = 32.4 % may be."""
    calls = np.array([True] * 8 + [False] * 12)
    found = verdict.kept_sensitivity(LABELS, calls, calls)
    assert found.value == 1
    assert found.low == pytest.approx(1 - 0.3244, abs=1e-3)
    assert found.high == pytest.approx(1 + 0.3244, abs=1e-3)


def test_a_reference_that_finds_nothing() -> None:
    nothing = np.zeros(20, bool)
    assert verdict.kept_sensitivity(LABELS, ~nothing, nothing) == Estimate(None, None, None)


def test_equal_sensitivity_is_at_the_highest_threshold_that_finds_as_many() -> None:
    p = np.array([0.9, 0.8, 0.7, 0.6, 0.3] * 2 + [0.65, 0.5, 0.4] + [0.1] * 7)
    found = verdict.equal_sensitivity(LABELS, p, 8, 12.0)  # eight of ten: down to 0.6, which calls one negative too
    assert found.threshold == 0.6
    assert (found.sensitivity.value, found.specificity.value, found.speed_up) == (0.8, 0.9, 12.0)


def test_equal_to_a_reference_that_finds_nothing_asks_for_nothing() -> None:
    found = verdict.equal_sensitivity(LABELS, np.full(20, 0.5), 0, None)
    assert (found.sensitivity.value, found.specificity.value) == (0, 1)


@pytest.mark.parametrize(
    ("rows", "front"),
    [
        ([(1.0, 0.1), (2.0, 0.05), (3.0, 0.2)], [True, True, False]),
        ([(1.0, 0.1), (1.0, 0.1)], [True, True]),  # twins do not beat each other
        ([(1.0, 0.1), None, (1.0, 0.2)], [True, False, False]),
        ([], []),
    ],
)
def test_front(rows: list[tuple[float, ...] | None], front: list[bool]) -> None:
    assert verdict.pareto_front(rows) == front


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_never_empty_and_beats_the_rest(rows: list[tuple[int, int, int]]) -> None:
    front = verdict.pareto_front(rows)
    assert any(front)
    best = [row for row, on in zip(rows, front, strict=True) if on]
    for row, on in zip(rows, front, strict=True):
        if not on:
            assert any(all(b <= r for b, r in zip(other, row, strict=True)) for other in best)


def candidate(label: str, ms: float, kept: float, p: float = 1.0, front: bool = True) -> verdict.Candidate:
    equal = verdict.EqualSensitivity(0.5, Estimate(1, 1, 1), Estimate(1, 1, 1), 1.0)
    own = verdict.ReferenceComparison(Estimate(kept, kept - 0.02, min(1.0, kept + 0.01)), 1.0, p, 1.0, equal)
    return verdict.Candidate(label, ms, 2_800_000, front, own)


@pytest.mark.parametrize(
    ("candidates", "best"),
    [
        ([candidate("fast", 1, 0.9), candidate("good", 2, 0.99), candidate("slow", 9, 1.0)], "good"),
        ([candidate("fast", 1, 0.99, p=0.01), candidate("slow", 9, 0.985)], "slow"),
        ([candidate("fast", 1, 0.7), candidate("less bad", 2, 0.9)], "less bad"),
        ([candidate("beaten", 1, 1.0, front=False), candidate("front", 2, 1.0)], "front"),
    ],
)
def test_the_fastest_that_keeps_the_sensitivity_is_named(candidates: list[verdict.Candidate], best: str) -> None:
    chosen = verdict.choose_candidate(candidates)
    assert chosen is not None
    assert chosen.label == best


def test_the_sentence() -> None:
    said = verdict.verdict_sentence([candidate("int8", 2.0, 0.989)], "ensemble", 300.0, "the same CPU", 397, "random")
    assert said == (
        "int8 keeps 98.9 % [96.9, 99.9] of the sensitivity of ensemble at 1/150 of its time per slice (2.0 ms "
        "against 300 ms on the same CPU), in 2.80 MB (n = 397, random split)."
    )
    assert verdict.verdict_sentence([], "ensemble", 300.0, "", 0, "").startswith("No bundle")
