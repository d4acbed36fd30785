"""What several rooms' tests share: phantom data, DICOM objects, a small trained run, bundles."""

import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Each worker of pytest-xdist computes on one thread, and so does every program that a test starts: together the workers
# fill the processors already. No test asserts on a figure that depends on the number of threads.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")

import fcntl
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from edge_ct.bundle import write_bundle
from edge_ct.manifest import INTENDED_USE, Calibration, Data, Golden, Manifest, Network, OperatingPoint, Zone
from edge_ct.phantom import make_slice
from edge_ct.preprocess import Preprocess
from edge_ct.runtime import Runtime

# The same examples on every machine and every run; no deadline, as two cores may be shared.
EXAMPLES = int(os.environ.get("EDGE_CT_EXAMPLES", "100"))  # fewer where each takes long, as on an emulated processor
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=EXAMPLES)
settings.load_profile("repeatable")

# The tests that coverage listens to: see pyproject.toml.
COVERED = ("edge_ct", "device_app")

LONG = bool(os.environ.get("EDGE_CT_LONG_TESTS"))

# A shell starts what it puts into the background with SIGINT ignored, and so would be every program that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


_begin_thread, _beginning = threading.Thread.start, threading.Lock()


def _start_one_by_one(thread: threading.Thread) -> None:
    """Start a thread; while coverage listens, wait until it runs.

    Every thread then installs coverage's trace function as it begins. Where two do that at once, CPython 3.11 ends one
    of them before it has run (RuntimeError: Cannot install a trace function ...).
    """
    if threading.gettrace() is None:
        _begin_thread(thread)
        return
    running, run = threading.Event(), thread.run

    def begin() -> None:
        del thread.run  # so that the thread and this function do not keep each other
        running.set()
        run()

    thread.run = begin  # type: ignore[method-assign]
    with _beginning:
        _begin_thread(thread)
        running.wait()


threading.Thread.start = _start_one_by_one  # type: ignore[method-assign]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests marked `real` where there are no real slices, and leave tests of the training side out of coverage."""
    if config.getoption("cov_source", None):
        for item in items:
            if item.path.relative_to(Path(__file__).parent).parts[0] not in COVERED:
                item.add_marker("no_cover")
    if os.environ.get("EDGE_CT_DATA"):
        return
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.skip(reason="EDGE_CT_DATA does not point to the real slices"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real slices, `sars-cov-2-ct`, `dicom` and `ood` below it."""
    return Path(os.environ["EDGE_CT_DATA"])


@pytest.fixture
def write_ct() -> Callable[..., bytes]:
    """pydicom as the writer: stored pixels, slope, intercept, further attributes (None removes one) -> bytes."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    def written(
        stored: np.ndarray, slope: Any = 1, intercept: Any = -1024, syntax: str = ExplicitVRLittleEndian, **others: Any
    ) -> bytes:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.826.0.1.3680043.8.498.4"
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.2"
        dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.3"
        dataset.PatientID = "patient-17"
        dataset.Modality = "CT"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.Rows, dataset.Columns = stored.shape[:2]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 8 * stored.dtype.itemsize
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(stored.dtype.kind == "i")
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.PixelData = stored.tobytes()
        for name, value in others.items():
            if value is None:
                delattr(dataset, name)
            else:
                setattr(dataset, name, value)
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    return written


MakeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Make a folder once for all workers of pytest-xdist: the first one that asks makes it, the others wait.

    The function takes a name and a function that fills an empty folder, and returns the folder. Tests share it: they
    copy what they change.
    """
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, made = common / f"once-{name}", common / f"once-{name}.made"
        with (common / f"once-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                folder.mkdir()
                fill(folder)
                made.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def phantom_table(make_once: MakeOnce) -> Path:
    """slices.csv of 300 phantom slices, 96 px, of 150 patients."""
    from edge_ct.train.data import synthesise

    def fill(folder: Path) -> None:
        synthesise.write_phantom_dataset(folder / "phantoms", patients=150, slices=2, size=96, seed=5)

    return make_once("data", fill) / "phantoms" / "slices.csv"


@pytest.fixture(scope="session")
def trained_run(make_once: MakeOnce, phantom_table: Path) -> Path:
    """A finished run: CustomCNN, 48 px, ten epochs, grouped split; its AUC is about 0.9."""

    def fill(folder: Path) -> None:
        from edge_ct.train import fit

        options = fit.TrainingOptions(
            "customcnn", size=48, epochs=10, split="grouped", learning_rate=5e-3, batch=16, augment="flips", patience=50
        )
        fit.train(phantom_table, folder / "customcnn", options, resume=False, force=False)

    return make_once("run", fill) / "customcnn"


@pytest.fixture(scope="session")
def tiny_bundle(make_once: MakeOnce) -> Path:
    """An int8 bundle of an untrained CustomCNN at 32 px, with a made-up calibration and zone.

    EDGE_CT_TINY_BUNDLE names one that `write_tiny_bundle` made before, for a machine without TensorFlow.
    """

    def fill(folder: Path) -> None:
        made = os.environ.get("EDGE_CT_TINY_BUNDLE")
        if made:
            (folder / "tiny.tflite").write_bytes(Path(made).read_bytes())
        else:
            write_tiny_bundle(folder / "tiny.tflite")

    return make_once("bundle", fill) / "tiny.tflite"


def write_tiny_bundle(path: Path) -> None:
    """Make the `tiny_bundle`; needs the `convert` extra."""
    import keras

    from edge_ct.convert.networks import to_deployed_form
    from edge_ct.convert.options import FileFormat
    from edge_ct.convert.quantise import keras_to_tflite
    from edge_ct.runtime import read_tensors
    from edge_ct.train.zoo import build

    keras.utils.set_random_seed(1)
    preprocess = Preprocess(32)
    network = build(keras, "customcnn", 32)
    model = to_deployed_form(network)
    slices = np.stack([preprocess(make_slice(i, 3, i % 2 == 0, 64).image) for i in range(8)])
    flatbuffer = keras_to_tflite.to_flatbuffer(model, preprocess, FileFormat("int8"), slices)
    tensors = read_tensors(flatbuffer)
    runtime = Runtime(flatbuffer, tensors)
    golden, members = [], {}
    for number, image in enumerate(slices[:2]):
        name = f"golden/{number}.png"
        members[name] = _png(image)
        runtime.invoke(image)
        golden.append(Golden(name, tuple(float(value) for value in runtime.outputs().stored)))
    manifest = Manifest(
        schema=1,
        name="customcnn-32-int8",
        created="2026-01-01T00:00:00+00:00",
        variant="int8",
        network=Network("customcnn", None, network.count_params()),
        classes=("non-COVID", "COVID"),
        preprocess=preprocess,
        tensors=tensors,
        calibration=Calibration(1.5, -0.25, "validation", 40, 40),
        operating_point=OperatingPoint(0.4, 0.98),
        zone=Zone(0.95, 0.45, 0.55, 40, 40),
        golden=tuple(golden),
        data=Data("phantoms", "0" * 64, "grouped", 0, {"train": 8, "validation": 0, "test": 0}),
        gate=None,
        metrics={},
        metrics_n=0,
        versions={},
        licence="Apache-2.0",
        intended_use=INTENDED_USE,
        model_sha256="0" * 64,
    )
    members["split.csv"] = b"sha256,part\n"
    write_bundle(path, flatbuffer, manifest, members)


def _png(image: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".png", image)[1].tobytes()
