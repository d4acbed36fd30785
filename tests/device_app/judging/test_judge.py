"""Judging: every source in its order, every bad one a row."""

import io
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_ct.classifier import Classifier, Judgement
from edge_ct.device_app.judging import judge as judging
from edge_ct.imaging.limits import MAX_BYTES
from edge_ct.phantom import make_slice


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier(tiny_bundle)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """d.png, b.png and sub/a.png are phantoms, c.png is cut short, e.txt is no slice."""
    for patient, name in enumerate(("d.png", "b.png", "sub/a.png", "c.png")):
        path = tmp_path / "study" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_slice(patient, 4, True, 80).image).save(path)
    cut = tmp_path / "study" / "c.png"
    cut.write_bytes(cut.read_bytes()[:-20])
    (tmp_path / "study" / "e.txt").write_text("notes")
    return tmp_path / "study"


@pytest.fixture
def standard_input(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def set_to(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))

    return set_to


def rows(judgements: list[Judgement]) -> list[tuple[str, bool]]:
    """Source, and whether it could be judged."""
    return [(own.result.source, own.result.decision != "rejected") for own in judgements]


def judge(classifier: Classifier, *sources: str | Path) -> list[Judgement]:
    return list(judging.judge_paths(classifier, [str(source) for source in sources]))


def test_files_keep_their_order(classifier: Classifier, folder: Path) -> None:
    names = [str(folder / name) for name in ("d.png", "b.png", "sub/a.png", "b.png")]
    found = judge(classifier, *names)
    assert rows(found) == [(name, True) for name in names]
    assert found[1].result.probability == found[3].result.probability
    expected = [classifier.classify(name).probability for name in names]
    assert [own.result.probability for own in found] == expected


def test_folder_is_judged_in_order_of_its_paths(classifier: Classifier, folder: Path) -> None:
    names = [("b.png", True), ("c.png", False), ("d.png", True), ("sub/a.png", True)]
    assert rows(judge(classifier, folder)) == [(str(folder / name), good) for name, good in names]


def test_bad_files_among_good_ones_do_not_stop(classifier: Classifier, folder: Path) -> None:
    (folder / "text.png").write_text("not a picture")
    sources = [folder / "b.png", folder / "c.png", folder / "gone.png", folder / "text.png", folder / "d.png"]
    found = judge(classifier, *sources)
    assert rows(found) == [
        (str(path), good) for path, good in zip(sources, (True, False, False, False, True), strict=True)
    ]
    reasons = [own.result.reason for own in found[1:4]]
    assert reasons == ["truncated", "no such file", "not a PNG, JPEG, TIFF or DICOM image"]


def test_files_and_folders_mixed(classifier: Classifier, folder: Path) -> None:
    found = judge(classifier, folder / "d.png", folder / "sub", folder / "b.png")
    assert [Path(own.result.source).name for own in found] == ["d.png", "a.png", "b.png"]


def test_empty_folder_is_a_rejected_row(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    (only,) = judge(classifier, tmp_path / "empty")
    assert (only.result.source, only.result.decision) == (str(tmp_path / "empty"), "rejected")
    assert only.result.reason == "no PNG, JPEG, TIFF or DICOM file in this folder"
    assert (only.result.probability, only.slice, only.outputs) == (None, None, None)
    assert only.result.model == classifier.identity


def test_standard_input(classifier: Classifier, folder: Path, standard_input: Callable[[bytes], None]) -> None:
    standard_input((folder / "b.png").read_bytes())
    found = judge(classifier, folder / "d.png", "-", folder / "b.png")
    assert rows(found) == [(str(folder / "d.png"), True), ("<stdin>", True), (str(folder / "b.png"), True)]
    assert found[1].result.probability == found[2].result.probability


@pytest.mark.parametrize("content", [b"", b"junk", b"\x89PNG\r\n\x1a\n"])
def test_bad_standard_input_is_a_rejected_row(
    classifier: Classifier, standard_input: Callable[[bytes], None], content: bytes
) -> None:
    standard_input(content)
    (only,) = judge(classifier, "-")
    assert (only.result.source, only.result.decision) == ("<stdin>", "rejected")
    assert only.result.reason
    assert "<stdin>" not in only.result.reason


def test_endless_standard_input_is_read_up_to_the_limit(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Endless:
        def read(self, size: int = -1) -> bytes:
            asked.append(size)
            return bytes(size)

    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=Endless()))
    (only,) = judge(classifier, "-")
    assert asked == [MAX_BYTES + 1]
    assert only.result.reason == "64 MiB; the limit is 64 MiB"


def test_file_named_like_standard_input_can_be_reached(
    classifier: Classifier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "b.png").rename(folder / "-")
    assert rows(judge(classifier, "./-")) == [("./-", True)]


def test_slices_are_judged_as_they_are_asked_for(classifier: Classifier, folder: Path) -> None:
    """One at a time: the first row of a long study comes at once, and memory does not grow with it."""
    judgements = judging.judge_paths(classifier, [str(folder / "b.png"), str(folder / "d.png")])
    assert next(judgements).result.decision != "rejected"
    (folder / "d.png").unlink()
    assert next(judgements).result.reason == "no such file"


def test_nothing_to_judge(classifier: Classifier) -> None:
    assert judge(classifier) == []


def test_judgement_carries_the_slice_and_the_outputs(classifier: Classifier, folder: Path) -> None:
    (only,) = judge(classifier, folder / "b.png")
    assert only.slice is not None
    assert only.outputs is not None
    assert np.array_equal(only.slice.pixels, np.asarray(Image.open(folder / "b.png")))
    assert only.outputs.logits.shape == (2,)


def test_source_that_cannot_be_looked_at_is_a_rejected_row(classifier: Classifier, tmp_path: Path) -> None:
    found = judge(classifier, tmp_path / ("n" * 300), "nul\0byte.png")
    assert [own.result.decision for own in found] == ["rejected", "rejected"]
