"""Keeping native libraries' chatter off standard error, which is for progress and one-line errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def captured_native_stderr() -> Iterator[Callable[[str], None]]:
    """Send file descriptor 2 to nowhere: TensorFlow and LiteRT write there past Python's `sys.stderr`.

    Yields a function that writes a line for people to where it went before.
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield lambda line: _write_line(kept, line)
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _write_line(descriptor: int, line: str) -> None:
    os.write(descriptor, f"{line}\n".encode("utf-8", "backslashreplace"))
