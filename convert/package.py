"""Run in, verified bundle out: quantise, calibrate, gate, score, pack, check, write."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import cv2
import msgspec
import numpy as np

from edge_ct import bundle as bundles
from edge_ct.classifier import Classifier
from edge_ct.dataset import load_images
from edge_ct.decision import probability
from edge_ct.errors import DataRejected
from edge_ct.files import refuse_existing, write_bytes
from edge_ct.manifest import INTENDED_USE, SCHEMA, Calibration, Gate, Golden, Manifest, Tensors
from edge_ct.metrics import score
from edge_ct.phantom import make_slice
from edge_ct.preprocess import Preprocess
from edge_ct.progress import QUIET, Progress
from edge_ct.run import Run, SplitTable, load_finished, model_name, to_csv
from edge_ct.runtime import Runtime

from . import calibrate, gate, quantise, rounding

Variant = Literal["fp32", "int8"]
CALIBRATION_SPLIT = "validation"
_GOLDEN_SIZE = 64


class Options(msgspec.Struct, frozen=True):
    """How to convert. representative: slices of the training split that set the int8 ranges.

    max_drop: points of sensitivity or accuracy that the gate allows. target_sensitivity: of the operating point.
    level: of the conformal zone.
    """

    variant: Variant = "int8"
    representative: int = 200
    max_drop: float = 1.0
    target_sensitivity: float = 0.98
    level: float = 0.95
    seed: int = 0
    licence: str = "not stated"


class Converted(msgspec.Struct, frozen=True):
    """What `convert --json` prints."""

    bundle: str
    bytes: int
    variant: Variant
    gate: gate.GateReport


@dataclass(frozen=True, eq=False)
class _Scored:
    """A flatbuffer with its calibration, and the calibrated probabilities of a part of the split."""

    flatbuffer: bytes
    tensors: Tensors
    calibration: Calibration
    probabilities: dict[str, np.ndarray]


def convert(
    run_folder: Path,
    out: Path,
    options: Options = Options(),  # noqa: B008  (frozen)
    data: Path | None = None,
    force: bool = False,
    progress: Progress = QUIET,
) -> Converted:
    """Convert a finished run into a bundle at `out`.

    data: where the run's slices are now, if they have moved. Raises `GateFailed` (nothing is written) where the
    converted model lost more than `options.max_drop`, `DataRejected` for a run or data that cannot be used.
    """
    refuse_existing(out, force)
    run = load_finished(run_folder)
    model = quantise.load_deployed(run)
    table = run.split()
    parts = _load_parts(run, table, data, options, progress)
    preprocess = run.info.preprocess
    progress.say("converting to fp32" + (" and int8" if options.variant == "int8" else ""))
    fp32 = _score(quantise.to_fp32(model, preprocess), table, parts, progress, "fp32")
    chosen = fp32
    if options.variant == "int8":
        rounding.round_kernels(model, preprocess.normalise(parts["representative"]), options.seed)
        flatbuffer = quantise.to_int8(model, preprocess, parts["representative"])
        chosen = _score(flatbuffer, table, parts, progress, "int8")
    labels = {part: table.labels[table.where(part)] for part in ("validation", "test")}
    report = gate.compare(
        labels[CALIBRATION_SPLIT],
        fp32.probabilities[CALIBRATION_SPLIT],
        chosen.probabilities[CALIBRATION_SPLIT],
        options.max_drop,
        CALIBRATION_SPLIT,
    )
    gate.enforce(report)
    metrics = {"fp32": score(labels["test"], fp32.probabilities["test"]).estimates()}
    metrics[options.variant] = score(labels["test"], chosen.probabilities["test"]).estimates()
    content = _pack(run, table, chosen, labels[CALIBRATION_SPLIT], metrics, report.verdict(), options, progress)
    Classifier(bundles.unpack(content, str(out))).check_golden()
    write_bytes(out, content)
    return Converted(str(out), len(content), options.variant, report)


def _load_parts(
    run: Run, table: SplitTable, data: Path | None, options: Options, progress: Progress
) -> dict[str, np.ndarray]:
    """Images uint8 [n, s, s, 1] of the validation and test parts, and the representative ones of the training part."""
    representative = _representative(table, options)
    indices = {
        "representative": representative,
        "validation": table.where("validation"),
        "test": table.where("test"),
    }
    everything = np.concatenate(list(indices.values()))
    dataset = run.dataset(data).take(everything)
    with progress.bar("reading slices", len(dataset)) as on_done:
        images = load_images(dataset, run.info.preprocess, on_done)
    for index, sha256 in zip(everything, images.sha256, strict=True):
        if table.sha256[index] != sha256:
            raise DataRejected(f"{table.paths[index]}: its pixels are not those the run was trained on")
    ends = np.cumsum([len(own) for own in indices.values()])[:-1]
    return dict(zip(indices, np.split(images.images, ends), strict=True))


def _representative(table: SplitTable, options: Options) -> np.ndarray:
    """Indices of training slices, half of each class where there are enough."""
    train = table.where("train")
    if len(train) == 0:
        raise DataRejected("the run has no training split to draw representative slices from")
    generator = np.random.default_rng(options.seed)
    chosen = []
    for label in (0, 1):
        own = train[table.labels[train] == label]
        chosen.append(generator.permutation(own)[: -(-options.representative // 2)])
    return np.concatenate(chosen)


def _score(
    flatbuffer: bytes, table: SplitTable, parts: dict[str, np.ndarray], progress: Progress, name: str
) -> _Scored:
    tensors = quantise.tensors_of(flatbuffer)
    runtime = Runtime(flatbuffer, tensors, os.cpu_count() or 1)
    logits = {}
    for part in ("validation", "test"):
        with progress.bar(f"scoring {name}, {part}", len(parts[part])) as on_done:
            logits[part] = np.stack([_logits(runtime, image, on_done) for image in parts[part]])
    fitted_on = logits[CALIBRATION_SPLIT]
    labels = table.labels[table.where(CALIBRATION_SPLIT)]
    calibration = calibrate.fit_calibration(fitted_on[:, 1] - fitted_on[:, 0], labels, CALIBRATION_SPLIT)
    probabilities = {
        part: np.array([probability(pair, calibration) for pair in pairs]) for part, pairs in logits.items()
    }
    return _Scored(flatbuffer, tensors, calibration, probabilities)


def _logits(runtime: Runtime, image: np.ndarray, on_done: object) -> np.ndarray:
    runtime.invoke(image)
    on_done(1)  # type: ignore[operator]
    return runtime.outputs().logits


def _pack(
    run: Run,
    table: SplitTable,
    chosen: _Scored,
    calibration_labels: np.ndarray,
    metrics: dict[str, dict[str, object]],
    verdict: Gate,
    options: Options,
    progress: Progress,
) -> bytes:
    zone = calibrate.conformal_zone(chosen.probabilities[CALIBRATION_SPLIT], calibration_labels, options.level)
    if zone is None:
        progress.say(
            f"no indeterminate zone: {options.level:.0%} needs {calibrate.needed_cases(options.level)} calibration "
            f"cases a class, there are {chosen.calibration.positives} and {chosen.calibration.negatives}"
        )
    golden, members = _golden(chosen, run.info.preprocess)
    members["split.csv"] = to_csv(("sha256", "part"), sorted(run.known().items())).encode()
    manifest = Manifest(
        schema=SCHEMA,
        name=model_name(run.info.network, run.info.preprocess.size, options.variant),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        variant=options.variant,
        network=run.info.network,
        classes=run.info.classes,
        preprocess=run.info.preprocess,
        tensors=chosen.tensors,
        calibration=chosen.calibration,
        operating_point=calibrate.operating_point(
            chosen.probabilities[CALIBRATION_SPLIT], calibration_labels, options.target_sensitivity
        ),
        zone=zone,
        golden=golden,
        data=run.info.data,
        gate=verdict,
        metrics=metrics,  # type: ignore[arg-type]
        metrics_n=len(chosen.probabilities["test"]),
        versions={**run.info.versions, "tensorflow": version("tensorflow"), "edge-ct": version("edge-ct")},
        licence=options.licence,
        intended_use=INTENDED_USE,
        model_sha256=hashlib.sha256(chosen.flatbuffer).hexdigest(),
    )
    return bundles.pack(chosen.flatbuffer, manifest, members)


def _golden(chosen: _Scored, preprocess: Preprocess) -> tuple[tuple[Golden, ...], dict[str, bytes]]:
    """Three phantom slices with the logits this machine gives: never patient data.

    Drawn small and enlarged, so that they compress well: a bundle's bytes are for its weights.
    """
    runtime, golden, members = Runtime(chosen.flatbuffer, chosen.tensors), [], {}
    for number, positive in enumerate((True, False, True)):
        phantom = make_slice(patient=number, index=3 + number, positive=positive, size=_GOLDEN_SIZE, seed=2024)
        image = preprocess(phantom.image)
        name = f"golden/{number}.png"
        _, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        members[name] = encoded.tobytes()
        runtime.invoke(image)
        golden.append(Golden(name, tuple(float(value) for value in runtime.outputs().stored)))
    return tuple(golden), members
