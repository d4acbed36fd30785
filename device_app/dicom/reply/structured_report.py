"""The result of a series as Comprehensive SR: an Imaging Measurement Report (PS3.16, TID 1500).

Names that no dictionary has are coded under 99EDGECT; nothing here is a diagnosis, and the text says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_ct import __version__
from edge_ct.bundle import Bundle

from ...judging.dicom_frames import FrameAttributes
from ...judging.series import JudgedFrame, SeriesResult
from ..uids import derived
from .source_attributes import MANUFACTURER, RESEARCH, equipment, name_patient, reference

SERIES_NUMBER = 9801
SCHEME = "99EDGECT"
_DECISIONS = {
    "positive": "Positive: findings as in COVID-19 are likely",
    "negative": "Negative: findings as in COVID-19 are unlikely",
    "refer": "Refer: too close to call",
    "rejected": "Rejected: not judged",
}


def build(
    source: Any, judged: Sequence[JudgedFrame], result: SeriesResult, telling: Sequence[JudgedFrame], bundle: Bundle
) -> Any:
    """The report. source: the dataset of an object of the series; telling: slices that get a line of their own."""
    from highdicom.sr import ComprehensiveSR, MeasurementReport, ObservationContext, ObserverContext
    from highdicom.sr.coding import CodedConcept
    from highdicom.sr.templates import DeviceObserverIdentifyingAttributes
    from highdicom.sr.value_types import TextContentItem
    from pydicom.sr.codedict import codes
    from pydicom.uid import ExplicitVRLittleEndian

    seal = bundle.seal
    device = ObserverContext(
        codes.DCM.Device,
        DeviceObserverIdentifyingAttributes(
            uid=derived("device", seal),
            name=MANUFACTURER,
            manufacturer_name=MANUFACTURER,
            model_name=bundle.manifest.name,
        ),
    )
    voting = [one for one in judged if one.row.probability is not None]
    shown = voting or judged[:1]
    groups = [_series_group(shown, result, bundle, seal), *(_slice_group(one, bundle, seal) for one in telling)]
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=device),
        procedure_reported=CodedConcept("169069000", "SCT", "CT of chest"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    for name, text in _texts(result, bundle, seal):
        item = TextContentItem(name=_own(name), value=text, relationship_type="CONTAINS")
        content[0].ContentSequence.append(item)
    report = ComprehensiveSR(
        evidence=_evidence(reference(source), [one.attributes for one in shown]),
        content=content[0],
        series_instance_uid=derived("reports", result.study, result.series, seal),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derived("report", result.study, result.series, seal, result.digest),
        instance_number=1,
        is_complete=True,
        series_description=f"edge-ct result. {RESEARCH}",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **equipment(),
    )
    name_patient(report, source)
    return report


def _texts(result: SeriesResult, bundle: Bundle, seal: str) -> list[tuple[str, str]]:
    verdict = result.verdict
    lines = [
        ("notice", f"RESEARCH USE ONLY. NOT A MEDICAL DEVICE. {RESEARCH}"),
        ("decision", _DECISIONS[result.decision]),
    ]
    if result.reason:
        lines.append(("reason", result.reason))
    if verdict:
        lines.append(
            ("summary", f"Mean probability {verdict.probability:.1%} of {verdict.slices} slices that show lung; "
                        f"{verdict.positive_slices} of them over the operating point")
        )  # fmt: skip
    if result.skipped:
        counts = "; ".join(f"{count} x {reason}" for reason, count in sorted(result.skipped.items()))
        lines.append(("skipped", f"Not judged: {counts}"))
    geometry = [f"slice thickness {result.thickness:g} mm"] if result.thickness else []
    geometry += [f"median distance of slices {result.gap:g} mm"] if result.gap else []
    lines += [("notes", "; ".join((*geometry, *result.notes)))] if geometry or result.notes else []
    lines += [("model", bundle.manifest.name), ("bundle", f"SHA-256 {seal}"), ("use", bundle.manifest.intended_use)]
    return lines


_NAMES: Mapping[str, str] = {
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
    "positive-slices": "Slices over the operating point",
    "lung": "Share of the body's area that is lung",
}


def _own(name: str) -> Any:
    from highdicom.sr.coding import CodedConcept

    return CodedConcept(name, SCHEME, _NAMES[name])


def _algorithm(bundle: Bundle, seal: str) -> Any:
    from highdicom.sr import AlgorithmIdentification

    manifest = bundle.manifest
    zone = manifest.zone
    parameters = [f"bundle SHA-256 {seal}", f"operating point {manifest.operating_point.threshold:.4f}"]
    if zone:
        parameters.append(
            f"positive from {zone.positive_from:.4f}, negative to {zone.negative_to:.4f}, level {zone.level}"
        )
    return AlgorithmIdentification(
        name=manifest.name, version=f"{__version__} {seal[:12]}", parameters=parameters, manufacturer=MANUFACTURER
    )


def _number(name: str, value: float, unit: tuple[str, str] = ("1", "no units")) -> Any:
    from highdicom.sr import Measurement
    from highdicom.sr.coding import CodedConcept

    return Measurement(name=_own(name), value=value, unit=CodedConcept(unit[0], "UCUM", unit[1]))


def _decision(decision: str) -> Any:
    from highdicom.sr import QualitativeEvaluation
    from highdicom.sr.coding import CodedConcept

    return QualitativeEvaluation(_own("decision"), CodedConcept(decision, SCHEME, _DECISIONS[decision]))


def _series_group(shown: Sequence[JudgedFrame], result: SeriesResult, bundle: Bundle, seal: str) -> Any:
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, TrackingIdentifier

    verdict = result.verdict
    measurements = [_number("slices", verdict.slices if verdict else 0)]
    if verdict:
        measurements.insert(0, _number("probability", round(verdict.probability, 4)))
        measurements.append(_number("positive-slices", verdict.positive_slices))
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(derived("tracking", result.series, seal), "series"),
        algorithm_id=_algorithm(bundle, seal),
        measurements=measurements,
        qualitative_evaluations=[_decision(result.decision)],
        source_images=_images(shown),
    )


def _slice_group(one: JudgedFrame, bundle: Bundle, seal: str) -> Any:
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, TrackingIdentifier

    facts, row = one.attributes, one.row
    assert row.probability is not None
    assert row.decision is not None
    place = "" if row.along is None else f" at {row.along:g} mm"
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(derived("tracking", facts.series, facts.key, seal), f"slice{place}"),
        algorithm_id=_algorithm(bundle, seal),
        measurements=[_number("probability", round(row.probability, 4)), _number("lung", round(row.lung or 0.0, 3))],
        qualitative_evaluations=[_decision(row.decision)],
        source_images=_images([one]),
    )


def _images(judged: Sequence[JudgedFrame]) -> list[Any]:
    """References to the slices; the frames of one object in one reference."""
    from highdicom.sr import SourceImageForMeasurementGroup

    frames: dict[tuple[str, str], list[int]] = {}
    for one in judged:
        frames.setdefault((one.attributes.sop_class, one.attributes.instance), []).append(one.attributes.frame)
    return [
        SourceImageForMeasurementGroup(kind, instance, numbers if all(numbers) else None)
        for (kind, instance), numbers in frames.items()
    ]


def _evidence(taken: Any, facts: Sequence[FrameAttributes]) -> list[Any]:
    """What is referred to, an object once: of patient and study highdicom looks at the first alone."""
    from pydicom.dataset import Dataset

    found: list[Any] = []
    for one in {own.instance: own for own in facts}.values():
        own = Dataset() if found else taken
        own.SOPClassUID, own.SOPInstanceUID = one.sop_class, one.instance
        own.StudyInstanceUID, own.SeriesInstanceUID = one.study, one.series
        found.append(own)
    return found
