"""The bundles that are shipped with edge-ct, by name: every command that takes a bundle takes such a name too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import edge_ct

from .errors import ModelRejected

if TYPE_CHECKING:
    from click import Context, Parameter
    from click.shell_completion import CompletionItem

DEFAULT = "accurate"


def shipped_models() -> dict[str, Path]:
    """Return the path of each shipped bundle by its name, the default one first."""
    paths = {path.stem: path for folder in _model_folders() for path in sorted(folder.glob("*.tflite"))}
    return {name: paths[name] for name in sorted(paths, key=lambda name: name != DEFAULT)}


def find_bundle(model: Path | str | None = None) -> Path:
    """Return the path of a bundle.

    Args:
        model: The path of a bundle, or the name of a shipped one; None is the default shipped bundle. A file takes
            precedence over a shipped bundle of the same name.

    Raises:
        ModelRejected: `model` is a bare name that neither a file nor a shipped bundle has, or it is None and no bundle
            is shipped. The message lists the shipped names.
    """
    models = shipped_models()
    if model is None:
        if not models:
            raise ModelRejected("no model is shipped with this version; name a bundle file with --model")
        return next(iter(models.values()))
    path, name = Path(model), str(model)
    if name in models and not path.is_file():
        return models[name]
    if not path.suffix and path.name == name and not path.exists():
        raise ModelRejected(f"{name}: no such bundle; shipped models are: {', '.join(models) or 'none'}")
    return path


def complete_bundle(context: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete an argument that takes a bundle, for a shell: with the shipped names, then with files."""
    from click.shell_completion import CompletionItem

    names = [name for name in shipped_models() if name.startswith(incomplete)]
    return [*(CompletionItem(name, help="shipped bundle") for name in names), CompletionItem(incomplete, type="file")]


def _model_folders() -> list[Path]:
    # In a wheel the device app lies inside this package, in a checkout beside it.
    folders = [Path(folder) for folder in edge_ct.__path__]
    places = [place / "device_app" / "models" for folder in folders for place in (folder, folder.parent)]
    return list(dict.fromkeys(place for place in places if place.is_dir()))
