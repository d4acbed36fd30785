"""File names are bytes; what is printed and stored of them is Unicode."""

from __future__ import annotations


def printable(name: str) -> str:
    """A name as UTF-8 can carry it: bytes that are none are written as \\udcxx."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode()
    return name
