"""The bundle of a scored file: its manifest, golden slices and outlier detector."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import cv2
import msgspec
import numpy as np

from edge_ct.bundle import pack_bundle
from edge_ct.manifest import (
    INTENDED_USE,
    Data,
    Estimate,
    Gate,
    Golden,
    Manifest,
    OperatingPoint,
    Outliers,
    Variant,
    schema_version,
)
from edge_ct.metrics import score
from edge_ct.network_analysis.outliers import (
    MEMBER,
    OutlierDetector,
    conformal_threshold,
    fit_outlier_detector,
    threshold_by_source,
)
from edge_ct.network_analysis.receptive_field import Centres, measure_cell_centres
from edge_ct.phantom import make_slice, preprocessed_phantoms
from edge_ct.preprocess import Preprocess
from edge_ct.run import model_name
from edge_ct.system.csv_text import to_csv

from .calibrate import cases_needed, choose_operating_point, fit_decision_rule
from .cross_fit import read_lesion_evidence
from .options import ConversionOptions
from .run_slices import RunSlices
from .scoring import ScoredFile
from .shrink.steps import ShrunkNetwork
from .tflite_metadata import add_metadata

# Golden slices are drawn at this size and enlarged in squares, so that they compress well.
_GOLDEN_SIZE = 64
_GOLDEN_SEED = 2024
# Training slices that the outlier detector is fitted on.
_OUTLIER_SLICES = 400


def make_bundle(
    slices: RunSlices,
    fp32: ScoredFile,
    scored: ScoredFile,
    variant: Variant,
    shrunk: ShrunkNetwork,
    verdict: Gate,
    options: ConversionOptions,
) -> bytes:
    """Return the content of the bundle of a scored file.

    Args:
        slices: The slices of the run.
        fp32: The file of the unshrunk network in full precision, whose metrics stand beside those of the bundle.
        scored: The file to bundle.
        variant: Its variant.
        shrunk: The network that it was made of.
        verdict: What the gate found.
        options: The settings of the conversion.
    """
    run = slices.run
    cases = scored.cases
    labels, probabilities = cases.labels[cases.trusted], cases.probabilities[cases.trusted]
    sensitivity, specificity = options.target_sensitivity, options.target_specificity
    rule = fit_decision_rule(probabilities, labels, sensitivity, specificity)
    if rule is None:
        slices.progress.say(
            f"one threshold decides, and nothing is referred: a sensitivity of {sensitivity:.1%} and a specificity "
            f"of {specificity:.1%} need {cases_needed(sensitivity)} positive and {cases_needed(specificity)} negative "
            f"calibration cases, but there are {scored.calibration.positives} and {scored.calibration.negatives}"
        )
        operating_point = choose_operating_point(probabilities, labels, sensitivity)
    else:
        operating_point = OperatingPoint(rule.negative_below, sensitivity)
    network = run.info.network
    if shrunk.parameters is not None:
        network = msgspec.structs.replace(network, parameters=shrunk.parameters)
    golden, members = _make_golden(scored, run.info.preprocess)
    members["split.csv"] = to_csv(("sha256", "part"), sorted(run.known().items())).encode()
    outliers = _fit_outliers(scored, slices, options)
    if outliers:
        members[MEMBER] = outliers[0].pack()
    name = model_name(run.info.network, run.info.preprocess.size, scored.name)
    described = add_metadata(scored.flatbuffer, scored.tensors, name=name, licence=options.licence, use=INTENDED_USE)
    manifest = Manifest(
        schema=schema_version(run.info.preprocess, scored.calibration, rule),
        name=name if verdict.passed else f"{name}-gate-failed",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        variant=variant,
        network=network,
        classes=run.info.classes,
        preprocess=run.info.preprocess,
        tensors=scored.tensors,
        calibration=scored.calibration,
        operating_point=operating_point,
        zone=None,
        golden=golden,
        data=_data(slices),
        gate=verdict,
        metrics=_test_metrics(slices, fp32, scored),
        metrics_n=len(scored.probabilities["test"] if slices.out_of_fold is None else cases.labels),
        versions={**run.info.versions, "tensorflow": version("tensorflow"), "edge-ct": version("edge-ct")},
        licence=options.licence,
        intended_use=INTENDED_USE,
        model_sha256=hashlib.sha256(described).hexdigest(),
        shrinking=shrunk.label,
        outliers=outliers[1] if outliers else None,
        lesions=read_lesion_evidence(Path(options.lesion_evidence)) if options.lesion_evidence else None,
        map_centres=_measure_map_centres(scored, run.info.preprocess),
        rule=rule,
    )
    return pack_bundle(described, manifest, members)


def _fit_outliers(
    scored: ScoredFile, slices: RunSlices, options: ConversionOptions
) -> tuple[OutlierDetector, Outliers] | None:
    """Fit the outlier detector on training slices; its threshold comes from the calibration split."""
    train = slices.labels("train")
    count = 2 * min(_OUTLIER_SLICES // 2, int((train == 0).sum()), int((train == 1).sum()))
    [images] = slices.representative(count, options.seed)
    embeddings = np.stack([outputs.embedding for outputs in scored.run(images)])
    folds, split = slices.out_of_fold, slices.calibration_split
    fitted = fit_outlier_detector(embeddings, scored.embeddings[split][:_OUTLIER_SLICES], split)
    if folds is None or fitted is None:
        return fitted
    # The network knows all slices: what it has not seen lies as far off as the folds' slices do from their networks.
    measured = ~np.isnan(folds.distances)
    distances = folds.distances[measured]
    if not len(distances):
        return None
    if folds.sources:
        sources = [source for source, known in zip(folds.sources, measured.tolist(), strict=True) if known]
        threshold, rate = threshold_by_source(distances, sources)
    else:
        threshold, rate = conformal_threshold(distances)
    detector, description = fitted
    description = msgspec.structs.replace(
        description, threshold=threshold, rate=rate, split=f"{folds.split} folds", cases=len(distances)
    )
    return replace(detector, threshold=threshold), description


def _data(slices: RunSlices) -> Data:
    """Return which data the metrics come from: those of the folds for a network that was trained on every slice."""
    data, folds = slices.run.info.data, slices.out_of_fold
    return data if folds is None else msgspec.structs.replace(data, split=folds.split)


def _test_metrics(slices: RunSlices, fp32: ScoredFile, scored: ScoredFile) -> dict[str, dict[str, Estimate]]:
    if slices.out_of_fold is not None:
        return {scored.name: score(scored.cases.labels, scored.cases.probabilities).estimates()}
    labels = slices.labels("test")
    return {file.name: score(labels, file.probabilities["test"]).estimates() for file in (fp32, scored)}


def _measure_map_centres(scored: ScoredFile, preprocess: Preprocess) -> Centres:
    """Measure where the cells of this file's class map look, which depends on what the network has learned."""
    if scored.tensors.class_map is None:
        return None

    def respond(images: np.ndarray) -> np.ndarray:
        maps = [outputs.class_map for outputs in scored.run(images)]
        return np.diff(np.stack([class_map for class_map in maps if class_map is not None]), axis=3)

    return measure_cell_centres(respond, preprocessed_phantoms(preprocess))


def _make_golden(scored: ScoredFile, preprocess: Preprocess) -> tuple[tuple[Golden, ...], dict[str, bytes]]:
    """Draw three phantom slices (never patient data) and store them with the logits that this machine computes.

    Returns:
        The entries of the manifest, and the members of the bundle: name -> content.
    """
    images, members = [], {}
    for number, positive in enumerate((True, False, True)):
        phantom = make_slice(number, 3 + number, positive, size=_GOLDEN_SIZE, seed=_GOLDEN_SEED)
        side = (preprocess.size, preprocess.size)
        images.append(preprocess(cv2.resize(phantom.image, side, interpolation=cv2.INTER_NEAREST)))
        _, encoded = cv2.imencode(".png", images[-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
        members[f"golden/{number}.png"] = encoded.tobytes()
    outputs = scored.run(np.stack(images))
    golden = tuple(
        Golden(name, tuple(float(value) for value in output.stored))
        for name, output in zip(members, outputs, strict=True)
    )
    return golden, members
