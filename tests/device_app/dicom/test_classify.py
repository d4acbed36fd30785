"""`edge-ct classify study/`: what is shown of slices, series and patients, what is stored, and the exit code."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_ct import cli
from edge_ct.classifier import Classifier
from edge_ct.device_app.dicom.received_jobs import JudgeReceived
from edge_ct.device_app.judging.judge import InProcess
from edge_ct.device_app.watch.hot_folder import Watch
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.phantom import make_slice

from .conftest import ROOT, edited, enhanced, neck, to_bytes

MakeCT = Callable[..., bytes]
Run = Callable[..., tuple[int, list[Any]]]


@pytest.fixture
def run(tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Exit code and lines: objects with --json, else text."""

    def ran(*arguments: object) -> tuple[int, list[Any]]:
        fixed = ["--model", str(tiny_bundle), "--state", str(tmp_path / "state")]
        code = cli.run(["classify", *map(str, arguments), *fixed])
        lines = capfd.readouterr().out.splitlines()
        return code, [json.loads(line) for line in lines] if "--json" in arguments else lines

    return ran


@pytest.fixture
def chest(tmp_path: Path, make_ct: MakeCT) -> Path:
    """A whole study of one patient: from the neck down, a second kernel, a localiser and a reformat."""
    folder = tmp_path / "study"
    folder.mkdir()
    objects = {
        "0": make_ct(0, grey=neck()),
        **{f"{index}": make_ct(index) for index in range(1, 5)},
        "sharp": make_ct(3, series=4),
        "scout": make_ct(6, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], RescaleSlope=None, RescaleIntercept=None),
        "mpr": make_ct(7, ImageType=["DERIVED", "SECONDARY", "MPR"]),
    }
    for name, data in objects.items():
        (folder / f"{name}.dcm").write_bytes(data)
    return folder


def test_series_and_patients_are_means_of_what_shows_lung(run: Run, chest: Path) -> None:
    code, slices = run(chest, "--json")
    assert code == 0
    assert [Path(own["source"]).name for own in slices] == sorted(path.name for path in chest.iterdir())
    votes = {Path(own["source"]).stem: own["probability"] for own in slices if own["probability"] is not None}
    assert sorted(votes) == ["1", "2", "3", "4", "sharp"]
    code, series = run(chest, "--json", "--by", "series")
    assert code == 0
    assert [own["series"] for own in series] == [f"{ROOT}.1.2.3", f"{ROOT}.1.2.4"]
    first = series[0]
    assert first["probability"] == pytest.approx(sum(votes[name] for name in "1234") / 4)
    assert (first["slices"], first["rejected_slices"], sum(first["skipped"].values())) == (4, 3, 3)
    assert (first["study"], first["thickness"], first["gap"]) == (f"{ROOT}.1.2", 5, 5)
    code, (patient,) = run(chest, "--json", "--by", "patient")
    assert code == 0
    assert patient["series"] == [own["series"] for own in series]
    assert patient["probability"] == pytest.approx(sum(votes.values()) / 5)
    assert (patient["slices"], patient["rejected_slices"]) == (5, 3)


def test_the_table_ends_with_series_and_patients(run: Run, chest: Path) -> None:
    code, lines = run(chest)
    assert code == 0
    titles = [(number, line.split()) for number, line in enumerate(lines) if line.startswith("decision")]
    assert titles == [
        (n, ["decision", "P(COVID-19)", kind]) for n, kind in ((0, "slice"), (9, "series"), (12, "patient"))
    ]
    assert f"series {ROOT}.1.2.3: " in lines[10]
    assert " of 4 slices positive, 3 rejected" in lines[10]
    assert "patient " in lines[13]
    assert " of 5 slices positive, 3 rejected" in lines[13]
    assert len(lines) == 14
    assert run(chest, "--by", "patient")[1][1].split(":")[1] == lines[13].split(":")[1]


def test_patients_are_known_by_the_devices_key(run: Run, chest: Path, tmp_path: Path) -> None:
    """Nobody's PatientID is shown; without a device key the pseudonym is good for one run."""
    passing = {run(chest, "--json", "--by", "patient")[1][0]["patient"] for _ in range(2)}
    assert len(passing) == 2
    assert not (tmp_path / "state" / "device.key").exists()
    run(chest, "--worklist")
    with Worklist(tmp_path / "state") as worklist:
        key = worklist.pseudonym("id-1")
        assert {row.patient for row in worklist.rows()} == {key}
    assert [run(chest, "--json", "--by", "patient")[1][0]["patient"] for _ in range(2)] == [key, key]
    assert run(chest, "--json", "--by", "patient", "--patient", "id-1")[1][0]["patient"] == key


def test_csv_of_series_and_patients(run: Run, chest: Path) -> None:
    (row, _) = csv.DictReader(io.StringIO("\n".join(run(chest, "--csv", "--by", "series")[1])))
    assert (row["slices"], row["rejected_slices"]) == ("4", "3")
    assert "1 x a localiser" in row["skipped"].split("; ")
    (row,) = csv.DictReader(io.StringIO("\n".join(run(chest, "--csv", "--by", "patient")[1])))
    assert row["series"] == f"{ROOT}.1.2.3; {ROOT}.1.2.4"


def test_a_named_patient_of_other_slices(run: Run, tmp_path: Path) -> None:
    from PIL import Image

    for number in range(2):
        Image.fromarray(make_slice(number, 3, True, 64).image).save(tmp_path / f"{number}.png")
    assert run(tmp_path, "--json", "--by", "patient") == (0, [])
    code, (own,) = run(tmp_path, "--json", "--by", "patient", "--patient", "Maria")
    assert (code, own["slices"], own["series"]) == (0, 2, [])
    assert own["patient"] not in (None, "Maria")


def test_only_what_cannot_be_read_is_exit_code_3(run: Run, make_ct: MakeCT, tmp_path: Path) -> None:
    """Read and rejected: no lung, a localiser, derived, of another part, no slice at all. Everything else is 3."""
    from PIL import Image

    noise = make_slice(1, 3, True, 64).image
    read = {
        "neck.dcm": make_ct(0, grey=neck()),
        "scout.dcm": make_ct(1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "mpr.dcm": make_ct(2, ImageType=["DERIVED", "SECONDARY", "MPR"]),
        "head.dcm": make_ct(3, BodyPartExamined="HEAD"),
        "blank.dcm": make_ct(4, grey=noise * 0),
    }
    whole = make_ct(5)
    unread = {
        "cut.dcm": whole[:-500],
        "mr.dcm": make_ct(6, Modality="MR"),
        "report.dcm": make_ct(7, Modality="SR"),
        "bare.dcm": to_bytes(edited(whole, PixelData=None)),
        "huge.dcm": to_bytes(edited(whole, Rows=5000)),
        "text.dcm": b"no DICOM at all",
    }
    for wanted, objects in ((0, read), (3, unread)):
        for name, data in objects.items():
            (tmp_path / name).write_bytes(data)
            code, (own,) = run(tmp_path / name, "--json")
            assert (name, code, own["decision"], own["probability"]) == (name, wanted, "rejected", None)
            assert own["reason"]
    Image.fromarray(noise * 0).save(tmp_path / "blank.png")
    assert run(tmp_path / "blank.png", "--json")[0] == 0
    assert run(tmp_path / "gone.dcm", "--json")[0] == 3
    assert run(tmp_path / "*.nothing", "--json")[0] == 3


def test_frames_of_enhanced_ct_are_slices_of_a_series(run: Run, make_ct: MakeCT, tmp_path: Path) -> None:
    """Each with its row in the worklist, equal ones too, and a row again when they are judged again."""
    frame = make_slice(1, 3, True, 128).image
    (tmp_path / "enhanced.dcm").write_bytes(enhanced([frame, frame, neck()], make_ct))
    rows = [run(tmp_path / "enhanced.dcm", "--json", "--worklist", "--heatmap", tmp_path / "maps") for _ in range(2)]
    code, found = rows[0]
    assert code == 0
    assert [own["source"] for own in found] == [f"{tmp_path / 'enhanced.dcm'}#{number}" for number in (1, 2, 3)]
    assert [own["decision"] == "rejected" for own in found] == [False, False, True]
    assert [own["id"] for own in found] == [own["id"] for own in rows[1][1]] == [1, 2, 3]
    assert len(list((tmp_path / "maps").iterdir())) == 1  # equal pixels, one picture
    _, (series,) = run(tmp_path / "enhanced.dcm", "--json", "--by", "series")
    assert (series["slices"], series["rejected_slices"]) == (2, 1)


def test_watch_stores_every_frame(
    make_ct: MakeCT, tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that stalls in its last frame is waited for; then all of them are stored, and it is known."""
    data = enhanced([make_slice(1, 3, True, 128).image] * 3, make_ct)
    path = tmp_path / "hot" / "enhanced.dcm"
    path.parent.mkdir()
    path.write_bytes(data[:-5000])
    now = 0.0
    with Worklist(tmp_path / "state", min_free=0) as worklist:
        watch = Watch(path.parent, worklist, InProcess(Classifier(tiny_bundle)), 3.0, clock=lambda: now)

        def scan(seconds: float) -> int:
            nonlocal now
            now += seconds
            return len(list(watch.scan()))

        assert [scan(1), scan(4)] == [0, 0]
        path.write_bytes(data)
        assert [scan(1), scan(4), scan(4)] == [0, 3, 0]
        assert {row.source for row in worklist.rows()} == {f"{path}#{number}" for number in (1, 2, 3)}


def test_an_object_through_two_doors_is_one_row(make_ct: MakeCT, tmp_path: Path, tiny_bundle: Path) -> None:
    """What `listen` has stored is recognised by `watch`, frame by frame; a damaged frame and a skipped slice too."""
    frames = enhanced([make_slice(1, 3, True, 128).image] * 3, make_ct)
    objects = {"slice": make_ct(3), "neck": make_ct(0, grey=neck()), "frames": frames}
    objects["cut"] = to_bytes(edited(frames[:-5000], SOPInstanceUID=f"{ROOT}.77"))
    objects["scout"] = make_ct(6, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    classifier = Classifier(tiny_bundle)
    with Worklist(tmp_path / "state", min_free=0) as worklist:
        for name, data in objects.items():
            path = tmp_path / "hot" / f"{name}.dcm"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            ids = edited(data)
            job = JudgeReceived(path, str(ids.SOPInstanceUID), str(ids.SeriesInstanceUID))
            added = worklist.add_all([entry for _, entry in job(classifier)])
            assert all(one.new for one in added)
        now = 0.0
        watch = Watch(path.parent, worklist, InProcess(classifier), 3.0, clock=lambda: now)
        assert list(watch.scan()) == []
        now = 60.0
        again = list(watch.scan())
        assert len(again) == 1 + 1 + 3 + 3 + 1
        assert not any(added.new for added in again)
        assert sum(worklist.counts().values()) == len(again)
