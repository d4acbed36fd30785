"""The recipe of the flagship: teachers, students, folds; a JSON file, read strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge_ct.errors import EdgeCTError

Split = Literal["random", "grouped"]
SPLITS: tuple[Split, ...] = ("random", "grouped")
TEACHER = "teacher"  # what the ensemble of them is called
Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9.-]*$")]


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One network. weights: a file of the weights folder, or `none`. also: further words of `edge-ct train`."""

    network: str
    epochs: Annotated[int, msgspec.Meta(ge=1)]
    size: Annotated[int, msgspec.Meta(ge=1)] = 224
    alpha: float = 1.0
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    weights: str = "none"
    augment: str = "standard"
    also: tuple[str, ...] = ()

    def words(self, weights: Path | None) -> list[str]:
        """Its part of a command line. weights: the folder. Raises `EdgeCTError` where its file is not there."""
        words = ["--epochs", str(self.epochs), "--size", str(self.size), "--alpha", f"{self.alpha:g}"]
        words += ["--seed", str(self.seed), "--augment", self.augment]
        if self.weights != "none":
            if weights is None or not (weights / self.weights).is_file():
                where = "say where weights are with --weights" if weights is None else f"{weights / self.weights}"
                raise EdgeCTError(f"the recipe wants {self.weights}: {where}: no such file")
            words += ["--weights", str(weights / self.weights)]
        return [*words, *self.also]


class Student(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network that learns from the teachers, and becomes a bundle.

    distil: words of `edge-ct train` about what it learns from them. int8: ways to convert it, in words of `edge-ct
    convert`; the first that the gate passes is taken, and where it passes none, the first. most_bytes: of the bundle
    that is shipped; 0 is any.
    """

    training: Training
    distil: tuple[str, ...] = ()
    int8: tuple[tuple[str, ...], ...] = ((),)
    most_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0


class Shipped(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fold whose int8 students are shipped, named before any figure was known."""

    split: Split
    fold: Annotated[int, msgspec.Meta(ge=1)]


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """convert: words that every conversion has in common."""

    folds: Annotated[int, msgspec.Meta(ge=2)]
    split_seed: Annotated[int, msgspec.Meta(ge=0)]
    validation: Annotated[float, msgspec.Meta(gt=0, lt=0.5)]
    teachers: Annotated[dict[Name, Training], msgspec.Meta(min_length=1)]
    students: Annotated[dict[Name, Student], msgspec.Meta(min_length=1)]
    ship: Shipped
    positive: str = "COVID"
    licence: str = "not stated"
    convert: tuple[str, ...] = ()


def read(path: Path) -> Recipe:
    """Read a recipe. Raises `EdgeCTError` where it is none."""
    try:
        recipe = msgspec.json.decode(path.read_bytes(), type=Recipe)
    except OSError as error:
        raise EdgeCTError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EdgeCTError(f"{path}: not a recipe: {error}") from error
    if recipe.ship.fold > recipe.folds:
        raise EdgeCTError(f"{path}: ships fold {recipe.ship.fold} of {recipe.folds}")
    names = [TEACHER, *recipe.teachers, *recipe.students]
    if len(set(names)) < len(names):
        raise EdgeCTError(f"{path}: teachers and students share a name, or one is called {TEACHER}")
    if not all(student.int8 for student in recipe.students.values()):
        raise EdgeCTError(f"{path}: a student without a way to convert it; [[]] is the plain one")
    return recipe
