"""Which slices may score a model: those that it was not made with, recognised by their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from csv import DictReader
from io import StringIO
from typing import Literal

from .bundle import Bundle
from .errors import DataRejected

Part = Literal["auto", "train", "validation", "test", "all"]


def parts_known_to_bundle(bundle: Bundle) -> dict[str, str]:
    """First 16 hex digits of a pixel identity -> part, of the slices that a bundle was made with."""
    table = DictReader(StringIO(bundle.member("split.csv").decode()))
    return {row["sha256"]: row["part"] for row in table}


def select_held_out(
    hashes: Sequence[str | None], known: dict[str, str], kind: str, part: Part
) -> tuple[list[int], str, str]:
    """Which slices to score: their indices, the kind of split they are, and the name of the part.

    hashes: pixel identities, None for an unreadable file. known: first 16 digits of an identity -> part of the training
    split. Raises `DataRejected` where nothing is left.
    """
    parts = [known.get(sha256[:16], "new") if sha256 else "new" for sha256 in hashes]
    scored = ("test" if "test" in parts else "new") if part == "auto" else part
    chosen = [index for index, own in enumerate(parts) if scored in (own, "all")]
    if not chosen:
        raise DataRejected(f"no slice to score: of {len(hashes)}, all were used in training, or none is in {scored!r}")
    return chosen, "external" if all(parts[index] == "new" for index in chosen) else kind, scored
