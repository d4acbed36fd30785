"""The training loop: split, fit with early stopping, keep the best weights, score them, leave a run folder.

Everything drawn at random is drawn from (seed, epoch, slice), and a checkpoint is written after each epoch, so a
training that was killed and resumed sees what an unbroken one sees.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_ct.dataset import PARTS, Dataset, Images, load, load_images
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.manifest import Data, Network
from edge_ct.preprocess import Preprocess
from edge_ct.run import Run, RunInfo, SplitTable, load_run, save_run_info, write_seen_slices, write_split
from edge_ct.splits import folds, split
from edge_ct.system import malloc, native_output
from edge_ct.system.files import fresh_folder, refuse_existing
from edge_ct.system.progress import QUIET, Progress

from .data import grouping
from .fitting import optimise
from .fitting.batches import Batches, Targets
from .fitting.checkpoint import Checkpoint, saving
from .fitting.options import Options
from .fitting.teacher import Teacher
from .score import predict, run_scores
from .zoo import build

with native_output.captured_native_stderr():
    import keras


@dataclass(frozen=True, eq=False)
class Prepared:
    """Slices in memory and the part each fell into. root: the folder that the table's paths are relative to.

    seen: first 16 hex digits of a pixel identity -> part, of slices that are not among these, but that a network which
    the training starts from was made with.
    """

    dataset: Dataset
    images: Images
    table: SplitTable
    root: Path
    seen: dict[str, str] = field(default_factory=dict)


def train(data: Path, out: Path, options: Options, resume: bool, force: bool, progress: Progress = QUIET) -> Run:
    """Train a network on a folder or CSV of slices, and leave a run folder at `out`.

    resume: go on from the last finished epoch of the run at `out`; `data` and `options` must be what it was made with.
    Raises `DataRejected` for data that cannot be used, `EdgeCTError` where `out` holds something else.
    """
    options.check()
    if resume and (out / "run.json").exists():
        if run := _finished(out, options, progress):
            return run
        return train_prepared(reload(load_run(out), data, progress), out, options, progress)
    refuse_existing(out, force)
    _build(options)  # a wrong weights file is found before the slices are read
    return train_prepared(prepare(data, options, progress), out, options, progress, anew=True)


def prepare(data: Path, options: Options, progress: Progress = QUIET) -> Prepared:
    """Read the slices and split them as the options say."""
    dataset, images = read(data, options, progress)
    seed, validation = options.drawn_with, options.validation
    parts = (
        folds(dataset, options.split, options.folds, seed, validation)[options.fold - 1]
        if options.fold
        else split(dataset, options.split, seed, validation, options.test)
    )
    return with_parts(dataset, images, data if data.is_dir() else data.parent, parts)


def read(data: Path, options: Options, progress: Progress = QUIET) -> tuple[Dataset, Images]:
    """The slices in memory, and with groups where the split wants some and none are named."""
    dataset = load(data, options.positive)
    images = read_images(dataset, options.size, progress)
    if options.split == "grouped" and dataset.groups is None:
        dataset = grouping.grouped(dataset, progress=progress)
    return dataset, images


def read_images(dataset: Dataset, size: int, progress: Progress = QUIET) -> Images:
    """Every slice of a dataset, as the networks of that size see it."""
    with progress.bar("reading slices", len(dataset)) as on_done:
        return load_images(dataset, Preprocess(size), on_done)


def with_parts(dataset: Dataset, images: Images, root: Path, parts: Sequence[str]) -> Prepared:
    """A dataset in memory, split: parts has one of `dataset.PARTS` a slice."""
    table = SplitTable(
        paths=tuple(os.path.relpath(path, root) for path in dataset.paths),
        labels=dataset.labels,
        groups=dataset.groups or ("",) * len(dataset),
        parts=tuple(parts),
        sha256=images.sha256,
    )
    return Prepared(dataset, images, table, root)


def train_prepared(
    prepared: Prepared,
    out: Path,
    options: Options,
    progress: Progress = QUIET,
    start: Callable[[], Any] | None = None,
    anew: bool = False,
) -> Run:
    """Train on slices in memory; a run at `out` that was begun with the same options and slices is gone on with.

    start: makes the network to begin with; by default it is built from the options. anew: in the place of a run at
    `out`, whatever it was. Raises as `train`.
    """
    options.check()
    resumed = not anew and (out / "run.json").exists()
    if resumed:
        if run := _finished(out, options, progress):
            return run
        run = load_run(out)
        if run.split().part_of() != prepared.table.part_of():
            raise DataRejected(f"{out}: was started on other slices, or on another split of them")
    teacher = None
    if options.teacher:  # before anything is written or overwritten
        if Path(options.teacher).resolve() == out.resolve():
            raise EdgeCTError(f"{out}: is the teacher; give the student another --out")
        teacher = Teacher(Path(options.teacher), prepared.dataset.classes, prepared.table)
    if not resumed:
        fresh_folder(out, "run.json")
        run = Run(out, _info(options, prepared))
        write_split(out / "split.csv", prepared.table)
        write_seen_slices(out, prepared.seen)
        save_run_info(out, run.info)  # last: a folder with a run.json can be resumed
    malloc.keep_freed_memory()
    with native_output.captured_native_stderr():  # it imports TensorFlow, whichever backend there is
        keras.utils.set_random_seed(options.seed)
    model = _fit(run, prepared, options, progress, start or (lambda: _build(options)), teacher)
    return finish(run, model, prepared, progress)


def _finished(out: Path, options: Options, progress: Progress) -> Run | None:
    """The run at `out` if it has finished; raises `DataRejected` where it was started with other options."""
    run = load_run(out)
    if msgspec.convert(run.info.options, Options) != options:
        raise DataRejected(f"{out}: was started with other options; resume it with the same, or begin anew")
    if run.info.finished:
        progress.say(f"{out}: has finished already")
        return run
    return None


def _build(options: Options) -> Any:
    weights = None if options.weights == "none" else options.weights
    return build.build(keras, options.network, options.size, options.alpha, weights, options.dropout)


def reload(run: Run, data: Path, progress: Progress) -> Prepared:
    """The slices and the split that a run was begun with. Raises `DataRejected` where they are others by now."""
    table, dataset = run.split(), run.dataset(data)
    images = read_images(dataset, run.info.preprocess.size, progress)
    if images.fingerprint != run.info.data.fingerprint:
        raise DataRejected(f"{data}: not the slices that {run.folder} was started with")
    return Prepared(dataset, images, table, data if data.is_dir() else data.parent)


def _info(options: Options, prepared: Prepared) -> RunInfo:
    parts = prepared.table.parts
    return RunInfo(
        schema=1,
        kind="network",
        # Parameters are counted when there is a network.
        network=Network(options.network, options.alpha if options.network == "mobilenetv2" else None, 0),
        preprocess=Preprocess(options.size),
        classes=prepared.dataset.classes,
        data=Data(
            name=prepared.dataset.name,
            fingerprint=prepared.images.fingerprint,
            split=options.split,
            seed=options.drawn_with,
            counts={part: parts.count(part) for part in PARTS},
        ),
        data_path=str(prepared.root.resolve()),
        options=msgspec.to_builtins(options),
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Packages that the result depends on."""
    names = ("edge-ct", "keras", keras.backend.backend(), "numpy", "opencv-python-headless")
    return {name: version(name) for name in names}


def _fit(
    run: Run,
    prepared: Prepared,
    options: Options,
    progress: Progress,
    start: Callable[[], Any],
    teacher: Teacher | None,
) -> Any:
    checkpoint = Checkpoint(run.folder, options, progress)
    preprocess, images, labels = run.info.preprocess, prepared.images.images, prepared.dataset.labels
    train_part, validation_part = prepared.table.where("train"), prepared.table.where("validation")
    batch = min(options.batch, len(train_part))
    steps = max(1, len(train_part) // batch)
    learn, judge = _targets(options, teacher)
    views = images[train_part]
    if teacher and teacher.size > options.size:
        views = read_images(prepared.dataset.take(train_part), teacher.size, progress).images
    weights = optimise.balanced_weights(labels[train_part]) if options.class_weights else None
    for begin, end, frozen in ((0, min(options.freeze, options.epochs), True), (options.freeze, options.epochs, False)):
        if checkpoint.done or checkpoint.next_epoch >= end:
            continue
        # Between the two phases as well: Keras leaves the averaged weights behind, where there are some.
        model = checkpoint.restore()
        if model is None:
            model = optimise.in_precision(start(), options.precision)
        optimise.compile_model(model, options, steps * (options.epochs - begin), frozen)
        if checkpoint.next_epoch > begin:
            checkpoint.restore_optimizer(model)
        model.fit(
            Batches(
                views,
                labels[train_part],
                preprocess,
                batch,
                options.augmentation(),
                options.seed,
                checkpoint.next_epoch,
                learn,
                weights,
            ),
            validation_data=Batches(images[validation_part], labels[validation_part], preprocess, 64, targets=judge),
            epochs=end,
            initial_epoch=checkpoint.next_epoch,
            callbacks=checkpoint.callbacks(),
            shuffle=False,  # `Batches` does, repeatably; Keras would shuffle them once more, and otherwise each time
            verbose=0,
        )
    return optimise.in_precision(checkpoint.best(), "float32")


def _targets(options: Options, teacher: Teacher | None) -> tuple[Targets | None, Targets | None]:
    """What training and validation slices are compared with; None is the label."""
    if not options.soft_targets:
        return None, None

    def learn(labels: np.ndarray, images: np.ndarray) -> np.ndarray:
        soft = teacher(images) if teacher else None
        return optimise.targets(labels, options.label_smoothing, soft, options.mixing, options.temperature)

    # Validation is by the labels, so that its loss means the same whatever is learned from.
    return learn, lambda labels, images: optimise.targets(labels)


def finish(run: Run, model: Any, prepared: Prepared, progress: Progress) -> Run:
    """Save the best model, its predictions and scores, and mark the run as finished."""
    with saving(run.model_path) as temporary:
        model.save(temporary)
    network = msgspec.structs.replace(run.info.network, parameters=model.count_params())
    info = msgspec.structs.replace(run.info, network=network, finished=True)
    probabilities = predict.probabilities(model, run.info.preprocess, prepared.images.images, progress)
    run_scores.write(run.folder, prepared.table, probabilities, info)
    save_run_info(run.folder, info)
    shutil.rmtree(run.folder / "checkpoint", ignore_errors=True)
    return Run(run.folder, info)
