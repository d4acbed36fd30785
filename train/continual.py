"""Going on with a trained run on new slices, with a replay of the old ones, so that what they taught is not forgotten.

An old slice keeps the part that it fell into for the run: none of its test slices is ever learned from, wherever it
turns up again. The new slices are split as any are. A share of what is learned from, and of what chooses the epoch, is
old. Both sets' test parts are scored before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from edge_ct import slices
from edge_ct.dataset import Dataset, Images, fingerprint, load
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.metrics import Scores, mcnemar_p, score
from edge_ct.run import Run, load_finished_run, load_run
from edge_ct.splits import split
from edge_ct.system import native_output
from edge_ct.system.files import refuse_existing, write_bytes
from edge_ct.system.progress import QUIET, Progress

from . import fit
from .data import grouping
from .fit import Prepared
from .fitting.options import Options
from .score import predict

with native_output.captured_native_stderr():
    import keras

RESULT = "continual.json"
# What a network is cannot change when it goes on.
FIXED = ("network", "size", "alpha", "dropout", "weights", "positive")
# Of the first training's peak: what has been learned is to be adapted, not learned anew.
SLOWER = 0.2


class Change(msgspec.Struct, frozen=True):
    """A test part before and after. mcnemar_p: of so unequal a number of slices that became right and wrong."""

    before: Scores
    after: Scores
    mcnemar_p: float


class Continued(msgspec.Struct, frozen=True):
    """The content of continual.json. replayed: old slices that were learned from; old is None where none was found."""

    base: str
    learned: int
    replayed: int
    old: Change | None
    new: Change


def options(base: Path, given: dict[str, object]) -> Options:
    """What to train with: as the run at `base` was, but more slowly and with nothing frozen; and what is given.

    given: fields of `Options` by name. Raises `DataRejected` where `base` is no finished run of one network.
    """
    run = _base(base)
    first = msgspec.convert(run.info.options, Options)
    defaults = {"learning_rate": first.learning_rate * SLOWER, "freeze": 0, "teacher": "", "weights": "none"}
    defaults |= {"folds": 0, "fold": 0}
    if "augment" in given:
        defaults["policy"] = None
    return msgspec.structs.replace(first, **{**defaults, **given, "start": str(base)})


def go_on(
    data: Path,
    out: Path,
    options: Options,
    replay: Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress = QUIET,
) -> tuple[Run, Continued]:
    """Train the run at `options.start` further on a folder or CSV of new slices, and leave a run folder at `out`.

    replay: a folder or CSV with the old slices, or some of them, recognised by their pixels; by default where the run
    at `options.start` found them. Raises as `fit.train`, and `DataRejected` for new slices of other classes and where
    there is nothing to replay.
    """
    options.check()
    base = _base(Path(options.start))
    if base.folder.resolve() == out.resolve():
        raise EdgeCTError(f"{out}: is the run to go on from; give the new one another --out")
    resumed = resume and (out / "run.json").exists()
    if resumed:
        prepared = fit.reload(load_run(out), data, progress)
    else:
        refuse_existing(out, force)
        prepared = _prepare(base, data, replay, options, progress)
    load_model = partial(keras.saving.load_model, compile=False)
    run = fit.train_prepared(prepared, out, options, progress, lambda: base.load_model(load_model), anew=not resumed)
    result = _compare(base, run, prepared, progress)
    write_bytes(out / RESULT, msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    return run, result


def _base(folder: Path) -> Run:
    run = load_finished_run(folder)
    if run.info.kind != "network":
        raise DataRejected(f"{folder}: an ensemble cannot be trained further; name one of its members")
    return run


def _prepare(base: Run, data: Path, replay: Path | None, options: Options, progress: Progress) -> Prepared:
    new = load(data, options.positive)
    if new.classes != base.info.classes:
        raise DataRejected(
            f"{data}: its classes are {' and '.join(new.classes)}, those of {base.folder} "
            f"{' and '.join(base.info.classes)}"
        )
    old, old_images, old_parts = _old(base, replay, options, progress)
    new_images, known = fit.read_images(new, options.size, progress), base.known()
    fresh = [i for i, sha256 in enumerate(new_images.sha256) if sha256[:16] not in known]
    if len(fresh) < len(new):
        progress.say(f"{len(new) - len(fresh)} slices of {data} are not new to {base.folder}; they stay what they were")
    if not fresh:
        raise DataRejected(f"{data}: all its slices are known to {base.folder} already")
    new, new_images = new.take(fresh), _take(new_images, fresh)
    everything = _together(old, old_images, new, new_images)
    if options.split == "grouped" and new.groups is None:
        everything = grouping.grouped(replace(everything, groups=None), progress=progress)
    parts = _parts(base, everything, old_parts, options, progress)
    images = Images(np.concatenate([old_images.images, new_images.images]), old_images.sha256 + new_images.sha256, "")
    kept = _kept(everything.labels, parts, len(old), options)
    dataset, images = everything.take(kept), _take(images, kept)
    images = replace(images, fingerprint=fingerprint(images.sha256, dataset.labels))
    root = data if data.is_dir() else data.parent
    prepared = fit.with_parts(dataset, images, root, [parts[i] for i in kept])
    here = prepared.table.part_of()
    return replace(prepared, seen={sha256: part for sha256, part in known.items() if sha256 not in here})


def _old(base: Run, replay: Path | None, options: Options, progress: Progress) -> tuple[Dataset, Images, list[str]]:
    """The slices of the run's split that are still to be found, with the run's labels, groups and parts."""
    table = base.split()
    where = replay or Path(base.info.data_path)
    if replay:  # labels are the run's own: a folder may hold its slices in any order
        paths = tuple(slices.find(replay)) if replay.is_dir() else load(replay, options.positive, True).paths
    else:
        paths = tuple(path for path in base.dataset().paths if path.is_file()) if where.exists() else ()
    dataset = Dataset(base.info.data.name, paths, np.zeros(len(paths), np.int8), base.info.classes)
    images = fit.read_images(dataset, options.size, progress)
    row = {sha256: i for i, sha256 in enumerate(table.sha256)}
    found = list({sha256: i for i, sha256 in enumerate(images.sha256) if sha256 in row}.values())
    rows = [row[images.sha256[i]] for i in found]
    parts = [table.parts[i] for i in rows]
    if options.replay_share and "train" not in parts:
        raise DataRejected(
            f"{where}: holds no slice that {base.folder} was trained on; say with --replay where they are, or go on "
            "without them by --replay-share 0"
        )
    groups = tuple(table.groups[i] for i in rows)
    return replace(dataset.take(found), labels=table.labels[rows], groups=groups), _take(images, found), parts


def _together(old: Dataset, old_images: Images, new: Dataset, new_images: Images) -> Dataset:
    """Old slices, then new ones. Where only some have a group, each of the others is one of its own."""
    groups = (old.groups or ()) + (new.groups or ("",) * len(new))
    hashes = old_images.sha256 + new_images.sha256
    return Dataset(
        f"{old.name}+{new.name}",
        old.paths + new.paths,
        np.concatenate([old.labels, new.labels]),
        old.classes,
        tuple(group or f"slice-{sha256[:16]}" for group, sha256 in zip(groups, hashes, strict=True))
        if any(groups)
        else None,
    )


def _parts(base: Run, everything: Dataset, old: list[str], options: Options, progress: Progress) -> list[str]:
    """One part a slice, "" for one to leave out. The first ones, the old, have theirs."""
    parts = old + [""] * (len(everything) - len(old))
    free = list(range(len(old), len(everything)))
    if options.split == "grouped" and everything.groups:
        homes: dict[str, set[str]] = {}
        table = base.split()
        for group, part in (*zip(everything.groups, old, strict=False), *zip(table.groups, table.parts, strict=True)):
            homes.setdefault(group, set()).add(part)
        for i in free:
            if len(home := homes.get(everything.groups[i], set())) == 1:
                (parts[i],) = home
        free = [i for i in free if everything.groups[i] not in homes]
        torn = parts.count("") - len(free)
        if torn:
            progress.say(f"{torn} new slices are left out: their groups lie in several parts of {base.folder}")
    dataset = everything.take(free)
    dealt = split(dataset, options.split, options.drawn_with, options.validation, options.test)
    for i, part in zip(free, dealt, strict=True):
        parts[i] = part
    return parts


def _kept(labels: np.ndarray, parts: Sequence[str], old: int, options: Options) -> list[int]:
    """Indices of all new slices, of the old test slices, and of as many other old ones as the share asks for."""
    kept = [i for i, part in enumerate(parts) if part and (i >= old or part == "test")]
    generator = np.random.default_rng(options.seed)
    for part in ("train", "validation"):
        fresh = sum(own == part for own in parts[old:])
        there = np.array([i for i, own in enumerate(parts[:old]) if own == part], int)
        wanted = min(len(there), round(fresh * options.replay_share / (1 - options.replay_share)))
        for label in (0, 1):  # as they are mixed in the old part
            own = generator.permutation(there[labels[there] == label])
            kept += own[: round(wanted * len(own) / max(1, len(there)))].tolist()
    return sorted(kept)


def _take(images: Images, indices: Sequence[int]) -> Images:
    """The images at `indices`, without a fingerprint."""
    return Images(images.images[list(indices)], tuple(images.sha256[i] for i in indices), "")


def _compare(base: Run, run: Run, prepared: Prepared, progress: Progress) -> Continued:
    table, known = prepared.table, base.known()
    tested = table.where("test")
    images = prepared.images.images[tested]
    load_model = partial(keras.saving.load_model, compile=False)
    before, after = (
        predict.probabilities(own.load_model(load_model), own.info.preprocess, images, progress) for own in (base, run)
    )
    is_old = np.array([sha256[:16] in known for sha256 in table.sha256])

    def change(chosen: np.ndarray) -> Change:
        labels = table.labels[tested][chosen]
        p = mcnemar_p(labels, before[chosen] >= 0.5, after[chosen] >= 0.5)
        return Change(score(labels, before[chosen]), score(labels, after[chosen]), p)

    train = table.where("train")
    return Continued(
        base=str(base.folder),
        learned=len(train),
        replayed=int(is_old[train].sum()),
        old=change(is_old[tested]) if is_old[tested].any() else None,
        new=change(~is_old[tested]),
    )
