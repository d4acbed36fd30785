"""Splits and folds of a data set: shares, strata, whole groups, whole sources, and what is refused."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ct.dataset import PARTS, Dataset
from edge_ct.errors import DataRejected
from edge_ct.splits import check_split, folds, split

from .datasets import dataset_of


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


def several_sources() -> Dataset:
    """Two sources of both classes, one of positive slices alone; ten slices a source and class, two a group."""
    cells = [("north", 0), ("north", 1), ("south", 0), ("south", 1), ("west", 1)]
    rows = [(source, label, f"{source}-{label}-{number // 2}") for source, label in cells for number in range(10)]
    made = dataset_of([label for _, label, _ in rows], [group for _, _, group in rows])
    return replace(made, sources=tuple(source for source, _, _ in rows))


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
