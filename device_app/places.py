"""What a device has and where: the worklist's folder, the bundles shipped with the package, processors."""

from __future__ import annotations

import os
from pathlib import Path

from edge_ct.errors import ModelRejected

DEFAULT_STATE = Path("~/.local/state/edge-ct")
SHIPPED = Path(__file__).with_name("bundles")


def model_path(model: str | None, shipped: Path = SHIPPED) -> Path:
    """The bundle that `--model` means: a path, or the name of a shipped one; without it the first of these.

    Raises `ModelRejected` where none was named and none is shipped.
    """
    found = {path.stem: path for path in sorted(shipped.glob("*.tflite"))}
    if model is None:
        if not found:
            raise ModelRejected("no model is shipped with this version; name a bundle with --model")
        return next(iter(found.values()))
    path = Path(model)
    return found[model] if model in found and not path.exists() else path


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
