"""Silence for native libraries on standard error, which is reserved for progress and one-line errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def captured_native_stderr() -> Iterator[Callable[[str], None]]:
    """Discard output to file descriptor 2, where TensorFlow and LiteRT write without using `sys.stderr`.

    The descriptor belongs to the whole process, so other threads are silenced as well.

    Yields:
        A function that prints a line to the original standard error.
    """
    sys.stderr.flush()
    original, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield lambda line: _write_line(original, line)
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        os.close(original)
        os.close(null)


def _write_line(descriptor: int, line: str) -> None:
    os.write(descriptor, f"{line}\n".encode("utf-8", "backslashreplace"))
