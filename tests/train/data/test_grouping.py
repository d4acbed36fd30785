"""Groups: of phantoms whose patients are known, of DICOM objects by their identifiers, and as a table to be edited."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edge_ct import cli, dataset
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.phantom import make_slice
from edge_ct.splits import split
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_bytes
from edge_ct.system.progress import Progress
from edge_ct.train.data import contact_sheet, grouping, synthesise
from edge_ct.train.data.similarity import LinkLimits


def save(path: Path, pixels: np.ndarray, suffix: str = ".png") -> None:
    write_bytes(path, cv2.imencode(suffix, pixels)[1].tobytes())


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 72 phantom slices, 112 px, of twelve patients: 6 neighbours in the middle of 24 each."""
    folder = tmp_path_factory.mktemp("grouping") / "phantoms"
    rows = []
    for patient in range(12):
        for index in range(8, 14):
            label = ("non-COVID", "COVID")[patient % 2]
            name = f"{label}/{patient:02d}-{index:02d}.png"
            save(folder / name, make_slice(patient, index, patient % 2 == 1, 112, seed=4, slices=24).image)
            rows.append((name, label, f"patient {patient}"))
    (folder / "slices.csv").write_text(to_csv(("path", "label", "group"), rows))
    return folder


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_links_are_within_patients_and_make_the_groups(phantoms: Path) -> None:
    slices = dataset.load(phantoms)
    patients = [path.name[:2] for path in slices.paths]
    found = grouping.group_slices(slices)
    within = [patients[link.first] == patients[link.second] for link in found.links]
    assert len(within) > 40
    assert np.mean(within) > 0.95
    assert not found.by_dicom.any()
    assert found.without_lungs == 0
    together = {(i, j) for i in range(72) for j in range(72) if found.groups[i] == found.groups[j]}
    chained = np.eye(72, dtype=bool)
    for link in found.links:
        chained[link.first, link.second] = chained[link.second, link.first] = True
    closure = np.linalg.matrix_power(chained.astype(float), 72) > 0
    assert together == {(int(i), int(j)) for i, j in np.argwhere(closure)}


def test_other_exports_of_a_slice_are_in_its_group(tmp_path: Path, phantoms: Path) -> None:
    """Another window, another size, a crop, JPEG; and a slice of someone else beside it."""
    original = make_slice(21, 10, True, 160, seed=4, slices=24).image
    save(tmp_path / "COVID/original.png", original)
    window = np.clip((original.astype(float) - 60) * 1.3, 0, 255)
    save(tmp_path / "COVID/window.png", window.astype(np.uint8))
    save(tmp_path / "COVID/large.png", cv2.resize(original, None, fx=1.7, fy=1.7, interpolation=cv2.INTER_CUBIC))
    save(tmp_path / "COVID/cropped.png", original[12:-8, 10:-4])
    save(tmp_path / "non-COVID/jpeg.jpg", original, ".jpg")
    save(tmp_path / "non-COVID/other.png", make_slice(22, 10, False, 160, seed=4, slices=24).image)
    slices = dataset.load(tmp_path)
    found = grouping.group_slices(slices)
    groups = {path.stem: name for path, name in zip(slices.paths, found.groups, strict=True)}
    same = {groups[name] for name in ("original", "window", "large", "cropped", "jpeg")}
    assert len(same) == 1
    assert groups["other"] not in same
    summary = grouping.summarise_grouping(slices, found, [path.name for path in slices.paths])
    assert summary.mixed == [*same]
    assert (summary.groups, summary.largest, summary.alone) == (2, 5, 1)
    assert summary.discordant_links >= 1
    assert any("with both labels" in text for text in summary.warnings)


def test_the_table_is_read_as_data(phantoms: Path, tmp_path: Path) -> None:
    out = tmp_path / "tables" / "groups.csv"
    summary = grouping.write_groups(phantoms, out, "COVID")
    slices = dataset.load(out)
    assert {path.resolve() for path in slices.paths} == {path.resolve() for path in phantoms.glob("*/*.png")}
    assert slices.groups is not None
    assert (len(set(slices.groups)), len(slices)) == (summary.groups, 72)
    labels = {Path(row["path"]).name: row["label"] for row in rows_of(out)}
    assert all(label == ("non-COVID", "COVID")[int(name[:2]) % 2] for name, label in labels.items())
    parts = split(slices, "grouped", seed=1)
    home: dict[str, set[str]] = {}
    for name, part in zip(slices.groups, parts, strict=True):
        home.setdefault(name, set()).add(part)
    assert all(len(own) == 1 for own in home.values())


def test_an_edited_table_is_what_counts(phantoms: Path, tmp_path: Path) -> None:
    out = tmp_path / "groups.csv"
    grouping.write_groups(phantoms, out, "COVID")
    rows = rows_of(out)
    edited = [(row["path"], row["label"], f"mine {int(Path(row['path']).name[:2])}") for row in rows]
    out.write_text(to_csv(("path", "label", "group"), edited))
    slices = dataset.load(out)
    assert set(slices.groups or ()) == {f"mine {patient}" for patient in range(12)}
    assert grouping.add_likely_groups(slices) is slices


def test_paths_hold_through_links(phantoms: Path, tmp_path: Path) -> None:
    """A folder that is a link to another depth: what `..` leads to is what counts, not what was typed."""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "short").symlink_to(deep)
    grouping.write_groups(phantoms, tmp_path / "short" / "groups.csv", "COVID")
    assert all(path.is_file() for path in dataset.load(tmp_path / "short" / "groups.csv").paths)
    (tmp_path / "data").symlink_to(phantoms)
    grouping.write_groups(tmp_path / "data", tmp_path / "groups.csv", "COVID")
    assert all(path.is_file() for path in dataset.load(tmp_path / "groups.csv").paths)


@pytest.mark.parametrize("name", ["a,b.png", 'say "no".png', "two\nlines.png", "return\r.png", " leading.png", "ü.png"])
def test_odd_names_survive(name: str, tmp_path: Path) -> None:
    save(tmp_path / "data" / "COVID" / name, make_slice(1, 4, True, 64).image)
    save(tmp_path / "data" / "non-COVID" / "b.png", make_slice(2, 4, False, 64).image)
    grouping.write_groups(tmp_path / "data", tmp_path / "groups.csv", "COVID")
    assert {path.name for path in dataset.load(tmp_path / "groups.csv").paths} == {name, "b.png"}


def test_a_name_that_is_not_utf8_is_refused_on_one_line(tmp_path: Path) -> None:
    save(tmp_path / "data" / "COVID" / "a.png", make_slice(1, 4, True, 64).image)
    save(tmp_path / "data" / "non-COVID" / "b.png", make_slice(2, 4, False, 64).image)
    file = tmp_path / "data" / "COVID" / "a.png"
    file.rename(file.with_name(os.fsdecode(b"caf\xe9.png")))
    with pytest.raises(DataRejected, match=r"caf\\udce9\.png': a file name that is not UTF-8") as caught:
        grouping.write_groups(tmp_path / "data", tmp_path / "groups.csv", "COVID")
    assert str(caught.value).isascii()
    assert not (tmp_path / "groups.csv").exists()


def test_groups_that_are_there_are_not_overruled(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(DataRejected, match="already has groups; ignore them with --regroup"):
        grouping.write_groups(phantoms / "slices.csv", tmp_path / "groups.csv", "COVID")
    assert not (tmp_path / "groups.csv").exists()


def test_agreement_with_the_groups_that_are_there(phantoms: Path, tmp_path: Path) -> None:
    """Pairwise precision and recall, against scikit-learn's pair confusion matrix."""
    from sklearn.metrics.cluster import pair_confusion_matrix

    out = tmp_path / "groups.csv"
    for limits in (LinkLimits(), LinkLimits(distance=60), LinkLimits(distance=0, overlap=1, similarity=1)):
        summary = grouping.write_groups(phantoms / "slices.csv", out, "COVID", limits, regroup=True, force=True)
        found = dataset.load(out)
        truth = [path.name[:2] for path in found.paths]
        (_, wrong), (missed, right) = pair_confusion_matrix(truth, found.groups)
        assert summary.recall == right / (right + missed)
        assert summary.precision == (right / (right + wrong) if right + wrong else None)
        assert summary.limits == limits
    assert (summary.groups, summary.alone, summary.precision, summary.recall) == (72, 72, None, 0)


@pytest.mark.parametrize("existing", ["groups.csv", "groups.png"])
def test_nothing_is_overwritten_unasked(existing: str, phantoms: Path, tmp_path: Path) -> None:
    (tmp_path / existing).write_text("mine")
    arguments: tuple[Any, ...] = (phantoms, tmp_path / "groups.csv", "COVID", None, tmp_path / "groups.png")
    with pytest.raises(EdgeCTError, match="already exists"):
        grouping.write_groups(*arguments)
    assert (tmp_path / existing).read_text() == "mine"
    grouping.write_groups(*arguments, force=True)
    assert len(rows_of(tmp_path / "groups.csv")) == 72


def test_the_table_that_is_read_is_not_overwritten(phantoms: Path) -> None:
    before = (phantoms / "slices.csv").read_bytes()
    with pytest.raises(EdgeCTError, match="is the table to read"):
        grouping.write_groups(phantoms / "slices.csv", phantoms / "slices.csv", "COVID", regroup=True, force=True)
    assert (phantoms / "slices.csv").read_bytes() == before


def test_unreadable_slices_are_named_and_counted(phantoms: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        for label in ("COVID", "non-COVID"):
            write_bytes(tmp_path / "data" / label / f"{name}.png", b"\x89PNG\r\n\x1a\nno")
    with pytest.raises(DataRejected, match=r"a\.png: .*\(and 3 more\); edge-ct data check"):
        grouping.write_groups(tmp_path / "data", tmp_path / "groups.csv", "COVID")
    assert not (tmp_path / "groups.csv").exists()


@pytest.fixture
def mixed(tmp_path: Path, write_ct: Callable[..., bytes]) -> Path:
    """DICOM of two patients, one nameless series, one object without identifiers; and PNG exports of some."""
    folder = tmp_path / "mixed"

    def ct(name: str, patient: int, index: int, **ids: str) -> None:
        grey = make_slice(patient, index, False, 96, seed=4).image
        stored = (grey.astype(np.int16) * 1500 // 255 - 1350 + 1024).clip(0).astype(np.uint16)
        write_bytes(folder / name, write_ct(stored, **ids))

    ct("COVID/1.dcm", 1, 1, PatientID="A 1", SeriesInstanceUID="1.2.1")
    ct("COVID/2.dcm", 1, 6, PatientID=" A 1 ", SeriesInstanceUID="1.2.2")
    ct("non-COVID/3.dcm", 2, 3, PatientID="B,2", SeriesInstanceUID="1.2.3")
    ct("non-COVID/4.dcm", 3, 1, PatientID="", SeriesInstanceUID="1.2.4")
    ct("non-COVID/5.dcm", 3, 6, PatientID="  ", SeriesInstanceUID="1.2.4")
    ct("non-COVID/6.dcm", 5, 3, PatientID="", SeriesInstanceUID="")
    save(folder / "COVID/7.png", make_slice(1, 1, False, 96, seed=4).image)
    save(folder / "COVID/8.jpg", make_slice(1, 1, False, 96, seed=4).image, ".jpg")
    return folder


@pytest.mark.filterwarnings("ignore:.*(VR UI|Invalid value):UserWarning")
def test_dicom_is_grouped_by_its_identifiers(mixed: Path, tmp_path: Path) -> None:
    summary = grouping.write_groups(mixed, tmp_path / "groups.csv", "COVID")
    groups = {Path(row["path"]).stem: row["group"] for row in rows_of(tmp_path / "groups.csv")}
    assert [groups[name] for name in "12345"] == [
        "patient-A 1",
        "patient-A 1",
        "patient-B,2",
        "series-1.2.4",
        "series-1.2.4",
    ]
    assert groups["6"].startswith("alike-")
    assert groups["7"].startswith("alike-")
    assert groups["7"] == groups["8"] != groups["6"]
    assert (summary.by_dicom, summary.groups, summary.alone) == (5, 5, 2)
    loaded = grouping.add_likely_groups(dataset.load(mixed))
    assert sorted(loaded.groups or ()) == sorted(groups.values())


def test_one_patient_for_all_dicom_is_pointed_at(tmp_path: Path, write_ct: Callable[..., bytes]) -> None:
    stored = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) // 2
    for label in ("COVID", "non-COVID"):
        write_bytes(tmp_path / "data" / label / "1.dcm", write_ct(stored, PatientID="ANONYMOUS"))
    summary = grouping.write_groups(tmp_path / "data", tmp_path / "groups.csv", "COVID")
    assert any("all DICOM slices are in patient-ANONYMOUS" in text for text in summary.warnings)
    assert summary.mixed == ["patient-ANONYMOUS"]
    with pytest.raises(DataRejected):
        split(dataset.load(tmp_path / "groups.csv"), "grouped", seed=0)


def test_a_chain_is_pointed_at(phantoms: Path, tmp_path: Path) -> None:
    summary = grouping.write_groups(phantoms, tmp_path / "groups.csv", "COVID", LinkLimits(distance=256))
    assert (summary.groups, summary.largest) == (1, 72)
    assert any("alike-00000 holds 72 of 72 slices" in text for text in summary.warnings)


def test_grouped_says_what_it_found(phantoms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = grouping.add_likely_groups(dataset.load(phantoms), progress=Progress())
    assert found.groups == grouping.group_slices(dataset.load(phantoms)).groups
    assert f"put into {len(set(found.groups or ()))} groups" in capsys.readouterr().err


def test_the_sheet_shows_the_largest_groups(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    draw = contact_sheet.draw_picture_sheet

    def listen(*arguments: Any) -> None:
        drawn.extend(arguments)
        draw(*arguments)

    monkeypatch.setattr(contact_sheet, "draw_picture_sheet", listen)
    summary = grouping.write_groups(phantoms, tmp_path / "groups.csv", "COVID", sheet=tmp_path / "groups.png")
    tiles, _, captions, title, path = drawn
    sizes: dict[str, list[str]] = {}
    for row in rows_of(tmp_path / "groups.csv"):
        sizes.setdefault(row["group"], []).append(row["path"])
    largest = min(sizes, key=lambda name: (-len(sizes[name]), name))
    assert captions[0].startswith(f"{largest}: {summary.largest} slices (")
    first = cv2.imread(str(tmp_path / sizes[largest][0]), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(tiles[0, 0], contact_sheet.fit_to_square(first, 128))
    weakest = summary.doubtful[0]
    row = next(row for row, text in enumerate(captions) if text.startswith("weak: "))
    assert captions[row].startswith(f"weak: {Path(weakest.first).stem}, {Path(weakest.second).stem} ")
    second = cv2.imread(str(tmp_path / weakest.second), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(tiles[row, 1], contact_sheet.fit_to_square(second, 128))
    assert f"the largest of {summary.groups} groups of 72 slices" in title[0]
    page = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert page is not None
    assert cv2.minMaxLoc(cv2.matchTemplate(page, tiles[0, 0], cv2.TM_SQDIFF))[0] == 0


def test_boxed_by_hand() -> None:
    wide = np.arange(8, dtype=np.uint8).reshape(2, 4)
    assert contact_sheet.fit_to_square(wide, 4).tolist() == [[128] * 4, [0, 1, 2, 3], [4, 5, 6, 7], [128] * 4]
    tall = contact_sheet.fit_to_square(np.full((300, 100), 7, np.uint8), 60)
    assert (tall[:, 20:40] == 7).all()
    assert (np.delete(tall, np.s_[20:40], axis=1) == 128).all()


def test_a_sheet_is_a_png(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeCTError, match=r"groups\.jpg: a contact sheet is a PNG"):
        grouping.write_groups(phantoms, tmp_path / "groups.csv", "COVID", sheet=tmp_path / "groups.jpg")


def test_the_command_prints_its_summary_as_json(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "groups.csv"
    assert cli.run(["data", "group", str(phantoms), "--out", str(out), "--similarity", "0.9", "--json"]) == 0
    said = capsys.readouterr().out
    summary = msgspec.json.decode(said, type=grouping.GroupingSummary)
    assert set(json.loads(said)) == set(grouping.GroupingSummary.__struct_fields__)
    assert summary.limits == LinkLimits(similarity=0.9)
    assert summary.groups == len({row["group"] for row in rows_of(out)})
    sheet = ["--sheet", str(tmp_path / "groups.png")]
    assert (
        cli.run(["data", "group", str(phantoms / "slices.csv"), "--regroup", "--out", str(out), "--force", *sheet]) == 0
    )
    text = capsys.readouterr().out
    assert "groups.png: the largest groups" in text
    assert "pairwise precision" in text
    assert f"72 slices in {len({row['group'] for row in rows_of(out)})} groups" in text


def test_the_command_has_the_library_s_limits() -> None:
    from edge_ct.train.data.commands import group

    defaults = {option.name: option.default for option in group.params}
    assert LinkLimits(*(defaults[name] for name in LinkLimits.__struct_fields__)) == LinkLimits()


def test_phantoms_of_the_demo_can_be_split_without_their_table(tmp_path: Path) -> None:
    """The folder, not its CSV: enough groups are found apart for three parts."""
    synthesise.write_phantom_dataset(tmp_path / "phantoms", patients=20, slices=4, size=96, seed=3)
    slices = grouping.add_likely_groups(dataset.load(tmp_path / "phantoms"))
    split(slices, "grouped", seed=0)


@pytest.mark.real
@pytest.mark.slow
def test_real_slices(real_data: Path, tmp_path: Path) -> None:
    """Every twelfth run of twenty files: patients follow each other in the public set's numbering."""
    folder, rows = real_data / "sars-cov-2-ct", []
    for label in ("COVID", "non-COVID"):
        names = sorted((folder / label).glob("*.png"), key=lambda path: int(path.stem.split("(")[1].rstrip(")")))
        rows += [(str(path), label) for start in range(0, len(names), 240) for path in names[start : start + 20]]
    table = tmp_path / "some.csv"
    table.write_text(to_csv(("path", "label"), rows))
    summary = grouping.write_groups(table, tmp_path / "groups.csv", "COVID")
    assert summary.n == len(rows) == 200
    assert (summary.mixed, summary.discordant_links, summary.without_lungs) == ([], 0, 0)
    assert summary.groups < 120
    assert summary.largest <= 20
