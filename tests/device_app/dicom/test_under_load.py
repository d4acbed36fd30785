"""Many associations at once, and `kill -9` at random moments: no acknowledged object is lost or stored twice.

There are 300 objects and 6 kills; with EDGE_CT_LONG_TESTS=1 there are 2000 objects and 50 kills.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from edge_ct.device_app.dicom.receive.spool import Arrival
from edge_ct.device_app.worklist.queue import RECEIVED
from edge_ct.device_app.worklist.worklist import Worklist

from ...conftest import LONG
from .conftest import ROOT
from .processes import PATIENCE, Listen, wait_for

MakeCT = Callable[..., bytes]
OBJECTS, KILLS = (2000, 50) if LONG else (300, 6)
ASSOCIATIONS = 10

pytestmark = pytest.mark.slow


class Scanner(threading.Thread):
    """Sends one series, instance by instance, until all are acknowledged; calls again if it is cut off."""

    def __init__(
        self, port: int, patient: int, slices: int, templates: list[bytes], patience: float = PATIENCE
    ) -> None:
        super().__init__(daemon=True)
        self.port, self.patient, self.slices, self.templates = port, patient, slices, templates
        self.acknowledged: list[str] = []
        self.refused: list[int] = []
        self.stopped = False
        self._patience = patience

    def run(self) -> None:
        from pynetdicom import AE

        end = time.monotonic() + self._patience
        todo = list(range(self.slices))
        while todo and not self.stopped and time.monotonic() < end:
            entity = AE(ae_title=f"CT{self.patient}")
            entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = 30
            entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
            association = entity.associate("127.0.0.1", self.port, ae_title="EDGECT")
            if not association.is_established:
                time.sleep(0.05)
                continue
            while todo and association.is_established:
                dataset = self.object(todo[0])
                try:
                    answer = association.send_c_store(dataset)
                except (RuntimeError, ValueError):
                    break
                if answer.get("Status") is None:
                    break
                if answer.Status == 0:
                    self.acknowledged.append(str(dataset.SOPInstanceUID))
                    todo.pop(0)
                else:
                    self.refused.append(int(answer.Status))
            if association.is_established:
                association.release()

    def object(self, index: int) -> pydicom.Dataset:
        dataset = pydicom.dcmread(BytesIO(self.templates[index % len(self.templates)]))
        study = f"{ROOT}.500.{self.patient}"
        dataset.PatientID = f"patient-{self.patient}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.1"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{study}.1.{index}"
        dataset.InstanceNumber, dataset.ImagePositionPatient = index + 1, [0, 0, -2 * index]
        dataset.NumberOfSeriesRelatedInstances = self.slices
        return dataset


def in_worklist(state: Path) -> tuple[Counter[str], dict[str, int], Counter[str]]:
    """Instances in the queue of received objects, the queue's counts, and instances that have a result."""
    with Worklist(state, min_free=0) as worklist:
        queue = worklist.queue(RECEIVED)
        items = Counter(item.key for item in queue.items(limit=1 << 20))
        rows = Counter(str(row.instance) for row in worklist.rows(by="number"))
        assert worklist.verify().problem is None
        return items, queue.counts(), rows


def test_ten_associations_at_once(
    tmp_path: Path, tiny_bundle: Path, make_ct: MakeCT, free_ports: Callable[[int], list[int]]
) -> None:
    templates = [make_ct(index, size=256, of=4) for index in range(4)]
    (port,) = free_ports(1)
    listen = Listen(tiny_bundle, tmp_path / "state", port, "--quiet", "600", "--associations", str(ASSOCIATIONS))
    resident: list[int] = []
    try:
        per = OBJECTS // ASSOCIATIONS
        patience = PATIENCE + OBJECTS
        scanners = [Scanner(port, patient, per, templates, patience) for patient in range(ASSOCIATIONS)]
        for one in scanners:
            one.start()
        sent = lambda: sum(len(one.acknowledged) for one in scanners)  # noqa: E731
        while any(one.is_alive() for one in scanners):
            resident.append(listen.resident())
            time.sleep(0.2)
        assert sent() == per * ASSOCIATIONS
        assert not any(one.refused for one in scanners)
        end = time.monotonic() + patience
        while listen.log.read_text().count(" skipped") < ASSOCIATIONS:
            assert time.monotonic() < end, listen.log.read_text()[-2000:]
            resident.append(listen.resident())
            time.sleep(0.2)
    finally:
        listen.kill()
    items, counts, rows = in_worklist(tmp_path / "state")
    assert set(items.values()) == {1}
    assert counts == {"waiting": 0, "done": per * ASSOCIATIONS, "failed": 0}
    assert len(rows) == per * ASSOCIATIONS
    assert set(rows.values()) == {1}
    # Flat: the second half needs no more than the first, but for what one batch may hold.
    half = len(resident) // 2
    print(
        f"{sum(items.values())} objects; resident at most {max(resident) >> 20} MiB, "
        f"first half {max(resident[:half]) >> 20}, second half {max(resident[half:]) >> 20}"
    )
    assert max(resident[half:]) < 1.25 * max(resident[:half])


def test_kill_at_random_moments(
    tmp_path: Path, tiny_bundle: Path, make_ct: MakeCT, free_ports: Callable[[int], list[int]]
) -> None:
    templates = [make_ct(index, size=64, of=4) for index in range(4)]
    (port,) = free_ports(1)
    state, chance = tmp_path / "state", random.Random(20)
    scanners = [Scanner(port, patient, 100000, templates, 1e9) for patient in range(3)]
    try:
        for number in range(KILLS):
            listen = Listen(tiny_bundle, state, port, "--quiet", "3")
            for one in scanners:
                if number == 0:
                    one.start()
            before = sum(len(one.acknowledged) for one in scanners)
            wait_for(lambda before=before: sum(len(one.acknowledged) for one in scanners) > before)
            time.sleep(chance.uniform(0, 0.6))
            listen.kill()
            items, _, _ = in_worklist(state)
            missing = [uid for one in scanners for uid in list(one.acknowledged) if uid not in items]
            # A scanner may have counted nothing that the listener acknowledged after it was killed: it was dead.
            assert missing == []
    finally:
        for one in scanners:
            one.stopped = True
    for one in scanners:
        one.join(PATIENCE)
    acknowledged = {uid for one in scanners for uid in one.acknowledged}
    listen = Listen(tiny_bundle, state, port, "--quiet", "3")
    try:
        wait_for(lambda: in_worklist(state)[1]["waiting"] == 0)
        assert listen.stop() == 0
    finally:
        listen.kill()
    items, _, rows = in_worklist(state)
    assert acknowledged <= set(items)
    assert set(items.values()) == {1}
    assert acknowledged <= set(rows)
    assert set(rows.values()) == {1}
    files = {path.name for path in (state / "dicom" / "in").iterdir()}
    with Worklist(state, min_free=0) as worklist:
        import msgspec

        stored = [msgspec.json.decode(i.payload, type=Arrival) for i in worklist.queue(RECEIVED).items(limit=1 << 20)]
    assert {Path(one.file).name for one in stored} == files
    print(f"{KILLS} kills, {len(acknowledged)} acknowledged, {len(items)} in the worklist")
