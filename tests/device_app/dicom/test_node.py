"""From received objects to rows, reports and parcels; through restarts, and late arrivals."""

import json
import logging
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_ct.bundle import Bundle
from edge_ct.device_app.dicom.node import Node, NodeOptions
from edge_ct.device_app.dicom.peers import Peer
from edge_ct.device_app.dicom.receive.admission import admit
from edge_ct.device_app.dicom.receive.listener import Listener
from edge_ct.device_app.dicom.receive.listener import ListenerOptions as ListenOptions
from edge_ct.device_app.dicom.receive.spool import Arrival, Spool
from edge_ct.device_app.dicom.send.outbox import Outbox
from edge_ct.device_app.dicom.send.targets import StoreTarget
from edge_ct.device_app.worklist.queue import RECEIVED
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.errors import StorageFull

from ... import hostile
from .conftest import ROOT, Receiver, edited, neck, store, to_bytes

MakeCT = Callable[..., bytes]


class Device:
    """A worklist, a spool and a node that can be ended and begun again."""

    def __init__(self, folder: Path, bundle: Bundle, target: StoreTarget | None, **options: Any) -> None:
        self.folder, self.bundle, self.target, self.options = folder, bundle, target, options
        self.running = False

    def start(self) -> "Device":
        self.worklist = Worklist(self.folder, min_free=0)
        self.spool = Spool(self.folder / "dicom", self.worklist, min_free=0)
        targets = [self.target] if self.target else []
        options = NodeOptions(**{"quiet": 0.3, "captures": 2, **self.options})
        self.node = Node(self.worklist, self.spool, self.bundle, targets, options)
        self.node.start()
        self.running = True
        return self

    def take_all(self, objects: list[bytes]) -> None:
        """All of them before the node hears of the first, so that no pause between them passes for the end."""
        arrivals = [self.take(data, tell=False) for data in objects]
        for arrival in arrivals:
            assert arrival is not None
            self.node.arrived(arrival)

    def take(self, data: bytes, tell: bool = True) -> Arrival | None:
        """As the listener does."""
        meta = edited(data).file_meta
        arrival = self.spool.store(
            data, admit(data, str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID))[0]
        )
        if arrival and tell:
            self.node.arrived(arrival)
        return arrival

    def wait(self, parcels: int | None = None) -> None:
        """Until everything has its result, and so many parcels were delivered."""
        end = time.monotonic() + 120
        while self.node.clock.open_topics() or (
            parcels is not None and Outbox(self.worklist).counts()["done"] < parcels
        ):
            assert time.monotonic() < end, Outbox(self.worklist).counts()
            time.sleep(0.02)

    def stop(self) -> None:
        if self.running:
            self.node.stop()
            self.worklist.close()
        self.running = False


@pytest.fixture
def device(bundle: Bundle, tmp_path: Path, receiver: Receiver) -> Iterator[Device]:
    own = Device(tmp_path / "state", bundle, StoreTarget(Peer("PACS", "127.0.0.1", receiver.port)))
    yield own
    own.stop()


def test_objects_that_make_a_decoder_panic_are_rejected_rows(device: Device, make_ct: MakeCT) -> None:
    """They are acknowledged, so each has a row; good ones of another series are judged as ever."""
    damaged = []
    for number, content in enumerate(hostile.flipped_rle(60, 256)[:24]):
        dataset = edited(content)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.9.{number}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{ROOT}.8", f"{ROOT}.7"
        damaged.append(to_bytes(dataset))
    device.start().take_all([*damaged, *(make_ct(index) for index in range(3))])
    device.wait()
    rows = {row.source: row for row in device.worklist.rows(limit=100)}
    assert len(rows) == 24 + 3
    panicked = [row for row in rows.values() if "damaged or unsupported DICOM" in str(row.reason)]
    assert len(panicked) >= 1
    assert {row.decision for row in panicked} == {"rejected"}
    good = [row for row in rows.values() if row.series != f"{ROOT}.7"]
    assert len(good) == 3
    assert all("DICOM" not in str(row.reason) for row in good)


def test_a_series_is_judged_when_it_is_quiet(device: Device, receiver: Receiver, make_ct: MakeCT) -> None:
    device.start()
    device.take_all([make_ct(0, grey=neck()), *(make_ct(index) for index in range(1, 5))])
    device.wait(parcels=3)
    rows = device.worklist.rows(by="number")
    assert {row.instance for row in rows} == {f"{ROOT}.1.2.3.{index}" for index in range(5)}
    assert [row.instance for row in rows if row.decision == "rejected"] == [f"{ROOT}.1.2.3.0"]
    assert {row.origin for row in rows} == {"listen"}
    assert {row.patient for row in rows} == {device.worklist.pseudonym("id-1")}
    assert "id-1" not in {row.patient for row in rows}
    kinds = sorted(one.Modality for one in receiver.objects)
    assert kinds == ["OT", "OT", "SR"]
    assert receiver.objects[0].Modality == "SR"
    (told,) = [one for one in device.worklist.trail() if one["action"] == "series"]
    assert json.loads(str(told["detail"]))["skipped"] == {"too little lung in it": 1}
    assert device.spool.queue.counts() == {"waiting": 0, "done": 5, "failed": 0}
    assert device.worklist.verify().problem is None


def test_an_object_that_comes_while_its_series_gets_its_result_has_a_row(
    device: Device, make_ct: MakeCT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is judged after the rows were stored and before the series is closed: the series has a second result."""
    device.start()
    noted, late = device.worklist.note, [make_ct(2)]

    def note(origin: str, action: str, detail: Any) -> None:
        if action == "series" and late:
            arrival = device.take(late.pop())
            assert arrival is not None
            (open_series,) = device.node.clock._open.values()
            end = time.monotonic() + 60
            while open_series.pending:
                assert time.monotonic() < end
                time.sleep(0.01)
        noted(origin, action, detail)

    monkeypatch.setattr(device.worklist, "note", note)
    device.take(make_ct(1))
    device.wait()
    assert not late
    assert {row.instance for row in device.worklist.rows()} == {f"{ROOT}.1.2.3.{index}" for index in (1, 2)}
    told = [json.loads(str(one["detail"])) for one in device.worklist.trail() if one["action"] == "series"]
    assert [one["slices"] for one in told] == [1, 2]
    assert device.spool.queue.counts() == {"waiting": 0, "done": 2, "failed": 0}


def test_objects_whose_result_fails_have_rows(
    device: Device, make_ct: MakeCT, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(judged: Any) -> Any:
        raise ZeroDivisionError

    device.start()
    monkeypatch.setattr(device.node._judge, "conclude", fail)
    device.take_all([make_ct(index) for index in range(1, 3)])
    device.wait()
    assert "cannot be answered: ZeroDivisionError" in caplog.text
    assert len(device.worklist.rows()) == 2


def test_the_log_and_the_trail_have_the_patient_so_far(
    device: Device, make_ct: MakeCT, caplog: pytest.LogCaptureFixture
) -> None:
    """Of all series of the patient in the study: not of another patient, nor of an earlier study."""
    caplog.set_level(logging.INFO, "edge_ct.listen")
    device.start()
    for index, where in enumerate([{"study": 5}, {"patient": 2}, {}, {"series": 4}]):
        device.take_all([make_ct(1 + number, **where) for number in range(index + 1)])
        device.wait()
    lines = [record.getMessage() for record in caplog.records if "patient so far" in record.getMessage()]
    assert [line.rsplit(" over ", 1)[1] for line in lines] == ["1 slice", "2 slices", "3 slices", "7 slices"]
    assert "id-1" not in caplog.text
    told = [json.loads(str(one["detail"])) for one in device.worklist.trail() if one["action"] == "series"]
    own = {f"{ROOT}.1.2.3", f"{ROOT}.1.2.4"}
    votes = [row.probability for row in device.worklist.rows() if row.series in own and row.probability is not None]
    (last,) = [one["patient"] for one in told if one["series"] == f"{ROOT}.1.2.4"]
    assert last["slices"] == len(votes) == 7
    assert last["probability"] == pytest.approx(sum(votes) / 7)


def test_a_complete_series_is_judged_at_once(device: Device, make_ct: MakeCT) -> None:
    device.options["quiet"] = 3600
    device.start()
    for index in range(3):
        device.take(make_ct(index, NumberOfSeriesRelatedInstances=3))
    device.wait()
    assert len(device.worklist.rows()) == 3


def test_what_waits_is_judged_after_a_restart(device: Device, receiver: Receiver, make_ct: MakeCT) -> None:
    device.options["quiet"] = 3600
    device.start()
    for index in range(3):
        device.take(make_ct(index))
    device.stop()
    device.options["quiet"] = 0.3
    device.start().wait(parcels=3)
    assert len(device.worklist.rows()) == 3
    assert len(receiver.objects) == 3


def test_what_comes_late_makes_another_report_of_all(device: Device, receiver: Receiver, make_ct: MakeCT) -> None:
    device.start()
    device.take_all([make_ct(index) for index in range(2)])
    device.wait(parcels=3)
    for row in device.worklist.rows():
        differs = row.decision != "negative"
        device.worklist.review(row.id, "Dr Lima", *(("override", "negative") if differs else ("agree",)))
    device.take(make_ct(2))
    device.wait(parcels=6)
    reports = [one for one in receiver.objects if one.Modality == "SR"]
    assert len({one.SOPInstanceUID for one in reports}) == 2
    assert len({one.SeriesInstanceUID for one in reports}) == 1
    counts = [
        len(one.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence)
        for one in reports
    ]
    assert counts == [2, 3]
    # The reviewers' reading of the first two slices stands in the second report, before the model's decision.
    reading = "No findings of COVID-19, read by Dr Lima on 2 slices. This counts before the decision of the model."
    assert [reading in one.to_json() for one in reports] == [False, True]
    assert len(device.worklist.rows()) == 3


def test_two_patients_under_one_series_uid_are_two_series(device: Device, receiver: Receiver, make_ct: MakeCT) -> None:
    device.start()
    device.take(make_ct(0))
    device.take(to_bytes(edited(make_ct(1), PatientID="id-other")))
    device.wait(parcels=4)
    reports = [one for one in receiver.objects if one.Modality == "SR"]
    assert {one.PatientID for one in reports} == {"id-1", "id-other"}


def test_pixels_that_cannot_be_decoded_are_a_rejected_row(device: Device, make_ct: MakeCT) -> None:
    from io import BytesIO

    import pydicom
    from pydicom.encaps import encapsulate

    dataset = pydicom.dcmread(BytesIO(make_ct(1)))
    dataset.PixelData = encapsulate([struct.pack("<16I", 2, 64, 66, *([0] * 13)) + b"\x81\x00\x81\x00"])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.5"
    device.start()
    device.take_all([make_ct(0), to_bytes(dataset)])
    device.wait()
    decisions = {str(row.instance)[-1:]: row.decision for row in device.worklist.rows() if row.instance}
    assert len(device.worklist.rows()) == 2
    assert decisions.get("0") != "rejected"
    assert [row.decision for row in device.worklist.rows()].count("rejected") == 1


def test_a_series_without_lung_gets_a_report_that_says_so(device: Device, receiver: Receiver, make_ct: MakeCT) -> None:
    device.start()
    device.take_all([make_ct(index, grey=neck()) for index in range(2)])
    device.wait(parcels=1)
    (report,) = receiver.objects
    assert b"2 x too little lung in it" in to_bytes(report)
    assert [(row.decision, row.reason) for row in device.worklist.rows()] == [("rejected", "too little lung in it")] * 2


@pytest.mark.parametrize("objects", [1, 17])
def test_rows_that_find_the_disk_full_are_stored_later(
    device: Device,
    make_ct: MakeCT,
    objects: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Those of a series that is being received, which are stored in batches, and those that come with its result."""
    device.start()
    real, failures = device.worklist.add_all, [StorageFull("no room")]

    def add_all(entries: Any) -> Any:
        if entries and failures:
            raise failures.pop()
        return real(entries)

    monkeypatch.setattr(device.worklist, "add_all", add_all)
    device.take_all([make_ct(index) for index in range(objects)])
    device.wait()
    assert "no room" in caplog.text
    assert len(device.worklist.rows(limit=100)) == objects
    assert device.spool.queue.counts() == {"waiting": 0, "done": objects, "failed": 0}


def test_a_full_disk_delays_a_result_and_loses_none(
    device: Device,
    receiver: Receiver,
    make_ct: MakeCT,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "edge_ct.listen")
    device.start()
    real, failures = device.spool.write_out, [StorageFull("no room"), StorageFull("no room")]

    def write_out(instance: str, data: bytes) -> str:
        if failures:
            raise failures.pop()
        return real(instance, data)

    monkeypatch.setattr(device.spool, "write_out", write_out)
    device.take_all([make_ct(index) for index in range(2)])
    device.wait(parcels=3)
    assert caplog.text.count("has no result yet: no room") == 2
    assert len(receiver.objects) == 3


def test_identity_is_shown_only_where_that_is_asked_for(device: Device, make_ct: MakeCT) -> None:
    device.options["show_identity"] = True
    device.start()
    device.take(make_ct(0))
    device.wait()
    assert [row.patient for row in device.worklist.rows()] == ["id-1"]


def test_objects_are_forgotten_after_their_time(device: Device, make_ct: MakeCT) -> None:
    device.start()
    device.take(make_ct(0))
    device.wait(parcels=2)
    device.take(make_ct(0, series=4), tell=False)  # waits
    time.sleep(0.01)
    assert device.spool.delete_old(0) == 3
    assert len(list((device.spool.folder / "in").iterdir())) == 1
    assert device.spool.used == sum(path.stat().st_size for path in (device.spool.folder / "in").iterdir())


def test_nothing_else_is_kept_of_a_finished_series(device: Device, make_ct: MakeCT) -> None:
    device.start()
    device.take(make_ct(0))
    device.wait()
    assert device.node.clock.open_topics() == []


def test_the_whole_way_over_the_network(device: Device, receiver: Receiver, make_ct: MakeCT) -> None:
    device.options["quiet"] = 3600
    device.start()
    listener = Listener(device.spool, device.node.arrived, ListenOptions(port=0))
    try:
        counted = {"NumberOfSeriesRelatedInstances": 3}
        objects = [make_ct(index, patient=patient, **counted) for index in range(3) for patient in (1, 2)]
        assert store(listener.port, objects) == [0] * 6
        device.wait(parcels=6)
    finally:
        listener.stop()
    assert {one.PatientID for one in receiver.objects} == {"id-1", "id-2"}
    assert device.worklist.queue(RECEIVED).counts()["done"] == 6
