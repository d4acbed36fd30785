"""CT objects without what names a patient: PS3.15, E.1, the Basic Application Level Confidentiality Profile.

The table of attributes and its actions are dicom-anonymizer's; here they are applied in every sequence, UIDs become
others that stay consistent, and what the profile does not know is removed. Pixels are kept: objects that say that words
are burnt in are refused.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from edge_ct import __version__, dicom, slices
from edge_ct.errors import InputRejected
from edge_ct.system.files import write_bytes

from ..pseudonym import pseudonym
from .receive.admission import ACCEPTED

EDITION = "dicomfields_2026c"
METHOD = "PS3.15 Basic Application Level Confidentiality Profile"


def deidentify(data: bytes, source: str, key: bytes) -> bytes:
    """An object of a file's bytes -> another's. key: the device's; the same object gives the same UIDs and patient.

    Raises `InputRejected` for other objects than CT images, and for those with words burnt in.
    """
    from dicomanonymizer import anonymize_dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.sr.codedict import codes

    dataset = dicom.read_dataset(data, source)
    if dataset.get("SOPClassUID") not in ACCEPTED:
        raise InputRejected(f"{source}: no CT image; other objects may name a patient in pixels or text")
    if str(dataset.get("BurnedInAnnotation") or "NO") != "NO":
        raise InputRejected(f"{source}: words are burnt into its pixels")
    patient = pseudonym(key, str(dataset.get("PatientID") or "")) or ""
    rules = _rules(key)
    with dicom.reject_on_error(source):
        syntax, kind = dataset.file_meta.TransferSyntaxUID, dataset.SOPClassUID
        for level in _levels(dataset):
            _remove_unknown(level)
            anonymize_dataset(level, rules, delete_private_tags=True, base_rules_gen=_actions)
        dataset.PatientID = dataset.PatientName = patient
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = [METHOD, f"edge-ct {__version__}"]
        dataset.DeidentificationMethodCodeSequence = [_code(codes.DCM.BasicApplicationConfidentialityProfile)]
        dataset.LongitudinalTemporalInformationModified = "REMOVED"
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, kind
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta, dataset.preamble = meta, bytes(128)
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def export(paths: Iterable[Path], out: Path, key: bytes) -> Iterator[tuple[Path, str | None]]:
    """De-identify files into `out`, named after their new UIDs: (file written or refused, why it was refused)."""
    for path in paths:
        try:
            made = deidentify(slices.read_bytes(path), str(path), key)
        except InputRejected as error:
            yield path, str(error)
            continue
        dataset = dicom.read_dataset(made, "export", pixels=False)
        series, instance = (
            hashlib.sha256(str(dataset[name].value).encode()).hexdigest()[:16]
            for name in ("SeriesInstanceUID", "SOPInstanceUID")
        )
        target = out / series / f"{instance}.dcm"
        write_bytes(target, made)
        yield target, None


def _actions() -> dict[Any, Any]:
    from dicomanonymizer.simpledicomanonymizer import initialize_actions

    return dict(initialize_actions(EDITION))


def _rules(key: bytes) -> dict[Any, Callable[[Any, Any], None]]:
    """Stable UIDs in place of random ones, and X as the removal that it is."""
    from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector

    tags = dicom_anonymization_database_selector(EDITION)

    def replace(dataset: Any, tag: Any) -> None:
        element = dataset.get(tag)
        if element is not None and element.VR == "UI" and element.value:
            many = not isinstance(element.value, str)
            element.value = [_uid(key, one) for one in element.value] if many else _uid(key, element.value)

    def remove(dataset: Any, tag: Any) -> None:
        if tag in dataset:
            del dataset[tag]

    return {
        **dict.fromkeys(tags["U_TAGS"], replace),
        **{tag: remove for tag in tags["X_TAGS"] if len(tag) == 2},
    }


def _uid(key: bytes, uid: str) -> str:
    digest = hmac.new(key, b"uid " + str(uid).encode("utf-8", "backslashreplace"), hashlib.sha256).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _levels(dataset: Any) -> Iterator[Any]:
    """A dataset, then those in the sequences that are left of it, and so on."""
    yield dataset
    for element in list(dataset):
        if element.VR == "SQ":
            for item in element.value:
                yield from _levels(item)


def _remove_unknown(dataset: Any) -> None:
    """Attributes that no dictionary has, or whose type nobody could tell, may hold anything."""
    from pydicom.datadict import dictionary_has_tag

    for tag in list(dataset.keys()):
        repeating = tag.group & 0xFF01 in (0x5000, 0x6000)
        if not tag.is_private and not repeating and (not dictionary_has_tag(tag) or dataset[tag].VR == "UN"):
            del dataset[tag]


def _code(concept: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = concept.value, "DCM", concept.meaning
    return item
