"""Counts in plain text."""

from __future__ import annotations


def count_of(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 slice", "2 slices".

    Args:
        number: How many there are.
        noun: The noun in the singular.
        plural: The noun in the plural; by default the singular with an s.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
