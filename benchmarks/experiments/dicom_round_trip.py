"""The time from the last byte of a CT series to its structured report, compared with the bare model's time.

    python -m edge_ct.benchmarks.experiments.dicom_round_trip BUNDLE [SLICES]

`edge-ct listen` runs in a process of its own; this process is the scanner and the PACS. The clock starts before the
last object is sent, so that its transfer counts, and stops when the report arrives. The bare model's time is measured
right afterwards in this process: one thread runs the network, and nothing else, on the slices that show lung.
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
WITHOUT_LUNG = 0.3  # share of the slices that show neck or abdomen
TIMEOUT = 120.0  # seconds
_CT, _EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
_REPORT = "1.2.840.10008.5.1.4.1.1.88.33"  # Comprehensive SR
_ROOT = "1.2.826.0.1.3680043.8.498.600"
_PICTURES = 12  # different phantoms; the other slices repeat them


def measure(bundle: Path, slices: int) -> dict[str, Any]:
    """Return times in milliseconds and their ratio.

    Args:
        bundle: The bundle that the device judges with.
        slices: Number of slices of the series, at least 10.
    """
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
        # A first series of two slices takes the time of imports and allocations.
        _send(port, _series(0, 2))
        _wait(done)
        done.clear()
        time.sleep(2)  # until the heat maps of the first series have been sent
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
    """`edge-ct listen` as a process, ready when the constructor returns."""

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
        end = time.monotonic() + TIMEOUT
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
    """Send a series in one association; return when it began, and when sending the last object began."""
    from pynetdicom import AE

    entity = AE(ae_title="SCANNER")
    entity.maximum_pdu_size = 128 << 10
    entity.add_requested_context(_CT, _EXPLICIT)
    ready = list(objects)
    association = entity.associate("127.0.0.1", port, ae_title="EDGECT")
    if not association.is_established:
        raise EdgeCTError("edge-ct listen refused the association")
    started = last = time.perf_counter()
    for instance in ready:
        last = time.perf_counter()
        if association.send_c_store(instance).get("Status") != 0:
            raise EdgeCTError("edge-ct listen refused a slice")
    association.release()
    return started, last


def _series(number: int, slices: int) -> Iterator[Any]:
    """Yield synthetic CT objects, from the neck down."""
    from pydicom.dataset import Dataset, FileMetaDataset

    bare = round(WITHOUT_LUNG * slices)
    lungs = [_stored(make_slice(number, index, True, SIDE, 0, _PICTURES).image) for index in range(_PICTURES)]
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    neck = _stored(np.where(x**2 + y**2 < (0.3 * SIDE) ** 2, 235, 0).astype(np.uint8))
    for index in range(slices):
        instance: Any = Dataset()
        instance.file_meta = FileMetaDataset()
        instance.file_meta.TransferSyntaxUID = _EXPLICIT
        instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID = _CT
        uid = f"{_ROOT}.{number}.{index}"
        instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID = uid
        instance.StudyInstanceUID, instance.SeriesInstanceUID = f"{_ROOT}.{number}", f"{_ROOT}.{number}.0.1"
        instance.PatientID, instance.Modality, instance.ImageType = (
            f"phantom-{number}",
            "CT",
            ["ORIGINAL", "PRIMARY", "AXIAL"],
        )
        instance.InstanceNumber, instance.ImagePositionPatient = index + 1, [0, 0, -index]
        instance.ImageOrientationPatient, instance.NumberOfSeriesRelatedInstances = [1, 0, 0, 0, 1, 0], slices
        instance.Rows = instance.Columns = SIDE
        instance.SamplesPerPixel, instance.PhotometricInterpretation = 1, "MONOCHROME2"
        instance.BitsAllocated = instance.BitsStored = 16
        instance.HighBit, instance.PixelRepresentation = 15, 0
        instance.RescaleSlope, instance.RescaleIntercept = 1, -1400
        instance.PixelData = neck if index < bare else lungs[index % _PICTURES]
        yield instance


def _stored(grey: np.ndarray) -> bytes:
    """Return stored values that the lung window maps to these grey levels, uint8."""
    return (np.rint(grey * (1500 / 255)) + 50).astype(np.uint16).tobytes()


def _bare(bundle: Path, count: int) -> float:
    """Return the milliseconds that the network alone needs for `count` slices on one thread."""
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
    if not done.wait(TIMEOUT):
        raise EdgeCTError(f"no report within {TIMEOUT:.0f} s")


def main(bundle: str, slices: str = "300") -> None:
    """Print the measurement as JSON."""
    print(json.dumps(measure(Path(bundle), int(slices)), indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
