"""Run the whole product on phantom slices, through the commands that a user types, and report the results."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from edge_ct.run import read_split
from edge_ct.system.child_command import run_command
from edge_ct.system.files import fresh_folder, refuse_existing, write_text
from edge_ct.system.progress import Progress

from .page import DemoResults, write_demo_page

# Many patients with few slices each: otherwise a network that starts from random weights learns the patients by heart.
PATIENTS, SLICES, SOURCE_SIZE, SIZE = 900, 2, 128, 96
TRAINING = ("--split", "grouped", "--size", str(SIZE), "--augment", "flips", "--dropout", "0")
# From random weights, and in minutes, MobileNetV2 needs a learning rate forty times as high as for fine-tuning.
MOBILENET = ("--alpha", "0.35", "--epochs", "16", "--learning-rate", "2e-2", "--patience", "16")
# Phantom patients whose lesion masks teach the lesion map, which the pictures of the report show.
LESIONS = ("--lesion-phantoms", "120")
CUSTOM = ("--epochs", "6", "--learning-rate", "2e-3")
# One positive slice of a validation split of 270 slices is most of a percentage point.
MAX_DROP = "3"
NOTE = "SYNTHETIC.txt"


@dataclass(frozen=True)
class DemoPaths:
    """The files and folders of a demo."""

    out: Path

    @property
    def phantoms(self) -> Path:
        """Folder of the phantom slices."""
        return self.out / "phantoms"

    @property
    def table(self) -> Path:
        """CSV of the phantom slices."""
        return self.phantoms / "slices.csv"

    @property
    def int8(self) -> Path:
        """The int8 bundle of MobileNetV2."""
        return self.out / "model-int8.tflite"

    @property
    def heatmaps(self) -> Path:
        """Folder of the heat maps."""
        return self.out / "heatmaps"

    @property
    def report(self) -> Path:
        """The page."""
        return self.out / "report.html"

    def run(self, name: str) -> Path:
        """Return the folder of a run."""
        return self.out / "runs" / name

    def fp32(self, name: str) -> Path:
        """Return the fp32 bundle of a run."""
        return self.out / f"{name}-fp32.tflite"


def run_demo(out: Path, force: bool, progress: Progress) -> Path:
    """Run the demo and return the path of its report.

    Args:
        out: Folder of the results.
        force: Whether the results of an earlier demo may be overwritten.
        progress: Where to show progress.

    Raises:
        CommandFailed: A step failed.
    """
    refuse_existing(out, force)
    fresh_folder(out, NOTE)
    write_text(out / NOTE, "SYNTHETIC: made by edge-ct demo. Nothing here shows a person or was learned from one.\n")
    begun, processor_begun = perf_counter(), _processor_seconds()
    commands, paths = _DemoCommands(progress), DemoPaths(out)
    audit = _make_phantoms(commands, paths)
    _train(commands, paths)
    gate = _convert(commands, paths)
    scores, latency = _score(commands, paths), _measure(commands, paths)
    shown = _example_slices(paths)
    words = ("classify", *shown, "--model", paths.int8, "--json", "--heatmap", paths.heatmaps)
    results = [json.loads(line) for line in commands.run("Classify", *words).splitlines()]
    write_demo_page(
        paths.report,
        DemoResults(
            audit=audit,
            gate=gate,
            scores=scores,
            latency=latency,
            results=results,
            heatmaps=paths.heatmaps,
            runs={"MobileNetV2": paths.run("mobilenetv2"), "CustomCNN": paths.run("customcnn")},
            commands=commands.lines,
            seconds=perf_counter() - begun,
            processor_seconds=_processor_seconds() - processor_begun,
        ),
    )
    _print_next_steps(paths, shown[0], progress)
    return paths.report


def _processor_seconds() -> float:
    """Return the processor time of this process and of the programs that it has waited for."""
    return sum(os.times()[:4])


class _DemoCommands:
    """Runs commands in this process, so that frameworks are imported once, and lists them for the report."""

    def __init__(self, progress: Progress) -> None:
        self.lines: list[str] = []
        self._progress = progress

    def run(self, title: str, *words: object) -> str:
        """Run a command and return what it printed."""
        self.lines.append(shlex.join(["edge-ct", *map(str, words)]))
        self._progress.say(f"\n{title}: {self.lines[-1]}")
        return run_command(words, same_process=True).text

    def run_json(self, title: str, *words: object) -> Any:
        """Run a command with `--json` and return the decoded output."""
        return json.loads(self.run(title, *words, "--json"))


def _make_phantoms(commands: _DemoCommands, paths: DemoPaths) -> dict[str, Any]:
    """Draw the slices, and return what the data check says."""
    shape = ("--patients", PATIENTS, "--slices", SLICES, "--size", SOURCE_SIZE)
    commands.run("Phantom slices", "data", "synth", paths.phantoms, *shape)
    audit: dict[str, Any] = commands.run_json("Data check", "data", "check", paths.table)
    return audit


def _train(commands: _DemoCommands, paths: DemoPaths) -> None:
    data = ("--data", paths.table, *TRAINING)
    mobilenet, custom = paths.run("mobilenetv2"), paths.run("customcnn")
    commands.run_json("MobileNetV2", "train", "mobilenetv2", *data, *MOBILENET, *LESIONS, "--out", mobilenet)
    commands.run_json("CustomCNN", "train", "customcnn", *data, *CUSTOM, "--out", custom)
    commands.run_json("Ensemble", "ensemble", mobilenet, custom, "--out", paths.run("ensemble"))


def _convert(commands: _DemoCommands, paths: DemoPaths) -> dict[str, Any]:
    """Convert the runs, and return what the gate says about int8."""
    words = ("convert", paths.run("mobilenetv2"), "--int8", "--out", paths.int8, "--max-drop", MAX_DROP)
    gate: dict[str, Any] = commands.run_json("int8", *words)["gate"]
    for name in ("mobilenetv2", "customcnn"):
        commands.run_json(f"fp32 {name}", "convert", paths.run(name), "--fp32", "--out", paths.fp32(name))
    return gate


def _score(commands: _DemoCommands, paths: DemoPaths) -> dict[str, dict[str, Any]]:
    return {
        "CustomCNN fp32": commands.run_json("Scores", "evaluate", paths.run("customcnn")),
        "MobileNetV2 fp32": commands.run_json("Scores", "evaluate", paths.run("mobilenetv2")),
        "Ensemble fp32": commands.run_json("Scores", "evaluate", paths.run("ensemble")),
        "MobileNetV2 int8": commands.run_json("Scores", "evaluate", paths.int8, "--data", paths.table),
    }


def _measure(commands: _DemoCommands, paths: DemoPaths) -> dict[str, dict[str, Any]]:
    bundles = {
        "CustomCNN fp32": paths.fp32("customcnn"),
        "MobileNetV2 fp32": paths.fp32("mobilenetv2"),
        "MobileNetV2 int8": paths.int8,
    }
    return {name: commands.run_json("Latency", "benchmark", bundle, "--quick") for name, bundle in bundles.items()}


def _example_slices(paths: DemoPaths) -> list[Path]:
    """Return two positive phantoms and a negative one of the test split, from the lower half of the chest."""
    table = read_split(paths.run("mobilenetv2") / "split.csv")
    tested = [i for i in table.where("test") if table.paths[i].endswith("-01.png")]
    positive, negative = ([table.paths[i] for i in tested if table.labels[i] == label] for label in (1, 0))
    return [paths.phantoms / name for name in (*positive[:2], *negative[:1])]


def _print_next_steps(paths: DemoPaths, example: Path, progress: Progress) -> None:
    program = "edge-ct" if shutil.which("edge-ct") else sys.argv[0]  # `make demo` does not activate the environment
    progress.say(
        f"\nreport:  {paths.report}  (open it in a browser; it needs no network)\n"
        f"bundle:  {paths.int8}\n"
        f"data:    {paths.phantoms}  (synthetic)\n"
        "\nTry next:\n"
        f"  {program} classify {example} --model {paths.int8}\n"
        f"  {program} bundle inspect {paths.int8}\n"
        f"  {program} train mobilenetv2 --help\n"
    )
