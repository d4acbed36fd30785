"""The tables of decisions in the report and in `evaluate` count what `classify` says of the same slices."""

import html
import json
import re
import shutil
from collections.abc import Sequence
from csv import DictReader
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from edge_ct import cli
from edge_ct.benchmarks.report import collect
from edge_ct.benchmarks.report.write import write_report
from edge_ct.bundle import add_members, read_bundle
from edge_ct.system.child_command import CommandOutput, run_command
from edge_ct.train.data import synthesise

from .test_report import invented

# The columns of the tables, in their order.
DECISIONS = ("positive", "refer", "negative", "rejected")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A shipped model that does not say which slices it has learned from, so that all slices are scored."""
    path = tmp_path / "model.tflite"
    path.write_bytes(add_members(read_bundle("fast"), {"split.csv": b"sha256,part\n"}))
    return path


@pytest.fixture
def phantoms(tmp_path: Path) -> Path:
    """slices.csv of phantoms of several sizes, two of a patient, and of a mask in each class, which is rejected."""
    folder = tmp_path / "phantoms"
    synthesise.write_phantom_dataset(folder, patients=24, slices=2, size=128, seed=31)
    mask = np.zeros((128, 128), np.uint8)
    for left in (30, 80):
        cv2.ellipse(mask, (left, 64), (16, 34), 0, 0, 360, 255, -1)
    lines = []
    for number, label in enumerate(("COVID", "non-COVID", "non-COVID")):
        name = f"{label}/mask{number}.png"
        cv2.imwrite(str(folder / name), np.roll(mask, number))
        lines.append((name, label))
    table = folder / "slices.csv"
    with table.open(newline="") as file:
        columns = DictReader(file).fieldnames or []
    with table.open("a", newline="") as file:
        for name, label in lines:
            values = {"path": name, "label": label, "group": name}
            file.write(",".join(values.get(column, "") for column in columns) + "\n")
    return table


def classify(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[Path, dict[str, object]]:
    """Return the rows of `classify --json` of a folder, by path."""
    capsys.readouterr()
    assert cli.run(["classify", str(folder), "--json", "--model", str(model)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {Path(str(row["source"])).resolve(): row for row in rows}


def shares(decisions: Sequence[object]) -> list[str]:
    """Return the cells of a row of the table: the number of cases, and the share of each decision with its interval."""
    cells = [str(len(decisions))]
    for decision in DECISIONS:
        count = decisions.count(decision)
        low, high = proportion_confint(count, len(decisions), 0.05, "wilson")
        cells.append(f"{100 * count / len(decisions):.1f} % [{100 * low:.1f}, {100 * high:.1f}]")
    return cells


def table_of_report(page: str, model: str) -> dict[str, list[str]]:
    """Return the rows of the table of decisions from the report's page, by their first cell."""
    section = page.partition(f"<h2>How {model} decided</h2>")[2].partition("</table>")[0]
    rows = [
        [html.unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", section, re.DOTALL)
    ]
    return {row[0]: row[1:] for row in rows[1:]}


def assert_tables_agree(
    model: Path,
    table: Path,
    reference: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    decided: set[str],
) -> dict[str, list[str]]:
    """Count the decisions of `classify`, compare them with `evaluate` and the report, and return the report's table."""
    rows = classify(model, table.parent, capsys)
    with table.open(newline="") as file:
        labels = {(table.parent / row["path"]).resolve(): row["label"] for row in DictReader(file)}
    assert set(rows) == set(labels)
    by_label = {
        name: shares([row["decision"] for path, row in rows.items() if (labels[path] == "COVID") is is_positive])
        for name, is_positive in (("positives by slice", True), ("negatives by slice", False))
    }
    assert {str(row["decision"]) for row in rows.values()} >= decided

    assert cli.run(["evaluate", str(model), "--data", str(table), "--markdown"]) == 0
    printed = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    evaluated = {line[0]: line[1:] for line in printed}
    assert {name: evaluated[name] for name in by_label} == by_label

    def answer(words: list[str], show_progress: bool) -> CommandOutput:
        """Score the model by the real command; times, and the run that it is compared with, are invented."""
        if words[0] == "benchmark":
            return CommandOutput(0, msgspec.json.encode(invented(Path(words[2]).stem, 2.0)).decode())
        if Path(words[1]) == model:
            return run_command(words, show_progress=show_progress, same_process=True)
        truth = {path: int(label == "COVID") for path, label in labels.items()}
        lines = [f"{path},{label},,{0.1 + 0.8 * label}" for path, label in truth.items()]
        predictions = "\n".join(["path,label,decision,probability", *lines]) + "\n"
        Path(words[words.index("--predictions") + 1]).write_text(predictions)
        fields = {"model": "reference", "split": "external", "part": "all", "n": len(truth), "left_out": 0}
        return CommandOutput(0, json.dumps(fields | {"operating_point": None, "decisions": None}))

    monkeypatch.setattr(collect, "run_command", answer)
    out = table.parent.parent / "report"
    write_report([model], reference, collect.ReportOptions(table), out)
    shown = table_of_report((out / "report.html").read_text(encoding="utf-8"), model.stem)
    assert {name: shown[name] for name in by_label} == by_label
    return shown


def test_phantoms(
    model: Path,
    phantoms: Path,
    trained_run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = assert_tables_agree(model, phantoms, trained_run, capsys, monkeypatch, {"positive", "refer", "rejected"})
    # A patient is decided by the mean probability of the slices that were judged.
    rows = classify(model, phantoms.parent, capsys)
    rule = read_bundle(model).manifest.decision_rule
    with phantoms.open(newline="") as file:
        slices = [
            (row["group"], row["label"], rows[(phantoms.parent / row["path"]).resolve()]) for row in DictReader(file)
        ]
    decisions: dict[str, list[str]] = {"COVID": [], "non-COVID": []}
    for patient in dict.fromkeys(group for group, _, _ in slices):
        label = next(label for group, label, _ in slices if group == patient)
        judged = [row["probability"] for group, _, row in slices if group == patient and row["probability"] is not None]
        if not judged:
            decisions[label].append("rejected")
            continue
        mean = float(np.mean(judged))
        is_negative, is_positive = mean < rule.negative_below, mean >= rule.positive_from
        decisions[label].append("negative" if is_negative else "positive" if is_positive else "refer")
    assert shown["positives by likely patient"] == shares(decisions["COVID"])
    assert shown["negatives by likely patient"] == shares(decisions["non-COVID"])


@pytest.mark.real
def test_real_slices(
    model: Path,
    trained_run: Path,
    real_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "real"
    lines = ["path,label"]
    for label in ("COVID", "non-COVID"):
        (folder / label).mkdir(parents=True)
        paths = sorted((real_data / "sars-cov-2-ct" / label).glob("*.png"))
        for path in paths[:: len(paths) // 50][:50]:
            shutil.copyfile(path, folder / label / path.name)
            lines.append(f"{label}/{path.name},{label}")
    assert len(lines) == 101
    (folder / "slices.csv").write_text("\n".join(lines) + "\n")
    assert_tables_agree(
        model, folder / "slices.csv", trained_run, capsys, monkeypatch, {"positive", "refer", "negative"}
    )
