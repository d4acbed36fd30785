"""Going on with a run: which slices are learned from, and what is said of old and new."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_ct import cli
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.metrics import mcnemar_p, score
from edge_ct.run import Run, SplitTable, load_finished_run, load_run, save_run_info, write_seen_slices, write_split
from edge_ct.slices import read
from edge_ct.system.progress import QUIET, Progress
from edge_ct.train import continual, fit
from edge_ct.train.data import synthesise
from edge_ct.train.fitting.options import TrainingOptions
from edge_ct.train.score import evaluate
from edge_ct.train.score.predict import predict_run


@pytest.fixture(scope="module")
def new_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 new phantom slices of 48 patients, whose names no old one has."""
    table = synthesise.write_phantom_dataset(
        tmp_path_factory.mktemp("new") / "clinic", patients=48, slices=2, size=64, seed=99
    )
    rows = table.read_text().splitlines()
    table.write_text("\n".join([rows[0], *(",clinic-".join(row.rsplit(",", 1)) for row in rows[1:])]) + "\n")
    return table


def prepare(
    base: Path, data: Path, replay: Path | None = None, say: object = None, **changes: object
) -> fit.PreparedData:
    options = continual.derive_options(base, changes)
    progress = QUIET if say is None else say
    return continual._prepare(load_run(base), data, replay, options, progress)  # type: ignore[arg-type]


class Listening(Progress):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_options_are_those_of_the_run_but_slower(trained_run: Path) -> None:
    first = msgspec.convert(load_run(trained_run).info.options, TrainingOptions)
    found = continual.derive_options(trained_run, {"epochs": 3, "augment": "travel", "policy": None})
    assert found == msgspec.structs.replace(
        first, epochs=3, augment="travel", learning_rate=first.learning_rate / 5, start=str(trained_run)
    )
    assert continual.derive_options(trained_run, {"learning_rate": 0.1}).learning_rate == 0.1


def test_old_and_new_are_mixed_as_asked(trained_run: Path, new_table: Path) -> None:
    old = load_run(trained_run).split()
    known = old.part_of()
    for share in (0.5, 0.2, 0.0):
        prepared = prepare(trained_run, new_table, replay_share=share)
        table = prepared.table
        is_old = np.array([sha256[:16] in known for sha256 in table.sha256])
        for part in ("train", "validation"):
            chosen = table.where(part)
            fresh = int((~is_old[chosen]).sum())
            assert fresh > 10
            assert is_old[chosen].sum() == pytest.approx(fresh * share / (1 - share), abs=1)
            replayed = table.labels[chosen][is_old[chosen]]
            if share:
                assert abs(replayed.mean() - old.labels[old.where(part)].mean()) < 0.05
        # All old test slices judge, and every old slice has the part it had.
        tested = {table.sha256[i] for i in table.where("test")}
        assert {old.sha256[i] for i in old.where("test")} <= tested
        for sha256, part in table.part_of().items():
            assert known.get(sha256, part) == part
        assert {**prepared.seen, **table.part_of()}.items() >= known.items()
        assert not prepared.seen.keys() & table.part_of().keys()
        assert len(prepared.images.images) == len(prepared.dataset) == len(table.paths)
        assert all((prepared.root / path).resolve().is_file() for path in table.paths)
        assert read(prepared.root / table.paths[7]).sha256 == table.sha256[7]


def test_an_old_test_slice_among_the_new_is_not_learned_from(
    trained_run: Path, new_table: Path, tmp_path: Path
) -> None:
    """In another container, under another name, of another patient and with the wrong label."""
    base = load_run(trained_run)
    old, dataset = base.split(), base.dataset()
    tested = old.where("test")[:6]
    rows = [f"{new_table.parent}/{row}" for row in new_table.read_text().splitlines()[1:]]
    for i in tested:
        Image.open(dataset.paths[i]).save(tmp_path / f"{i}.tif")
        rows.append(f"{tmp_path}/{i}.tif,{('COVID', 'non-COVID')[old.labels[i]]},someone-{i}")
    # One slice of an old test patient that is new, one of a patient of the old training part.
    fresh = {}
    for part in ("test", "train"):
        i = int(old.where(part)[0])
        image = cv2.imread(str(dataset.paths[i]), cv2.IMREAD_GRAYSCALE) ^ 1
        cv2.imwrite(str(tmp_path / f"sibling-{part}.png"), image)
        fresh[part] = read(tmp_path / f"sibling-{part}.png").sha256
        label = ("non-COVID", "COVID")[old.labels[i]]
        rows.append(f"{tmp_path}/sibling-{part}.png,{label},{old.groups[i]}")
    (tmp_path / "new.csv").write_text("\n".join(["path,label,group", *rows]) + "\n")
    said = Listening()
    table = prepare(trained_run, tmp_path / "new.csv", say=said).table
    held_out = {old.sha256[i] for part in ("validation", "test") for i in old.where(part)}
    assert not held_out & {table.sha256[i] for i in table.where("train")}
    assert len(set(table.sha256)) == len(table.sha256)
    for i in tested:  # as it was labelled
        assert table.labels[table.sha256.index(old.sha256[i])] == old.labels[i]
    assert any("6 slices" in line and "keep their part" in line for line in said.lines)
    for part, sha256 in fresh.items():
        assert table.parts[table.sha256.index(sha256)] == part


def test_a_group_that_the_old_split_tore_apart_is_left_out(trained_run: Path, new_table: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(trained_run, base)
    old = load_run(base).split()
    torn = list(old.groups)
    torn[int(old.where("train")[0])] = torn[int(old.where("test")[0])] = "clinic-torn"
    write_split(base / "split.csv", SplitTable(old.paths, old.labels, tuple(torn), old.parts, old.sha256))
    rows = [f"{new_table.parent}/{row}" for row in new_table.read_text().splitlines()[1:]]
    rows[0] = f"{rows[0].rsplit(',', 1)[0]},clinic-torn"
    (tmp_path / "new.csv").write_text("\n".join(["path,label,group", *rows]) + "\n")
    said = Listening()
    table = prepare(base, tmp_path / "new.csv", say=said).table
    assert read(Path(rows[0].split(",")[0])).sha256 not in table.sha256
    assert any("1 new slices are left out" in line for line in said.lines)


def test_a_near_duplicate_of_an_old_test_slice_is_not_learned_from(
    trained_run: Path, new_table: Path, tmp_path: Path
) -> None:
    """In a folder that names no patients."""
    base = load_run(trained_run)
    old, dataset = base.split(), base.dataset()
    for label in ("COVID", "non-COVID"):
        shutil.copytree(new_table.parent / label, tmp_path / "new" / label)
    twins = {}
    for part in ("test", "train"):
        for i in old.where(part)[:3]:
            pixels = read(dataset.paths[i]).pixels
            brighter = np.clip(pixels.astype(int) + 2, 0, 255).astype(np.uint8)
            path = tmp_path / "new" / ("non-COVID", "COVID")[old.labels[i]] / f"twin-{i}.png"
            cv2.imwrite(str(path), brighter)
            twins[read(path).sha256] = part
    table = prepare(trained_run, tmp_path / "new").table
    assert len(twins) == 6
    for sha256, part in twins.items():
        if sha256 in table.sha256:  # else its group lies in several parts, which patients' names did not tell
            assert table.parts[table.sha256.index(sha256)] == part
    assert sum(sha256 in table.sha256 for sha256 in twins) >= 4


def test_old_slices_that_have_moved_or_are_gone(
    trained_run: Path, phantom_table: Path, new_table: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(trained_run, base)
    save_run_info(base, msgspec.structs.replace(load_run(base).info, data_path="/nowhere"))
    with pytest.raises(DataRejected, match=r"/nowhere: holds no slice that .* with --replay, or train"):
        prepare(base, new_table)
    # Some of them, by other names: what is no part of the run is left alone.
    moved = tmp_path / "moved"
    old = load_run(base).split()
    chosen = [*old.where("train")[:40], *old.where("test")[:10]]
    for number, i in enumerate(chosen):
        folder = moved / ("non-COVID", "COVID")[old.labels[i]]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(phantom_table.parent / old.paths[i], folder / f"{number}.png")
    shutil.copy(next((new_table.parent / "COVID").iterdir()), moved / "COVID" / "stranger.png")
    prepared = prepare(base, new_table, replay=moved)
    here = {old.sha256[i] for i in chosen} & set(prepared.table.sha256)
    known = old.part_of()
    replayed = [sha256 for sha256 in prepared.table.sha256 if sha256[:16] in known]
    assert set(replayed) == here
    assert {old.sha256[i] for i in old.where("test")[:10]} <= here
    alone = prepare(base, new_table, replay_share=0.0)
    assert not {sha256[:16] for sha256 in alone.table.sha256} & known.keys()
    assert alone.seen == known


def test_what_cannot_go_on_is_refused(
    trained_run: Path, phantom_table: Path, new_table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataRejected, match="all its slices are already known"):
        prepare(trained_run, phantom_table)
    other = tmp_path / "other.csv"
    rows = [f"{new_table.parent}/{row}" for row in new_table.read_text().splitlines()[1:]]
    other.write_text("\n".join(["path,label,group", *rows]).replace("non-COVID,", "pneumonia,") + "\n")
    with pytest.raises(DataRejected, match=r"are pneumonia and COVID, but those of .* are non-COVID and COVID"):
        continual.continue_run(other, out, continual.derive_options(trained_run, {}))
    with pytest.raises(EdgeCTError, match="is the run to train further"):
        continual.continue_run(new_table, trained_run, continual.derive_options(trained_run, {}), force=True)
    both = tmp_path / "ensemble"
    save_run_info(both, msgspec.structs.replace(load_run(trained_run).info, kind="ensemble"))
    with pytest.raises(DataRejected, match="an ensemble cannot be trained further"):
        continual.derive_options(both, {})
    assert not out.exists()
    for wrong, message in (
        (["customcnn", "--from", str(trained_run)], "name a NETWORK to train, or with --from a run"),
        ([], "name a NETWORK to train, or with --from a run"),
        (["customcnn", "--replay", "x"], "--replay needs --from"),
        (["--from", str(trained_run), "--size", "32"], "--size cannot be changed with --from"),
    ):
        assert cli.run(["train", *wrong, "--data", str(new_table), "--out", str(out)]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_old_and_new_are_scored_before_and_after(
    trained_run: Path,
    phantom_table: Path,
    new_table: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    command = [
        "train", "--from", str(trained_run), "--data", str(new_table), "--out", str(out), "--epochs", "2",
        "--seed", "3", "--json",
    ]  # fmt: skip

    def die(self: Progress, line: str) -> None:
        if "validation loss" in line:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "say", die)
        assert cli.run(command) == 130
    assert not load_run(out).info.finished
    capsys.readouterr()
    assert cli.run([*command, "--resume"]) == 0
    printed = json.loads(capsys.readouterr().out)
    found = printed["continual"]
    assert json.loads((out / "continual.json").read_bytes()) == found

    run, base = load_finished_run(out), load_run(trained_run)
    assert (run.info.options["start"], run.info.options["epochs"]) == (str(trained_run), 2)
    with (out / "history.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2
    known, table, dataset = base.known(), run.split(), run.dataset()
    tested = table.where("test")
    for name in ("old", "new"):
        chosen = [i for i in tested if (table.sha256[i][:16] in known) == (name == "old")]
        labels = table.labels[chosen]
        before, after = (predict_run(own, dataset.take(chosen)) for own in (base, run))
        assert found[name]["before"]["n"] == len(chosen) > 15
        for when, p in (("before", before), ("after", after)):
            expected = score(labels, p)
            assert found[name][when]["confusion"] == msgspec.to_builtins(expected.confusion)
            assert found[name][when]["loss"]["value"] == pytest.approx(expected.loss.value, abs=1e-5)
        assert found[name]["mcnemar_p"] == pytest.approx(mcnemar_p(labels, before >= 0.5, after >= 0.5))
        assert np.abs(before - after).max() > 1e-3
    stored = json.loads((trained_run / "metrics.json").read_bytes())["parts"]["test"]
    assert found["old"]["before"]["confusion"] == stored["confusion"]
    assert printed["parts"]["test"]["n"] == found["old"]["after"]["n"] + found["new"]["after"]["n"]
    assert found["learned"] == len(table.where("train"))

    # The old folder holds nothing that this network may be scored on but the old test part.
    again = evaluate.evaluate(out, phantom_table, "auto", "COVID")
    assert (again.n, again.split) == (found["old"]["after"]["n"], "grouped")
    with pytest.raises(DataRejected, match="no slice to score"):
        evaluate.evaluate(out, phantom_table, "new", "COVID")  # type: ignore[arg-type]
    assert cli.run([*command[:-1], "--resume"]) == 0
    lines = capsys.readouterr().out
    assert f"{found['old']['after']['n']} old test slices" in lines
    assert lines.count("sensitivity") == 2
    assert lines.count(" -> ") == 18


def test_a_chain_of_runs_forgets_no_slice(
    trained_run: Path, new_table: Path, tmp_path: Path, untrained: Callable[[Path, Path, TrainingOptions], Run]
) -> None:
    """What the grandparent had seen is known to the grandchild."""
    child = tmp_path / "child"
    prepared = prepare(trained_run, new_table)
    run = Run(child, fit._run_info(continual.derive_options(trained_run, {}), prepared))
    write_split(child / "split.csv", prepared.table)
    write_seen_slices(child, prepared.seen)
    shutil.copy(trained_run / "model.keras", child / "model.keras")
    save_run_info(child, msgspec.structs.replace(run.info, finished=True))
    newest = synthesise.write_phantom_dataset(tmp_path / "newest", patients=40, slices=1, size=64, seed=123)
    rows = newest.read_text().splitlines()
    newest.write_text("\n".join([rows[0], *(",third-".join(row.rsplit(",", 1)) for row in rows[1:])]) + "\n")
    last = prepare(child, newest)
    reached = {**last.seen, **last.table.part_of()}
    assert reached.items() >= load_run(trained_run).known().items()
    assert reached.items() >= prepared.table.part_of().items()
