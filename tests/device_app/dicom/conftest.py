"""Synthetic CT series as DICOM objects, written by pydicom, and DICOM peers made with pynetdicom."""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_ct.bundle import Bundle, read_bundle
from edge_ct.classifier import Classifier
from edge_ct.device_app.dicom.receive.listener import Listener, ListenerOptions
from edge_ct.device_app.dicom.receive.spool import Arrival, Spool
from edge_ct.device_app.judging import dicom_objects, series
from edge_ct.device_app.judging.series import JudgedFrame, SeriesResult
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.phantom import make_slice

pytest.importorskip("pynetdicom")
pytest.importorskip("highdicom")

ROOT = "1.2.826.0.1.3680043.8.498"
NAME = "Silva^Maria"

MakeCT = Callable[..., bytes]


def stored_of(grey: np.ndarray) -> np.ndarray:
    """uint8 in the lung window -> stored values, uint16 with an intercept of -1400, whose window is that grey again."""
    return (np.rint(grey.astype(float) * 1500 / 255 - 1350) + 1400).astype(np.uint16)


def neck(size: int = 128) -> np.ndarray:
    """uint8 [size, size]: a body without lungs."""
    y, x = np.mgrid[:size, :size] - size / 2
    return np.where(x**2 + y**2 < (0.35 * size) ** 2, 235, 0).astype(np.uint8)


def edited(data: bytes, **changes: Any) -> Any:
    """Return a parsed object with changed attributes (None removes one)."""
    import pydicom

    dataset = pydicom.dcmread(BytesIO(data))
    for name, value in changes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    if "SOPInstanceUID" in changes:
        dataset.file_meta.MediaStorageSOPInstanceUID = changes["SOPInstanceUID"]
    return dataset


def to_bytes(dataset: Any) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def enhanced(frames: list[np.ndarray], make_ct: MakeCT, syntax: str | None = None) -> bytes:
    """One multi-frame object: frame i 5 mm below the one before, its own intercept of -1400 - i, by PS3.3, A.38."""
    import pydicom

    dataset = edited(make_ct(0))
    for name in ("RescaleSlope", "RescaleIntercept", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, name)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"

    def item(**values: Any) -> Any:
        one = pydicom.Dataset()
        for name, value in values.items():
            setattr(one, name, value)
        return one

    dataset.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[1.5, 1.5], SliceThickness=5)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            CTImageFrameTypeSequence=[item(FrameType=["ORIGINAL", "PRIMARY", "AXIAL", "NONE"])],
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 500 - 5 * i])],
            PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=-1400 - i, RescaleType="HU")],
        )
        for i in range(len(frames))
    ]
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = np.stack([stored_of(own) + i for i, own in enumerate(frames)]).astype(np.uint16).tobytes()
    if syntax:
        dataset.compress(syntax, generate_instance_uid=False)
    return to_bytes(dataset)


@pytest.fixture
def make_ct(write_ct: Callable[..., bytes]) -> MakeCT:
    """One slice of a phantom series: index from the head down, 5 mm apart; further attributes (None removes one)."""

    def made(
        index: int = 3,
        patient: int = 1,
        series: int = 3,
        study: int = 2,
        of: int = 8,
        size: int = 128,
        grey: np.ndarray | None = None,
        **others: Any,
    ) -> bytes:
        pixels = make_slice(patient, index % of, patient % 2 == 1, size, 0, of).image if grey is None else grey
        instance = f"{ROOT}.{patient}.{study}.{series}.{index}"
        values = {
            "SOPInstanceUID": instance,
            "StudyInstanceUID": f"{ROOT}.{patient}.{study}",
            "SeriesInstanceUID": f"{ROOT}.{patient}.{study}.{series}",
            "PatientID": f"id-{patient}",
            "PatientName": NAME,
            "PatientBirthDate": "19500102",
            "PatientSex": "F",
            "StudyDate": "20260102",
            "StudyTime": "101112",
            "AccessionNumber": "A1",
            "ReferringPhysicianName": "Costa^Jo",
            "StudyID": "S1",
            "SeriesNumber": series,
            "InstanceNumber": index + 1,
            "ImagePositionPatient": [-100, -100, 500 - 5 * index],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [1.5, 1.5],
            "SliceThickness": 5,
            "BodyPartExamined": "CHEST",
            "FrameOfReferenceUID": f"{ROOT}.9",
        }
        meta = {"intercept": -1400, **{name: others.pop(name) for name in ("slope", "syntax") if name in others}}
        values.update({name: value for name, value in others.items() if value is not None})
        removed = {name: None for name, value in others.items() if value is None}
        data = write_ct(stored_of(pixels), **meta, BitsStored=16, **values)
        return to_bytes(edited(data, **{"SOPInstanceUID": values["SOPInstanceUID"], **removed}))

    return made


@dataclass
class Concluded:
    """A judged series of files, by its objects' instance UIDs."""

    result: SeriesResult
    judged: list[JudgedFrame]
    files: dict[str, Path]


def conclude(bundle: Bundle, paths: list[Path]) -> Concluded:
    """The files of one series, as `listen` judges what it has received."""
    classifier = Classifier(bundle)
    judged = [own for path in paths for own in dicom_objects.judge_object(classifier, path, path.name)]
    files = {own.attributes.instance: path for own, path in zip(judged, paths, strict=True)}
    return Concluded(series.conclude(classifier.manifest, judged), judged, files)


@pytest.fixture(scope="session")
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


@pytest.fixture
def free_ports() -> Iterator[Callable[[int], list[int]]]:
    """A number of ports on loopback that no other program is given before the test ends.

    A bound socket holds each port. As it does not listen, connections to the port are refused, and a server of the test
    may still listen there: both sides set SO_REUSEADDR.
    """
    with ExitStack() as held:

        def reserve(count: int) -> list[int]:
            sockets = [held.enter_context(socket.socket()) for _ in range(count)]
            for each in sockets:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                each.bind(("127.0.0.1", 0))
            return [int(each.getsockname()[1]) for each in sockets]

        yield reserve


class Receiver:
    """A C-STORE provider that stores what it receives; it answers `statuses` one by one, then success."""

    def __init__(self, title: str = "PACS", port: int = 0, context: Any = None) -> None:
        from pynetdicom import AE, AllStoragePresentationContexts, evt

        self.objects: list[Any] = []
        self.statuses: list[int] = []
        entity = AE(ae_title=title)
        entity.supported_contexts = AllStoragePresentationContexts
        entity.add_supported_context("1.2.840.10008.1.1")
        entity.require_called_aet = True
        self._server = entity.start_server(
            ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)], ssl_context=context
        )
        self.port = self._server.server_address[1]

    def _store(self, event: Any) -> int:
        status = self.statuses.pop(0) if self.statuses else 0
        if status == 0:
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            self.objects.append(dataset)
        return status

    def stop(self) -> None:
        self._server.shutdown()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    own = Receiver()
    yield own
    own.stop()


def store(
    port: int, objects: list[bytes], caller: str = "SCANNER", called: str = "EDGECT", **options: Any
) -> list[int]:
    """C-STORE objects as they are, without decoding them; the statuses, -1 where there was no answer."""
    import pydicom
    from pynetdicom import AE

    datasets = [pydicom.dcmread(BytesIO(data), force=True) for data in objects]
    entity = AE(ae_title=caller)
    entity.connection_timeout = entity.acse_timeout = 10
    for kind, syntax in {(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in datasets}:
        entity.add_requested_context(kind, syntax)
    association = entity.associate("127.0.0.1", port, ae_title=called, **options)
    if not association.is_established:
        return [-1] * len(objects)
    try:
        return [int(answer.Status) if (answer := association.send_c_store(one)) else -1 for one in datasets]
    finally:
        association.release()


Start = Callable[..., Listener]


@pytest.fixture
def worklist(tmp_path: Path) -> Iterator[Worklist]:
    with Worklist(tmp_path / "state", min_free=0) as own:
        yield own


@pytest.fixture
def spool(worklist: Worklist, tmp_path: Path) -> Spool:
    return Spool(tmp_path / "state" / "dicom", worklist, min_free=0)


@pytest.fixture
def arrived() -> list[Arrival]:
    return []


@pytest.fixture
def start(spool: Spool, arrived: list[Arrival], caplog: pytest.LogCaptureFixture) -> Iterator[Start]:
    running: list[Listener] = []
    caplog.set_level(logging.INFO, "edge_ct.listen")

    def started(**options: Any) -> Listener:
        running.append(Listener(spool, arrived.append, ListenerOptions(port=0, **options)))
        return running[-1]

    yield started
    for own in running:
        own.stop()


def held(spool: Spool) -> list[str]:
    """Everything in the spool's folder, leftovers of half-stored objects among them."""
    return sorted(path.name for path in (spool.folder / "in").iterdir())
