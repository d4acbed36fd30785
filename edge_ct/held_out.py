"""Which slices may be used to score a model: slices that it was not made with, recognised by their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from csv import DictReader
from io import StringIO
from typing import Literal

from .bundle import Bundle
from .errors import DataRejected

Part = Literal["auto", "train", "validation", "test", "all"]


def parts_known_to_bundle(bundle: Bundle) -> dict[str, str]:
    """Return the part of every slice that a bundle was made with, by the first 16 hex digits of its pixel hash."""
    table = DictReader(StringIO(bundle.member("split.csv").decode()))
    return {row["sha256"]: row["part"] for row in table}


def select_held_out(
    hashes: Sequence[str | None], known: dict[str, str], kind: str, part: Part
) -> tuple[list[int], str, str]:
    """Select the slices to score.

    Args:
        hashes: Pixel hash of each slice; None for an unreadable file.
        known: First 16 hex digits of a pixel hash -> part of the training split.
        kind: Kind of the training split: `random`, `grouped` or `source`.
        part: The part to score; `auto` is the test part, or slices that are not in the split.

    Returns:
        Indices of the slices, the kind of split (`external` where no slice is in the training split), and the part.

    Raises:
        DataRejected: No slice is left.
    """
    parts = [known.get(sha256[:16], "new") if sha256 else "new" for sha256 in hashes]
    scored = ("test" if "test" in parts else "new") if part == "auto" else part
    chosen = [index for index, name in enumerate(parts) if scored in (name, "all")]
    if not chosen:
        raise DataRejected(
            f"no slice to score: all {len(hashes)} slices were used in training, or none is in part {scored!r}"
        )
    return chosen, "external" if all(parts[index] == "new" for index in chosen) else kind, scored
