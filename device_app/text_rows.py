"""Results as lines of text under one heading: what `classify`, `watch` and `worklist list` print."""

from __future__ import annotations

import click

from edge_ct.decision import Decision
from edge_ct.system.files import one_line

DISEASE = "COVID-19"
_PROBABILITY = f"P({DISEASE})"
_COLOURS = {"positive": "red", "refer": "yellow", "negative": "green", "rejected": "magenta"}


def heading(subject: str, *, numbered: bool = False, lungs: bool = False) -> str:
    """Return the line above the columns.

    Args:
        subject: What a row is about: "slice", "series" or "patient".
        numbered: True if the rows begin with the id of a stored result.
        lungs: True if the rows have a column of lesion shares.
    """
    number = f"{'id':>6}  " if numbered else ""
    return f"{number}{'decision':<9} {_PROBABILITY}{'  lungs' if lungs else ''}  {subject}"


def text_row(
    decision: Decision,
    probability: float | None,
    text: str,
    *,
    number: int | None = None,
    lungs: bool = False,
    lesion_share: float | None = None,
    bold: bool = True,
) -> str:
    """Return one row.

    Args:
        decision: The decision.
        probability: Calibrated P(positive); None for what was not judged.
        text: What the row is about, with its remarks; control characters are replaced.
        number: Id of a stored result.
        lungs: True if the rows have a column of lesion shares.
        lesion_share: Share of the lungs that shows opacities, 0 to 1; None where it was not measured.
        bold: True if the decision is printed in bold.
    """
    start = "" if number is None else f"{number:>6}  "
    shown = click.style(f"{decision:<9}", fg=_COLOURS[decision], bold=bold)
    p = "-" if probability is None else f"{probability:.1%}"
    share = f"  {'-' if lesion_share is None else f'{lesion_share:.0%}':>5}" if lungs else ""
    return f"{start}{shown} {p:>{len(_PROBABILITY)}}{share}  {one_line(text)}"
