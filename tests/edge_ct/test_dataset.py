"""Datasets: what is loaded, what is refused, and splits that no group straddles."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_ct import slices
from edge_ct.dataset import Dataset, fingerprint, load, load_images
from edge_ct.errors import DataRejected
from edge_ct.preprocess import Preprocess

from .datasets import dataset_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """COVID: b.png, deep/a.JPG; non-COVID: c.png; beside them what is no slice."""
    for name in ("COVID/b.png", "COVID/deep/a.JPG", "COVID/notes.txt", "non-COVID/c.png", "README.png", "empty/x.txt"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "data"


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "table.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_folder(folder: Path) -> None:
    loaded = load(folder)
    assert loaded.classes == ("non-COVID", "COVID")
    found = {str(path.relative_to(folder)): int(label) for path, label in zip(loaded.paths, loaded.labels, strict=True)}
    assert found == {"COVID/b.png": 1, "COVID/deep/a.JPG": 1, "non-COVID/c.png": 0}
    assert (loaded.name, loaded.groups, len(loaded), loaded.labels.dtype) == ("data", None, 3, np.int8)


def test_folder_in_a_fixed_order(folder: Path) -> None:
    assert load(folder).paths == load(folder).paths
    again = load(folder).paths
    for label in (0, 1):
        own = [path for path, given in zip(again, load(folder).labels, strict=True) if given == label]
        assert own == sorted(own)


def test_folder_with_another_positive_class(folder: Path) -> None:
    loaded = load(folder, positive="non-COVID")
    assert loaded.classes == ("COVID", "non-COVID")
    assert loaded.labels.tolist() == [0, 0, 1]


def test_csv(table: Callable[..., Path]) -> None:
    path = table("path,label,group\nz.png,COVID,p1\nsub/a.png,healthy,p2\n/abs/b.png,COVID,p1\n")
    loaded = load(path)
    assert loaded.classes == ("healthy", "COVID")
    assert loaded.paths == (Path("/abs/b.png"), path.parent / "sub/a.png", path.parent / "z.png")
    assert loaded.labels.tolist() == [1, 0, 1]
    assert loaded.groups == ("p1", "p2", "p1")


@pytest.mark.parametrize(
    "content",
    [
        "path,label\na.png,COVID\nb.png,x\n",
        "\ufeffpath,label\na.png,COVID\nb.png,x\n",  # as Excel saves it
        "path,label\r\na.png,COVID\r\nb.png,x\r\n",
        "label,path\nCOVID,a.png\nx,b.png\n",
        'path,label,note\n"a.png",COVID,"one, two"\nb.png,x,\n',
        "path,label,group\na.png,COVID,\nb.png,x,\n",
        "path,label\na.png,COVID\n\nb.png,x\n\n",
    ],
)
def test_csv_as_various_programs_write_it(table: Callable[..., Path], content: str) -> None:
    loaded = load(table(content))
    assert [path.name for path in loaded.paths] == ["a.png", "b.png"]
    assert loaded.labels.tolist() == [1, 0]
    assert loaded.groups is None


def test_csv_order_of_rows_does_not_matter(table: Callable[..., Path]) -> None:
    first = load(table("path,label,group\na.png,COVID,1\nb.png,x,2\nc.png,COVID,3\n"))
    second = load(table("path,label,group\nc.png,COVID,3\na.png,COVID,1\nb.png,x,2\n"))
    assert (first.paths, first.groups) == (second.paths, second.groups)
    assert np.array_equal(first.labels, second.labels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "columns path,label"),
        ("path,label\n", "at least one row"),
        ("file,class\na.png,COVID\n", "columns path,label"),
        ("path\na.png\n", "columns path,label"),
        ("path,label\na.png,COVID\nb.png,x\nc.png,y\n", "3 labels"),
        ("path,label\na.png,x\nb.png,y\n", "no class named 'COVID' .its classes: x, y.; name it with --positive"),
        ("path,label\na.png,COVID\nb.png,COVID\n", "no slice of class 'non-COVID'; two classes are needed"),
        ("path,label,group\na.png,COVID,p1\nb.png,x,\n", "some rows have a group and some have none"),
        ("path,label,group\na.png,COVID,p1\nb.png,x\n", "some rows have a group and some have none"),
        ("path,label\na.png,COVID\nb.png\n", ""),  # a row cut short has no label
        ("path,label\na.png,COVID\n,x\n", ""),  # a row without a file
        (bytes(range(256)) * 20, "not a CSV file; UTF-8 text is needed$"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "not a CSV file; UTF-8 text is needed$"),
        ("path,label\n".encode("utf-16"), "not a CSV file; UTF-8 text is needed$"),
        ('path,label\n"a.png,COVID\nb.png,x\n', ""),  # a quote that does not end
        ('path,label\n"' + "a" * 200_000 + '",COVID\n', "cannot be read as CSV"),
    ],
)
def test_bad_csv_is_refused(table: Callable[..., Path], content: str | bytes, message: str) -> None:
    with pytest.raises(DataRejected, match=message or "table") as caught:
        load(table(content))
    assert str(caught.value).startswith(str(table(content)))
    assert "\n" not in str(caught.value)


def test_missing_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRejected, match="no such folder or CSV"):
        load(tmp_path / "none")


def test_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRejected):
        load(tmp_path / ("n" * 300))


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRejected, match="with slices: none"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["COVID"], "with slices: COVID$"),
        (["COVID", "a", "b"], "with slices: COVID, a, b"),
        (["a", "b"], "no class named 'COVID'"),
        (["covid", "b"], "no class named 'COVID'"),
    ],
)
def test_folder_without_the_two_classes_is_refused(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").touch()
    with pytest.raises(DataRejected, match=message):
        load(tmp_path)


def test_one_class_is_accepted_where_it_is_asked_for(table: Callable[..., Path]) -> None:
    loaded = load(table("path,label\na.png,COVID\n"), one_class=True)
    assert (loaded.classes, loaded.labels.tolist()) == (("non-COVID", "COVID"), [1])


def test_take_keeps_the_order_that_is_asked_for() -> None:
    whole = dataset_of([0, 1, 0, 1], ["a", "b", "c", "d"])
    taken = whole.take([3, 0])
    assert [path.name for path in taken.paths] == ["0003.png", "0000.png"]
    assert (taken.labels.tolist(), taken.groups, taken.classes) == ([1, 0], ("d", "a"), whole.classes)
    assert dataset_of([0, 1]).take([1]).groups is None


def test_fingerprint_by_hand_and_independent_of_order() -> None:
    expected = hashlib.sha256(b"aa 1\nbb 0\ncc 1\n").hexdigest()
    assert fingerprint(["aa", "bb", "cc"], np.array([1, 0, 1], np.int8)) == expected
    assert fingerprint(["cc", "aa", "bb"], np.array([1, 1, 0], np.int8)) == expected


def test_fingerprint_knows_labels_pixels_and_number() -> None:
    prints = [
        fingerprint(hashes, np.array(labels, np.int8))
        for hashes, labels in ((["aa", "bb"], [1, 0]), (["aa", "bb"], [0, 1]), (["aa", "bc"], [1, 0]), (["aa"], [1]))
    ]
    prints.append(fingerprint(["aa", "aa", "bb"], np.array([1, 1, 0], np.int8)))
    assert len(set(prints)) == 5


def test_images_are_what_the_device_sees(phantom_table: Path) -> None:
    dataset = load(phantom_table).take(range(6))
    preprocess = Preprocess(32)
    counted = []
    images = load_images(dataset, preprocess, counted.append)
    assert images.images.shape == (6, 32, 32, 1)
    assert images.images.dtype == np.uint8
    assert counted == [1] * 6
    for index, path in enumerate(dataset.paths):
        assert np.array_equal(images.images[index], preprocess(np.asarray(Image.open(path))))
        assert images.sha256[index] == slices.read(path).sha256
    assert images.fingerprint == fingerprint(images.sha256, dataset.labels)


def test_images_do_not_depend_on_the_number_of_workers(phantom_table: Path) -> None:
    dataset = load(phantom_table).take(range(8))
    first, second = (load_images(dataset, Preprocess(32), workers=workers) for workers in (1, 4))
    assert np.array_equal(first.images, second.images)
    assert first.sha256 == second.sha256


def test_unreadable_files_are_named_and_counted(tmp_path: Path, encode: Callable[..., bytes], grey: np.ndarray) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.png").write_bytes(encode(grey, "PNG")[: None if name in "ad" else 100])
    dataset = Dataset("made", tuple(sorted(tmp_path.glob("*.png"))), np.array([0, 1, 0, 1], np.int8), ("no", "yes"))
    with pytest.raises(DataRejected, match=r"b\.png: truncated \(and 1 more\); edge-ct data check"):
        load_images(dataset, Preprocess(32))
    with pytest.raises(DataRejected, match=r"b\.png: truncated; edge-ct"):
        load_images(dataset.take([0, 1]), Preprocess(32))


def test_phantom_table_is_a_grouped_dataset(phantom_table: Path) -> None:
    dataset = load(phantom_table)
    assert (len(dataset), dataset.classes) == (300, ("non-COVID", "COVID"))
    assert dataset.groups is not None
    assert set(Counter(dataset.groups).values()) == {2}
    assert len(set(dataset.groups)) == 150
    assert dataset.labels.mean() == 0.5


def test_sources_and_weights_of_a_table(table: Callable[[str | bytes], Path]) -> None:
    loaded = load(table("path,label,source,weight\nb.png,COVID,south,0.5\na.png,non-COVID,north,1\n"))
    assert loaded.sources == ("north", "south")
    assert loaded.weights is not None and loaded.weights.tolist() == [1, 0.5]
    taken = loaded.take([1])
    assert taken.sources == ("south",) and taken.weights is not None and taken.weights.tolist() == [0.5]
    plain = load(table("path,label,weight\nb.png,COVID,\na.png,non-COVID,\n"))
    assert (plain.sources, plain.weights) == (None, None)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("source\na.png,non-COVID,\nb.png,COVID,x", "some rows have a source"),
        ("weight\na.png,non-COVID,1\nb.png,COVID,much", "row 3: the weight .much. is not a number"),
        ("weight\na.png,non-COVID,1\nb.png,COVID,0", "not above 0"),
        ("weight\na.png,non-COVID,1\nb.png,COVID,inf", "not above 0"),
        ("weight\na.png,non-COVID,1\nb.png,COVID,nan", "not above 0"),
    ],
)
def test_bad_columns_are_refused(table: Callable[[str | bytes], Path], columns: str, message: str) -> None:
    with pytest.raises(DataRejected, match=message):
        load(table(f"path,label,{columns}\n"))
