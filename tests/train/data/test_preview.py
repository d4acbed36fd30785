"""The contact sheet: what it shows is what training draws, and it is written whole or not at all."""

import json
from pathlib import Path
from typing import Any

import click
import cv2
import msgspec
import numpy as np
import pytest

from edge_ct import cli
from edge_ct.dataset import load, load_images
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.preprocess import Preprocess
from edge_ct.train.data import preview, synthesise
from edge_ct.train.data.augment import POLICIES, Augment
from edge_ct.train.data.preview import PreviewOptions
from edge_ct.train.plots import picture_sheet
from edge_ct.train.plots.picture_sheet import draw_picture_sheet


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """slices.csv of twelve phantom slices of 128 px."""
    return synthesise.write_phantom_dataset(
        tmp_path_factory.mktemp("preview") / "phantoms", patients=6, slices=2, size=128, seed=2
    )


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return picture


def find(tile: np.ndarray, page: np.ndarray) -> tuple[int, int]:
    """Where on the page the tile is, pixel for pixel: row, column of its corner."""
    distance = cv2.matchTemplate(page, tile, cv2.TM_SQDIFF)
    _, _, (column, row), _ = cv2.minMaxLoc(distance)
    assert np.array_equal(page[row : row + len(tile), column : column + len(tile)], tile)
    return row, column


@pytest.mark.parametrize(("size", "zoom"), [(48, 3), (112, 1)])
def test_the_sheet_shows_what_training_draws(size: int, zoom: int, table: Path, tmp_path: Path) -> None:
    from edge_ct.train.fit import Batches

    out = tmp_path / "sheet.png"
    options = PreviewOptions(augment="travel", slices=4, per_slice=3, size=size, seed=5)
    sheet = preview.write_preview(table, out, options)
    page = read(out)
    dataset, preprocess = load(table), Preprocess(size)
    names = [str(path.relative_to(table.parent)) for path in dataset.paths]
    images = load_images(dataset, preprocess).images
    rows = [names.index(name) for name in sheet.slices]
    batches = Batches(images, np.arange(12), preprocess, 12, POLICIES["travel"], seed=5)
    columns = [dict(enumerate(images))]
    for _ in range(3):
        normalised, indices = batches[0]
        drawn = np.round(normalised / preprocess.scale + preprocess.zero_point).astype(np.uint8)
        columns.append(dict(zip(indices.tolist(), drawn, strict=True)))
        batches.on_epoch_end()
    places = np.array(
        [[find(column[i][:, :, 0].repeat(zoom, 0).repeat(zoom, 1), page) for column in columns] for i in rows]
    )
    # In a grid: one height a row, growing; one left edge a column, growing.
    assert (places[:, :, 0] == places[:, :1, 0]).all()
    assert (places[:, :, 1] == places[:1, :, 1]).all()
    assert (np.diff(places[:, 0, 0]) > size * zoom).all()
    assert (np.diff(places[0, :, 1]) > size * zoom).all()


def test_the_picture_is_grey_and_has_its_captions(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    draw = draw_picture_sheet

    def listen(*arguments: Any) -> None:
        said.extend(arguments)
        draw(*arguments)

    monkeypatch.setattr(preview, "draw_picture_sheet", listen)
    sheet = preview.write_preview(
        table, tmp_path / "sheet.png", PreviewOptions("flips", slices=3, per_slice=2, size=64)
    )
    tiles, headings, captions, title, _ = said
    assert tiles.shape == (3, 3, 64, 64)
    assert headings == ["original", "epoch 0", "epoch 1"]
    assert captions == [f"{name.split('/')[0]}: {name}" for name in sheet.slices]
    assert [caption.split(":")[0] for caption in captions] == ["COVID", "non-COVID", "COVID"]
    assert title[0].startswith("flips, 64 px, seed 0; phantoms")
    assert title[1] == "Ranges: rotate=15, flip=0.5, flip_vertical=0.5."
    assert (tmp_path / "sheet.png").read_bytes()[24:26] == b"\x08\x00"  # eight bits of grey
    page = read(tmp_path / "sheet.png")
    assert page.ndim == 2
    # The first line of the title: black letters on white, over a good part of the width.
    band = page[picture_sheet._MARGIN : picture_sheet._MARGIN + picture_sheet._LINE_HEIGHT]
    assert (band.min(0) < 100).nonzero()[0].max() > 0.3 * page.shape[1]
    assert (page[0] == 255).all()


@pytest.mark.parametrize("size", [32, 37, 113])
@pytest.mark.parametrize("columns", [1, 4])
def test_no_text_runs_over_the_edge(size: int, columns: int, tmp_path: Path) -> None:
    """Long names are cut at their front, long titles wrapped; odd letters are shown as they can be."""
    names = ["x" * 300 + "end", "$a_b \\nope{$", "não/ковид/肺", "two\nlines\x00\udcff", ""]
    tiles = np.full((5, columns, size, size), 99, np.uint8)
    path = tmp_path / "sheet.png"
    draw_picture_sheet(tiles, ["original"] * columns, names, ["word " * 60, "W" * 200, "$x$ 肺"], path)
    page = read(path)
    edges = (page[:, :8], page[:, -4:], page[:8], page[-8:])
    assert all((edge == 255).all() for edge in edges)
    assert (page == 99).sum() >= tiles.size


@pytest.mark.parametrize("side", [502, 803, 829, 903])
def test_a_page_has_the_size_asked_for(side: int) -> None:
    """Some of these, divided by the dots an inch and multiplied again, are a pixel short."""
    assert picture_sheet._draw_text_page(side, side, []).shape == (side, side)


def test_classes_take_turns_and_a_small_one_gives_what_it_has() -> None:
    labels = np.array([0] * 10 + [1] * 3, np.int8)
    assert labels[preview.choose_slices(labels, 6, 1)].tolist() == [1, 0, 1, 0, 1, 0]
    assert labels[preview.choose_slices(labels, 5, 1)].tolist() == [1, 0, 1, 0, 1]
    assert labels[preview.choose_slices(labels, 12, 1)].tolist() == [1, 0, 1, 0, 1, 0, 0, 0, 0]
    chosen = preview.choose_slices(labels, 8, 4)
    assert len(set(chosen)) == len(chosen) == 7
    assert chosen == preview.choose_slices(labels, 8, 4)
    assert any(preview.choose_slices(labels, 4, seed) != preview.choose_slices(labels, 4, 0) for seed in range(1, 5))


def test_force_alone_overwrites(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    options = PreviewOptions(slices=2, per_slice=1, size=32)
    out.write_text("mine")
    with pytest.raises(EdgeCTError, match="already exists"):
        preview.write_preview(table, out, options)
    assert out.read_text() == "mine"
    preview.write_preview(table, out, options, force=True)
    first = out.read_bytes()
    preview.write_preview(table, out, options, force=True)
    assert out.read_bytes() == first
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("changes", "out", "error", "message"),
    [
        ({"augment": "standart"}, "a.png", EdgeCTError, "did you mean standard"),
        ({"augment": "none.json"}, "a.png", EdgeCTError, "cannot be read"),
        ({}, "a.jpg", EdgeCTError, "a name that ends in .png"),
        ({}, "a", EdgeCTError, "a name that ends in .png"),
        ({"positive": "sick"}, "a.png", DataRejected, "no class named 'sick'"),
        ({"per_slice": 100, "size": 1024}, "a.png", EdgeCTError, r"of 6 x 101 pictures of 1024 px would have"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    changes: dict[str, Any], out: str, error: type[EdgeCTError], message: str, table: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        preview.write_preview(table, tmp_path / out, msgspec.structs.replace(PreviewOptions(), **changes))
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_slice_is_named_and_nothing_written(table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for row in table.read_text().splitlines()[1:]:
        name = row.split(",")[0]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((table.parent / name).read_bytes()[:-30])
    with pytest.raises(DataRejected, match="truncated"):
        preview.write_preview(folder, tmp_path / "sheet.png", PreviewOptions())
    assert not (tmp_path / "sheet.png").exists()


def test_a_full_disk_leaves_nothing(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(EdgeCTError, match="No space left"):
        preview.write_preview(table, tmp_path / "sheet.png", PreviewOptions(slices=2, per_slice=1, size=32))
    assert list(tmp_path.iterdir()) == []


def test_command(table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "mine.json"
    own.write_text('{"invert": 1}')
    out = tmp_path / "new" / "sheet.png"
    arguments = ["data", "preview", str(table), "--out", str(out), "--slices", "2", "--per-slice", "1", "--size", "32"]
    assert cli.run([*arguments, "--augment", str(own), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["sheet"] == str(out)
    assert len(found["slices"]) == 2
    # The policy as printed is one that can be given back, all of its fields to be edited.
    assert msgspec.convert(found["augment"], Augment) == Augment(invert=1)
    assert set(found["augment"]) == set(Augment.__struct_fields__)
    image = load_images(load(table), Preprocess(32)).images
    page = read(out)
    shown = [
        pixels[:, :, 0]
        for path, pixels in zip(load(table).paths, image, strict=True)
        if str(path.relative_to(table.parent)) in found["slices"]
    ]
    for pixels in shown:
        find((255 - pixels).repeat(4, 0).repeat(4, 1), page)
    assert cli.run(arguments) == 1
    assert "already exists" in capfd.readouterr().err
    assert cli.run([*arguments, "--force"]) == 0
    assert capfd.readouterr().out == f"{out}: 2 slices with policy standard, 1 version of each\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["none", "--out", "a.png"], 7),
        ([".", "--out", "a.png"], 7),
        (["none", "--out", "a.png", "--augment", "mad"], 1),
        (["none"], 2),
        (["none", "--out", "a.png", "--slices", "1"], 2),
        (["none", "--out", "a.png", "--size", "4"], 2),
    ],
)
def test_errors_have_their_codes(
    arguments: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["data", "preview", *arguments]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1 or code == 2
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_policy() -> None:
    data = cli.edge_ct.get_command(click.Context(cli.edge_ct, **cli.edge_ct.context_settings), "data")
    assert isinstance(data, click.Group)
    (option,) = [option for option in data.commands["preview"].params if option.name == "augment"]
    assert isinstance(option, click.Option)
    assert all(name in str(option.help) for name in POLICIES)
