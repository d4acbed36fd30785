"""The training loop: split, fit with early stopping, keep the best weights, score them, leave a run folder.

Everything drawn at random is drawn from (seed, epoch, slice), and a checkpoint is written after each epoch, so a
training that was killed and resumed sees what an unbroken one sees.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_ct import near_duplicates, quiet, slices
from edge_ct import run as runs
from edge_ct.dataset import Dataset, Images, SplitKind, load, load_images, split
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.files import fresh_folder, refuse_existing, replacing
from edge_ct.manifest import Data, Network
from edge_ct.preprocess import Preprocess
from edge_ct.progress import QUIET, Progress
from edge_ct.run import Run, RunInfo, SplitTable

from . import predict, report, zoo
from .augment import POLICIES, Augment
from .checkpoint import Checkpoint

with quiet.native_stderr():
    import keras


class Options(msgspec.Struct, frozen=True):
    """What `train` was asked to do; stored in run.json. weights: "none", "imagenet" or a file."""

    network: str
    size: int = 224
    alpha: float = 1.0
    weights: str = "none"
    split: SplitKind = "random"
    seed: int = 0
    validation: float = 0.15
    test: float = 0.2
    epochs: int = 24
    batch: int = 32
    learning_rate: float = 5e-4
    patience: int = 8
    dropout: float = 0.2
    augment: str = "standard"
    positive: str = "COVID"


class Batches(keras.utils.PyDataset):
    """Normalised batches of preprocessed slices; with a policy, shuffled and augmented anew each epoch."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        preprocess: Preprocess,
        batch: int,
        augment: Augment | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        """images: uint8 [n, s, s, 1]; labels: [n]. epoch: the first epoch to draw."""
        super().__init__()
        self._images, self._labels, self._preprocess = images, labels, preprocess
        self._batch, self._augment, self._seed = batch, augment, seed
        self._start(epoch)

    def __len__(self) -> int:
        # A training epoch leaves an incomplete last batch out: batch statistics over a slice or two would be noise.
        n = len(self._labels)
        return max(1, n // self._batch) if self._augment else -(-n // self._batch)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._order[index * self._batch : (index + 1) * self._batch]
        images = self._images[chosen]
        if self._augment:
            images = np.stack(
                [
                    self._augment(image, np.random.default_rng((self._seed, self._epoch, int(i))))
                    for i, image in zip(chosen, images, strict=True)
                ]
            )
        return self._preprocess.normalise(images), self._labels[chosen].astype(np.int32)

    def on_epoch_end(self) -> None:
        """Called by Keras."""
        self._start(self._epoch + 1)

    def _start(self, epoch: int) -> None:
        self._epoch = epoch
        self._order = np.arange(len(self._labels))
        if self._augment:
            np.random.default_rng((self._seed, epoch)).shuffle(self._order)


@dataclass(frozen=True, eq=False)
class _Prepared:
    dataset: Dataset
    images: Images
    table: SplitTable


def train(data: Path, out: Path, options: Options, resume: bool, force: bool, progress: Progress = QUIET) -> Run:
    """Train a network on a folder or CSV of slices, and leave a run folder at `out`.

    resume: go on from the last finished epoch of the run at `out`; `data` and `options` must be what it was made with.
    Raises `DataRejected` for data that cannot be used, `EdgeCTError` where `out` holds something else.
    """
    if options.augment not in POLICIES:
        raise EdgeCTError(f"no augmentation named {options.augment!r}; there are: {', '.join(POLICIES)}")
    keras.utils.set_random_seed(options.seed)
    if resume and (out / "run.json").exists():
        run = runs.load(out)
        if msgspec.convert(run.info.options, Options) != options:
            raise DataRejected(f"{out}: was started with other options; resume it with the same, or begin anew")
        if run.info.finished:
            progress.say(f"{out}: has finished already")
            return run
        prepared = _reload(run, data, progress)
    else:
        refuse_existing(out, force)
        model = _build(options)  # a wrong size or weights file is found before the slices are read
        prepared = _prepare(data, options, progress)
        fresh_folder(out, "run.json")
        info = _info(data, options, prepared, model.count_params())
        runs.save_info(out, info)
        runs.write_split(out / "split.csv", prepared.table)
        run = Run(out, info)
    model = _fit(run, prepared, options, progress)
    return finish(run, model, prepared, options, progress)


def _build(options: Options) -> Any:
    weights = None if options.weights == "none" else options.weights
    return zoo.build(keras, options.network, options.size, options.alpha, weights, options.dropout)


def _prepare(data: Path, options: Options, progress: Progress) -> _Prepared:
    dataset = load(data, options.positive)
    preprocess = Preprocess(options.size)
    with progress.bar("reading slices", len(dataset)) as on_done:
        images = load_images(dataset, preprocess, on_done)
    if options.split == "grouped" and dataset.groups is None:
        dataset = with_near_duplicate_groups(dataset, progress)
    parts = split(dataset, options.split, options.seed, options.validation, options.test)
    root = data if data.is_dir() else data.parent
    table = SplitTable(
        paths=tuple(os.path.relpath(path, root) for path in dataset.paths),
        labels=dataset.labels,
        groups=dataset.groups or ("",) * len(dataset),
        parts=parts,
        sha256=images.sha256,
    )
    return _Prepared(dataset, images, table)


def with_near_duplicate_groups(dataset: Dataset, progress: Progress = QUIET) -> Dataset:
    """The dataset with groups of near-duplicates, for a set that names no patients."""
    with progress.bar("grouping slices", len(dataset)) as on_done:
        hashes = []
        for path in dataset.paths:
            hashes.append(near_duplicates.difference_hash(slices.read(path).pixels))
            on_done(1)
    groups = near_duplicates.groups(np.stack(hashes))
    progress.say(f"{len(dataset)} slices without patient names fall into {len(set(groups))} groups of near-duplicates")
    return Dataset(dataset.name, dataset.paths, dataset.labels, dataset.classes, groups)


def _reload(run: Run, data: Path, progress: Progress) -> _Prepared:
    table, dataset = run.split(), run.dataset(data)
    with progress.bar("reading slices", len(dataset)) as on_done:
        images = load_images(dataset, run.info.preprocess, on_done)
    if images.fingerprint != run.info.data.fingerprint:
        raise DataRejected(f"{data}: not the slices that {run.folder} was started with")
    return _Prepared(dataset, images, table)


def _info(data: Path, options: Options, prepared: _Prepared, parameters: int) -> RunInfo:
    parts = prepared.table.parts
    return RunInfo(
        schema=1,
        kind="network",
        network=Network(options.network, options.alpha if options.network == "mobilenetv2" else None, parameters),
        preprocess=Preprocess(options.size),
        classes=prepared.dataset.classes,
        data=Data(
            name=prepared.dataset.name,
            fingerprint=prepared.images.fingerprint,
            split=options.split,
            seed=options.seed,
            counts={part: parts.count(part) for part in ("train", "validation", "test")},
        ),
        data_path=str(data.resolve()),
        options=msgspec.to_builtins(options),
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Packages that the result depends on."""
    names = ("edge-ct", "keras", keras.backend.backend(), "numpy", "opencv-python-headless")
    return {name: version(name) for name in names}


def _fit(run: Run, prepared: _Prepared, options: Options, progress: Progress) -> Any:
    checkpoint = Checkpoint(run.folder, options.epochs, options.patience, options.seed, progress)
    preprocess, images, labels = run.info.preprocess, prepared.images.images, prepared.dataset.labels
    train_part, validation_part = prepared.table.where("train"), prepared.table.where("validation")
    batch = min(options.batch, len(train_part))
    model = checkpoint.restore()
    if model is None:
        model = _build(options)
        steps = max(1, len(train_part) // batch) * options.epochs
        model.compile(
            optimizer=keras.optimizers.Adam(_schedule(options.learning_rate, steps)),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            # On CPU, XLA is eight times slower than TensorFlow's own kernels (MobileNetV2, 224 px).
            jit_compile=False if keras.backend.backend() == "tensorflow" and not _gpu() else "auto",
        )
    if not checkpoint.done:
        model.fit(
            Batches(
                images[train_part],
                labels[train_part],
                preprocess,
                batch,
                POLICIES[options.augment],
                options.seed,
                checkpoint.next_epoch,
            ),
            validation_data=Batches(images[validation_part], labels[validation_part], preprocess, 64),
            epochs=options.epochs,
            initial_epoch=checkpoint.next_epoch,
            callbacks=[checkpoint],
            shuffle=False,  # `Batches` does, repeatably; Keras would shuffle them once more, and otherwise each time
            verbose=0,
        )
    return checkpoint.best(model)


def _schedule(learning_rate: float, steps: int) -> Any:
    """Linear warm-up over a twentieth of the steps, then half a cosine to a hundredth."""
    warmup = max(1, steps // 20)
    return keras.optimizers.schedules.CosineDecay(
        learning_rate / 10,
        max(1, steps - warmup),
        alpha=0.01,
        warmup_target=learning_rate,
        warmup_steps=warmup,
    )


def _gpu() -> bool:
    import tensorflow

    return bool(tensorflow.config.list_physical_devices("GPU"))


def finish(run: Run, model: Any, prepared: _Prepared, options: Options, progress: Progress) -> Run:
    """Save the best model, its predictions and scores, and mark the run as finished."""
    with replacing(run.model_path) as temporary:
        model.save(temporary)
    probabilities = predict.probabilities(model, run.info.preprocess, prepared.images.images, progress)
    report.write(run.folder, prepared.table, probabilities, run.info)
    info = msgspec.structs.replace(run.info, finished=True)
    runs.save_info(run.folder, info)
    shutil.rmtree(run.folder / "checkpoint", ignore_errors=True)
    return Run(run.folder, info)
