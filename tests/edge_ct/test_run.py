"""The run folder: written and read back, and refused where it is damaged."""

import csv
import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_ct.errors import DataRejected
from edge_ct.manifest import Data, Network
from edge_ct.preprocess import Preprocess
from edge_ct.run import (
    Run,
    RunInfo,
    SplitTable,
    load_finished_run,
    load_run,
    model_name,
    read_split,
    save_run_info,
    write_seen_slices,
    write_split,
)
from edge_ct.system.csv_text import to_csv

HEADER = "path,label,group,part,sha256\n"


def info_of(**changes: Any) -> RunInfo:
    info = RunInfo(
        schema=1,
        kind="network",
        network=Network("mobilenetv2", 0.35, 400_000),
        preprocess=Preprocess(96),
        classes=("non-COVID", "COVID"),
        data=Data("phantoms", "f" * 64, "grouped", 3, {"train": 2, "validation": 1, "test": 1}),
        data_path="/nowhere",
        options={"epochs": 3, "augment": "flips"},
        versions={"keras": "3"},
        finished=True,
    )
    return msgspec.structs.replace(info, **changes)


@pytest.fixture
def table() -> SplitTable:
    return SplitTable(
        paths=("a.png", 'with "quotes", and commas.png', "ä/ö.png", "d.png"),
        labels=np.array([0, 1, 1, 0], np.int8),
        groups=("g1", "g2", "g2", ""),
        parts=("train", "validation", "test", "train"),
        sha256=tuple(f"{number:064x}" for number in range(4)),
    )


@pytest.fixture
def folder(tmp_path: Path, table: SplitTable) -> Path:
    folder = tmp_path / "run"
    save_run_info(folder, info_of(data_path=str(tmp_path)))
    write_split(folder / "split.csv", table)
    return folder


def test_info_is_read_as_it_was_written(tmp_path: Path) -> None:
    save_run_info(tmp_path / "run", info_of(members=("../a", "../b")))
    assert load_run(tmp_path / "run") == Run(tmp_path / "run", info_of(members=("../a", "../b")))


def test_split_is_read_as_it_was_written(folder: Path, table: SplitTable) -> None:
    read = load_run(folder).split()
    assert (read.paths, read.groups, read.parts, read.sha256) == (table.paths, table.groups, table.parts, table.sha256)
    assert np.array_equal(read.labels, table.labels)
    assert read.labels.dtype == np.int8


def test_split_table_finds_its_parts(table: SplitTable) -> None:
    assert table.where("train").tolist() == [0, 3]
    assert table.where("nowhere").tolist() == []


def test_of_the_same_pixels_in_two_parts_the_one_learned_from_counts() -> None:
    digits = ("a" * 64, "a" * 64, "b" * 64, "b" * 64, "c" * 64)
    for parts, expected in (
        (("train", "test", "test", "validation", "test"), ["train", "validation", "test"]),
        (("test", "train", "validation", "train", "validation"), ["train", "train", "validation"]),
    ):
        table = SplitTable(tuple("12345"), np.zeros(5, np.int8), ("",) * 5, parts, digits)
        assert table.part_of() == dict(zip(("a" * 16, "b" * 16, "c" * 16), expected, strict=True))


def test_part_of_takes_sixteen_digits() -> None:
    digits = ("0123456789abcdef" + "0" * 48, "fedcba9876543210" + "1" * 48)
    found = SplitTable(("a", "b"), np.array([0, 1], np.int8), ("", ""), ("train", "test"), digits).part_of()
    assert found == {"0123456789abcdef": "train", "fedcba9876543210": "test"}


@pytest.mark.parametrize(
    ("network", "size", "variant", "name"),
    [
        (Network("mobilenetv2", 1.0, 1), 224, "int8", "mobilenetv2-1.00-224-int8"),
        (Network("mobilenetv2", 0.35, 1), 96, "", "mobilenetv2-0.35-96"),
        (Network("customcnn", None, 1), 96, "", "customcnn-96"),
        (Network("customcnn", None, 1), 32, "fp32", "customcnn-32-fp32"),
    ],
)
def test_model_names(network: Network, size: int, variant: str, name: str) -> None:
    assert model_name(network, size, variant) == name


def test_run_knows_its_name_and_files(folder: Path) -> None:
    run = load_run(folder)
    assert (run.name, run.model_path) == ("mobilenetv2-0.35-96", folder / "model.keras")


def test_dataset_of_a_run(folder: Path, tmp_path: Path, table: SplitTable) -> None:
    dataset = load_run(folder).dataset()
    assert dataset.paths == tuple(tmp_path / path for path in table.paths)
    assert (dataset.name, dataset.classes, dataset.groups) == ("phantoms", ("non-COVID", "COVID"), table.groups)


def test_dataset_of_a_run_whose_data_have_moved(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "slices.csv").touch()
    for named in (moved, moved / "slices.csv"):
        assert load_run(folder).dataset(named).paths[0] == moved / "a.png"


def test_dataset_whose_folder_is_gone_is_refused(folder: Path) -> None:
    save_run_info(folder, info_of(data_path="/nowhere/at/all"))
    with pytest.raises(DataRejected, match=r"/nowhere/at/all: the slices of .* are not there; name their folder"):
        load_run(folder).dataset()


def test_dataset_without_groups(folder: Path) -> None:
    nothing = SplitTable(("a", "b"), np.array([0, 1], np.int8), ("", ""), ("train", "test"), ("0" * 64, "1" * 64))
    write_split(folder / "split.csv", nothing)
    assert load_run(folder).dataset().groups is None


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "none", tmp_path / "file"):
        with pytest.raises(DataRejected, match=r"not a run folder \(no run\.json\); make one with edge-ct train"):
            load_run(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"schema": 2}',
        b"\x00\x01",
        b'{"schema": 1, "kind": "\xff\xfe"}',
        b'{"schema": 1, "kind": "neither"}',
        b'{"schema": 1, "unknown": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)
def test_damaged_info_is_refused(folder: Path, content: bytes) -> None:
    (folder / "run.json").write_bytes(content)
    with pytest.raises(DataRejected, match=r"run\.json: damaged") as caught:
        load_run(folder)
    assert "\n" not in str(caught.value)


def test_info_cut_anywhere_is_refused(folder: Path) -> None:
    content = (folder / "run.json").read_bytes().rstrip()
    for length in range(len(content)):
        (folder / "run.json").write_bytes(content[:length])
        with pytest.raises(DataRejected):
            load_run(folder)


def test_unfinished_run_is_refused_where_a_finished_one_is_needed(folder: Path) -> None:
    assert load_finished_run(folder).info.finished
    save_run_info(folder, info_of(finished=False))
    assert not load_run(folder).info.finished
    with pytest.raises(DataRejected, match=r"has not finished.* --resume"):
        load_finished_run(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        HEADER.encode(),
        b"path,label\na.png,1\n",
        HEADER.encode() + b"a.png,one,g,train," + b"0" * 64 + b"\n",
        HEADER.encode() + b"a.png,7,g,train," + b"0" * 64 + b"\n",
        HEADER.encode() + b"a.png,300,g,train," + b"0" * 64 + b"\n",
        HEADER.encode() + b"a.png,-1,g,train," + b"0" * 64 + b"\n",
        HEADER.encode() + b"a.png,1,g,nowhere," + b"0" * 64 + b"\n",
        HEADER.encode() + b"a.png,1\n",
        HEADER.encode() + b"a.png,1,g,train," + b"0" * 30,
        b"\xff\xfe" + bytes(100),
        b"\x89PNG" + bytes(range(256)),
    ],
)
def test_damaged_split_is_refused(folder: Path, content: bytes) -> None:
    (folder / "split.csv").write_bytes(content)
    with pytest.raises(DataRejected, match=r"split\.csv: missing or damaged split table") as caught:
        read_split(folder / "split.csv")
    assert "\n" not in str(caught.value)


def test_missing_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRejected, match="missing or damaged split table"):
        read_split(tmp_path / "split.csv")


def test_slices_seen_before_are_known(folder: Path, table: SplitTable) -> None:
    run = load_run(folder)
    write_seen_slices(folder, {})
    assert not (folder / "seen.csv").exists()
    assert run.known() == table.part_of()
    # What the run itself says of a slice goes before what those before it said.
    write_seen_slices(folder, {"f" * 16: "validation", "0" * 16: "test"})
    assert run.seen() == {"f" * 16: "validation", "0" * 16: "test"}
    assert run.known() == {"f" * 16: "validation", **table.part_of()}
    assert run.known()["0" * 16] == "train"


@pytest.mark.parametrize("content", [b"x\n1\n", b"sha256,part\nabc,train\n", b"sha256,part\n%b,new\n" % (b"0" * 16)])
def test_damaged_table_of_slices_seen_is_refused(folder: Path, content: bytes) -> None:
    (folder / "seen.csv").write_bytes(content)
    with pytest.raises(DataRejected, match=r"seen\.csv: damaged"):
        load_run(folder).known()


def test_members_of_a_network_are_itself_and_of_an_ensemble_its_runs(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_run_info(tmp_path / name, info_of())
    save_run_info(tmp_path / "all", info_of(kind="ensemble", members=("../a", str(tmp_path / "b"))))
    ensemble, single = load_run(tmp_path / "all"), load_run(tmp_path / "a")
    assert single.members() == (single,)
    assert [member.folder for member in ensemble.members()] == [tmp_path / "a", tmp_path / "b"]


def test_ensemble_whose_member_is_gone_is_refused(tmp_path: Path) -> None:
    save_run_info(tmp_path / "all", info_of(kind="ensemble", members=("../gone",)))
    with pytest.raises(DataRejected, match="gone: not a run folder"):
        load_run(tmp_path / "all").members()


def test_model_is_loaded_by_the_loader(folder: Path) -> None:
    assert load_run(folder).load_model(lambda path: ("loaded", path)) == ("loaded", folder / "model.keras")


@pytest.mark.parametrize("error", [OSError("gone\nfor good"), ValueError(""), KeyError("layer")])
def test_model_that_does_not_load_is_refused_on_one_line(folder: Path, error: Exception) -> None:
    def loader(path: Path) -> None:
        raise error

    with pytest.raises(DataRejected, match=r"model\.keras: cannot be loaded: \S") as caught:
        load_run(folder).load_model(loader)
    assert "\n" not in str(caught.value)


def test_ensemble_has_no_model_of_its_own(folder: Path) -> None:
    save_run_info(folder, info_of(kind="ensemble"))
    with pytest.raises(DataRejected, match="an ensemble has no model file"):
        load_run(folder).load_model(lambda path: pytest.fail("loaded"))


def test_csv_text_is_read_back_by_the_standard_library() -> None:
    rows = [["a,b", 1, 'say "no"'], ["two\nlines", 2.5, ""]]
    text = to_csv(("x", "y", "z"), rows)
    assert "\r" not in text
    assert list(csv.reader(io.StringIO(text))) == [["x", "y", "z"], ["a,b", "1", 'say "no"'], ["two\nlines", "2.5", ""]]


@given(st.lists(st.tuples(*(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")),) * 2)))
def test_any_text_survives_csv(rows: list[tuple[str, str]]) -> None:
    text = to_csv(("x", "y"), rows)
    assert [tuple(row) for row in csv.reader(io.StringIO(text, newline=""))] == [("x", "y"), *rows]
