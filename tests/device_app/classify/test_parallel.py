"""Judging on several workers: the same answers in the same order, few at a time; interrupted, it keeps its rows."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edge_ct import cli
from edge_ct.bundle import Bundle
from edge_ct.classifier import Classifier, Result
from edge_ct.device_app.judging import judge
from edge_ct.device_app.judging.judge import SliceJudgement
from edge_ct.device_app.judging.pool import JudgingPool
from edge_ct.device_app.judging.sources import Source, find_sources
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.phantom import make_slice


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty slices, 00.png to 39.png; 07 is cut short."""
    folder = tmp_path_factory.mktemp("study")
    for number in range(40):
        Image.fromarray(make_slice(number, 3, number % 2 == 0, 64).image).save(folder / f"{number:02}.png")
    cut = folder / "07.png"
    cut.write_bytes(cut.read_bytes()[:-20])
    return folder


def run(*arguments: object) -> int:
    return cli.run(["classify", *(str(own) for own in arguments)])


def result_and_process(judgement: SliceJudgement, classifier: Classifier) -> tuple[Result, int]:
    return judgement.result, os.getpid()


def divide_by_zero(judgement: SliceJudgement, classifier: Classifier) -> None:
    raise ZeroDivisionError


def test_three_workers_answer_as_one(study: Path, tiny_classifier: Classifier) -> None:
    expected = [own.result for own in judge.judge_paths(tiny_classifier, [str(study)])]
    with JudgingPool(tiny_classifier.bundle, 3) as pool:
        batches = list(pool.judge_each(find_sources([str(study)]), result_and_process))
    found = [own for batch in batches for own, _ in batch]
    assert [own.source for own in found] == [own.source for own in expected]
    assert [own.probability for own in found] == [own.probability for own in expected]
    assert [own.reason for own in found] == [own.reason for own in expected]
    processes = {process for batch in batches for _, process in batch}
    assert 1 <= len(processes) <= 3
    assert os.getpid() not in processes


def test_few_slices_are_ahead_of_the_reader(study: Path, tiny_classifier: Classifier) -> None:
    taken = 0

    def endless() -> Iterator[Source]:
        nonlocal taken
        while True:
            taken += 1
            yield Source(str(study / "00.png"))

    with JudgingPool(tiny_classifier.bundle, 2) as pool:
        batches = pool.judge_each(endless(), result_and_process)
        read = 0
        while read < 30:
            read += len(next(batches))
            assert taken <= read + 4 * 2
        batches.close()  # type: ignore[attr-defined]


def test_error_on_a_worker_reaches_the_reader(study: Path, tiny_classifier: Classifier) -> None:
    with JudgingPool(tiny_classifier.bundle, 2) as pool, pytest.raises(ZeroDivisionError):
        list(pool.judge_each(find_sources([str(study)]), divide_by_zero))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("0*.png", [f"{n:02}.png" for n in range(10)]), ("**/3[89].png", ["38.png", "39.png"]), ("?[!0-8].png", None)],
)
def test_globs(study: Path, pattern: str, names: list[str] | None) -> None:
    found = [Path(source.name).name for source in find_sources([str(study / pattern)])]
    assert found == (names or ["09.png", "19.png", "29.png", "39.png"])


def test_glob_without_a_match_is_a_rejected_row(tiny_classifier: Classifier, tmp_path: Path) -> None:
    (only,) = judge.judge_paths(tiny_classifier, [str(tmp_path / "*.png")])
    assert (only.result.decision, only.result.reason) == ("rejected", "no file matches")


def test_file_with_a_name_like_a_glob(study: Path, tmp_path: Path, tiny_classifier: Classifier) -> None:
    own = tmp_path / "[1].png"
    own.write_bytes((study / "00.png").read_bytes())
    (only,) = judge.judge_paths(tiny_classifier, [str(own)])
    assert only.result.decision != "rejected"


def test_csv(study: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(study, "--model", tiny_bundle, "--csv") == 3
    out, err = capfd.readouterr()
    found = list(csv.DictReader(io.StringIO(out)))
    assert [Path(row["source"]).name for row in found] == [f"{number:02}.png" for number in range(40)]
    assert (found[7]["decision"], found[7]["probability"], found[7]["reason"]) == ("rejected", "", "truncated")
    assert float(found[0]["probability"]) >= 0
    assert "1 rejected. " in err
    assert "slices a second" in err


def test_series_is_the_mean_of_its_slices(study: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(study, "--model", tiny_bundle, "--json") == 3
    slices = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    judged = [row["probability"] for row in slices if row["probability"] is not None]
    assert run(study, "--model", tiny_bundle, "--json", "--by", "series", "--series", "A") == 3
    (own,) = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert own["series"] == "A"
    assert own["probability"] == pytest.approx(sum(judged) / 39)
    assert (own["slices"], own["rejected_slices"]) == (39, 1)
    assert own["positive_slices"] == sum(row["decision"] == "positive" for row in slices)
    assert run(study, "--model", tiny_bundle, "--series", "A") == 3
    last = capfd.readouterr().out.splitlines()[-1]
    assert f"series A: {own['positive_slices']} of 39 slices positive, 1 rejected" in last
    assert run(study, "--model", tiny_bundle, "--by", "series", "--series", "A", "--csv") == 3
    (line,) = csv.DictReader(io.StringIO(capfd.readouterr().out))
    assert (line["series"], line["slices"]) == ("A", "39")


def test_dicom_says_which_series(tmp_path: Path, tiny_bundle: Path, write_ct, capfd) -> None:  # type: ignore[no-untyped-def]
    for number in range(4):
        image = make_slice(number, 3, True, 64).image.astype("int16") * 6 - 1350 + 1024
        content = write_ct(image, SeriesInstanceUID=f"1.2.{number % 2}", SOPInstanceUID=f"1.3.{number}")
        (tmp_path / f"{number}.dcm").write_bytes(content)
    state = tmp_path / "state"
    arguments = (tmp_path, "--model", tiny_bundle, "--by", "series", "--json", "--worklist", "--state", state)
    assert run(*arguments) == 0
    found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(own["series"], own["slices"]) for own in found] == [("1.2.0", 2), ("1.2.1", 2)]
    with Worklist(state) as worklist:
        assert {row.patient for row in worklist.rows()} == {worklist.pseudonym("patient-17")}
        assert [row.instance for row in worklist.rows(series="1.2.1", by="number")] == ["1.3.1", "1.3.3"]


def test_worklist_holds_what_is_shown(
    study: Path, tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    arguments = (study, "--model", tiny_bundle, "--json", "--worklist", "--state", state, "--patient", "Maria")
    for _ in range(2):  # the second time they are there already
        assert run(*arguments, "--heatmap", tmp_path / "maps") == 3
        shown = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    with Worklist(state) as worklist:
        rows = {row.id: row for row in worklist.rows()}
        # What cannot be read has no pixels by which to know it again.
        assert len(rows) == 41
        for own in shown:
            row = rows[own["id"]]
            assert (row.decision, row.probability, row.patient) == (
                own["decision"],
                own["probability"],
                worklist.pseudonym("Maria"),
            )
        assert worklist.check().entries == 80
    assert len(list((tmp_path / "maps").iterdir())) == 39


def test_single_slice_makes_no_second_worker(
    study: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = []
    real = JudgingPool.__init__

    def noted(self: JudgingPool, bundle: Bundle, workers: int, *more: Any, **named: Any) -> None:
        asked.append(workers)
        real(self, bundle, workers, *more, **named)

    monkeypatch.setattr(JudgingPool, "__init__", noted)
    assert run(study / "00.png", "--model", tiny_bundle, "--workers", 3) == 0
    assert run(study / "00.png", study / "01.png", "--model", tiny_bundle, "--workers", 3) == 0
    assert run(study, "--model", tiny_bundle, "--threads", 64) == 3
    assert asked == [3, 1]
    capfd.readouterr()


def test_json_and_csv_at_once_is_wrong_usage(tiny_bundle: Path) -> None:
    assert run("x.png", "--model", tiny_bundle, "--json", "--csv") == 2


def test_interruption_leaves_finished_rows_whole(study: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """Ctrl-C while it waits for more: exit 130, every line a whole one and in the worklist."""
    state = tmp_path / "state"
    command = [sys.executable, "-m", "edge_ct", "classify", str(study), "-", "--workers", "2", "--json", "--worklist"]
    process = subprocess.Popen(
        [*command, "--model", str(tiny_bundle), "--state", str(state)],
        stdin=subprocess.PIPE,  # held open: the last source never ends
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(20)]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.strip() == "edge-ct: interrupted"
    shown = [json.loads(line) for line in [*lines, *out.splitlines()]]
    assert [Path(own["source"]).name for own in shown] == [f"{number:02}.png" for number in range(len(shown))]
    with Worklist(state) as worklist:
        assert {own["id"] for own in shown} <= {row.id for row in worklist.rows()}
        worklist.check()


@pytest.mark.parametrize("shown", [["--json"], ["--csv"], []])
def test_file_whose_name_is_no_unicode(
    study: Path, tiny_bundle: Path, tmp_path: Path, shown: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """As an old Windows writes it on a stick: one row among the others, with its heat map, not the end of the batch."""
    folder = tmp_path / "stick"
    folder.mkdir()
    for name in (b"a.png", b"s\xe3o.png", b"z.png"):
        (folder / os.fsdecode(name)).write_bytes((study / "00.png").read_bytes())
    recorded = ["--worklist", "--state", tmp_path / "state", "--heatmap", tmp_path / "maps"]
    assert run(folder, "--model", tiny_bundle, *shown, *recorded) == 0
    assert "s\\udce3o.png" in capfd.readouterr().out.replace("\\\\", "\\")
    assert len(list((tmp_path / "maps").iterdir())) == 3


def test_names_forge_no_line_of_the_table(
    study: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line breaks, escape sequences and marks of direction in a file name stay in its own line."""
    folder, state = tmp_path / "names", tmp_path / "state"
    folder.mkdir()
    names = (
        "a.png\npositive   99.9%  other.png",
        "b\x1b[1A\x1b[2K.png",
        "c\rpositive  other.png",
        "d\u202egnp.exe.png",
    )
    for number, name in enumerate(names):
        (folder / name).write_bytes((study / f"0{number}.png").read_bytes())
    run(folder, "--model", tiny_bundle, "--worklist", "--state", state)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 5
    assert cli.run(["worklist", "list", "--state", str(state)]) == 0
    listed = capsys.readouterr().out
    assert len(listed.splitlines()) == 5
    assert all(line.isprintable() for line in (*out.split("\n"), *listed.split("\n")))
    (state / "other").mkdir()
    watched = ["watch", str(folder), "--once", "--settle", "0.05", "--interval", "0.05", "--model", str(tiny_bundle)]
    assert cli.run([*watched, "--state", str(state / "other")]) == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))


def test_what_a_folder_holds_beside_its_slices_is_named(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(make_slice(1, 3, False, 96).image).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("x")
    assert cli.run(["classify", str(tmp_path), "--model", str(tiny_bundle)]) == 0
    err = capsys.readouterr().err
    assert f"left out of {tmp_path}: files that are not slices: 1 (notes.txt)" in err
    assert "slices a second" not in err  # of a single slice that says nothing


@pytest.mark.parametrize("by", ["series", "patient"])
def test_says_that_pictures_name_no_series_and_no_patient(
    by: str, tmp_path: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "blank.png"
    Image.new("L", (64, 64)).save(path)
    assert run(path, "--model", tiny_bundle, "--by", by) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert f"no {by} to show: only DICOM files name their {by}; name it with --{by}\n" in err
