"""The run folder, which `train` writes and `convert`, `evaluate` and `ensemble` read.

run.json         network, data and training options (`RunInfo`)
split.csv        path,label,group,part,sha256[,source][,weight]: every slice and its part of the split
seen.csv         sha256,part: slices outside split.csv that an earlier network of this one had seen
model.keras      the network with its best weights; an ensemble has none, run.json names its members
history.csv      one row for each epoch
predictions.csv  path,part,label,probability for validation and test
metrics.json     scores of each part; metrics.csv the same as a table; curves.png, confusion.png
checkpoint/      the state that --resume needs; deleted when training has finished
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from .dataset import PARTS, Dataset
from .errors import DataRejected
from .manifest import Data, Network
from .preprocess import Preprocess
from .system.csv_text import to_csv
from .system.files import write_bytes, write_text

MODEL = "model.keras"
SEEN = "seen.csv"

# How an ensemble combines its members: mean of their probabilities, or share of their votes.
Rule = Literal["mean", "vote"]


class RunInfo(msgspec.Struct, frozen=True):
    """The content of `run.json`.

    Attributes:
        kind: A single network or an ensemble.
        data_path: Absolute path of the folder that the paths of split.csv are relative to; slices are not copied.
        options: The training options as given.
        versions: Versions of the packages that trained the network.
        members: Run folders of an ensemble, relative to this folder where possible.
        rule: How the probabilities of the members are combined.
        weights: Weights of the members in a mean; empty for equal weights.
        finished: Whether training ended; False while it can be resumed.
    """

    schema: Literal[1]
    kind: Literal["network", "ensemble"]
    network: Network
    preprocess: Preprocess
    classes: tuple[str, str]
    data: Data
    data_path: str
    options: dict[str, Any]
    versions: dict[str, str]
    members: tuple[str, ...] = ()
    rule: Rule = "mean"
    weights: tuple[float, ...] = ()
    finished: bool = False


@dataclass(frozen=True, eq=False)
class SplitTable:
    """The content of split.csv: every field has one entry for each slice, or none where data have no such column."""

    paths: tuple[str, ...]
    labels: np.ndarray
    groups: tuple[str, ...]
    parts: tuple[str, ...]
    sha256: tuple[str, ...]
    sources: tuple[str, ...] = ()
    weights: np.ndarray | None = None

    def where(self, part: str) -> np.ndarray:
        """Return the indices of the slices in `part`."""
        return np.flatnonzero(np.asarray(self.parts) == part)

    @property
    def trusted(self) -> np.ndarray:
        """Whether the label of each slice has the full weight of 1, bool [n].

        A lower weight says that the label is often wrong: then it may help to train, but it cannot calibrate.
        """
        return np.ones(len(self.paths), bool) if self.weights is None else np.asarray(self.weights >= 1)

    def part_of(self) -> dict[str, str]:
        """Return the part of each slice by the first 16 hex digits of its pixel hash.

        Where several files hold the same pixels, the part is the one that training used most: a slice seen in training
        cannot be used as a test slice.
        """
        parts: dict[str, str] = {}
        for part in reversed(PARTS):
            parts |= {self.sha256[i][:16]: part for i in self.where(part)}
        return parts


@dataclass(frozen=True)
class Run:
    """A run folder and the content of its run.json."""

    folder: Path
    info: RunInfo

    @property
    def model_path(self) -> Path:
        """Path of the Keras model."""
        return self.folder / MODEL

    @property
    def name(self) -> str:
        """Short name for tables: architecture and input size, or the name of the ensemble."""
        return model_name(self.info.network, self.info.preprocess.size)

    def split(self) -> SplitTable:
        """Read split.csv. Raises `DataRejected`."""
        return read_split(self.folder / "split.csv")

    def known(self) -> dict[str, str]:
        """Return the part of every slice that this run, or an earlier run it continues, was made with.

        Returns:
            First 16 hex digits of a pixel hash -> part.

        Raises:
            DataRejected: A table is missing or damaged.
        """
        return {**self.seen(), **self.split().part_of()}

    def seen(self) -> dict[str, str]:
        """Return the same as `known` for the slices that are not in split.csv."""
        return _read_seen(self.folder / SEEN)

    def dataset(self, data: Path | None = None) -> Dataset:
        """Return the slices of split.csv as a dataset.

        Args:
            data: The folder of the slices, if it has moved since training.

        Raises:
            DataRejected: The folder does not exist.
        """
        table = self.split()
        root = data or Path(self.info.data_path)
        root = root.parent if root.is_file() else root
        if not root.is_dir():
            raise DataRejected(f"{root}: the slices of {self.folder} are not there; name their folder with --data")
        groups = table.groups if any(table.groups) else None
        paths = tuple(root / path for path in table.paths)
        return Dataset(
            self.info.data.name, paths, table.labels, self.info.classes, groups, table.sources or None, table.weights
        )

    def load_model(self, loader: Callable[[Path], Any], lesion_map: bool = False) -> Any:
        """Load the network.

        Args:
            loader: `saving.load_model` of a Keras API, with `compile=False`.
            lesion_map: Whether a network that has a lesion map keeps it, as its second output.

        Raises:
            DataRejected: The run is an ensemble, or the file is missing or damaged.
        """
        if self.info.kind != "network":
            raise DataRejected(f"{self.folder}: an ensemble has no model file; name one of its members")
        try:
            model = loader(self.model_path)
        except Exception as error:  # zipfile, h5py and Keras raise errors of many types for a damaged file
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if not self.model_path.exists():
                reason = "no such file (studies with folds keep models only with --keep-models)"
            raise DataRejected(f"{self.model_path}: cannot be loaded: {reason}") from error
        if lesion_map or len(getattr(model, "outputs", ())) < 2:
            return model
        return type(model)(model.inputs[0], model.outputs[0], name=model.name)

    def members(self) -> tuple[Run, ...]:
        """Return the member runs of an ensemble; for a network, the run itself."""
        if self.info.kind == "network":
            return (self,)
        return tuple(load_run((self.folder / member).resolve()) for member in self.info.members)


def model_name(network: Network, size: int, variant: str = "") -> str:
    """Return a short name such as `mobilenetv2-1.00-224-int8` or `customcnn-96`."""
    alpha = "" if network.alpha is None else f"{network.alpha:.2f}"
    return "-".join(part for part in (network.architecture, alpha, str(size), variant) if part)


def load_run(folder: Path) -> Run:
    """Open a finished or unfinished run. Raises `DataRejected` if `folder` is not a run folder."""
    path = folder / "run.json"
    try:
        return Run(folder, msgspec.json.decode(path.read_bytes(), type=RunInfo))
    except OSError as error:
        raise DataRejected(f"{folder}: not a run folder (no run.json); make one with edge-ct train") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataRejected(f"{path}: damaged: {error}") from error


def load_finished_run(folder: Path) -> Run:
    """Open a finished run. Raises `DataRejected` for an unfinished run as well."""
    run = load_run(folder)
    if not run.info.finished:
        raise DataRejected(f"{folder}: training has not finished; continue it with edge-ct train ... --resume")
    return run


def save_run_info(folder: Path, info: RunInfo) -> None:
    """Write run.json atomically."""
    write_bytes(folder / "run.json", msgspec.json.format(msgspec.json.encode(info), indent=1) + b"\n")


def write_split(path: Path, table: SplitTable) -> None:
    """Write split.csv."""
    columns: dict[str, Sequence[object]] = {
        "path": table.paths,
        "label": table.labels.tolist(),
        "group": table.groups,
        "part": table.parts,
        "sha256": table.sha256,
    }
    if table.sources:
        columns["source"] = table.sources
    if table.weights is not None:
        columns["weight"] = [f"{weight:g}" for weight in table.weights.tolist()]
    write_text(path, to_csv(tuple(columns), zip(*columns.values(), strict=True)))


def read_split(path: Path) -> SplitTable:
    """Read split.csv. Raises `DataRejected`."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            raise ValueError("no rows")
        for row in rows:
            if row["label"] not in ("0", "1") or row["part"] not in PARTS or len(row["sha256"]) != 64:
                raise ValueError(f"bad row for {row['path']}")
        return SplitTable(
            paths=tuple(row["path"] for row in rows),
            labels=np.array([int(row["label"]) for row in rows], np.int8),
            groups=tuple(row["group"] for row in rows),
            parts=tuple(row["part"] for row in rows),
            sha256=tuple(row["sha256"] for row in rows),
            sources=tuple(row["source"] for row in rows) if "source" in rows[0] else (),
            weights=np.array([float(row["weight"]) for row in rows], np.float32) if "weight" in rows[0] else None,
        )
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataRejected(f"{path}: missing or damaged split table; copy the run again, or train it again") from error


def write_seen_slices(folder: Path, known: dict[str, str]) -> None:
    """Write seen.csv, or nothing where `known` is empty.

    Args:
        folder: The run folder.
        known: First 16 hex digits of a pixel hash -> part.
    """
    if known:
        write_text(folder / SEEN, to_csv(("sha256", "part"), sorted(known.items())))


def _read_seen(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = {row["sha256"]: row["part"] for row in csv.DictReader(file)}
        if not all(len(sha256) == 16 and part in PARTS for sha256, part in found.items()):
            raise ValueError("bad row")
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise DataRejected(f"{path}: damaged table of known slices; copy the run again, or train it again") from error
    return found
