"""De-identification of CT objects by PS3.15, E.1: the Basic Application Level Confidentiality Profile.

The table of attributes and actions is that of dicom-anonymizer. It is applied in every sequence; UIDs are replaced
consistently; attributes that the profile does not know are removed. Pixels are kept, so objects that declare burned-in
annotations are refused.
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
from edge_ct.imaging.slice_files import list_slices
from edge_ct.system.files import write_bytes

from ..pseudonym import pseudonym
from .receive.admission import ACCEPTED

EDITION = "dicomfields_2026c"
METHOD = "PS3.15 Basic Application Level Confidentiality Profile"


def deidentify(data: bytes, source: str, key: bytes) -> bytes:
    """De-identify one object.

    Args:
        data: The content of a DICOM file.
        source: The name of the file, for messages.
        key: The device key; the same key gives an object the same new UIDs and patient key each time.

    Returns:
        The content of the new DICOM file.

    Raises:
        InputRejected: The object is not a CT image, or declares burned-in annotations.
    """
    return _deidentify(data, source, key)[0]


def export_files(paths: Iterable[Path], out: Path, key: bytes) -> Iterator[tuple[Path, str | None]]:
    """De-identify files into a folder; the new files are named after their new UIDs.

    Args:
        paths: DICOM files.
        out: The folder to write.
        key: The device key.

    Yields:
        The file that was written and None, or the file that was refused and the reason.
    """
    for path in paths:
        try:
            content, dataset = _deidentify(slices.read_bytes(path), str(path), key)
        except InputRejected as error:
            yield path, str(error)
            continue
        target = out / _short_name(dataset.SeriesInstanceUID) / f"{_short_name(dataset.SOPInstanceUID)}.dcm"
        write_bytes(target, content)
        yield target, None


def find_sources(sources: Iterable[Path]) -> Iterator[Path]:
    """Yield the files among `sources`, and the slice files in its folders."""
    for source in sources:
        yield from list_slices(source).with_unreadable if source.is_dir() else [source]


def _deidentify(data: bytes, source: str, key: bytes) -> tuple[bytes, Any]:
    """Return the content of the new file, and its dataset."""
    from dicomanonymizer import anonymize_dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.sr.codedict import codes

    dataset = dicom.read_dataset(data, source)
    if dataset.get("SOPClassUID") not in ACCEPTED:
        raise InputRejected(f"{source}: not a CT image; other objects may show the patient's name in pixels or text")
    if str(dataset.get("BurnedInAnnotation") or "NO") != "NO":
        raise InputRejected(f"{source}: declares burned-in annotations, which may name the patient; remove them first")
    patient = pseudonym(key, str(dataset.get("PatientID") or "")) or ""
    rules = _rules(key)
    with dicom.reject_on_error(source):
        syntax, sop_class = dataset.file_meta.TransferSyntaxUID, dataset.SOPClassUID
        for level in _nested_datasets(dataset):
            _remove_unknown(level)
            anonymize_dataset(level, rules, delete_private_tags=True, base_rules_gen=_profile_actions)
        dataset.PatientID = dataset.PatientName = patient
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = [METHOD, f"edge-ct {__version__}"]
        dataset.DeidentificationMethodCodeSequence = [_code_item(codes.DCM.BasicApplicationConfidentialityProfile)]
        dataset.LongitudinalTemporalInformationModified = "REMOVED"
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, sop_class
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta, dataset.preamble = meta, bytes(128)
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue(), dataset


def _short_name(uid: object) -> str:
    return hashlib.sha256(str(uid).encode()).hexdigest()[:16]


def _profile_actions() -> dict[Any, Any]:
    from dicomanonymizer.simpledicomanonymizer import initialize_actions

    return dict(initialize_actions(EDITION))


def _rules(key: bytes) -> dict[Any, Callable[[Any, Any], None]]:
    """Return actions that replace those of dicom-anonymizer: reproducible UIDs, and removal instead of emptying."""
    from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector

    tags = dicom_anonymization_database_selector(EDITION)

    def replace_uids(dataset: Any, tag: Any) -> None:
        element = dataset.get(tag)
        if element is not None and element.VR == "UI" and element.value:
            several = not isinstance(element.value, str)
            element.value = [_new_uid(key, uid) for uid in element.value] if several else _new_uid(key, element.value)

    def remove(dataset: Any, tag: Any) -> None:
        if tag in dataset:
            del dataset[tag]

    return {
        **dict.fromkeys(tags["U_TAGS"], replace_uids),
        **{tag: remove for tag in tags["X_TAGS"] if len(tag) == 2},
    }


def _new_uid(key: bytes, uid: str) -> str:
    digest = hmac.new(key, b"uid " + str(uid).encode("utf-8", "backslashreplace"), hashlib.sha256).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _nested_datasets(dataset: Any) -> Iterator[Any]:
    """Yield a dataset, then the items of its sequences, which are read only after the caller has edited the dataset."""
    yield dataset
    for element in list(dataset):
        if element.VR == "SQ":
            for item in element.value:
                yield from _nested_datasets(item)


def _remove_unknown(dataset: Any) -> None:
    """Remove attributes that no dictionary lists, or whose type is unknown: they may hold anything."""
    from pydicom.datadict import dictionary_has_tag

    for tag in list(dataset.keys()):
        repeating = tag.group & 0xFF01 in (0x5000, 0x6000)
        if not tag.is_private and not repeating and (not dictionary_has_tag(tag) or dataset[tag].VR == "UN"):
            del dataset[tag]


def _code_item(concept: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = concept.value, "DCM", concept.meaning
    return item
