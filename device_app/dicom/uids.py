"""UIDs that follow from what an object is made of: whoever gets it twice sees that it is the same one.

`2.25.` and a number of 128 bits (PS3.5, B.2), from SHA-256 in place of a random UUID.
"""

from __future__ import annotations

import hashlib
import re

_FORM = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", re.ASCII)


def derived(*parts: str) -> str:
    """The UID of an object that is made of `parts`; the same parts give the same UID on every device."""
    digest = hashlib.sha256("\0".join(("edge-ct", *parts)).encode("utf-8", "backslashreplace")).digest()
    # Version and variant bits as of a name-based UUID (RFC 9562, version 8).
    number = int.from_bytes(digest[:16], "big") & ~(0xF << 76) | (0x8 << 76)
    number = number & ~(0x3 << 62) | (0x2 << 62)
    return f"2.25.{number}"


def is_uid(text: str) -> bool:
    """Whether a text is a UID as PS3.5, 9.1 has it."""
    return len(text) <= 64 and _FORM.fullmatch(text) is not None
