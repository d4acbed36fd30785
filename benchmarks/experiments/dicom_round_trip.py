"""From the last byte of a CT series to its structured report at the receiver, beside the bare model's time.

    python -m edge_ct.benchmarks.experiments.dicom_round_trip BUNDLE [SLICES]

`edge-ct listen` runs as a process of its own; this one is the scanner and the PACS. The clock starts before the last
object is sent, so that its own way counts, and stops when the report is here. The bare model's time is that of one
thread that runs the network, and nothing else, on the slices that show lung, in this process, right afterwards.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_ct.classifier import Classifier
from edge_ct.errors import EdgeCTError
from edge_ct.phantom import make_slice

SIDE = 512  # px
WITHOUT_LUNG = 0.3  # share of the slices: neck and abdomen
PATIENCE = 120.0
_CT, _EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
_REPORT = "1.2.840.10008.5.1.4.1.1.88.33"  # Comprehensive SR
_ROOT = "1.2.826.0.1.3680043.8.498.600"
_PICTURES = 12  # that are drawn; the others repeat them


def measure(bundle: Path, slices: int) -> dict[str, Any]:
    """Times in milliseconds, and their ratio. slices: of the series, at least 10."""
    from pynetdicom import AE, evt
    from pynetdicom.presentation import AllStoragePresentationContexts

    arrived: list[float] = []
    done = threading.Event()

    def store(event: Any) -> int:
        if event.request.AffectedSOPClassUID == _REPORT:
            arrived.append(time.perf_counter())
            done.set()
        return 0

    pacs = AE(ae_title="PACS")
    pacs.supported_contexts = AllStoragePresentationContexts
    server = pacs.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    with (
        tempfile.TemporaryDirectory() as folder,
        _Listen(bundle, Path(folder), f"PACS@127.0.0.1:{server.server_address[1]}") as port,
    ):
        # A first series of two slices: what is imported and allocated once is not the second one's.
        _send(port, _series(0, 2))
        _wait(done)
        done.clear()
        time.sleep(2)  # its heat maps are on their way still
        started, last = _send(port, _series(1, slices))
        _wait(done)
    server.shutdown()
    report = arrived[-1]
    voting = slices - round(WITHOUT_LUNG * slices)
    bare = _bare(bundle, voting)
    waited = 1000 * (report - last)
    return {
        "slices": slices,
        "with_lung": voting,
        "receiving_ms": round(1000 * (last - started), 1),
        "last_byte_to_report_ms": round(waited, 1),
        "bare_model_ms": round(bare, 3),
        "ratio": round(waited / bare, 2),
    }


class _Listen:
    """The device as a process, from its first word to its end."""

    def __init__(self, bundle: Path, state: Path, target: str) -> None:
        log = state / "log"
        arguments = [
            "--model",
            str(bundle),
            "--state",
            str(state),
            "--port",
            "0",
            "--to",
            target,
            "--min-free",
            "1",
        ]
        with log.open("wb") as file:
            self._process = subprocess.Popen([sys.executable, "-m", "edge_ct", "listen", *arguments], stderr=file)
        end = time.monotonic() + PATIENCE
        while not (found := re.search(rb":(\d+) listens", log.read_bytes())):
            if self._process.poll() is not None or time.monotonic() > end:
                self._process.kill()
                raise EdgeCTError(f"edge-ct listen did not start: {log.read_text()[-400:]}")
            time.sleep(0.05)
        self._port = int(found[1])

    def __enter__(self) -> int:
        return self._port

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def _send(port: int, objects: Iterator[Any]) -> tuple[float, float]:
    """Send a series in one association; when it began, and when the last object began to be sent."""
    from pynetdicom import AE

    entity = AE(ae_title="SCANNER")
    entity.maximum_pdu_size = 128 << 10
    entity.add_requested_context(_CT, _EXPLICIT)
    ready = list(objects)
    association = entity.associate("127.0.0.1", port, ae_title="EDGECT")
    if not association.is_established:
        raise EdgeCTError("edge-ct listen takes no association")
    started = last = time.perf_counter()
    for one in ready:
        last = time.perf_counter()
        if association.send_c_store(one).get("Status") != 0:
            raise EdgeCTError("edge-ct listen refused a slice")
    association.release()
    return started, last


def _series(number: int, slices: int) -> Iterator[Any]:
    """Synthetic CT objects, from the neck down."""
    from pydicom.dataset import Dataset, FileMetaDataset

    bare = round(WITHOUT_LUNG * slices)
    lungs = [_stored(make_slice(number, index, True, SIDE, 0, _PICTURES).image) for index in range(_PICTURES)]
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    neck = _stored(np.where(x**2 + y**2 < (0.3 * SIDE) ** 2, 235, 0).astype(np.uint8))
    for index in range(slices):
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = _EXPLICIT
        one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = _CT
        uid = f"{_ROOT}.{number}.{index}"
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID = uid
        one.StudyInstanceUID, one.SeriesInstanceUID = f"{_ROOT}.{number}", f"{_ROOT}.{number}.0.1"
        one.PatientID, one.Modality, one.ImageType = f"phantom-{number}", "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.InstanceNumber, one.ImagePositionPatient = index + 1, [0, 0, -index]
        one.ImageOrientationPatient, one.NumberOfSeriesRelatedInstances = [1, 0, 0, 0, 1, 0], slices
        one.Rows = one.Columns = SIDE
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated = one.BitsStored = 16
        one.HighBit, one.PixelRepresentation = 15, 0
        one.RescaleSlope, one.RescaleIntercept = 1, -1400
        one.PixelData = neck if index < bare else lungs[index % _PICTURES]
        yield one


def _stored(grey: np.ndarray) -> bytes:
    """uint8 in the lung window -> stored values whose window it is again."""
    return (np.rint(grey * (1500 / 255)) + 50).astype(np.uint16).tobytes()


def _bare(bundle: Path, count: int) -> float:
    """Milliseconds of the network alone for so many slices, one thread."""
    classifier = Classifier(bundle)
    images = [
        classifier.manifest.preprocess(make_slice(1, i, True, SIDE, 0, _PICTURES).image) for i in range(_PICTURES)
    ]
    for image in images:
        classifier.runtime.invoke(image)
    start = time.perf_counter()
    for index in range(count):
        classifier.runtime.invoke(images[index % _PICTURES])
    return 1000 * (time.perf_counter() - start)


def _wait(done: threading.Event) -> None:
    if not done.wait(PATIENCE):
        raise EdgeCTError(f"no report within {PATIENCE:.0f} s")


def main(bundle: str, slices: str = "300") -> None:
    """Print the measurement as JSON."""
    print(json.dumps(measure(Path(bundle), int(slices)), indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
