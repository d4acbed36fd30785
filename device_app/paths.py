"""Where a device keeps its data by default."""

from __future__ import annotations

from pathlib import Path

DEFAULT_STATE = Path("~/.local/state/edge-ct")
