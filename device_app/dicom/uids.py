"""Reproducible UIDs: an object built twice from the same parts has the same UID, so a receiver stores it once.

A UID is `2.25.` followed by a 128-bit number (PS3.5, B.2), taken from SHA-256 instead of a random UUID.
"""

from __future__ import annotations

import hashlib
import re

_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", re.ASCII)


def derive_uid(*parts: str) -> str:
    """Return the UID of an object made from `parts`; the same parts give the same UID on every device."""
    digest = hashlib.sha256("\0".join(("edge-ct", *parts)).encode("utf-8", "backslashreplace")).digest()
    # Version and variant bits of a version 8 UUID (RFC 9562, section 5.8).
    number = int.from_bytes(digest[:16], "big") & ~(0xF << 76) | (0x8 << 76)
    number = number & ~(0x3 << 62) | (0x2 << 62)
    return f"2.25.{number}"


def is_uid(text: str) -> bool:
    """Return whether a text is a valid UID (PS3.5, 9.1)."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None
