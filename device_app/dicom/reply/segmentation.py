"""The opacities of a series as DICOM Segmentation: a binary mask of each slice that shows some.

The mask is where the lesion map, enlarged to the slice, gives P(lesion) of at least 0.5: the areas that the lesion
share is made of, with smooth borders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_ct import __version__
from edge_ct.bundle import Bundle
from edge_ct.imaging.lung_box import Box
from edge_ct.network_analysis.receptive_field import centres_in_slice, enlarge_map

from ...judging.dicom_frames import FrameAttributes, acquisition_order
from ...judging.series import JudgedFrame, SeriesResult
from ..uids import derive_uid
from .source_attributes import MANUFACTURER, RESEARCH, copy_patient_name, copy_source_attributes, equipment_arguments

SERIES_NUMBER = 9803
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_OUTSIDE = -8.0  # logit where the map does not look


def build_segmentation(
    headers: Mapping[str, Any], judged: Sequence[JudgedFrame], result: SeriesResult, bundle: Bundle
) -> Any | None:
    """Build the segmentation of a series.

    Args:
        headers: The datasets of the objects of the series by SOP instance UID, without their pixels.
        judged: The frames of the series.
        result: The result of the series.
        bundle: The bundle that judged it.

    Returns:
        The segmentation; None if the bundle has no lesion map, no slice shows opacities, or the slices differ in size
        or do not state where they lie in the patient, without which a segmentation is not valid.
    """
    from highdicom.seg import Segmentation
    from pydicom.uid import ExplicitVRLittleEndian

    frames = [frame for frame in judged if frame.lesion_map is not None and frame.row.probability is not None]
    sources, masks, chosen = [], [], []
    for frame in sorted(frames, key=lambda frame: acquisition_order(frame.attributes)):
        source = _geometry(headers[frame.attributes.instance], frame.attributes)
        if source is None:
            return None
        mask = lesion_mask(frame, (source.Rows, source.Columns))
        if mask.any():
            sources.append(source)
            masks.append(mask)
            chosen.append(frame.attributes)
    if len({(source.Rows, source.Columns, source.FrameOfReferenceUID) for source in sources}) != 1:
        return None
    seal = bundle.seal
    segmentation = Segmentation(
        source_images=sources,
        pixel_array=np.stack(masks),
        segmentation_type="BINARY",
        segment_descriptions=[_segment(bundle, seal)],
        series_instance_uid=derive_uid("segmentations", result.study, result.series, seal),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derive_uid("segmentation", result.study, result.series, seal, result.digest),
        instance_number=1,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_description=RESEARCH,
        content_label="OPACITIES",
        series_description=f"edge-ct opacities. {RESEARCH}",
        **equipment_arguments(),
    )
    _name_sources(segmentation, {source.SOPInstanceUID: frame for source, frame in zip(sources, chosen, strict=True)})
    copy_patient_name(segmentation, headers[chosen[0].instance])
    return segmentation


def lesion_mask(frame: JudgedFrame, shape: tuple[int, int]) -> np.ndarray:
    """Return where a judged slice shows opacities, uint8 [h, w], 1 for a lesion; `shape` is that of the slice."""
    assert frame.lesion_map is not None
    region = frame.region or Box(0, shape[0], 0, shape[1])
    centres = centres_in_slice(None, frame.lesion_map.shape, region, shape)
    # The map fades to 0 where it does not look, and a logit of 0 would be a lesion.
    logits = enlarge_map(frame.lesion_map - _OUTSIDE, shape[0], shape[1], centres) + _OUTSIDE
    return np.asarray(logits >= 0, np.uint8)


def _geometry(header: Any, attributes: FrameAttributes) -> Any | None:
    """Return what a segmentation needs of its source frame; None if the frame does not state where it lies."""
    known = (attributes.position, attributes.orientation, attributes.spacing, header.get("FrameOfReferenceUID"))
    if not all(known):
        return None
    source = copy_source_attributes(header)
    # highdicom takes several single-frame objects, or all frames of one: a frame stands for an object until
    # `_name_sources` puts the references right.
    source.SOPClassUID = CT_IMAGE
    source.SOPInstanceUID = derive_uid("frame", attributes.key) if attributes.frame else attributes.instance
    source.Rows, source.Columns = header.Rows, header.Columns
    source.ImagePositionPatient = list(attributes.position or ())
    source.ImageOrientationPatient = list(attributes.orientation or ())
    source.PixelSpacing = list(attributes.spacing or ())
    source.SliceThickness = attributes.thickness or ""
    return source


def _name_sources(segmentation: Any, frames: Mapping[str, FrameAttributes]) -> None:
    """Refer to the real objects, and to the frames in them.

    Args:
        segmentation: The segmentation, which is changed.
        frames: The instance UID that stands for a frame -> the frame.
    """
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        for reference in group.DerivationImageSequence[0].SourceImageSequence:
            frame = frames[reference.ReferencedSOPInstanceUID]
            reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = frame.sop_class, frame.instance
            if frame.frame:
                reference.ReferencedFrameNumber = frame.frame
    for series in segmentation.ReferencedSeriesSequence:
        objects = {}
        for reference in series.ReferencedInstanceSequence:
            frame = frames[reference.ReferencedSOPInstanceUID]
            reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = frame.sop_class, frame.instance
            objects[frame.instance] = reference
        series.ReferencedInstanceSequence = list(objects.values())


def _segment(bundle: Bundle, seal: str) -> Any:
    """Return the description of the only segment."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from highdicom.sr.coding import CodedConcept
    from pydicom.sr.codedict import codes

    return SegmentDescription(
        segment_number=1,
        segment_label="Pulmonary opacities",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=CodedConcept("263899003", "SCT", "Opacity"),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=bundle.manifest.name,
            family=codes.DCM.ArtificialIntelligence,
            version=f"{__version__} {seal[:12]}",
            source=MANUFACTURER,
        ),
        tracking_uid=derive_uid("opacities", seal),
        tracking_id="opacities",
    )
