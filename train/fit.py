"""The training loop: split the slices, train with early stopping, keep the best weights, score them, save a run folder.

Everything drawn at random is drawn from (seed, epoch, slice), and a checkpoint is written after each epoch, so a
training that was killed and resumed gives the same result as an uninterrupted one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_ct.dataset import PARTS, Dataset, Images, load, load_images
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.manifest import Data, Network
from edge_ct.preprocess import Preprocess
from edge_ct.reporting.counts import count_of
from edge_ct.run import Run, RunInfo, SplitTable, load_run, save_run_info, write_seen_slices, write_split
from edge_ct.splits import folds, split
from edge_ct.system import malloc, native_output
from edge_ct.system.files import fresh_folder, refuse_existing
from edge_ct.system.progress import QUIET, Progress

from .data import grouping
from .fitting.batches import Batches, TargetFunction
from .fitting.checkpoint import Checkpoint, explain_new_start, replace_with_saved
from .fitting.initial_network import average_with_start, build_network, slices_seen_by_run
from .fitting.lesion_slices import LesionDraws, load_lesion_slices, phantom_lesion_slices
from .fitting.optimise import balanced_weights, compile_model, convert_precision, soft_targets
from .fitting.options import TrainingOptions
from .fitting.sampling import balanced_chances
from .fitting.teacher import Teacher
from .score.predict import predict_images
from .score.run_scores import write_run_scores
from .zoo.architectures import find

with native_output.captured_native_stderr():
    import keras


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Slices in memory, each assigned to a part of the split.

    Attributes:
        dataset: Paths, labels and groups.
        images: The preprocessed slices, in the same order.
        table: Split table: the part of each slice.
        root: Folder that the paths of the table are relative to.
        seen: Parts of slices outside the data set that the network to train further was made with; keys are the first
            16 hex digits of a pixel identity.
    """

    dataset: Dataset
    images: Images
    table: SplitTable
    root: Path
    seen: dict[str, str] = field(default_factory=dict)


def train(
    data: Path, out: Path, options: TrainingOptions, resume: bool, force: bool, progress: Progress = QUIET
) -> Run:
    """Train a network on a folder or CSV of slices and save a run folder.

    Args:
        data: Folder with one sub-folder per class, or CSV file.
        out: Run folder.
        options: Options of the training.
        resume: True to continue the run at `out` after its last finished epoch; `data` and `options` must be the same.
        force: True to replace what is at `out`.
        progress: Where to report progress.

    Raises:
        DataRejected: The data cannot be used, or differ from those of the run to resume.
        EdgeCTError: `out` exists and holds something else.
    """
    options.check()
    if resume and (out / "run.json").exists():
        if run := _finished_run(out, options, progress):
            return run
        return train_prepared(reload_data(load_run(out), data, progress), out, options, progress)
    if resume:
        explain_new_start(out, force, progress)
    refuse_existing(out, force)
    build_network(options)  # to detect a wrong weights file before the slices are read
    prepared = prepare_data(data, options, progress)
    if Path(options.weights).is_dir():
        seen = slices_seen_by_run(Path(options.weights), prepared.dataset.classes, prepared.table.part_of())
        return train_prepared(replace(prepared, seen=seen), out, options, progress, anew=True)
    return train_prepared(prepared, out, options, progress, anew=True)


def prepare_data(data: Path, options: TrainingOptions, progress: Progress = QUIET) -> PreparedData:
    """Read the slices and split them according to the options."""
    dataset, images = read_slices(data, options, progress)
    seed, validation = options.effective_split_seed, options.validation
    parts = (
        folds(dataset, options.split, options.folds, seed, validation)[options.fold - 1]
        if options.fold
        else split(dataset, options.split, seed, validation, options.test, options.test_source)
    )
    return assign_parts(dataset, images, data if data.is_dir() else data.parent, parts)


def read_slices(data: Path, options: TrainingOptions, progress: Progress = QUIET) -> tuple[Dataset, Images]:
    """Read the slices; for a grouped split of data without groups, guess which slices belong to one patient."""
    dataset = load(data, options.positive)
    images = read_images(dataset, options.preprocess, progress)
    if options.split == "grouped" and dataset.groups is None:
        dataset = grouping.add_likely_groups(dataset, progress=progress)
    return dataset, images


def read_images(dataset: Dataset, preprocess: Preprocess, progress: Progress = QUIET) -> Images:
    """Read and preprocess every slice of a data set."""
    with progress.bar("reading slices", len(dataset)) as on_done:
        return load_images(dataset, preprocess, on_done)


def assign_parts(dataset: Dataset, images: Images, root: Path, parts: Sequence[str]) -> PreparedData:
    """Combine slices in memory with the part of each slice (one of `edge_ct.dataset.PARTS`)."""
    table = SplitTable(
        paths=tuple(os.path.relpath(path, root) for path in dataset.paths),
        labels=dataset.labels,
        groups=dataset.groups or ("",) * len(dataset),
        parts=tuple(parts),
        sha256=images.sha256,
        sources=dataset.sources or (),
        weights=dataset.weights,
    )
    return PreparedData(dataset, images, table, root)


def train_prepared(
    prepared: PreparedData,
    out: Path,
    options: TrainingOptions,
    progress: Progress = QUIET,
    start: Callable[[], Any] | None = None,
    anew: bool = False,
) -> Run:
    """Train on slices in memory and save a run folder.

    A run at `out` that was started with the same options and slices is resumed.

    Args:
        prepared: Slices and their split.
        out: Run folder.
        options: Options of the training.
        progress: Where to report progress.
        start: Returns the network to start from; by default it is built from the options.
        anew: True to replace a run at `out`.

    Raises:
        DataRejected: The run at `out` was started with other options or slices, or the teacher does not fit.
    """
    options.check()
    run = None
    if not anew and (out / "run.json").exists():
        if run := _finished_run(out, options, progress):
            return run
        run = load_run(out)
        if run.split().part_of() != prepared.table.part_of():
            raise DataRejected(f"{out}: was started with other slices, or with another split of them")
    teacher = _load_teacher(prepared, out, options)  # before anything is written or overwritten
    if run is None:
        run = _start_run(prepared, out, options)
    malloc.keep_freed_memory()
    with native_output.captured_native_stderr():  # Keras imports TensorFlow here, whatever the backend is
        keras.utils.set_random_seed(options.seed)
    model = _fit(run, prepared, options, progress, start or (lambda: build_network(options)), teacher)
    return finish_run(run, model, prepared, progress)


def _load_teacher(prepared: PreparedData, out: Path, options: TrainingOptions) -> Teacher | None:
    if not options.teacher:
        return None
    if Path(options.teacher).resolve() == out.resolve():
        raise EdgeCTError(f"{out}: is the folder of the teacher; choose another --out for the student")
    return Teacher(Path(options.teacher), prepared.dataset.classes, prepared.table)


def _start_run(prepared: PreparedData, out: Path, options: TrainingOptions) -> Run:
    fresh_folder(out, "run.json")
    run = Run(out, _run_info(options, prepared))
    write_split(out / "split.csv", prepared.table)
    write_seen_slices(out, prepared.seen)
    save_run_info(out, run.info)  # last, because a folder with a run.json can be resumed
    return run


def _finished_run(out: Path, options: TrainingOptions, progress: Progress) -> Run | None:
    """Return the run at `out` if it is finished; raise `DataRejected` if it was started with other options."""
    run = load_run(out)
    before = msgspec.convert(run.info.options, TrainingOptions)
    if before != options:
        changed = [name for name in before.__struct_fields__ if getattr(before, name) != getattr(options, name)]
        shown = ", ".join(f"{name} {getattr(before, name)!r}, now {getattr(options, name)!r}" for name in changed)
        raise DataRejected(
            f"{out}: was started with other options ({shown}); resume it with the same ones, or start again "
            "with --force"
        )
    if run.info.finished:
        progress.say(f"{out}: this run is already finished")
        return run
    return None


def reload_data(run: Run, data: Path, progress: Progress) -> PreparedData:
    """Read the slices of a run again, with their split; raise `DataRejected` if they have changed."""
    table, dataset = run.split(), run.dataset(data)
    images = read_images(dataset, run.info.preprocess, progress)
    if images.fingerprint != run.info.data.fingerprint:
        raise DataRejected(f"{data}: these are not the slices that {run.folder} was started with")
    return PreparedData(dataset, images, table, data if data.is_dir() else data.parent)


def _run_info(options: TrainingOptions, prepared: PreparedData) -> RunInfo:
    parts = prepared.table.parts
    return RunInfo(
        schema=1,
        kind="network",
        # The parameters are counted at the end.
        network=Network(options.network, options.alpha if find(options.network).takes_alpha else None, 0),
        preprocess=options.preprocess,
        classes=prepared.dataset.classes,
        data=Data(
            name=prepared.dataset.name,
            fingerprint=prepared.images.fingerprint,
            split=options.split,
            seed=options.effective_split_seed,
            counts={part: parts.count(part) for part in PARTS},
        ),
        data_path=str(prepared.root.resolve()),
        options=msgspec.to_builtins(options),
        versions=package_versions(),
    )


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that a training depends on."""
    names = ("edge-ct", "keras", keras.backend.backend(), "numpy", "opencv-python-headless")
    return {name: version(name) for name in names}


def _fit(
    run: Run,
    prepared: PreparedData,
    options: TrainingOptions,
    progress: Progress,
    start: Callable[[], Any],
    teacher: Teacher | None,
) -> Any:
    """Train, with the backbone frozen at first if the options ask for it, and return the best model."""
    checkpoint = Checkpoint(run.folder, options, progress)
    training_rows = prepared.table.where("train")
    batch = min(options.batch - (options.lesion_slices if options.lesion_map else 0), len(training_rows))
    steps = max(1, len(training_rows) // batch)
    training, validation = _make_batches(run, prepared, options, progress, teacher, batch)
    for begin, end, frozen in ((0, min(options.freeze, options.epochs), True), (options.freeze, options.epochs, False)):
        if checkpoint.done or checkpoint.next_epoch >= end:
            continue
        # The model is restored between the two phases as well: Keras leaves averaged weights in it, if there are any.
        model = checkpoint.restore()
        if model is None:
            model = convert_precision(start(), options.precision)
        compile_model(model, options, steps * (options.epochs - begin), frozen)
        if checkpoint.next_epoch > begin:
            checkpoint.restore_optimizer(model)
        model.fit(
            training(checkpoint.next_epoch),
            validation_data=validation,
            epochs=end,
            initial_epoch=checkpoint.next_epoch,
            callbacks=checkpoint.callbacks(),
            shuffle=False,  # `Batches` shuffles reproducibly; Keras would shuffle the batches again
            verbose=0,
        )
    model = convert_precision(checkpoint.kept(), "float32")
    if options.average_start:
        average_with_start(model, options)
    return model


def _make_batches(
    run: Run,
    prepared: PreparedData,
    options: TrainingOptions,
    progress: Progress,
    teacher: Teacher | None,
    batch: int,
) -> tuple[Callable[[int], Batches], Batches]:
    """Return a function from the first epoch to the training batches, and the validation batches."""
    preprocess, images, labels = run.info.preprocess, prepared.images.images, prepared.dataset.labels
    training, validation = prepared.table.where("train"), prepared.table.where("validation")
    if not len(validation):  # of a training on all slices, whose validation loss says no more than that it went well
        validation = training[::8]
    training_targets, validation_targets = _targets(options, teacher)
    views = images[training]
    if teacher and teacher.size > options.size:
        larger = msgspec.structs.replace(preprocess, size=teacher.size)
        views = read_images(prepared.dataset.take(training), larger, progress).images
    weights, chances = _weights_and_chances(prepared, training, options)
    lesions = _lesion_draws(prepared, options, progress) if options.lesion_map else None

    def training_batches(epoch: int) -> Batches:
        return Batches(
            views,
            labels[training],
            preprocess,
            batch,
            augment=options.augmentation(),
            seed=options.seed,
            epoch=epoch,
            targets=training_targets,
            slice_weights=weights,
            chances=chances,
            lesions=lesions,
            lesion_map=options.lesion_map,
        )

    return training_batches, Batches(
        images[validation],
        labels[validation],
        preprocess,
        64,
        targets=validation_targets,
        lesion_map=options.lesion_map,
    )


def _weights_and_chances(
    prepared: PreparedData, training: np.ndarray, options: TrainingOptions
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the weight of each training slice in the loss, and how often it is drawn; None where all are alike."""
    dataset = prepared.dataset.take(training)
    weights = dataset.weights
    if options.class_weights:
        by_class = balanced_weights(dataset.labels)[dataset.labels]
        weights = by_class if weights is None else weights * by_class
    if options.balance == "none":
        return weights, None
    return weights, balanced_chances(dataset.labels, dataset.sources, options.main_source)


def _lesion_draws(prepared: PreparedData, options: TrainingOptions, progress: Progress) -> LesionDraws:
    """Read the slices with masks, but none that the network is to be validated or tested with."""
    preprocess, table = options.preprocess, prepared.table
    phantoms = phantom_lesion_slices(preprocess, options.lesion_phantoms, options.seed)
    real = phantoms.take(np.empty(0, int))
    if options.lesions:
        real = load_lesion_slices(Path(options.lesions), preprocess)
        judged = np.concatenate([table.where("validation"), table.where("test")])
        groups = {table.groups[i] for i in judged} if options.split != "random" else set()
        kept = real.without(groups, {table.sha256[i] for i in judged})
        progress.say(
            f"learning from {len(kept)} of {count_of(len(real), 'slice')} with lesion masks; the others are held out"
        )
        real = kept
    if not len(real) + len(phantoms):
        raise DataRejected(f"{options.lesions}: no slice with a lesion mask is left to learn from")
    return LesionDraws(real, phantoms, options.lesion_slices, options.augmentation(), options.seed)


def _targets(options: TrainingOptions, teacher: Teacher | None) -> tuple[TargetFunction | None, TargetFunction | None]:
    """Return the functions that compute the training and the validation targets; None stands for the labels."""
    if not options.soft_targets:
        return None, None

    def training_targets(labels: np.ndarray, images: np.ndarray) -> np.ndarray:
        soft = teacher(images) if teacher else None
        return soft_targets(labels, options.label_smoothing, soft, options.mixing, options.temperature)

    # Validation uses the labels, so that its loss is comparable whatever the training targets are.
    return training_targets, lambda labels, images: soft_targets(labels)


def finish_run(run: Run, model: Any, prepared: PreparedData, progress: Progress) -> Run:
    """Save the model, its predictions and scores, and mark the run as finished."""
    with replace_with_saved(run.model_path) as temporary:
        model.save(temporary)
    network = msgspec.structs.replace(run.info.network, parameters=model.count_params())
    info = msgspec.structs.replace(run.info, network=network, finished=True)
    probabilities = predict_images(model, run.info.preprocess, prepared.images.images, progress)
    write_run_scores(run.folder, prepared.table, probabilities, info)
    save_run_info(run.folder, info)
    shutil.rmtree(run.folder / "checkpoint", ignore_errors=True)
    return Run(run.folder, info)
