"""The data check finds what was planted, and nothing in clean phantoms."""

import shutil
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_ct import cli
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.phantom import make_slice
from edge_ct.train.data import audit, contact_sheet, synthesise
from edge_ct.train.data.shortcuts import is_shortcut


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    synthesise.write_phantom_dataset(tmp_path / "data", patients=24, slices=1, size=96, seed=9)
    return tmp_path / "data"


def test_clean_phantoms_raise_no_warning(folder: Path) -> None:
    found = audit.check_dataset(folder, "COVID")
    assert found.n == 24
    assert found.classes == {"non-COVID": 12, "COVID": 12}
    assert (found.formats, found.channels) == ({"PNG": 24}, {"1": 24})
    assert found.sides == (96, 96.0, 96)
    assert (found.modes, found.depths) == ({"grey": 24}, {"8": 24})
    constant = {name for name, auc in found.shortcuts.items() if auc is None}
    assert constant == {"format", "mode", "depth", "channels", "size", "aspect", "all"}
    assert set(found.shortcuts) == constant | {"border", "window"}
    assert not found.duplicates + found.conflicts + found.unreadable
    assert not found.neighbour_conflicts
    assert not found.warnings


def test_planted_faults_are_found(folder: Path) -> None:
    one = sorted((folder / "COVID").glob("*.png"))[0]
    shutil.copy(one, folder / "COVID" / "copy.png")
    pixels = cv2.imread(str(one), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(folder / "non-COVID" / "retouched.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
    (folder / "COVID" / "broken.png").write_bytes(one.read_bytes()[:-30])
    found = audit.check_dataset(folder, "COVID")
    assert [sorted(files) for files in found.duplicates] == [sorted([f"COVID/{one.name}", "COVID/copy.png"])]
    assert {pair.second for pair in found.conflicts} | {pair.first for pair in found.conflicts} >= {
        "non-COVID/retouched.jpg"
    }
    assert [item.path for item in found.unreadable] == ["COVID/broken.png"]
    assert found.unreadable[0].reason.startswith("truncated")
    assert len(found.warnings) >= 4


def test_a_colour_mode_that_tells_the_label_is_a_shortcut(tmp_path: Path) -> None:
    for index in range(40):
        positive = index % 2 == 0
        pixels = make_slice(index, 3, positive, 64).image
        path = tmp_path / ("COVID" if positive else "non-COVID") / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.dstack([pixels] * 4) if positive else pixels)
    found = audit.check_dataset(tmp_path, "COVID")
    assert found.channels == {"4": 20, "1": 20}
    assert found.shortcuts["channels"] == 1.0
    assert found.shortcuts["size"] is None
    assert any(text.startswith("channels alone predicts") for text in found.warnings)


@pytest.mark.parametrize(
    ("mode", "depth", "suffix", "name"),
    [
        ("L", "8", "png", "grey"),
        ("LA", "8", "png", "grey+alpha"),
        ("P", "8", "png", "palette"),
        ("RGB", "8", "png", "RGB"),
        ("RGBA", "8", "png", "RGBA"),
        ("1", "1", "png", "grey"),
        ("L", "8", "jpg", "grey"),
        ("RGB", "8", "jpg", "YCbCr"),
        ("L", "8", "tif", "grey"),
        ("RGB", "8", "tif", "RGB"),
    ],
)
def test_colour_modes_as_pillow_writes_them(mode: str, depth: str, suffix: str, name: str, tmp_path: Path) -> None:
    """A palette and true colour both have three channels, and are told apart."""
    for label in ("COVID", "non-COVID"):
        (tmp_path / label).mkdir()
        picture = Image.fromarray(make_slice(len(label), 4, True, 64).image).convert(mode)
        picture.save(tmp_path / label / f"a.{suffix}")
    found = audit.check_dataset(tmp_path, "COVID")
    assert not found.unreadable
    assert (found.modes, found.depths) == ({name: 2}, {depth: 2})


def test_a_palette_that_tells_the_label_is_a_shortcut(tmp_path: Path) -> None:
    for index in range(40):
        path = tmp_path / ("COVID" if index % 2 else "non-COVID") / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        picture = Image.fromarray(make_slice(index, 3, index % 2 == 1, 64).image)
        picture.convert("P" if index % 2 else "RGB").save(path)
    found = audit.check_dataset(tmp_path, "COVID")
    assert found.modes == {"palette": 20, "RGB": 20}
    assert (found.shortcuts["mode"], found.shortcuts["channels"], found.shortcuts["all"]) == (1.0, None, 1.0)
    assert any(text.startswith("mode alone predicts") for text in found.warnings)


@pytest.mark.parametrize("planted", ["border", "window"])
def test_a_border_or_a_window_that_tells_the_label_is_a_shortcut(planted: str, tmp_path: Path) -> None:
    for index in range(40):
        positive = index % 2 == 1
        pixels = make_slice(index, 3, positive, 96).image
        if planted == "border":
            pixels[:2] = pixels[-2:] = 255 if positive else pixels[:2]
            pixels[40, 40:42] = 0, 255
        else:
            pixels = pixels // 2 + (70 if positive else 10)
        path = tmp_path / ("COVID" if positive else "non-COVID") / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), pixels)
    found = audit.check_dataset(tmp_path, "COVID")
    assert found.shortcuts[planted] > 0.95
    assert found.shortcuts["all"] is None
    assert any(text.startswith(f"{planted} alone predicts") for text in found.warnings)


def test_neighbours_that_the_hash_does_not_see(tmp_path: Path) -> None:
    """Five adjacent slices of one patient, and one of them, cropped, under the other label."""
    for index in range(10, 15):
        path = tmp_path / "COVID" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), make_slice(1, index, False, 160, seed=4, slices=60).image)
    (tmp_path / "non-COVID").mkdir()
    crop = make_slice(1, 12, False, 160, seed=4, slices=60).image[14:-6, 4:-16]
    cv2.imwrite(str(tmp_path / "non-COVID" / "crop.png"), crop)
    cv2.imwrite(str(tmp_path / "non-COVID" / "other.png"), make_slice(2, 12, False, 160, seed=4, slices=60).image)
    found = audit.check_dataset(tmp_path, "COVID", sheet=tmp_path / "pairs.png")
    conflict = found.neighbour_conflicts[0]
    assert {conflict.first, conflict.second} == {"COVID/12.png", "non-COVID/crop.png"}
    assert {conflict.first_label, conflict.second_label} == {"COVID", "non-COVID"}
    assert conflict.distance > 30
    assert conflict.similarity > 0.9
    assert not found.conflicts
    assert found.worst[0] == conflict
    assert found.neighbour_groups >= 1
    assert found.slices_in_neighbour_groups > found.slices_in_near_duplicate_groups
    assert any("look like one patient, with different labels" in text for text in found.warnings)
    page = cv2.imread(str(tmp_path / "pairs.png"), cv2.IMREAD_UNCHANGED)
    for pixels in (crop, cv2.imread(str(tmp_path / "COVID" / "12.png"), cv2.IMREAD_GRAYSCALE)):
        tile = contact_sheet.fit_to_square(pixels, 224)
        assert cv2.minMaxLoc(cv2.matchTemplate(page, tile, cv2.TM_SQDIFF))[0] == 0


def test_worst_pairs_are_listed_once_different_labels_first(folder: Path) -> None:
    one, two = sorted((folder / "COVID").glob("*.png"))[:2]
    shutil.copy(one, folder / "non-COVID" / "copy.png")
    shutil.copy(two, folder / "COVID" / "copy.png")
    found = audit.check_dataset(folder, "COVID")
    pairs = [(pair.first, pair.second) for pair in found.worst]
    assert len(set(pairs)) == len(pairs) <= 24
    assert {found.worst[0].first, found.worst[0].second} == {f"COVID/{one.name}", "non-COVID/copy.png"}
    differ = [pair.first_label != pair.second_label for pair in found.worst]
    assert differ == sorted(differ, reverse=True)
    assert sum(differ) == 12
    assert pairs[12] == tuple(sorted(("COVID/copy.png", f"COVID/{two.name}")))


def test_a_sheet_is_not_written_over_something_or_as_something_else(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_text("mine")
    with pytest.raises(EdgeCTError, match="already exists"):
        audit.check_dataset(folder, "COVID", sheet=tmp_path / "mine.png")
    with pytest.raises(EdgeCTError, match="is a PNG"):
        audit.check_dataset(folder, "COVID", sheet=tmp_path / "mine.jpg")
    audit.check_dataset(folder, "COVID", sheet=tmp_path / "mine.png", force=True)
    assert cv2.imread(str(tmp_path / "mine.png")) is not None


def test_the_command_draws_and_prints(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "check", str(folder), "--sheet", str(tmp_path / "pairs.png")]
    assert cli.run(arguments) == 0
    assert f"{tmp_path / 'pairs.png'}: " in capsys.readouterr().out
    assert cli.run([*arguments, "--json", "--force"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=audit.Audit)
    assert found == audit.check_dataset(folder, "COVID")


def test_a_set_of_unreadable_files_is_audited_all_the_same(tmp_path: Path) -> None:
    for label in ("COVID", "non-COVID"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.png").write_bytes(b"no")
    found = audit.check_dataset(tmp_path, "COVID", sheet=tmp_path / "pairs.png")
    assert (found.n, len(found.unreadable), found.worst, found.sides) == (0, 2, [], (0, 0.0, 0))
    assert set(found.shortcuts.values()) == {None}
    assert not (tmp_path / "pairs.png").exists()


def test_what_chance_gives_is_no_shortcut() -> None:
    """AUCs of random rankings of 12 and 15 slices: about 2.5 % of them are called a shortcut."""
    ranks = np.random.default_rng(0).permuted(np.tile(np.arange(1, 28), (20_000, 1)), axis=1)
    aucs = (ranks[:, :15].sum(axis=1) - 15 * 16 / 2) / (12 * 15)
    assert 0.02 < np.mean([is_shortcut(auc, 12, 15) for auc in aucs]) < 0.03
    assert not is_shortcut(None, 50, 50)
    assert not is_shortcut(1.0, 0, 50)
    assert not is_shortcut(0.59, 5000, 5000)
    assert is_shortcut(0.61, 5000, 5000)


def test_one_class_is_refused(folder: Path) -> None:
    shutil.rmtree(folder / "COVID")
    with pytest.raises(DataRejected, match="two sub-folders"):
        audit.check_dataset(folder, "COVID")


@pytest.mark.real
@pytest.mark.slow
def test_the_public_set(real_data: Path) -> None:
    found = audit.check_dataset(real_data / "sars-cov-2-ct", "COVID")
    assert found.n == 1985
    assert found.classes == {"non-COVID": 983, "COVID": 1002}
    assert not found.unreadable
    assert 50 < found.near_duplicate_groups < 100
    assert not found.conflicts + found.neighbour_conflicts
    assert 200 < found.neighbour_groups < 450
    assert (found.shortcuts["mode"], found.shortcuts["format"]) == (None, None)  # this copy's colours were taken out
    assert found.shortcuts["window"] > 0.7
    assert len(found.worst) == 24
