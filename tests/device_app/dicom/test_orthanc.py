"""A real PACS: Orthanc sends a study, the device answers, and Orthanc is asked over REST what it holds."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest

from edge_ct import cli, slices
from edge_ct.device_app.dicom.reply import structured_report

from .conftest import NAME, neck
from .processes import Listen, Orthanc, wait_for

SCRIPT = Path(__file__).resolve().parents[3] / "examples" / "orthanc" / "edge-ct.lua"
MakeCT = Callable[..., bytes]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("Orthanc"), reason="orthanc is not installed (apt-get install orthanc)"),
]


@pytest.fixture
def pair(tmp_path: Path, tiny_bundle: Path, free_ports: Callable[[int], list[int]]) -> Iterator[tuple[Orthanc, Listen]]:
    dicom, http, device = free_ports(3)
    orthanc = Orthanc(tmp_path / "orthanc", dicom, http, {"edgect": ("EDGECT", device)})
    options = ("--quiet", "3", "--allow-aet", "ORTHANC", "--to", f"ORTHANC@127.0.0.1:{dicom}", "--captures", "2")
    listen = Listen(tiny_bundle, tmp_path / "state", device, *options)
    try:
        yield orthanc, listen
        assert listen.stop() == 0
    finally:
        listen.kill()
        orthanc.stop()


def instances(orthanc: Orthanc, modality: str) -> list[str]:
    series = [orthanc.get(f"/series/{one}") for one in orthanc.get("/series")]
    return [i for one in series if one["MainDicomTags"].get("Modality") == modality for i in one["Instances"]]


def test_round_trip(pair: tuple[Orthanc, Listen], make_ct: MakeCT, tmp_path: Path) -> None:
    orthanc, listen = pair
    assert orthanc.post("/modalities/edgect/echo", "{}") is not None
    grown = {"NumberOfSeriesRelatedInstances": 6}
    objects = {index: make_ct(index, **({"grey": neck()} if index == 0 else {}), **grown) for index in range(6)}
    for data in objects.values():
        orthanc.post("/instances", data)
    (study,) = orthanc.get("/studies")
    orthanc.post("/modalities/edgect/store", study)

    wait_for(lambda: len(instances(orthanc, "SR")) == 1 and len(instances(orthanc, "OT")) == 2)
    assert orthanc.get("/studies") == [study]  # filed with its source
    assert len(orthanc.get(f"/studies/{study}")["Series"]) == 3

    (number,) = instances(orthanc, "SR")
    report = pydicom.dcmread(BytesIO(orthanc.get(f"/instances/{number}/file")))
    (listed,) = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    sent = {pydicom.dcmread(BytesIO(data)).SOPInstanceUID: data for index, data in objects.items() if index}
    assert {one.ReferencedSOPInstanceUID for one in listed.ReferencedSOPSequence} == set(sent)
    assert (str(report.PatientName), report.SOPClassUID.name) == (NAME, "Comprehensive SR Storage")
    from highdicom.sr import ComprehensiveSR

    ComprehensiveSR.from_dataset(report)
    (tmp_path / "report.dcm").write_bytes(orthanc.get(f"/instances/{number}/file"))
    if shutil.which("dsrdump"):
        done = subprocess.run(["dsrdump", "+Pl", tmp_path / "report.dcm"], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert "RESEARCH USE ONLY" in done.stdout

    for number in instances(orthanc, "OT"):
        capture = pydicom.dcmread(BytesIO(orthanc.get(f"/instances/{number}/file")))
        source = sent[capture.SourceImageSequence[0].ReferencedSOPInstanceUID]
        pixels = slices.decode(source, "x").pixels
        shown = capture.pixel_array[: pixels.shape[0]]
        grey = (shown == shown[:, :, :1]).all(axis=2)
        assert grey.mean() > 0.2
        assert np.array_equal(shown[grey][:, 0], pixels[grey])

    # Sent again, nothing is judged twice and Orthanc holds nothing twice.
    # (The series alone: the study now holds a report, which the device does not take.)
    before = sorted(orthanc.get("/instances"))
    (series,) = {orthanc.get(f"/instances/{one}")["ParentSeries"] for one in instances(orthanc, "CT")}
    orthanc.post("/modalities/edgect/store", series)
    again = wait_for(lambda: listen.log.read_text().count("is already stored") >= 6)
    assert again
    assert sorted(orthanc.get("/instances")) == before
    log = listen.log.read_text()
    assert NAME.partition("^")[0] not in log
    assert "Traceback" not in log


def test_the_script_of_the_examples(
    tmp_path: Path, tiny_bundle: Path, make_ct: MakeCT, free_ports: Callable[[int], list[int]]
) -> None:
    """Orthanc sends a series once it is stable, and notes the decision of the report that comes back."""
    dicom, http, device = free_ports(3)
    orthanc = Orthanc(tmp_path / "orthanc", dicom, http, {"edgect": ("EDGECT", device)}, scripts=[str(SCRIPT)])
    options = ("--quiet", "3", "--allow-aet", "ORTHANC", "--to", f"ORTHANC@127.0.0.1:{dicom}", "--captures", "0")
    listen = Listen(tiny_bundle, tmp_path / "state", device, *options)
    try:
        for index in range(3):
            orthanc.post("/instances", make_ct(index, NumberOfSeriesRelatedInstances=3))
        (study,) = orthanc.get("/studies")
        wait_for(lambda: "edge-ct" in orthanc.get(f"/studies/{study}/metadata"))
        decision = orthanc.get(f"/studies/{study}/metadata/edge-ct").decode()
        assert decision in structured_report._DECISIONS.values()
        assert len(instances(orthanc, "SR")) == 1
    finally:
        listen.kill()
        orthanc.stop()


def test_results_wait_for_a_pacs_that_is_away(
    tmp_path: Path, tiny_bundle: Path, make_ct: MakeCT, free_ports: Callable[[int], list[int]]
) -> None:
    """The device is ended before the PACS comes back; `edge-ct send` delivers what waits."""
    from .conftest import store

    dicom, http, device = free_ports(3)
    target = f"ORTHANC@127.0.0.1:{dicom}"
    listen = Listen(tiny_bundle, tmp_path / "state", device, "--quiet", "3", "--to", target, "--captures", "0")
    try:
        assert store(listen.port, [make_ct(i, NumberOfSeriesRelatedInstances=2) for i in range(2)]) == [0, 0]
        wait_for(lambda: "not delivered to" in listen.log.read_text())
    finally:
        listen.kill()
    orthanc = Orthanc(tmp_path / "orthanc", dicom, http, {"edgect": ("EDGECT", device)})
    try:
        assert cli.run(["send", "--to", target, "--state", str(tmp_path / "state"), "--again"]) == 0
        assert len(instances(orthanc, "SR")) == 1
    finally:
        orthanc.stop()
