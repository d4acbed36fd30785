"""What can go wrong, and the exit code of each.

    EdgeCTError            1
    ├── InputRejected      3   a slice cannot be read or judged
    ├── ModelRejected      4   a bundle cannot be trusted
    ├── GateFailed         5   a model or a measurement lost more than allowed
    ├── MissingExtra       6   the command needs an extra that is not installed
    ├── DataRejected       7   a dataset or a run cannot be used
    ├── StorageFull        8   a worklist has reached its size, or its disk is nearly full
    └── WorklistDamaged    9   a worklist's audit chain, rows or file are not as they were written

Exit code 2 is click's own, for wrong usage. Every message is one line: what, where, and what to do.
"""

from __future__ import annotations


class EdgeCTError(Exception):
    """Base of all errors that are the input's or the machine's fault, not this code's."""

    exit_code = 1


class InputRejected(EdgeCTError):
    """A file is unreadable, truncated, too large, not grey-convertible, or of the wrong modality."""

    exit_code = 3


class ModelRejected(EdgeCTError):
    """A bundle is missing, damaged, of an unknown schema, or its tensors are not as its manifest says."""

    exit_code = 4


class GateFailed(EdgeCTError):
    """A converted model lost more than allowed, and nothing was written; or a measurement fell behind another."""

    exit_code = 5


class MissingExtra(EdgeCTError):
    """A command needs an optional dependency."""

    exit_code = 6


class DataRejected(EdgeCTError):
    """A dataset without two classes, with a group in two splits, or a run that is not one."""

    exit_code = 7


class StorageFull(EdgeCTError):
    """A worklist has reached its size, or its disk is nearly full; nothing was stored."""

    exit_code = 8


class WorklistDamaged(EdgeCTError):
    """A worklist's audit chain, rows or file are not as they were written."""

    exit_code = 9
