"""Copying the bundles that a recipe ships to the folder that wheels take them from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_ct.bundle import CARD, add_members, read_bundle, unpack_bundle
from edge_ct.classifier import Classifier
from edge_ct.errors import EdgeCTError, GateFailed
from edge_ct.system.files import write_bytes
from edge_ct.system.progress import Progress

from ..resumable import ResumableSteps
from .recipe import FlagshipRecipe
from .results import FoldOutputs


def ship_bundles(
    steps: ResumableSteps,
    recipe: FlagshipRecipe,
    folds: Sequence[FoldOutputs],
    into: Path,
    card: str,
    progress: Progress,
) -> list[Path]:
    """Copy the int8 bundles of the recipe's fold, each under the name of its student and with the model card.

    Args:
        steps: Records of the finished steps.
        recipe: The recipe.
        folds: All folds.
        into: Folder to copy to.
        card: Text of the model card; empty leaves it out.
        progress: Where to show progress.

    Raises:
        GateFailed: A bundle failed the gate or is too large; nothing is copied.
        EdgeCTError: A bundle has not been made yet.
    """
    [fold] = [fold for fold in folds if (fold.split, fold.number) == (recipe.ship.split, recipe.ship.fold)]
    contents = {}
    for name, student in recipe.students.items():
        step = steps.recorded(fold.predictions(name, "int8").with_suffix(""))
        if step is None:
            raise EdgeCTError(f"{fold.title}: {name} has not been made yet, and the recipe ships it; make it first")
        target = Path(steps.path(step.command[1]))
        bundle = read_bundle(target)
        if bundle.manifest.gate is None or not bundle.manifest.gate.passed:
            raise GateFailed(f"{target}: did not pass the gate, and is not shipped")
        content = add_members(bundle, {CARD: card.encode()} if card else {})
        if student.most_bytes and len(content) > student.most_bytes:
            raise GateFailed(
                f"{target}: {len(content):,} bytes with the model card, over the limit of {student.most_bytes:,}; "
                "not shipped"
            )
        Classifier(unpack_bundle(content, str(target))).check_golden()
        contents[into / f"{name}.tflite"] = content
    for path, content in contents.items():
        write_bytes(path, content)
        progress.say(f"{path}: {len(content):,} bytes, {unpack_bundle(content, str(path)).identity}")
    return list(contents)
