"""Counts in plain text."""

import pytest

from edge_ct.reporting.counts import count_of


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (0, ("slice",), "0 slices"),
        (1, ("slice",), "1 slice"),
        (2, ("golden slice",), "2 golden slices"),
        (1, ("entry", "entries"), "1 entry"),
        (3, ("entry", "entries"), "3 entries"),
    ],
)
def test_a_count_agrees_with_its_noun(number: int, words: tuple[str, ...], expected: str) -> None:
    assert count_of(number, *words) == expected
