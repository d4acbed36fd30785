"""What a device has and where: the worklist's folder, the bundles shipped with the package, processors."""

from __future__ import annotations

from pathlib import Path

from edge_ct.errors import ModelRejected

DEFAULT_STATE = Path("~/.local/state/edge-ct")
SHIPPED = Path(__file__).with_name("models")
DEFAULT = "accurate"  # of what is shipped


def shipped(folder: Path | None = None) -> dict[str, Path]:
    """The bundles that came with this version, by their names; the default one first."""
    found = {path.stem: path for path in sorted((folder or SHIPPED).glob("*.tflite"))}
    return {name: found[name] for name in sorted(found, key=lambda name: name != DEFAULT)}


def model_path(model: str | None, folder: Path | None = None) -> Path:
    """The bundle that `--model` means: a file, or the name of a shipped one; without it the default of these.

    Raises `ModelRejected` where none was named and none is shipped.
    """
    found = shipped(folder)
    if model is None:
        if not found:
            raise ModelRejected("no model is shipped with this version; name a bundle with --model")
        return next(iter(found.values()))
    return found[model] if model in found and not Path(model).is_file() else Path(model)
