"""The provider: what it takes is on the disk before it says so; each refusal has its status and a line in the log."""

import errno
import logging
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from edge_ct.device_app.dicom.receive import listener as listening
from edge_ct.device_app.dicom.receive.listener import Listener, ListenerOptions
from edge_ct.device_app.dicom.receive.spool import Arrival, Spool
from edge_ct.device_app.worklist.queue import RECEIVED
from edge_ct.device_app.worklist.worklist import Worklist

from .conftest import NAME, ROOT, edited, held, store, to_bytes

MakeCT = Callable[..., bytes]
Start = Callable[..., Listener]
MIB = 1 << 20


def test_what_is_acknowledged_is_on_the_disk_and_in_the_worklist(
    start: Start, spool: Spool, worklist: Worklist, arrived: list[Arrival], make_ct: MakeCT
) -> None:
    objects = [make_ct(index) for index in range(4)]
    assert store(start().port, objects) == [0, 0, 0, 0]
    items = worklist.queue(RECEIVED).items()
    assert [item.key for item in items] == [f"{ROOT}.1.2.3.{index}" for index in range(4)]
    assert [one.instance for one in arrived] == [item.key for item in items]
    assert len({one.topic for one in arrived}) == 1
    for one, sent in zip(arrived, objects, strict=True):
        kept = pydicom.dcmread(spool.folder / one.file)
        assert kept.PixelData == pydicom.dcmread(BytesIO(sent)).PixelData
        assert (spool.folder / one.file).stat().st_mode & 0o777 == 0o600
    assert spool.used == sum(one.size for one in arrived)


def test_an_object_sent_twice_is_held_once(start: Start, arrived: list[Arrival], make_ct: MakeCT) -> None:
    assert store(start().port, [make_ct(1), make_ct(1)]) == [0, 0]
    assert len(arrived) == 1


def test_another_object_of_the_same_instance_is_refused(
    start: Start, spool: Spool, arrived: list[Arrival], make_ct: MakeCT, caplog: pytest.LogCaptureFixture
) -> None:
    """Another patient's slice under an instance UID that is held must not be acknowledged and then be lost."""
    first, other = make_ct(1), make_ct(1, PatientID="another")
    assert store(start().port, [first, other, first]) == [0, 0xC111, 0]
    assert len(arrived) == 1
    assert pydicom.dcmread(spool.folder / arrived[0].file).PatientID != "another"
    assert "another object with this SOP instance UID" in caplog.text
    assert spool.used == sum(path.stat().st_size for path in (spool.folder / "in").iterdir())


def test_echo(start: Start) -> None:
    from edge_ct.device_app.dicom.peers import Peer
    from edge_ct.device_app.dicom.send.targets import StoreTarget

    port = start().port
    assert StoreTarget(Peer("EDGECT", "127.0.0.1", port)).echo()
    assert not StoreTarget(Peer("OTHER", "127.0.0.1", port)).echo()


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5",
                                    "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"])  # fmt: skip
def test_transfer_syntaxes(start: Start, spool: Spool, arrived: list[Arrival], make_ct: MakeCT, syntax: str) -> None:
    from edge_ct import slices

    plain = make_ct(3)
    dataset = pydicom.dcmread(BytesIO(plain))
    if pydicom.uid.UID(syntax).is_encapsulated:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = syntax
    assert store(start().port, [to_bytes(dataset)]) == [0]
    read = slices.read(spool.folder / arrived[0].file).pixels
    assert np.array_equal(read, slices.decode(plain, "x").pixels)


@pytest.mark.skipif(not shutil.which("dcmcjpeg"), reason="dcmtk is not installed")
@pytest.mark.parametrize("option", ["+e1", "+el"])  # first-order prediction; any
def test_jpeg_lossless_by_dcmtk(
    start: Start, spool: Spool, arrived: list[Arrival], make_ct: MakeCT, tmp_path: Path, option: str
) -> None:
    from edge_ct import slices

    plain = make_ct(3)
    (tmp_path / "plain.dcm").write_bytes(plain)
    subprocess.run(["dcmcjpeg", option, "+un", tmp_path / "plain.dcm", tmp_path / "small.dcm"], check=True)
    assert store(start().port, [(tmp_path / "small.dcm").read_bytes()]) == [0]
    read = slices.read(spool.folder / arrived[0].file).pixels
    assert np.array_equal(read, slices.decode(plain, "x").pixels)


def nested(depth: int, explicit: bool) -> bytes:
    """ReferencedStudySequence in itself, `depth` times (PS3.5, 7.5)."""
    content = b""
    for _ in range(depth):
        size = len(content) if explicit else 0xFFFFFFFF
        item = struct.pack("<HHI", 0xFFFE, 0xE000, size) + content
        item += b"" if explicit else struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        size = len(item) if explicit else 0xFFFFFFFF
        content = struct.pack("<HH2sHI", 0x0008, 0x1110, b"SQ", 0, size) + item
        content += b"" if explicit else struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return content


def large_frame(make_ct: MakeCT) -> bytes:
    """64 megapixels in a few bytes: an RLE frame whose header says nothing of its size."""
    from pydicom.encaps import encapsulate

    dataset = edited(make_ct(), Rows=8192, Columns=8192)
    dataset.PixelData = encapsulate([struct.pack("<16I", 2, 64, 66, *([0] * 13)) + b"\x81\x00\x81\x00"])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.5"
    return to_bytes(dataset)


def hostile(make_ct: MakeCT) -> dict[str, tuple[bytes, int, str]]:
    """What is sent, the status it must get, and what the log must say."""
    whole = make_ct()
    at = whole.index(struct.pack("<HH2s", 0x0010, 0x0010, b"PN"))
    return {
        "wrong modality": (make_ct(Modality="MR"), 0xA900, "modality MR"),
        "no pixel data": (make_ct(PixelData=None), 0xA900, "no pixel data"),
        "truncated": (whole[:-1000], 0xC000, "truncated"),
        "64 megapixels": (large_frame(make_ct), 0xC000, "8192 x 8192"),
        "no Hounsfield units": (make_ct(RescaleSlope=None), 0xC000, "Hounsfield"),
        "colour": (make_ct(SamplesPerPixel=3), 0xC000, "colour"),
        "malformed series UID": (make_ct(SeriesInstanceUID="1.02.3"), 0xA900, "malformed"),
        "no study UID": (make_ct(StudyInstanceUID=""), 0xA900, "malformed"),
        "a sea of frames": (make_ct(NumberOfFrames=100000), 0xC000, "100000 frames"),
        **{
            f"300 nested sequences, {kind} length": (
                whole[:at] + nested(300, kind == "stated") + whole[at:],
                0xC000,
                "damaged or unsupported",
            )
            for kind in ("stated", "undefined")
        },
    }


CASES = (
    "wrong modality", "no pixel data", "truncated", "64 megapixels", "no Hounsfield units", "colour",
    "malformed series UID", "no study UID", "a sea of frames", "300 nested sequences, stated length",
    "300 nested sequences, undefined length",
)  # fmt: skip


def send_raw(port: int, data: bytes, sop_class: str | None = None) -> tuple[int, str]:
    """C-STORE a file's bytes behind its meta information, without parsing them: (status, error comment)."""
    from pynetdicom import AE
    from pynetdicom.dimse_primitives import C_STORE

    (length,) = struct.unpack_from("<I", data, 140)
    meta = pydicom.dcmread(BytesIO(data[: 144 + length]), force=True).file_meta
    entity = AE(ae_title="SCANNER")
    entity.add_requested_context(sop_class or meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="EDGECT")
    assert association.is_established
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID = sop_class or meta.MediaStorageSOPClassUID
    request.AffectedSOPInstanceUID = meta.MediaStorageSOPInstanceUID
    request.DataSet = BytesIO(data[144 + length :])
    association._reactor_checkpoint.clear()
    while not association._is_paused:
        pass
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    return int(answer.Status), str(answer.ErrorComment or "")


@pytest.mark.parametrize("name", CASES)
def test_refusals(
    start: Start, spool: Spool, arrived: list[Arrival], caplog: pytest.LogCaptureFixture, make_ct: MakeCT, name: str
) -> None:
    own = start()
    data, status, words = hostile(make_ct)[name]
    caplog.clear()
    got, comment = send_raw(own.port, data)
    assert f"{got:04X}" == f"{status:04X}"
    assert words in comment or len(comment) == 64
    (line,) = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert f"status {status:04X}" in line
    assert words in line
    assert held(spool) == []
    assert arrived == []
    assert store(own.port, [make_ct()]) == [0]  # and the next one is welcome


def test_wrong_sop_class_is_not_negotiated(start: Start, caplog: pytest.LogCaptureFixture, make_ct: MakeCT) -> None:
    mr = "1.2.840.10008.5.1.4.1.1.4"
    data = edited(make_ct(), SOPClassUID=mr)
    data.file_meta.MediaStorageSOPClassUID = mr
    assert store(start().port, [to_bytes(data)]) == [-1]
    assert f"offers unsupported SOP classes: {mr}" in caplog.text


def test_an_object_of_another_class_than_its_request(start: Start, make_ct: MakeCT) -> None:
    data = make_ct(SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    status, comment = send_raw(start().port, data, "1.2.840.10008.5.1.4.1.1.2")
    assert (status, comment) == (0xA900, "SOP class or instance UID differs from the request")


def test_unknown_callers(start: Start, caplog: pytest.LogCaptureFixture, make_ct: MakeCT) -> None:
    own = start(titles=["SCANNER"])
    assert store(own.port, [make_ct()], caller="STRANGER") == [-1]
    assert "association from STRANGER (127.0.0.1) refused: calling AE title not allowed" in caplog.text
    assert store(own.port, [make_ct()], called="ELSE") == [-1]
    assert "refused: called AE title is not that of this device" in caplog.text
    assert store(own.port, [make_ct()]) == [0]


def test_unknown_addresses(start: Start, caplog: pytest.LogCaptureFixture, make_ct: MakeCT) -> None:
    assert store(start(addresses=["192.0.2.0/24"]).port, [make_ct()]) == [-1]
    assert "(127.0.0.1) refused: address not allowed" in caplog.text
    assert store(start(addresses=["192.0.2.0/24", "127.0.0.0/8"]).port, [make_ct()]) == [0]


def test_an_object_over_the_limit_is_out_of_resources_and_not_kept_in_memory(
    start: Start, spool: Spool, caplog: pytest.LogCaptureFixture, make_ct: MakeCT
) -> None:
    own = start(max_object=100_000, max_memory=200_000)
    large = make_ct(3, size=512)
    assert len(large) > 500_000
    assert store(own.port, [large, make_ct(4)]) == [0xA700, 0]
    assert "status A700: object over 0 MiB" in caplog.text
    assert len(held(spool)) == 1


def test_spool_full(start: Start, spool: Spool, caplog: pytest.LogCaptureFixture, make_ct: MakeCT) -> None:
    one, two = make_ct(1), make_ct(2)
    spool.max_bytes = len(one) + 1000
    assert store(start().port, [one, two]) == [0, 0xA700]
    assert "status A700: out of resources" in caplog.text
    assert len(held(spool)) == 1


@pytest.mark.parametrize("where", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_disk_full(
    start: Start,
    spool: Spool,
    worklist: Worklist,
    monkeypatch: pytest.MonkeyPatch,
    make_ct: MakeCT,
    where: str,
    number: int,
) -> None:
    own = start()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as broken:
        broken.setattr(*((os, "fsync", full) if where == "fsync" else (Path, "replace", full)))
        assert store(own.port, [make_ct(1)]) == [0xA700]
    assert held(spool) == []
    assert worklist.queue(RECEIVED).items() == []
    assert spool.used == 0
    assert store(own.port, [make_ct(1)]) == [0]


def test_disk_really_full(start: Start, make_ct: MakeCT, tmp_path: Path) -> None:
    """A file system of 1 MiB."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], capture_output=True, check=False
    ).returncode:
        pytest.skip("no right to mount a small file system")
    try:
        with Worklist(tmp_path / "other", min_free=0) as worklist:
            spool = Spool(small, worklist, min_free=0)
            own = Listener(spool, lambda arrival: None, ListenerOptions(port=0))
            statuses = store(own.port, [make_ct(index, size=384) for index in range(5)])
            own.stop()
            assert statuses[0] == 0
            assert statuses[-1] == 0xA700
            files = sorted((small / "in").iterdir())
            assert len(files) == statuses.count(0)
            assert {path.name for path in files} == {
                Path(one.file).name
                for topic in worklist.queue(RECEIVED).topics()
                for one in spool.arrivals(topic.topic)
            }
    finally:
        subprocess.run(["umount", small], check=True)


def test_leftovers_of_a_crash_are_removed(spool: Spool, worklist: Worklist, start: Start, make_ct: MakeCT) -> None:
    assert store(start().port, [make_ct(1)]) == [0]
    kept = held(spool)
    (spool.folder / "in" / ".tmp-1-2-x.dcm").write_bytes(b"half")
    (spool.folder / "in" / ("0" * 40 + ".dcm")).write_bytes(b"not acknowledged")
    again = Spool(spool.folder, worklist, min_free=0)
    assert held(spool) == kept
    assert again.used == spool.used


def test_logs_hold_no_names(start: Start, caplog: pytest.LogCaptureFixture, make_ct: MakeCT) -> None:
    caplog.set_level(logging.DEBUG)
    own = start()
    surname = NAME.partition("^")[0]
    store(own.port, [make_ct(), make_ct(1, Modality=None), make_ct(2, StudyInstanceUID="1.2")])
    for odd in ({"SeriesInstanceUID": surname}, {"Modality": "MR", "PatientID": surname}, {"PixelData": None}):
        with pydicom.config.disable_value_validation():
            data = to_bytes(edited(make_ct(3), **odd))
        send_raw(own.port, data)
    assert "refused" in caplog.text
    assert surname not in caplog.text
    assert "id-1" not in caplog.text


def test_many_at_once(start: Start, spool: Spool, arrived: list[Arrival], make_ct: MakeCT) -> None:
    own = start(associations=6)
    results: dict[int, list[int]] = {}

    def send(patient: int) -> None:
        results[patient] = store(own.port, [make_ct(index, patient=patient, size=64) for index in range(8)])

    threads = [threading.Thread(target=send, args=(patient,)) for patient in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {patient: [0] * 8 for patient in range(6)}
    assert len(held(spool)) == len({one.instance for one in arrived}) == 48


def test_a_unit_that_claims_too_much_ends_its_connection(start: Start) -> None:
    import socket

    own = start()
    with socket.create_connection(("127.0.0.1", own.port), timeout=30) as peer:
        peer.sendall(struct.pack(">BBI", 1, 0, 0xFFFFFFF0))
        while peer.recv(1000):
            pass  # until it is closed


def test_port_in_use(start: Start, spool: Spool) -> None:
    from edge_ct.errors import EdgeCTError

    own = start()
    with pytest.raises(EdgeCTError, match="cannot listen"):
        Listener(spool, lambda arrival: None, ListenerOptions(port=own.port))


def test_libraries_are_silent() -> None:
    listening.silence_libraries()
    assert not logging.getLogger("pynetdicom.assoc").isEnabledFor(logging.ERROR)
    assert not logging.getLogger("pydicom").isEnabledFor(logging.ERROR)
