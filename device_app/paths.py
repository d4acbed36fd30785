"""The default folder of the worklist and of the device key."""

from __future__ import annotations

from pathlib import Path

DEFAULT_STATE = Path("~/.local/state/edge-ct")
