"""Datasets: what is loaded, what is refused, and splits that no group straddles."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edge_ct import slices
from edge_ct.dataset import PARTS, Dataset, fingerprint, load, load_images
from edge_ct.errors import DataRejected
from edge_ct.preprocess import Preprocess
from edge_ct.splits import check_split, folds, split


def dataset_of(labels: list[int], groups: list[str] | None = None) -> Dataset:
    paths = tuple(Path(f"{index:04d}.png") for index in range(len(labels)))
    classes = ("non-COVID", "COVID")
    return Dataset("made", paths, np.array(labels, np.int8), classes, tuple(groups) if groups else None)


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


def test_random_split_has_the_shares_and_the_strata() -> None:
    dataset = dataset_of([0] * 600 + [1] * 400)
    parts = split(dataset, "random", seed=3, validation=0.15, test=0.2)
    assert Counter(parts) == {"train": 650, "validation": 150, "test": 200}
    positives = Counter(part for part, label in zip(parts, dataset.labels, strict=True) if label == 1)
    assert positives == {"train": 260, "validation": 60, "test": 80}


def test_grouped_split_has_about_the_shares_and_the_strata() -> None:
    sizes = np.random.default_rng(5).integers(1, 8, 240)
    labels = [int(group % 3 == 0) for group, size in enumerate(sizes) for _ in range(size)]
    groups = [f"g{group}" for group, size in enumerate(sizes) for _ in range(size)]
    parts = np.array(split(dataset_of(labels, groups), "grouped", seed=1))
    for part, share in (("train", 0.65), ("validation", 0.15), ("test", 0.2)):
        assert (parts == part).mean() == pytest.approx(share, abs=0.03)
        assert np.array(labels)[parts == part].mean() == pytest.approx(np.mean(labels), abs=0.06)


@pytest.mark.parametrize("kind", ["random", "grouped"])
def test_split_follows_from_the_seed(kind: str) -> None:
    labels = [index % 2 for index in range(200)]
    dataset = dataset_of(labels, [f"g{index // 2}" for index in range(200)])
    assert split(dataset, kind, seed=4) == split(dataset, kind, seed=4)
    assert len({split(dataset, kind, seed=seed) for seed in range(5)}) == 5


def test_split_does_not_touch_the_global_generator() -> None:
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    split(dataset_of([index % 2 for index in range(100)]), "random", seed=4)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["negative", "positive", "mixed"])), min_size=2, max_size=60),
    st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_no_group_straddles_a_grouped_split(structure: list[tuple[int, str]], seed: int) -> None:
    """Whatever the groups: either every part has whole groups and both classes, or the data are refused."""
    labels, groups = [], []
    for number, (size, kind) in enumerate(structure):
        for index in range(size):
            labels.append({"negative": 0, "positive": 1, "mixed": index % 2}[kind])
            groups.append(f"g{number}")
    dataset = dataset_of(labels, groups)
    try:
        parts = split(dataset, "grouped", seed)
    except DataRejected as error:
        assert "\n" not in str(error)
        return
    homes, classes = defaultdict(set), defaultdict(set)
    for group, label, part in zip(groups, labels, parts, strict=True):
        homes[group].add(part)
        classes[part].add(label)
    assert all(len(own) == 1 for own in homes.values())
    assert dict(classes) == {part: {0, 1} for part in PARTS}


@given(st.lists(st.integers(0, 1), min_size=1, max_size=40), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_random_split_of_few_slices_is_whole_or_refused(labels: list[int], seed: int) -> None:
    try:
        parts = split(dataset_of(labels), "random", seed)
    except DataRejected as error:
        assert "\n" not in str(error)
        return
    for part in PARTS:
        assert {label for label, own in zip(labels, parts, strict=True) if own == part} == {0, 1}


def test_grouped_split_needs_groups() -> None:
    with pytest.raises(DataRejected, match="needs groups"):
        split(dataset_of([0, 1] * 50), "grouped", seed=0)


def test_folds_test_each_slice_once_with_the_shares_and_the_strata() -> None:
    dataset = dataset_of([0] * 300 + [1] * 200)
    dealt = folds(dataset, "random", 5, seed=3, validation=0.16)
    assert len(dealt) == 5
    assert (np.sum([np.array(parts) == "test" for parts in dealt], axis=0) == 1).all()
    for parts in dealt:
        assert Counter(parts) == {"train": 320, "validation": 80, "test": 100}
        positives = Counter(part for part, label in zip(parts, dataset.labels, strict=True) if label == 1)
        assert positives == {"train": 128, "validation": 32, "test": 40}


def test_grouped_folds_have_about_the_shares_and_the_strata() -> None:
    sizes = np.random.default_rng(5).integers(1, 8, 240)
    labels = [int(group % 3 == 0) for group, size in enumerate(sizes) for _ in range(size)]
    groups = [f"g{group}" for group, size in enumerate(sizes) for _ in range(size)]
    dealt = [np.array(parts) for parts in folds(dataset_of(labels, groups), "grouped", 5, seed=1)]
    assert (np.sum([parts == "test" for parts in dealt], axis=0) == 1).all()
    for parts in dealt:
        for part, share in (("train", 0.65), ("validation", 0.15), ("test", 0.2)):
            assert (parts == part).mean() == pytest.approx(share, abs=0.03)
            assert np.array(labels)[parts == part].mean() == pytest.approx(np.mean(labels), abs=0.06)


@pytest.mark.parametrize("kind", ["random", "grouped"])
def test_folds_follow_from_the_seed(kind: str) -> None:
    dataset = dataset_of([index % 2 for index in range(200)], [f"g{index // 2}" for index in range(200)])
    assert folds(dataset, kind, 4, seed=4) == folds(dataset, kind, 4, seed=4)
    assert len({folds(dataset, kind, 4, seed=seed) for seed in range(5)}) == 5


@given(
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["negative", "positive", "mixed"])), min_size=2, max_size=40),
    st.integers(2, 6),
    st.sampled_from(["random", "grouped"]),
    st.floats(0.01, 0.5),
    st.integers(0, 2**31),
)
@settings(max_examples=80, deadline=None)
def test_folds_are_whole_or_refused(
    structure: list[tuple[int, str]], count: int, kind: str, validation: float, seed: int
) -> None:
    """Each slice is tested once; every part has both classes; no group straddles: or the data are refused."""
    labels, groups = [], []
    for number, (size, label) in enumerate(structure):
        for index in range(size):
            labels.append({"negative": 0, "positive": 1, "mixed": index % 2}[label])
            groups.append(f"g{number}")
    try:
        dealt = folds(dataset_of(labels, groups), kind, count, seed, validation)
    except DataRejected as error:
        assert "\n" not in str(error)
        return
    assert len(dealt) == count
    assert (np.sum([np.array(parts) == "test" for parts in dealt], axis=0) == 1).all()
    for parts in dealt:
        homes, classes = defaultdict(set), defaultdict(set)
        for group, label, part in zip(groups, labels, parts, strict=True):
            homes[group].add(part)
            classes[part].add(label)
        assert dict(classes) == {part: {0, 1} for part in PARTS}
        if kind == "grouped":
            assert all(len(own) == 1 for own in homes.values())


@pytest.mark.parametrize(
    ("labels", "groups", "kind", "count", "validation", "message"),
    [
        ([0, 1] * 50, None, "grouped", 5, 0.15, "needs groups"),
        ([0, 1] * 50, None, "random", 2, 0.5, "2 folds and a validation share of 0.5 leave nothing to train on"),
        ([0] * 50 + [1] * 4, None, "random", 5, 0.15, "4 slices of class 'COVID'; 5 folds need 5"),
        ([0] * 50 + [1] * 2, None, "random", 2, 0.15, "2 slices of class 'COVID'; 2 folds need 3"),
        ([0, 1] * 50, ["a", "b", "c", "d"] * 25, "grouped", 3, 0.15, "2 groups .* class .*; 3 folds need 3"),
    ],
)
def test_folds_that_cannot_be_are_refused(
    labels: list[int], groups: list[str] | None, kind: str, count: int, validation: float, message: str
) -> None:
    with pytest.raises(DataRejected, match=message):
        folds(dataset_of(labels, groups), kind, count, 0, validation)


def test_check_split_finds_a_torn_group() -> None:
    dataset = dataset_of([0, 1] * 3, ["a", "b", "c", "d", "e", "b"])
    parts = ["train", "train", "validation", "validation", "test", "test"]
    with pytest.raises(DataRejected, match="group 'b' is in two splits, train and test"):
        check_split(dataset, parts, whole_groups=True)
    check_split(dataset, parts, whole_groups=False)


def test_check_split_finds_a_part_without_a_class() -> None:
    dataset = dataset_of([0, 1, 0, 1, 0, 0])
    parts = ["train", "train", "validation", "validation", "test", "test"]
    with pytest.raises(DataRejected, match="no slice of class 'COVID' in the test split"):
        check_split(dataset, parts, whole_groups=False)


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


def several_sources() -> Dataset:
    """Two sources of both classes, one of positive slices alone; ten slices a source and class, two a group."""
    cells = [("north", 0), ("north", 1), ("south", 0), ("south", 1), ("west", 1)]
    rows = [(source, label, f"{source}-{label}-{number // 2}") for source, label in cells for number in range(10)]
    made = dataset_of([label for _, label, _ in rows], [group for _, _, group in rows])
    return replace(made, sources=tuple(source for source, _, _ in rows))


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


def test_source_split_tests_on_one_source_and_keeps_groups_whole() -> None:
    dataset = several_sources()
    assert dataset.two_class_sources() == ("north", "south")
    parts = split(dataset, "source", seed=1, validation=0.2, test_source="south")
    assert dataset.sources is not None and dataset.groups is not None
    assert {source for source, part in zip(dataset.sources, parts, strict=True) if part == "test"} == {"south"}
    assert Counter(parts)["test"] == 20 and 6 <= Counter(parts)["validation"] <= 14
    for group in set(dataset.groups):
        assert len({part for name, part in zip(dataset.groups, parts, strict=True) if name == group}) == 1
    assert folds(dataset, "source", 2, seed=1, validation=0.2)[1] == parts


def test_source_split_without_groups() -> None:
    parts = split(replace(several_sources(), groups=None), "source", seed=1, validation=0.2, test_source="north")
    assert Counter(parts) == {"test": 20, "train": 20, "validation": 10}


def test_source_split_that_cannot_be_is_refused() -> None:
    dataset = several_sources()
    with pytest.raises(DataRejected, match="needs sources: give a CSV with a source column"):
        split(dataset_of([0, 1] * 20), "source", 0, test_source="north")
    with pytest.raises(DataRejected, match="no slice of source 'east'; its sources are north, south, west"):
        split(dataset, "source", 0, test_source="east")
    with pytest.raises(DataRejected, match="'non-COVID' in the test split, without source 'west'"):
        split(dataset, "source", 0, test_source="west")
    with pytest.raises(DataRejected, match="2 sources with both classes"):
        folds(dataset, "source", 5, 0)
