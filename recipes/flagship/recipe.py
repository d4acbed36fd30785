"""The recipe of the flagship, a JSON file that is read strictly: teachers, students and folds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge_ct.errors import EdgeCTError

from ..recipe_file import find_weights, read_recipe_file

Split = Literal["random", "grouped"]
SPLITS: tuple[Split, ...] = ("random", "grouped")
TEACHER = "teacher"  # name of the ensemble of the teachers
Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9.-]*$")]


class NetworkTraining(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one network is trained.

    Attributes:
        network: Name of the network, as `edge-ct models` lists it.
        epochs: Maximum number of epochs.
        size: Side of the input in pixels.
        alpha: Width multiplier of MobileNetV2.
        seed: Random seed.
        weights: Name of a file in the weights folder, or `none`.
        augment: Augmentation policy.
        also: Further options of `edge-ct train`.
    """

    network: str
    epochs: Annotated[int, msgspec.Meta(ge=1)]
    size: Annotated[int, msgspec.Meta(ge=1)] = 224
    alpha: float = 1.0
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    weights: str = "none"
    augment: str = "standard"
    also: tuple[str, ...] = ()

    def options(self, weights: Path | None) -> list[str]:
        """Return options of `edge-ct train`.

        Args:
            weights: Folder of the weights files.

        Raises:
            EdgeCTError: The weights file does not exist.
        """
        words = ["--epochs", str(self.epochs), "--size", str(self.size), "--alpha", f"{self.alpha:g}"]
        words += ["--seed", str(self.seed), "--augment", self.augment]
        if self.weights != "none":
            words += ["--weights", str(find_weights(self.weights, weights))]
        return [*words, *self.also]


class Student(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network that is distilled from the teachers and becomes a bundle.

    Attributes:
        training: How the network is trained.
        distil: Options of `edge-ct train` for the distillation.
        int8: Ways to convert the network, in options of `edge-ct convert`. The first that passes the gate is taken;
            if none passes, the first.
        most_bytes: Maximum size of the shipped bundle in bytes; 0 means no limit.
    """

    training: NetworkTraining
    distil: tuple[str, ...] = ()
    int8: tuple[tuple[str, ...], ...] = ((),)
    most_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0


class ShippedFold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fold whose int8 students are shipped; it is chosen before any result is known."""

    split: Split
    fold: Annotated[int, msgspec.Meta(ge=1)]


class FlagshipRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to train, convert and ship.

    Attributes:
        folds: Number of folds.
        split_seed: Random seed of the folds.
        validation: Fraction of slices used for validation.
        teachers: Name -> training of each teacher.
        students: Name -> student.
        ship: The fold that is shipped.
        positive: Name of the positive class.
        licence: Licence of the bundles.
        convert: Options of `edge-ct convert` for every conversion.
    """

    folds: Annotated[int, msgspec.Meta(ge=2)]
    split_seed: Annotated[int, msgspec.Meta(ge=0)]
    validation: Annotated[float, msgspec.Meta(gt=0, lt=0.5)]
    teachers: Annotated[dict[Name, NetworkTraining], msgspec.Meta(min_length=1)]
    students: Annotated[dict[Name, Student], msgspec.Meta(min_length=1)]
    ship: ShippedFold
    positive: str = "COVID"
    licence: str = "not stated"
    convert: tuple[str, ...] = ()


def read_recipe(path: Path) -> FlagshipRecipe:
    """Read a recipe.

    Raises:
        EdgeCTError: The file cannot be read, or is not a valid recipe.
    """
    recipe = read_recipe_file(path, FlagshipRecipe)
    if recipe.ship.fold > recipe.folds:
        raise EdgeCTError(f"{path}: the recipe ships fold {recipe.ship.fold} of {recipe.folds}")
    names = [TEACHER, *recipe.teachers, *recipe.students]
    if len(set(names)) < len(names):
        raise EdgeCTError(f"{path}: two teachers or students share a name, or one is called {TEACHER}; rename it")
    if not all(student.int8 for student in recipe.students.values()):
        raise EdgeCTError(
            f'{path}: a student has no options for its conversion; write "int8": [[]] for plain quantisation'
        )
    return recipe
