"""Stored results: one SQLite file. `from edge_ct.device_app.worklist import Worklist` opens it from Python.

- `commands`     `edge-ct worklist`
- `worklist`     storing judgements, reviews and retention
- `reader`       queries on what is stored
- `database`     the file, its schema and its transactions
- `schema`       its tables, indexes and triggers
- `upgrade`      worklists of earlier versions
- `records`      judgements as rows
- `audit_trail`  the hash-chained audit trail, bound to the device key
- `head_file`    the head of the trail, kept beside the file
- `recorded_state`  what the trail says that the file must hold
- `verification`  whether the file holds that
- `retention`    deleting old results
- `time_evidence`  how much time has passed, whatever the clock shows
- `queue`        work that survives restarts
- `quarantine`   files over which worker processes have ended
- `export`       CSV, JSON, datasets and pictures
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .worklist import Worklist

__all__ = ["Worklist"]


def __getattr__(name: str) -> object:
    """Import `Worklist` when it is asked for, so that importing this package stays cheap."""
    if name == "Worklist":
        from .worklist import Worklist

        return Worklist
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
