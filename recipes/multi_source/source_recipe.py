"""The recipe of a model that learns from several sources: a JSON file that is read strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edge_ct.errors import EdgeCTError

from ..recipe_file import find_weights, read_recipe_file

SourceSplit = Literal["random", "grouped", "source"]
SOURCE_SPLITS: tuple[SourceSplit, ...] = ("grouped", "random", "source")
# How slices were kept from the network that judged them: by the fold of a split, or, for `external`, because the recipe
# leaves their source out of every training.
EvidenceSplit = Literal["random", "grouped", "source", "external"]
EVIDENCE_SPLITS: tuple[EvidenceSplit, ...] = (*SOURCE_SPLITS, "external")
Name = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9.-]*$")]
# In the words of a command, this stands for the folder of weights files.
WEIGHTS = "WEIGHTS/"


class SourceData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A folder or CSV of labelled slices.

    Attributes:
        data: Path of the folder or CSV file, relative to the data folder.
        source: Name of the source; "" where the CSV has a source column.
        leave_out: Names of sources in the CSV that no network learns from; the final bundles are measured on them.
        weights: Pattern of paths (as `Path.match` takes it) -> weight of the labels, for labels that are often wrong.
    """

    data: str
    source: str = ""
    leave_out: tuple[str, ...] = ()
    weights: dict[str, Annotated[float, msgspec.Meta(gt=0, le=1)]] = {}


class ShippedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model that is trained on every fold and on all slices.

    Attributes:
        train: Words after `edge-ct train`, the network first.
        train_further: For each further training, which starts from the weights of the one before, the words added to
            those of `train`; a later option replaces an earlier one. Empty for a single training.
        int8: Ways to convert the network, in options of `edge-ct convert`; the first that passes the gate is taken.
        most_bytes: Maximum size of the bundle in bytes; 0 means no limit.
    """

    train: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    train_further: tuple[tuple[str, ...], ...] = ()
    int8: Annotated[tuple[tuple[str, ...], ...], msgspec.Meta(min_length=1)] = ((),)
    most_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A variation that is tried on a few folds.

    Attributes:
        model: The model that it varies.
        train: Words added to those of the model; a later option replaces an earlier one.
        leave_out: Options of the model that are left out, with their values.
    """

    model: str
    train: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two sets of slices that a good model tells apart, by patterns of their paths."""

    positive: str
    negative: str


class SourceRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to learn from, what to train, and how it is measured.

    Attributes:
        sources: The labelled slices.
        models: Name -> model.
        lesions: CSV of slices with lesion masks, relative to the data folder; "" for none.
        without_lesions: Patterns of the paths of labelled slices that show no lesion: they join the lesion masks.
        folds: Number of folds of the random and the grouped split.
        split_seed: Seed of the folds.
        validation: Fraction of slices used for validation in a fold.
        positive: Name of the positive class.
        licence: Licence of the bundles.
        convert: Options of `edge-ct convert` for every conversion.
        comparisons: Name -> two sets of slices that are told apart by probability and by lesion share.
        trials: Name -> variation that is tried.
        trial_folds: Folds that trials are trained on, such as `grouped-1` or `source-mosmed`.
    """

    sources: Annotated[tuple[SourceData, ...], msgspec.Meta(min_length=1)]
    models: Annotated[dict[Name, ShippedModel], msgspec.Meta(min_length=1)]
    lesions: str = ""
    without_lesions: tuple[str, ...] = ()
    folds: Annotated[int, msgspec.Meta(ge=2)] = 3
    split_seed: Annotated[int, msgspec.Meta(ge=0)] = 0
    validation: Annotated[float, msgspec.Meta(gt=0, lt=0.5)] = 0.1
    positive: str = "COVID"
    licence: str = "not stated"
    convert: tuple[str, ...] = ()
    comparisons: dict[Name, Comparison] = {}
    trials: dict[Name, Trial] = {}
    trial_folds: tuple[str, ...] = ("grouped-1",)

    def trial_words(self, trial: Trial) -> list[str]:
        """Return the words after `edge-ct train` of a trial."""
        words = list(self.models[trial.model].train)
        for option in trial.leave_out:
            place = words.index(option)
            end = place + 1
            while end < len(words) and not words[end].startswith("--"):
                end += 1
            del words[place:end]
        return [*words, *trial.train]


def read_source_recipe(path: Path) -> SourceRecipe:
    """Read a recipe.

    Raises:
        EdgeCTError: The file cannot be read, or is not a valid recipe.
    """
    recipe = read_recipe_file(path, SourceRecipe)
    for name, trial in recipe.trials.items():
        if trial.model not in recipe.models:
            raise EdgeCTError(f"{path}: trial {name} varies {trial.model}, which is not a model of the recipe")
        if missing := [option for option in trial.leave_out if option not in recipe.models[trial.model].train]:
            raise EdgeCTError(f"{path}: trial {name} leaves out {missing[0]}, which {trial.model} does not have")
    return recipe


def with_weights(words: tuple[str, ...] | list[str], weights: Path | None) -> list[str]:
    """Replace WEIGHTS/FILE in the words of a command by the path of the file.

    Raises:
        EdgeCTError: The folder was not named, or the file is not in it.
    """
    return [
        str(find_weights(word.removeprefix(WEIGHTS), weights)) if word.startswith(WEIGHTS) else word for word in words
    ]
