"""Checks of a received object before it is stored, and the DICOM status of a refusal (PS3.4, B.2.3; PS3.7, C)."""

from __future__ import annotations

from edge_ct import dicom
from edge_ct.errors import EdgeCTError, InputRejected
from edge_ct.imaging.frame_reader import FrameReader
from edge_ct.imaging.limits import check_sides

from ...judging import dicom_frames
from ...judging.dicom_frames import FrameAttributes
from ..uids import is_uid

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
NOT_OF_ITS_CLASS = 0xA900
CANNOT_UNDERSTAND = 0xC000
# Of the statuses that mean an error (PS3.4, B.2.3); its last digits are those of a duplicate instance (PS3.7, C.5.7).
INSTANCE_CONFLICT = 0xC111

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.2"
ACCEPTED = (CT, ENHANCED_CT, LEGACY_ENHANCED_CT)
TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.1",  # explicit, little endian
    "1.2.840.10008.1.2",  # implicit, little endian
    "1.2.840.10008.1.2.2",  # explicit, big endian
    "1.2.840.10008.1.2.1.99",  # deflated
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, first-order prediction
    "1.2.840.10008.1.2.4.80",  # JPEG-LS
    "1.2.840.10008.1.2.4.81",  # JPEG-LS, near-lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000, lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.5",  # RLE
)


class ObjectRefused(EdgeCTError):
    """A refused object.

    Attributes:
        status: DICOM status of the response.
        reason: Why the object was refused, without anything that identifies a patient.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def admit(data: bytes, sop_class: str, instance: str) -> list[FrameAttributes]:
    """Check a received object.

    Localisers and derived images are admitted: they belong to their series, whose result reports them as skipped.

    Args:
        data: The object, as the content of a DICOM file.
        sop_class: SOP class UID that the request states.
        instance: SOP instance UID that the request states.

    Returns:
        The attributes of each frame.

    Raises:
        ObjectRefused: The object must not be stored.
    """
    if sop_class not in ACCEPTED:
        shown = sop_class if is_uid(sop_class) else "malformed"
        raise ObjectRefused(NOT_OF_ITS_CLASS, f"SOP class {shown}; send CT images")
    try:
        dataset = dicom.read_dataset(data, "object")
        with dicom.reject_on_error("object"):
            if str(dataset.get("SOPClassUID")) != sop_class or str(dataset.get("SOPInstanceUID")) != instance:
                raise ObjectRefused(NOT_OF_ITS_CLASS, "SOP class or instance UID differs from the request")
            if dataset.get("Modality") != "CT":
                raise ObjectRefused(NOT_OF_ITS_CLASS, f"modality {dicom.quoted(dataset.get('Modality'))[:16]}, not CT")
            if "PixelData" not in dataset:
                raise ObjectRefused(NOT_OF_ITS_CLASS, "no pixel data")
            check_sides(int(dataset.Columns), int(dataset.Rows), "object")
            dicom.check_frame_count(dataset, "object")
            frames = dicom_frames.read_frame_attributes(dataset)
        if not all(is_uid(uid) for uid in (frames[0].instance, frames[0].study, frames[0].series)):
            raise ObjectRefused(NOT_OF_ITS_CLASS, "instance, study or series UID missing or malformed")
        votes = any(dicom_frames.reason_to_skip(attributes) is None for attributes in frames)
        if votes:
            dicom.check_header(dataset, "object")
        if votes and len(frames) > 1:
            # A damaged frame becomes a rejected slice; the others are judged.
            with FrameReader(data, "object") as reader:
                reader.check_any()
        else:
            if votes:
                dicom.check_rescale(dataset, 0, "object")
            dicom.check_pixels(dataset, "object")
    except InputRejected as error:
        raise ObjectRefused(CANNOT_UNDERSTAND, str(error).removeprefix("object: ")) from error
    return frames
