"""Further training of a run on new slices, with a replay of old slices so that the network does not forget them.

An old slice keeps the part of the split that it has in the run: the network never learns from one of the run's test
slices, wherever it turns up again. New slices are split in the usual way. A fraction of the training and of the
validation slices is old. The test slices of both sets are scored before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from edge_ct.dataset import Dataset, Images, fingerprint, load
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.imaging.slice_files import list_slices
from edge_ct.metrics import Scores, mcnemar_p, score
from edge_ct.reporting.counts import count_of
from edge_ct.run import Run, load_finished_run, load_run
from edge_ct.splits import split
from edge_ct.system import native_output
from edge_ct.system.files import refuse_existing, write_bytes
from edge_ct.system.progress import QUIET, Progress

from . import fit
from .data import grouping
from .fit import PreparedData
from .fitting.options import TrainingOptions
from .score.predict import predict_images

with native_output.captured_native_stderr():
    import keras

RESULT = "continual.json"
# Options that describe the network and cannot change when it is trained further.
FIXED_OPTIONS = ("network", "size", "alpha", "dropout", "weights", "positive")
# Default learning rate as a fraction of the first training's: what the network has learned is only adapted.
LEARNING_RATE_FACTOR = 0.2


class Change(msgspec.Struct, frozen=True):
    """Scores on test slices before and after.

    Attributes:
        before: Scores of the run that was trained further.
        after: Scores of the new run.
        mcnemar_p: p-value of the exact McNemar test on the slices that became right or wrong.
    """

    before: Scores
    after: Scores
    mcnemar_p: float


class ContinualResult(msgspec.Struct, frozen=True):
    """Content of continual.json.

    Attributes:
        base: Run that was trained further.
        learned: Number of training slices.
        replayed: Number of old slices among them.
        old: Scores on the run's own test slices; None if none was found.
        new: Scores on new test slices.
    """

    base: str
    learned: int
    replayed: int
    old: Change | None
    new: Change


def derive_options(base: Path, given: dict[str, object]) -> TrainingOptions:
    """Derive the options of the further training from those of the run.

    By default they are those of the first training, with a lower learning rate and without a frozen backbone.

    Args:
        base: Run folder.
        given: Options that are set explicitly, by field name of `TrainingOptions`.

    Raises:
        DataRejected: `base` is not a finished run of a single network.
    """
    run = _load_base(base)
    first = msgspec.convert(run.info.options, TrainingOptions)
    defaults: dict[str, object] = {"freeze": 0, "teacher": "", "weights": "none", "folds": 0, "fold": 0}
    defaults["learning_rate"] = first.learning_rate * LEARNING_RATE_FACTOR
    if "augment" in given:
        defaults["policy"] = None
    return msgspec.structs.replace(first, **{**defaults, **given, "start": str(base)})


def continue_run(
    data: Path,
    out: Path,
    options: TrainingOptions,
    replay: Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress = QUIET,
) -> tuple[Run, ContinualResult]:
    """Train a run further on new slices and save a new run folder.

    Args:
        data: Folder or CSV of new slices.
        out: Run folder to write.
        options: Options of the training; `start` is the run folder to start from.
        replay: Folder or CSV that holds old slices, which are recognised by their pixels; None for where the run at
            `options.start` found them.
        resume: True to continue the run at `out`.
        force: True to replace what is at `out`.
        progress: Where to report progress.

    Raises:
        DataRejected: The new slices have other classes, all of them are known, or there is nothing to replay.
        EdgeCTError: `out` is the run to start from, or exists already.
    """
    options.check()
    base = _load_base(Path(options.start))
    if base.folder.resolve() == out.resolve():
        raise EdgeCTError(f"{out}: is the run to train further; choose another --out for the new one")
    resumed = resume and (out / "run.json").exists()
    if resumed:
        prepared = fit.reload_data(load_run(out), data, progress)
    else:
        refuse_existing(out, force)
        prepared = _prepare(base, data, replay, options, progress)
    load_model = partial(keras.saving.load_model, compile=False)
    run = fit.train_prepared(prepared, out, options, progress, lambda: base.load_model(load_model), anew=not resumed)
    result = _compare(base, run, prepared, progress)
    write_bytes(out / RESULT, msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    return run, result


def _load_base(folder: Path) -> Run:
    run = load_finished_run(folder)
    if run.info.kind != "network":
        raise DataRejected(f"{folder}: an ensemble cannot be trained further; name one of its members")
    return run


def _prepare(base: Run, data: Path, replay: Path | None, options: TrainingOptions, progress: Progress) -> PreparedData:
    new = load(data, options.positive)
    if new.classes != base.info.classes:
        raise DataRejected(
            f"{data}: its classes are {' and '.join(new.classes)}, but those of {base.folder} are "
            f"{' and '.join(base.info.classes)}"
        )
    old, old_images, old_parts = _find_old_slices(base, replay, options, progress)
    new_images, known = fit.read_images(new, options.preprocess, progress), base.known()
    fresh = [i for i, sha256 in enumerate(new_images.sha256) if sha256[:16] not in known]
    if len(fresh) < len(new):
        progress.say(
            f"{count_of(len(new) - len(fresh), 'slice')} of {data} already known to {base.folder}: known slices "
            "keep their part"
        )
    if not fresh:
        raise DataRejected(f"{data}: all its slices are already known to {base.folder}; name a folder with new ones")
    new, new_images = new.take(fresh), _take_images(new_images, fresh)
    everything = _concatenate(old, old_images, new, new_images)
    if options.split == "grouped" and new.groups is None:
        everything = grouping.add_likely_groups(replace(everything, groups=None), progress=progress)
    parts = _assign_parts(base, everything, old_parts, options, progress)
    images = Images(np.concatenate([old_images.images, new_images.images]), old_images.sha256 + new_images.sha256, "")
    kept = _sample_old_slices(everything.labels, parts, len(old), options)
    dataset, images = everything.take(kept), _take_images(images, kept)
    images = replace(images, fingerprint=fingerprint(images.sha256, dataset.labels))
    root = data if data.is_dir() else data.parent
    prepared = fit.assign_parts(dataset, images, root, [parts[i] for i in kept])
    here = prepared.table.part_of()
    return replace(prepared, seen={sha256: part for sha256, part in known.items() if sha256 not in here})


def _find_old_slices(
    base: Run, replay: Path | None, options: TrainingOptions, progress: Progress
) -> tuple[Dataset, Images, list[str]]:
    """Find the slices of the run's split that still exist; return them with the run's labels, groups and parts."""
    table = base.split()
    source = replay or Path(base.info.data_path)
    if replay:  # only paths are read, as labels come from the run: the folder may be organised in any way
        paths = tuple(list_slices(replay).paths) if replay.is_dir() else load(replay, options.positive, True).paths
    else:
        paths = tuple(path for path in base.dataset().paths if path.is_file()) if source.exists() else ()
    dataset = Dataset(base.info.data.name, paths, np.zeros(len(paths), np.int8), base.info.classes)
    images = fit.read_images(dataset, options.preprocess, progress)
    row = {sha256: i for i, sha256 in enumerate(table.sha256)}
    present = list({sha256: i for i, sha256 in enumerate(images.sha256) if sha256 in row}.values())
    rows = [row[images.sha256[i]] for i in present]
    parts = [table.parts[i] for i in rows]
    if options.replay_share and "train" not in parts:
        raise DataRejected(
            f"{source}: holds no slice that {base.folder} was trained on; name their folder with --replay, or train "
            "without them: --replay-share 0"
        )
    groups = tuple(table.groups[i] for i in rows)
    return (
        replace(dataset.take(present), labels=table.labels[rows], groups=groups),
        _take_images(images, present),
        parts,
    )


def _concatenate(old: Dataset, old_images: Images, new: Dataset, new_images: Images) -> Dataset:
    """Concatenate old and new slices. If only some have a group, each of the others gets a group of its own."""
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


def _assign_parts(
    base: Run, everything: Dataset, old: list[str], options: TrainingOptions, progress: Progress
) -> list[str]:
    """Return the part of each slice; "" for one to leave out. The old slices come first and keep their part."""
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
            progress.say(
                f"{torn} new slices are left out: their groups are in several parts of the split of {base.folder}"
            )
    dataset = everything.take(free)
    new_parts = split(dataset, options.split, options.effective_split_seed, options.validation, options.test)
    for i, part in zip(free, new_parts, strict=True):
        parts[i] = part
    return parts


def _sample_old_slices(labels: np.ndarray, parts: Sequence[str], old: int, options: TrainingOptions) -> list[int]:
    """Return the indices of all new slices, all old test slices, and a random sample of the other old slices."""
    kept = [i for i, part in enumerate(parts) if part and (i >= old or part == "test")]
    generator = np.random.default_rng(options.seed)
    for part in ("train", "validation"):
        fresh = sum(name == part for name in parts[old:])
        candidates = np.array([i for i, name in enumerate(parts[:old]) if name == part], int)
        wanted = min(len(candidates), round(fresh * options.replay_share / (1 - options.replay_share)))
        for label in (0, 1):  # in the proportion of the old slices
            drawn = generator.permutation(candidates[labels[candidates] == label])
            kept += drawn[: round(wanted * len(drawn) / max(1, len(candidates)))].tolist()
    return sorted(kept)


def _take_images(images: Images, indices: Sequence[int]) -> Images:
    """Select images by index; the result has no fingerprint."""
    return Images(images.images[list(indices)], tuple(images.sha256[i] for i in indices), "")


def _compare(base: Run, run: Run, prepared: PreparedData, progress: Progress) -> ContinualResult:
    table, known = prepared.table, base.known()
    tested = table.where("test")
    images = prepared.images.images[tested]
    load_model = partial(keras.saving.load_model, compile=False)
    before, after = (
        predict_images(scored.load_model(load_model), scored.info.preprocess, images, progress)
        for scored in (base, run)
    )
    is_old = np.array([sha256[:16] in known for sha256 in table.sha256])

    def change(chosen: np.ndarray) -> Change:
        labels = table.labels[tested][chosen]
        p = mcnemar_p(labels, before[chosen] >= 0.5, after[chosen] >= 0.5)
        return Change(score(labels, before[chosen]), score(labels, after[chosen]), p)

    train = table.where("train")
    return ContinualResult(
        base=str(base.folder),
        learned=len(train),
        replayed=int(is_old[train].sum()),
        old=change(is_old[tested]) if is_old[tested].any() else None,
        new=change(~is_old[tested]),
    )
