"""Limits on what an image may be: everything here is checked before a decoder allocates memory."""

from __future__ import annotations

from ..errors import InputRejected

MAX_BYTES = 64 * 1024 * 1024
MAX_SIDE = 4096
MIN_SIDE = 32


def check_sides(width: int, height: int, source: str) -> None:
    """Raise `InputRejected` if a side is outside `MIN_SIDE`..`MAX_SIDE` pixels."""
    if max(width, height) > MAX_SIDE:
        raise InputRejected(f"{source}: {width} x {height} px; the limit is {MAX_SIDE} x {MAX_SIDE}")
    if min(width, height) < MIN_SIDE:
        raise InputRejected(f"{source}: {width} x {height} px; too small for a CT slice (at least {MIN_SIDE})")
