"""Copying the final bundles, with their model card, to the folder that wheels take them from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge_ct.bundle import CARD, add_members, read_bundle, unpack_bundle
from edge_ct.classifier import Classifier
from edge_ct.errors import GateFailed
from edge_ct.system.files import write_bytes
from edge_ct.system.progress import Progress

from .source_recipe import SourceRecipe


def ship_bundles(
    bundles: Mapping[str, Path], recipe: SourceRecipe, into: Path, progress: Progress, card: str = ""
) -> None:
    """Copy bundles to a folder, each under the name of its model.

    Args:
        bundles: Name of a model -> its bundle; this may be the one in the folder, which gets the card.
        recipe: The recipe that made them.
        into: The folder.
        progress: Where to show progress.
        card: Model card to put into each bundle; "" for none.

    Raises:
        GateFailed: A bundle did not pass the gate, or is larger than the recipe allows; nothing is copied.
        ModelRejected: A bundle gives other outputs for its golden slices than when it was made; nothing is copied.
    """
    contents = {}
    for name, path in bundles.items():
        bundle = read_bundle(path)
        if bundle.manifest.gate is None or not bundle.manifest.gate.passed:
            raise GateFailed(f"{bundle.source}: did not pass the gate, and is not shipped")
        content = add_members(bundle, {CARD: card.encode()}) if card else bundle.content
        limit = recipe.models[name].most_bytes
        if limit and len(content) > limit:
            raise GateFailed(
                f"{bundle.source}: {len(content):,} bytes with the model card, over the limit of {limit:,}"
            )
        Classifier(unpack_bundle(content, bundle.source)).check_golden()
        contents[into / f"{name}.tflite"] = content
    for path, content in contents.items():
        write_bytes(path, content)
        progress.say(f"{path}: {len(content):,} bytes, {unpack_bundle(content, str(path)).identity}")
