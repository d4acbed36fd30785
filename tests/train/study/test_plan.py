"""What a study consists of: its jobs, their seeds and splits, and when a study at hand is another one."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_ct.dataset import Dataset
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.splits import split
from edge_ct.train.fitting.options import TrainingOptions
from edge_ct.train.study.plan import Job, StudyPlan, describe_slices, make_plan, read_plan, save_plan, weights_for
from edge_ct.train.zoo.architectures import GARG_NETWORKS

OPTIONS = TrainingOptions("", size=80, seed=40)


def dataset(n: int = 120) -> Dataset:
    paths = tuple(Path(f"{index:03d}.png") for index in range(n))
    groups = tuple(f"g{index // 3}" for index in range(n))
    return Dataset("made", paths, (np.arange(n) // 3 % 2).astype(np.int8), ("non-COVID", "COVID"), groups)


def test_the_papers_study_has_2000_jobs() -> None:
    jobs = make_plan(GARG_NETWORKS, OPTIONS, 5, 10, 1).jobs()
    assert len(jobs) == len(set(jobs)) == 2000
    assert jobs[0] == Job("efficientnetb0", 1, 1)
    assert jobs[-1] == Job("modified-vgg19", 10, 5)
    assert len({job.folder for job in jobs}) == 2000
    assert jobs[7].folder == Path("efficientnetb0/round-02/fold-3")


def test_seeds_follow_from_round_and_fold() -> None:
    study = make_plan(["resnet50", "vgg16"], OPTIONS, 5, 10, 1)
    assert [study.options_of(Job("vgg16", r, f)).seed for r, f in ((1, 1), (1, 5), (2, 1), (10, 5))] == [
        40,
        44,
        1040,
        9044,
    ]
    own = study.options_of(Job("vgg16", 3, 2))
    assert (own.network, own.test, own.size) == ("vgg16", 0.2, 80)
    assert study.name(Job("vgg16", 3, 2)) == "vgg16, round 3 of 10, fold 2 of 5"


def test_each_round_is_dealt_anew_and_tests_every_slice_once() -> None:
    made = dataset()
    parts = make_plan(["vgg16"], msgspec.structs.replace(OPTIONS, split="grouped"), 4, 3, 1).parts(made)
    assert sorted(parts) == [(number, fold) for number in (1, 2, 3) for fold in (1, 2, 3, 4)]
    for number in (1, 2, 3):
        tested = [np.array(parts[number, fold]) == "test" for fold in (1, 2, 3, 4)]
        assert (np.sum(tested, axis=0) == 1).all()
    assert len({parts[number, 1] for number in (1, 2, 3)}) == 3


@pytest.mark.parametrize("kind", ["random", "grouped"])
def test_without_folds_the_split_is_that_of_a_plain_training(kind: str) -> None:
    made, options = dataset(), msgspec.structs.replace(OPTIONS, split=kind, test=0.25)
    study = make_plan(["vgg16", "resnet50"], options, 0, 1, 1)
    assert study.jobs() == (Job("vgg16", 1, 1), Job("resnet50", 1, 1))
    assert study.parts(made) == {(1, 1): split(made, kind, 40, 0.15, 0.25)}
    assert study.options_of(study.jobs()[0]) == msgspec.structs.replace(options, network="vgg16")


@pytest.mark.parametrize(
    ("network", "weights", "expected"),
    [
        ("resnet50", "none", "none"),
        ("resnet50", "imagenet", "imagenet"),
        ("customcnn", "imagenet", "none"),
        ("customcnn", "w/{network}.h5", "none"),
        ("modified-vgg16", "w/{network}.h5", "w/vgg16.h5"),
        ("vgg16", "w/{network}.h5", "w/vgg16.h5"),
    ],
)
def test_weights_of_a_network(network: str, weights: str, expected: str) -> None:
    assert weights_for(network, weights) == expected


def test_what_no_job_could_begin_with_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(EdgeCTError, match="inceptionv3 needs an input size of at least 75, not 64"):
        make_plan(GARG_NETWORKS, msgspec.structs.replace(OPTIONS, size=64), 5, 1, 1)
    with pytest.raises(EdgeCTError, match="did you mean resnet50"):
        make_plan(["resnet05"], OPTIONS, 5, 1, 1)
    with pytest.raises(DataRejected, match=r"vgg16\.h5: weights file of vgg16 does not exist"):
        make_plan(["vgg16"], msgspec.structs.replace(OPTIONS, weights=f"{tmp_path}/{{network}}.h5"), 0, 1, 1)


def saved(out: Path) -> StudyPlan:
    wanted = make_plan(["vgg16", "resnet50"], OPTIONS, 5, 2, 0)
    made = msgspec.structs.replace(wanted, cpus_per_job=4, slices=describe_slices(out, dataset(), "f" * 64))
    save_plan(made, out)
    return made


def test_the_same_study_is_gone_on_with(tmp_path: Path) -> None:
    begun = saved(tmp_path)
    assert read_plan(tmp_path, make_plan(["vgg16", "resnet50"], OPTIONS, 5, 2, 0), force=False) == begun
    assert read_plan(tmp_path, make_plan(["vgg16", "resnet50"], OPTIONS, 5, 2, 4), force=False) == begun
    assert read_plan(tmp_path, make_plan(["vgg16"], OPTIONS, 0, 1, 0), force=True) is None


@pytest.mark.parametrize(
    ("networks", "changes", "folds", "rounds", "cpus", "message"),
    [
        (["vgg16", "resnet50"], {"learning_rate": 0.5}, 5, 2, 0, "was started with learning-rate 0.0005;"),
        (["vgg16", "resnet50"], {"seed": 41, "epochs": 1}, 5, 2, 0, "was started with seed 40, epochs 24;"),
        (["vgg16"], {}, 5, 2, 0, "was started with networks 'vgg16 resnet50';"),
        (["vgg16", "resnet50"], {}, 4, 3, 0, "was started with folds 5, rounds 2;"),
        (["vgg16", "resnet50"], {}, 5, 2, 2, "was started with cpus-per-job 4;"),
    ],
)
def test_another_study_is_refused_and_says_why(
    networks: list[str], changes: dict[str, object], folds: int, rounds: int, cpus: int, message: str, tmp_path: Path
) -> None:
    saved(tmp_path)
    wanted = make_plan(networks, msgspec.structs.replace(OPTIONS, **changes), folds, rounds, cpus)
    with pytest.raises(DataRejected, match=message):
        read_plan(tmp_path, wanted, force=False)


def test_a_folder_that_is_no_study_is_left_alone(tmp_path: Path) -> None:
    wanted = make_plan(["vgg16"], OPTIONS, 5, 2, 0)
    assert read_plan(tmp_path / "new", wanted, force=False) is None
    (tmp_path / ".tmp-12-study.json").touch()  # killed while study.json was written
    (tmp_path / ".lock").touch()
    assert read_plan(tmp_path, wanted, force=False) is None
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(EdgeCTError, match="already exists"):
        read_plan(tmp_path, wanted, force=False)
    with pytest.raises(EdgeCTError, match="--force does not delete it"):
        read_plan(tmp_path, wanted, force=True)
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(DataRejected, match=r"study\.json: cannot be read"):
        read_plan(tmp_path, wanted, force=False)


def test_slices_are_known_by_pixels_labels_and_groups(tmp_path: Path) -> None:
    made = dataset()
    first = describe_slices(tmp_path, made, "f" * 64)
    assert first.counts == {"non-COVID": 60, "COVID": 60}
    assert first.groups != describe_slices(tmp_path, made.take(range(119, -1, -1)), "f" * 64).groups
    assert describe_slices(tmp_path, dataset_without_groups(), "f" * 64).groups == ""


def dataset_without_groups() -> Dataset:
    made = dataset()
    return Dataset(made.name, made.paths, made.labels, made.classes)
