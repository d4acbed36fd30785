"""The report: what it is made of, on invented measurements; and once through the real commands."""

import html.parser
import json
from csv import DictReader
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_ct import cli
from edge_ct.benchmarks.measure import accelerators, bundle, machine, timing
from edge_ct.benchmarks.report import collect
from edge_ct.benchmarks.report.write import write_report
from edge_ct.errors import EdgeCTError
from edge_ct.metrics import score
from edge_ct.system.child_command import CommandFailed, CommandOutput

N = 40


def invented(model: str, ms: float) -> bundle.Benchmark:
    times = timing.summarise([ms * (1 + i % 7 / 50) for i in range(100)], 1)
    return bundle.Benchmark(
        model=model,
        bytes=1_000_000,
        slices="phantoms",
        quick=False,
        model_only=times,
        end_to_end=times,
        cold_start_ms=150.0,
        peak_rss_mb=70.0,
        slices_per_second=1000 / ms,
        machine=machine.describe(),
        parameters=100_000,
        macs=5_000_000,
        before=machine.condition(),
        after=machine.condition(),
    )


class Commands:
    """Answers as `edge-ct evaluate` and `edge-ct benchmark run` would, by the name of what they are asked about."""

    def __init__(self, table: Path) -> None:
        with table.open(newline="") as file:
            rows = list(DictReader(file))
        picked = [row for row in rows if row["label"] == "COVID"][: N // 2]
        picked += [row for row in rows if row["label"] != "COVID"][: N // 2]
        self.slices = [(str(table.parent / row["path"]), int(row["label"] == "COVID")) for row in picked]
        self.wrong = {"reference": 2, "fast": 3, "slow": 2}
        self.ms = {"reference": 300.0, "fast": 2.0, "slow": 9.0}
        self.asked: list[list[str]] = []

    def __call__(self, words: list[str], show_progress: bool) -> CommandOutput:
        assert not show_progress
        self.asked.append(words)
        name = Path(words[1] if words[0] == "evaluate" else words[2]).stem
        if words[0] == "benchmark":
            return CommandOutput(0, msgspec.json.encode(invented(f"{name}@00000000", self.ms[name])).decode())
        lines = ["path,label,decision,probability"]
        labels, found = [], []
        for number, (path, label) in enumerate(self.slices):
            p = 0.9 if label else 0.1
            if number < self.wrong[name]:
                p = 1 - p
            labels.append(label)
            found.append(p)
            lines.append(f"{path},{label},positive,{p}")
        Path(words[words.index("--predictions") + 1]).write_text("\n".join(lines) + "\n")
        at = msgspec.to_builtins(score(np.array(labels), np.array(found), 0.4)) if name != "reference" else None
        fields = {"model": name, "split": "grouped", "part": "test", "n": N, "left_out": 3}
        decisions = {"positive": 20, "negative": 20, "refer": 0, "rejected": 0}
        return CommandOutput(0, json.dumps(fields | {"operating_point": at, "decisions": decisions if at else None}))


@pytest.fixture
def commands(phantom_table: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    own = Commands(phantom_table)
    monkeypatch.setattr(collect, "run_command", own)
    return own


@pytest.fixture
def models(tiny_bundle: Path, trained_run: Path, tmp_path: Path) -> tuple[list[Path], Path]:
    """Two bundles, one that is damaged, and a run to compare with."""
    content = tiny_bundle.read_bytes()
    for name in ("fast", "slow", "damaged"):
        (tmp_path / f"{name}.tflite").write_bytes(content if name != "damaged" else content[:-3] + b"000")
    reference = tmp_path / "reference"
    reference.symlink_to(trained_run)
    return [tmp_path / f"{name}.tflite" for name in ("fast", "slow", "damaged")], tmp_path / "reference"


def options(data: Path, **others: Any) -> collect.ReportOptions:
    return collect.ReportOptions(data, **others)


class Links(html.parser.HTMLParser):
    """Collects what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]
        self.found += [tag] * (tag in ("script", "link", "iframe", "img"))


@pytest.fixture(autouse=True)
def _folder_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link's own name, not that of the run it points to."""
    monkeypatch.setattr(Path, "resolve", lambda self, strict=False: self.absolute())


def test_everything_is_scored_on_the_same_slices_and_held_against_the_reference(
    commands: Commands, models: tuple[list[Path], Path], phantom_table: Path, tmp_path: Path
) -> None:
    targets, reference = models
    report = write_report(targets, reference, options(phantom_table), tmp_path / "out")
    base, fast, _slow, damaged = report.subjects
    assert (base.reference, base.kind, base.against) == (True, "network", None)
    assert report.data.n == N
    assert report.data.positives == N // 2
    assert fast.scores is not None and fast.scores.confusion.fn == 3
    assert fast.against is not None and fast.against.kept.value == pytest.approx(17 / 18)
    assert fast.against.equal.speed_up == pytest.approx(150)
    assert [own.front for own in report.subjects] == [False, True, True, False]
    assert damaged.reason is not None and "SHA-256 seal" in damaged.reason
    assert damaged.benchmark is None
    assert not any("damaged" in word for words in commands.asked for word in words)
    assert report.verdict.startswith("slow keeps 100.0 % [") and "1/33 of its time" in report.verdict
    assert any(text.startswith("damaged: ") for text in report.not_measured)
    assert any("Raspberry Pi" in text for text in report.not_measured)


def test_all_files_are_there_and_the_page_needs_nothing_else(
    commands: Commands, models: tuple[list[Path], Path], phantom_table: Path, tmp_path: Path
) -> None:
    targets, reference = models
    report = write_report(targets, reference, options(phantom_table), tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "report.json", "report.csv", "report.md", "pareto.png", "parts"}
    parser, text = Links(), (tmp_path / "out" / "report.html").read_text()
    parser.feed(text)
    assert all(link.startswith("#") for link in parser.found)
    assert text.count("<svg") == 4
    for word in (report.verdict, "Not a medical device", "edge-ct evaluate", report.data.fingerprint, "Not measured"):
        assert str(word) in text
    with (tmp_path / "out" / "report.csv").open(newline="") as file:
        rows = {row["label"]: row for row in DictReader(file)}
    assert rows["fast"]["sensitivity"] == "0.85000"
    assert rows["fast"]["speed_up_at_equal_sensitivity"] == "150.00"
    assert rows["damaged"]["not_measured"]
    assert msgspec.json.decode((tmp_path / "out" / "report.json").read_bytes(), type=collect.Report) == report
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert markdown.startswith(report.verdict)
    assert "| **fast** | 92.5 % [" in markdown


def test_what_was_measured_is_used_again_on_request_alone(
    commands: Commands, models: tuple[list[Path], Path], phantom_table: Path, tmp_path: Path
) -> None:
    targets, reference = models
    for reuse, asked in ((False, 6), (True, 6), (False, 12)):
        write_report(targets, reference, options(phantom_table, reuse=reuse), tmp_path / "out")
        assert len(commands.asked) == asked
    write_report(targets, reference, options(phantom_table, reuse=True, quick=True), tmp_path / "out")
    assert len(commands.asked) == 15  # quick is another command: of three models


def test_slices_without_labels_give_latency_only(
    commands: Commands, models: tuple[list[Path], Path], phantom_table: Path, tmp_path: Path
) -> None:
    targets, reference = models
    report = write_report(targets, reference, options(phantom_table.parent / "COVID"), tmp_path / "out")
    assert {words[0] for words in commands.asked} == {"benchmark"}
    assert report.verdict.startswith("Latency only: the data has no labels")
    assert "no labels" in (tmp_path / "out" / "report.html").read_text()
    assert not (tmp_path / "out" / "pareto.png").exists()


def test_a_reference_that_cannot_be_measured_ends_it(
    models: tuple[list[Path], Path], phantom_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(words: list[str], show_progress: bool) -> CommandOutput:
        raise CommandFailed("no GPU: none here", 1)

    monkeypatch.setattr(collect, "run_command", failing)
    targets, reference = models
    with pytest.raises(EdgeCTError, match="no GPU: none here"):
        collect.collect(targets, reference, options(phantom_table, device="gpu"), tmp_path / "out")
    assert not (tmp_path / "out" / "report.json").exists()


def test_the_device_reaches_runs_alone(
    commands: Commands, models: tuple[list[Path], Path], phantom_table: Path, tmp_path: Path
) -> None:
    targets, reference = models
    collect.collect(targets, reference, options(phantom_table, device="cpu", threads=2), tmp_path / "out")
    measured = {Path(words[2]).stem: words for words in commands.asked if words[0] == "benchmark"}
    assert measured["reference"][-3:-1] == ["--device", "cpu"]
    assert "--device" not in measured["fast"]
    assert all(words[words.index("--threads") + 1] == "2" for words in measured.values())


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "find_gpu", lambda framework: None)
    with pytest.raises(EdgeCTError, match="no GPU"):
        accelerators.choose_device("gpu", 1)
    assert accelerators.choose_device("auto", 1).kind == "cpu"


def test_a_gpu_that_is_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "find_gpu", lambda framework: "Accelerator 3000")
    for wanted in ("auto", "gpu"):
        found = accelerators.choose_device(wanted, 1)  # type: ignore[arg-type]
        assert (found.kind, found.name, found.threads) == ("gpu", "Accelerator 3000", 1)
    assert accelerators.choose_device("cpu", 1).kind == "cpu"


@pytest.mark.slow
def test_the_command(
    tiny_bundle: Path, trained_run: Path, phantom_table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"no")
    arguments = ["benchmark", "report", str(tiny_bundle), str(tmp_path / "bad.tflite"), "--quick", "--markdown"]
    arguments += ["--reference", str(trained_run), "--data", str(phantom_table), "--out", str(tmp_path / "out")]
    assert cli.run(arguments) == 4
    out, err = capsys.readouterr()
    assert "of the sensitivity of customcnn at 1/" in out or "times of its time per slice" in out
    assert "1 of 3 not measured" in err.splitlines()[-1]
    assert (tmp_path / "out" / "report.html").stat().st_size > 50_000
