"""The result of a series as Comprehensive SR: an Imaging Measurement Report (PS3.16, TID 1500).

Concepts that no dictionary defines are coded under the private scheme 99EDGECT. The report is not a diagnosis, and its
text says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_ct import __version__
from edge_ct.bundle import Bundle
from edge_ct.lesions import describe_share
from edge_ct.reporting.counts import count_of

from ...judging.dicom_frames import FrameAttributes
from ...judging.series import JudgedFrame, SeriesResult
from ..uids import derive_uid
from .source_attributes import MANUFACTURER, RESEARCH, copy_patient_name, copy_source_attributes, equipment_arguments

SERIES_NUMBER = 9801
SCHEME = "99EDGECT"
_DECISIONS = {
    "positive": "Positive: findings of COVID-19 are likely",
    "negative": "Negative: findings of COVID-19 are unlikely",
    "refer": "Refer: the model is uncertain",
    "rejected": "Rejected: not judged",
}
# How a reviewer has read a series, by the decision that this reading stands for.
READINGS = {
    "positive": "Findings of COVID-19",
    "negative": "No findings of COVID-19",
    "refer": "Uncertain",
    "rejected": "Unusable",
}
_CONCEPTS: Mapping[str, str] = {
    "reading": "Reading by a reviewer",
    "notice": "Notice",
    "decision": "Decision",
    "reason": "Reason",
    "summary": "Summary",
    "skipped": "Slices not judged",
    "notes": "Notes on the series",
    "model": "Model",
    "bundle": "Model bundle",
    "use": "Intended use",
    "probability": "Calibrated probability of COVID-19 by the model",
    "slices": "Slices judged",
    "positive-slices": "Positive slices",
    "lung": "Lung area as a fraction of the body area",
    "lesion-share": "Opacities as a fraction of the lung area",
    "lesion-share-error": "Error of the fraction of the lung area",
}


def build_report(
    source: Any,
    judged: Sequence[JudgedFrame],
    result: SeriesResult,
    suspicious: Sequence[JudgedFrame],
    bundle: Bundle,
    reading: str | None = None,
) -> Any:
    """Build the report of a series.

    Args:
        source: The dataset of one object of the series.
        judged: The frames of the series.
        result: The result of the series.
        suspicious: Slices that are reported one by one.
        bundle: The bundle that judged the series.
        reading: How reviewers have read the series, if they have; it comes first, and makes another report.
    """
    from highdicom.sr import ComprehensiveSR, MeasurementReport, ObservationContext
    from highdicom.sr.coding import CodedConcept
    from highdicom.sr.value_types import TextContentItem
    from pydicom.sr.codedict import codes
    from pydicom.uid import ExplicitVRLittleEndian

    seal = bundle.seal
    voting = [frame for frame in judged if frame.row.probability is not None]
    shown = voting or judged[:1]
    groups = [
        _series_group(shown, result, bundle, seal),
        *(_slice_group(frame, bundle, seal) for frame in suspicious),
    ]
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(bundle, seal)),
        procedure_reported=CodedConcept("169069000", "SCT", "CT of chest"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    for name, text in [*([("reading", reading)] if reading else []), *_texts(result, bundle, seal)]:
        item = TextContentItem(name=_concept(name), value=text, relationship_type="CONTAINS")
        content[0].ContentSequence.append(item)
    report = ComprehensiveSR(
        evidence=_evidence(copy_source_attributes(source), [frame.attributes for frame in shown]),
        content=content[0],
        series_instance_uid=derive_uid("reports", result.study, result.series, seal),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derive_uid(
            "report", result.study, result.series, seal, result.digest, *([reading] if reading else [])
        ),
        instance_number=1,
        is_complete=True,
        series_description=f"edge-ct result. {RESEARCH}",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **equipment_arguments(),
    )
    copy_patient_name(report, source)
    return report


def _observer(bundle: Bundle, seal: str) -> Any:
    """Return the device that made the observations."""
    from highdicom.sr import ObserverContext
    from highdicom.sr.templates import DeviceObserverIdentifyingAttributes
    from pydicom.sr.codedict import codes

    return ObserverContext(
        codes.DCM.Device,
        DeviceObserverIdentifyingAttributes(
            uid=derive_uid("device", seal),
            name=MANUFACTURER,
            manufacturer_name=MANUFACTURER,
            model_name=bundle.manifest.name,
        ),
    )


def _texts(result: SeriesResult, bundle: Bundle, seal: str) -> list[tuple[str, str]]:
    """Return the text items of the report: concept and text."""
    verdict = result.verdict
    texts = [
        ("notice", f"RESEARCH USE ONLY. NOT A MEDICAL DEVICE. {RESEARCH}"),
        ("decision", _DECISIONS[result.decision]),
    ]
    if result.reason:
        texts.append(("reason", result.reason))
    if verdict:
        summary = (
            f"Mean probability {verdict.probability:.1%} over {count_of(verdict.slices, 'slice')} that show lung; "
            f"{verdict.positive_slices} of them positive"
        )
        texts.append(("summary", summary))
    if result.lesion_share is not None:
        texts.append(
            ("lesion-share-error", f"Opacities: {describe_share(result.lesion_share, bundle.manifest.lesions)}")
        )
    if result.skipped:
        counts = "; ".join(f"{count} x {reason}" for reason, count in sorted(result.skipped.items()))
        texts.append(("skipped", f"Not judged: {counts}"))
    geometry = [f"slice thickness {result.thickness:g} mm"] if result.thickness else []
    geometry += [f"median distance between slices {result.gap:g} mm"] if result.gap else []
    texts += [("notes", "; ".join((*geometry, *result.notes)))] if geometry or result.notes else []
    texts += [("model", bundle.manifest.name), ("bundle", f"SHA-256 {seal}"), ("use", bundle.manifest.intended_use)]
    return texts


def _concept(name: str) -> Any:
    from highdicom.sr.coding import CodedConcept

    return CodedConcept(name, SCHEME, _CONCEPTS[name])


def _algorithm(bundle: Bundle, seal: str) -> Any:
    """Return the identification of the model, with the parameters that its decisions depend on."""
    from highdicom.sr import AlgorithmIdentification

    manifest, rule = bundle.manifest, bundle.manifest.decision_rule
    parameters = [
        f"bundle SHA-256 {seal}",
        f"negative below {rule.negative_below:.4f}, positive from {rule.positive_from:.4f}",
    ]
    return AlgorithmIdentification(
        name=manifest.name, version=f"{__version__} {seal[:12]}", parameters=parameters, manufacturer=MANUFACTURER
    )


def _measurement(name: str, value: float, unit: tuple[str, str] = ("1", "no units")) -> Any:
    from highdicom.sr import Measurement
    from highdicom.sr.coding import CodedConcept

    return Measurement(name=_concept(name), value=value, unit=CodedConcept(unit[0], "UCUM", unit[1]))


def _share_measurements(share: float | None) -> list[Any]:
    """Return the measurement of the lesion share in per cent; nothing where it was not measured."""
    return [] if share is None else [_measurement("lesion-share", round(100 * share, 1), ("%", "percent"))]


def _decision(decision: str) -> Any:
    from highdicom.sr import QualitativeEvaluation
    from highdicom.sr.coding import CodedConcept

    return QualitativeEvaluation(_concept("decision"), CodedConcept(decision, SCHEME, _DECISIONS[decision]))


def _series_group(shown: Sequence[JudgedFrame], result: SeriesResult, bundle: Bundle, seal: str) -> Any:
    """Return the measurements of the series."""
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, TrackingIdentifier

    verdict = result.verdict
    measurements = [_measurement("slices", verdict.slices if verdict else 0)]
    if verdict:
        measurements.insert(0, _measurement("probability", round(verdict.probability, 4)))
        measurements.append(_measurement("positive-slices", verdict.positive_slices))
    measurements += _share_measurements(result.lesion_share)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(derive_uid("tracking", result.series, seal), "series"),
        algorithm_id=_algorithm(bundle, seal),
        measurements=measurements,
        qualitative_evaluations=[_decision(result.decision)],
        source_images=_source_images(shown),
    )


def _slice_group(frame: JudgedFrame, bundle: Bundle, seal: str) -> Any:
    """Return the measurements of one slice."""
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, TrackingIdentifier

    attributes, row = frame.attributes, frame.row
    assert row.probability is not None
    assert row.decision is not None
    position = "" if row.along is None else f" at {row.along:g} mm"
    uid = derive_uid("tracking", attributes.series, attributes.key, seal)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid, f"slice{position}"),
        algorithm_id=_algorithm(bundle, seal),
        measurements=[
            _measurement("probability", round(row.probability, 4)),
            _measurement("lung", round(row.lung or 0.0, 3)),
            *_share_measurements(row.areas.share if row.areas else None),
        ],
        qualitative_evaluations=[_decision(row.decision)],
        source_images=_source_images([frame]),
    )


def _source_images(judged: Sequence[JudgedFrame]) -> list[Any]:
    """Return references to the slices; all frames of one object share a reference."""
    from highdicom.sr import SourceImageForMeasurementGroup

    frames: dict[tuple[str, str], list[int]] = {}
    for frame in judged:
        frames.setdefault((frame.attributes.sop_class, frame.attributes.instance), []).append(frame.attributes.frame)
    return [
        SourceImageForMeasurementGroup(sop_class, instance, numbers if all(numbers) else None)
        for (sop_class, instance), numbers in frames.items()
    ]


def _evidence(copied: Any, frames: Sequence[FrameAttributes]) -> list[Any]:
    """Return the referenced objects, each once; highdicom reads patient and study from the first one only."""
    from pydicom.dataset import Dataset

    objects: list[Any] = []
    for attributes in {attributes.instance: attributes for attributes in frames}.values():
        dataset = Dataset() if objects else copied
        dataset.SOPClassUID, dataset.SOPInstanceUID = attributes.sop_class, attributes.instance
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = attributes.study, attributes.series
        objects.append(dataset)
    return objects
