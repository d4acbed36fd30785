"""What was measured of a file -> its manifest, golden slices and the bundle's bytes."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from importlib.metadata import version

import cv2
import msgspec
import numpy as np

from edge_ct.bundle import pack_bundle
from edge_ct.manifest import INTENDED_USE, SCHEMA, Estimate, Gate, Golden, Manifest, Outliers, Variant
from edge_ct.metrics import score
from edge_ct.network_analysis import receptive_field
from edge_ct.outliers import MEMBER, OutlierDetector, fit_outlier_detector
from edge_ct.phantom import make_slice, preprocessed_phantoms
from edge_ct.preprocess import Preprocess
from edge_ct.run import model_name
from edge_ct.runtime import Runtime
from edge_ct.system.csv_text import to_csv

from . import calibrate
from .options import Options
from .run_slices import Material
from .scoring import CALIBRATION_SPLIT, Scored, embeddings_of
from .shrink.shrinking import Shrunk

_GOLDEN_SIZE = 64
_SEEN = 400  # training slices that say what the network has seen


def bundle_bytes(
    material: Material, fp32: Scored, chosen: Scored, variant: Variant, shrunk: Shrunk, verdict: Gate, options: Options
) -> bytes:
    """The bundle of `chosen`, a file of the form `variant` of the network `shrunk`.

    fp32: of the same run as it was trained, whose metrics stand beside.
    """
    run, progress = material.run, material.progress
    labels = material.labels(CALIBRATION_SPLIT)
    zone = calibrate.conformal_zone(chosen.probabilities[CALIBRATION_SPLIT], labels, options.level)
    if zone is None:
        progress.say(
            f"no indeterminate zone: {options.level:.0%} needs {calibrate.needed_cases(options.level)} calibration "
            f"cases a class, there are {chosen.calibration.positives} and {chosen.calibration.negatives}"
        )
    network = run.info.network
    if shrunk.parameters is not None:
        network = msgspec.structs.replace(network, parameters=shrunk.parameters)
    golden, members = _golden(chosen, run.info.preprocess)
    members["split.csv"] = to_csv(("sha256", "part"), sorted(run.known().items())).encode()
    seen = _seen(chosen, material, options)
    if seen:
        members[MEMBER] = seen[0].pack()
    manifest = Manifest(
        schema=SCHEMA,
        name=model_name(run.info.network, run.info.preprocess.size, chosen.name)
        + "-gate-failed" * (not verdict.passed),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        variant=variant,
        network=network,
        classes=run.info.classes,
        preprocess=run.info.preprocess,
        tensors=chosen.tensors,
        calibration=chosen.calibration,
        operating_point=calibrate.operating_point(
            chosen.probabilities[CALIBRATION_SPLIT], labels, options.target_sensitivity
        ),
        zone=zone,
        golden=golden,
        data=run.info.data,
        gate=verdict,
        metrics={one.name: _metrics(one, material) for one in (fp32, chosen)},
        metrics_n=len(chosen.probabilities["test"]),
        versions={**run.info.versions, "tensorflow": version("tensorflow"), "edge-ct": version("edge-ct")},
        licence=options.licence,
        intended_use=INTENDED_USE,
        model_sha256=hashlib.sha256(chosen.flatbuffer).hexdigest(),
        shrinking=shrunk.label,
        outliers=seen[1] if seen else None,
        map_centres=_map_centres(chosen, run.info.preprocess),
    )
    return pack_bundle(chosen.flatbuffer, manifest, members)


def _seen(chosen: Scored, material: Material, options: Options) -> tuple[OutlierDetector, Outliers] | None:
    """What the file's embeddings of training slices look like; the calibration split says how far is far."""
    train = material.labels("train")
    count = 2 * min(_SEEN // 2, int((train == 0).sum()), int((train == 1).sum()))
    [images] = material.representative(count, options.seed)
    return fit_outlier_detector(embeddings_of(chosen, images), chosen.embeddings[CALIBRATION_SPLIT], CALIBRATION_SPLIT)


def _metrics(scored: Scored, material: Material) -> dict[str, Estimate]:
    return score(material.labels("test"), scored.probabilities["test"]).estimates()


def _map_centres(chosen: Scored, preprocess: Preprocess) -> receptive_field.Centres:
    """Of the file's own class map: where its cells look depends on what the network has learned."""
    if chosen.tensors.class_map is None:
        return None
    runtime = Runtime(chosen.flatbuffer, chosen.tensors)

    def respond(images: np.ndarray) -> np.ndarray:
        maps = []
        for image in images:
            runtime.invoke(image)
            maps.append(runtime.outputs().class_map)
        return np.diff(np.stack([own for own in maps if own is not None]), axis=3)

    return receptive_field.measure_cell_centres(respond, preprocessed_phantoms(preprocess))


def _golden(chosen: Scored, preprocess: Preprocess) -> tuple[tuple[Golden, ...], dict[str, bytes]]:
    """Three phantom slices with the logits this machine gives: never patient data.

    Drawn small and enlarged in squares, so that they compress well: a bundle's bytes are for its weights.
    """
    runtime, golden, members = Runtime(chosen.flatbuffer, chosen.tensors), [], {}
    for number, positive in enumerate((True, False, True)):
        phantom = make_slice(patient=number, index=3 + number, positive=positive, size=_GOLDEN_SIZE, seed=2024)
        side = (preprocess.size, preprocess.size)
        image = preprocess(cv2.resize(phantom.image, side, interpolation=cv2.INTER_NEAREST))
        name = f"golden/{number}.png"
        _, encoded = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        members[name] = encoded.tobytes()
        runtime.invoke(image)
        golden.append(Golden(name, tuple(float(value) for value in runtime.outputs().stored)))
    return tuple(golden), members
