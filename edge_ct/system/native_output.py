"""What native libraries write to standard error, which is reserved for progress and one-line errors."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# How the messages of OpenCV, libtiff, libjpeg (jerror.h) and libpng begin.
_DECODER_LINE = re.compile(
    rb"(?:\[ ?(?:WARN|ERROR):|Corrupt JPEG|Premature end of JPEG|Inconsistent progression|Invalid SOS|Unknown Adobe"
    rb"|Warning: unknown JFIF|libpng )[^\r\n]*\n?"
)
_decoding = threading.Lock()


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


@contextmanager
def captured_decoder_output() -> Iterator[list[str]]:
    """Collect the messages of image decoders, which report damaged data on file descriptor 2 and nowhere else.

    The descriptor belongs to the whole process: only one thread at a time is inside, and what other threads write
    meanwhile is passed on when the block ends. Do not enter `captured_native_stderr` from another thread meanwhile.

    Yields:
        A list, empty until the block ends, then of one message a line.
    """
    messages: list[str] = []
    with _decoding:
        # A file and no pipe: a full pipe would make C++ give up its error stream for the rest of the process.
        file, original = _open_memory_file(), os.dup(2)
        try:
            os.dup2(file, 2)
            yield messages
        finally:
            os.dup2(original, 2)
            try:
                if size := os.lseek(file, 0, os.SEEK_CUR):
                    text = os.pread(file, size, 0)
                    messages += [line.decode("utf-8", "replace").strip() for line in _DECODER_LINE.findall(text)]
                    others = _DECODER_LINE.sub(b"", text)
                    if others.strip(b"\n"):
                        os.write(original, others)
            finally:
                os.close(original)
                os.close(file)


def _open_memory_file() -> int:
    """Return the descriptor of a new file without a name, in memory on Linux."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("decoder-output")
    import tempfile  # late: it would cost a cold `classify` memory for nothing

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write_line(descriptor: int, line: str) -> None:
    os.write(descriptor, f"{line}\n".encode("utf-8", "backslashreplace"))
