"""What all recipes share: they are JSON files that are read strictly, and name files of pretrained weights."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from edge_ct.errors import EdgeCTError

Recipe = TypeVar("Recipe")


def read_recipe_file(path: Path, kind: type[Recipe]) -> Recipe:
    """Read a recipe.

    Args:
        path: The file.
        kind: The struct that describes the recipe.

    Raises:
        EdgeCTError: The file cannot be read, or is not a valid recipe.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise EdgeCTError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EdgeCTError(f"{path}: not a valid recipe: {error}") from error


def find_weights(name: str, folder: Path | None) -> Path:
    """Return the path of a file of pretrained weights.

    Args:
        name: Name of the file, as the recipe states it.
        folder: The folder of the weights files, if the user named one.

    Raises:
        EdgeCTError: The folder was not named, or the file is not in it.
    """
    if folder is None:
        raise EdgeCTError(f"the recipe needs {name}: name the folder that holds it with --weights")
    if not (folder / name).is_file():
        raise EdgeCTError(f"the recipe needs {name}: {folder / name}: no such file")
    return folder / name
