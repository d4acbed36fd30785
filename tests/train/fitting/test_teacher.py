"""Distillation: what a teacher says, whom it may teach, and that its student comes to say the same."""

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_ct.dataset import load_images
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.preprocess import Preprocess
from edge_ct.run import Run, SplitTable, load_run, save_run_info, write_seen_slices
from edge_ct.train import fit
from edge_ct.train.data.augment import POLICIES
from edge_ct.train.fitting.batches import Batches
from edge_ct.train.fitting.options import TrainingOptions
from edge_ct.train.fitting.teacher import Teacher
from edge_ct.train.score import ensemble
from edge_ct.train.score.predict import predict_run

CLASSES = ("non-COVID", "COVID")


@pytest.fixture(scope="module")
def teacher_run(members: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return ensemble.create_ensemble(members, tmp_path_factory.mktemp("teacher") / "both", fit=True)


def options_of(folder: Path, **changes: object) -> TrainingOptions:
    return msgspec.structs.replace(msgspec.convert(load_run(folder).info.options, TrainingOptions), **changes)


def test_a_teacher_says_what_its_run_says(teacher_run: Run) -> None:
    table, dataset = teacher_run.split(), teacher_run.dataset()
    teacher = Teacher(teacher_run.folder, CLASSES, table)
    assert teacher.size == 48
    chosen = dataset.take(table.where("test"))
    # Of these slices of 96 px, one of 32 made by way of 48 is the same to the bit.
    found = teacher(load_images(chosen, Preprocess(48)).images)
    assert found == pytest.approx(predict_run(teacher_run, chosen), abs=1e-6)
    assert found.std() > 0.05


def test_a_slice_that_is_in_two_parts_of_one_split_is_no_leak(teacher_run: Run) -> None:
    table = teacher_run.split()
    twin, tested = table.where("train")[0], table.where("test")[0]
    hashes = list(table.sha256)
    hashes[tested] = hashes[twin]
    twice = replace(table, sha256=tuple(hashes))
    assert twice.part_of()[hashes[twin][:16]] == "train"
    assert Teacher(teacher_run.folder, CLASSES, twice).size == 48


def test_a_view_is_made_smaller_for_the_student_alone() -> None:
    images = np.random.default_rng(1).integers(0, 256, (24, 64, 64, 1), dtype=np.uint8)
    seen: list[np.ndarray] = []

    def targets(labels: np.ndarray, views: np.ndarray) -> np.ndarray:
        seen.append(views)
        return np.zeros((len(labels), 4), np.float32)

    small = Preprocess(32)
    batches = Batches(images, np.arange(24) % 2, small, 8, POLICIES["travel"], seed=3, targets=targets)
    inputs, _ = batches[1]
    (views,) = seen
    assert (views.shape, inputs.shape) == ((8, 64, 64, 1), (8, 32, 32, 1))
    # As a student of the teacher's size would see them.
    plain = Batches(images, np.arange(24) % 2, Preprocess(64), 8, POLICIES["travel"], seed=3)
    assert np.array_equal(plain[1][0], Preprocess(64).normalise(views))
    assert np.array_equal(inputs, small.normalise(np.stack([small(view[:, :, 0]) for view in views])))


def test_a_teacher_of_other_classes_is_refused_and_nothing_is_written(
    trained_run: Path, phantom_table: Path, tmp_path: Path
) -> None:
    other = tmp_path / "teacher"
    shutil.copytree(trained_run, other)
    save_run_info(other, msgspec.structs.replace(load_run(other).info, classes=("healthy", "ill")))
    with pytest.raises(DataRejected, match="are healthy and ill, but those of the data are non-COVID and COVID"):
        fit.train(phantom_table, tmp_path / "out", options_of(trained_run, size=32, teacher=str(other)), False, False)
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_knows_the_students_exam_is_refused(
    trained_run: Path, phantom_table: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(trained_run, kept)
    other_split = options_of(trained_run, size=32, seed=1, teacher=str(trained_run))
    with pytest.raises(DataRejected, match=r"trained or selected on \d+ slices of the parts"):
        fit.train(phantom_table, kept, other_split, resume=False, force=True)
    assert (kept / "model.keras").read_bytes() == (trained_run / "model.keras").read_bytes()
    with pytest.raises(EdgeCTError, match="is the folder of the teacher"):
        fit.train(phantom_table, kept, options_of(trained_run, teacher=str(kept)), resume=False, force=True)
    assert (kept / "model.keras").exists()


@pytest.mark.parametrize(
    ("taught", "learned", "refused"),
    [
        ("train", "train", False),
        ("train", "validation", True),
        ("train", "test", True),
        ("validation", "train", False),
        ("validation", "validation", False),
        ("validation", "test", True),
        ("test", "train", False),
        ("test", "validation", False),
        ("test", "test", False),
    ],
)
def test_no_slice_comes_later_for_the_student(taught: str, learned: str, refused: bool, trained_run: Path) -> None:
    """One that the teacher learned from cannot judge the student; one that judged the teacher can teach."""
    table = load_run(trained_run).split()
    i = int(table.where(taught)[0])
    one = SplitTable((table.paths[i],), table.labels[[i]], ("",), (learned,), (table.sha256[i],))
    if not refused:
        assert Teacher(trained_run, CLASSES, one).size == 48
        return
    with pytest.raises(DataRejected, match=f"1 slice of the parts that validate or test the student .{table.paths[i]}"):
        Teacher(trained_run, CLASSES, one)


def test_what_ancestors_of_the_teacher_saw_counts_too(trained_run: Path, tmp_path: Path) -> None:
    child = tmp_path / "child"
    shutil.copytree(trained_run, child)
    write_seen_slices(child, {"f" * 16: "train"})
    one = SplitTable(("a.png",), np.array([1], np.int8), ("",), ("test",), ("f" * 64,))
    assert Teacher(trained_run, CLASSES, one)
    with pytest.raises(DataRejected, match="validate or test the student"):
        Teacher(child, CLASSES, one)


@pytest.mark.slow
def test_a_student_comes_to_say_what_its_teacher_says(
    trained_run: Path, untrained: Callable[[Path, Path, TrainingOptions], Run], phantom_table: Path, tmp_path: Path
) -> None:
    """Smaller than its teacher; mixing 1 leaves the labels out."""
    options = options_of(
        trained_run, size=32, epochs=14, teacher=str(trained_run), mixing=1.0, temperature=2.0, patience=50
    )
    prepared = fit.prepare_data(phantom_table, options)
    student = fit.train_prepared(prepared, tmp_path / "student", options)
    train = prepared.table.where("train")
    chosen = prepared.dataset.take(train)
    teacher = predict_run(load_run(trained_run), chosen)
    blank = predict_run(untrained(phantom_table, tmp_path / "blank", options), chosen)
    learned = predict_run(student, chosen)
    assert np.corrcoef(learned, teacher)[0, 1] > 0.85
    assert np.abs(learned - teacher).mean() < 0.5 * np.abs(blank - teacher).mean()
    assert np.mean((learned >= 0.5) == (teacher >= 0.5)) > np.mean((learned >= 0.5) == chosen.labels)
    with (student.folder / "history.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    # The loss has a floor, four times (2 squared) the entropy of the soft targets: what matters is how far above it.
    soft = np.sqrt(np.stack([teacher, 1 - teacher]))
    soft /= soft.sum(0)
    floor = -4 * float((soft * np.log(np.maximum(soft, 1e-12))).sum(0).mean())
    assert losses[-1] - floor < 0.7 * (losses[0] - floor)
