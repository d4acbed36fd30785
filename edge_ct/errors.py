"""The errors of edge-ct and the exit code of each.

    EdgeCTError            1
    ├── InputRejected      3   a slice cannot be read or judged
    ├── ModelRejected      4   a bundle cannot be trusted
    ├── GateFailed         5   a model or a measurement is worse than allowed
    ├── MissingExtra       6   the command needs an extra that is not installed
    ├── DataRejected       7   a dataset or a run cannot be used
    ├── StorageFull        8   the worklist has reached its size limit, or the disk is nearly full
    ├── WorklistBusy       1   another process holds the worklist
    └── WorklistDamaged    9   the audit trail, rows or file of a worklist were changed

Exit code 2 means wrong usage and comes from click. Every message is one line: what is wrong, where, and what to do.
"""

from __future__ import annotations


class EdgeCTError(Exception):
    """Base class of errors that come from the input or the machine, not from a bug."""

    exit_code = 1


class InputRejected(EdgeCTError):
    """A file is unreadable, truncated, too large, not convertible to grey, or of the wrong modality."""

    exit_code = 3


class ModelRejected(EdgeCTError):
    """A bundle is missing, damaged or of an unknown schema, or its tensors differ from its manifest."""

    exit_code = 4


class GateFailed(EdgeCTError):
    """A converted model lost more than allowed and was not written, or a measurement is worse than its reference."""

    exit_code = 5


class MissingExtra(EdgeCTError):
    """A command needs an optional dependency that is not installed."""

    exit_code = 6


class DataRejected(EdgeCTError):
    """A dataset lacks a class or has a group in two splits, or a folder is not a run."""

    exit_code = 7


class StorageFull(EdgeCTError):
    """The worklist has reached its size limit or the disk is nearly full; nothing was stored."""

    exit_code = 8


class WorklistBusy(EdgeCTError):
    """Another process or thread holds the worklist; nothing was stored, and the same call may succeed later."""


class WorklistDamaged(EdgeCTError):
    """The audit trail, the rows or the file of a worklist were changed after they were written."""

    exit_code = 9
