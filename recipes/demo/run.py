"""The whole line on phantom slices, through the same commands that a user types, and a report of it."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from edge_ct import cli
from edge_ct.errors import EdgeCTError
from edge_ct.run import read_split
from edge_ct.system.files import fresh_folder, refuse_existing, write_text
from edge_ct.system.progress import Progress

from . import page as demo_page

# Many patients with few slices each: a network from scratch would learn the patients by heart otherwise.
PATIENTS, SLICES, SOURCE_SIZE, SIZE = 900, 2, 128, 96
TRAINING = ("--split", "grouped", "--size", str(SIZE), "--augment", "flips", "--dropout", "0")
# From scratch and in minutes, MobileNetV2 wants steps forty times as long as in fine-tuning.
MOBILENET = ("--alpha", "0.35", "--epochs", "16", "--learning-rate", "2e-2", "--patience", "16")
CUSTOM = ("--epochs", "4", "--learning-rate", "2e-3")
# On a validation split of 270 slices one positive slice is most of a point.
MAX_DROP = "3"
NOTE = "SYNTHETIC.txt"


def run(out: Path, force: bool, progress: Progress) -> Path:
    """Run the demo into `out`; returns the path of report.html. Raises `EdgeCTError` where a step fails."""
    refuse_existing(out, force)
    fresh_folder(out, NOTE)
    write_text(out / NOTE, "SYNTHETIC: made by edge-ct demo. Nothing here shows, or was learnt from, a person.\n")
    begun = perf_counter()
    steps = _Steps(progress)
    phantoms, runs, model = out / "phantoms", out / "runs", out / "model-int8.tflite"
    table, mobilenet, custom, ensemble = phantoms / "slices.csv", *(
        runs / name for name in ("mobilenetv2", "customcnn", "ensemble")
    )  # fmt: skip
    shape = ("--patients", str(PATIENTS), "--slices", str(SLICES), "--size", str(SOURCE_SIZE))
    steps.do("Phantom slices", "data", "synth", phantoms, *shape)
    audit = steps.do("Data check", "data", "check", table, "--json")
    trained = ("--data", table, *TRAINING)
    steps.do("MobileNetV2", "train", "mobilenetv2", *trained, *MOBILENET, "--out", mobilenet, "--json")
    steps.do("CustomCNN", "train", "customcnn", *trained, *CUSTOM, "--out", custom, "--json")
    steps.do("Ensemble", "ensemble", mobilenet, custom, "--out", ensemble, "--json")
    gate = steps.do("int8", "convert", mobilenet, "--int8", "--out", model, "--max-drop", MAX_DROP, "--json")
    float_models = {}
    for name in (mobilenet, custom):
        float_models[name] = out / f"{name.name}-fp32.tflite"
        steps.do(f"fp32 {name.name}", "convert", name, "--fp32", "--out", float_models[name], "--json")
    scores = {
        "CustomCNN fp32": steps.do("Scores", "evaluate", custom, "--json"),
        "MobileNetV2 fp32": steps.do("Scores", "evaluate", mobilenet, "--json"),
        "Ensemble fp32": steps.do("Scores", "evaluate", ensemble, "--json"),
        "MobileNetV2 int8": steps.do("Scores", "evaluate", model, "--data", table, "--json"),
    }
    latency = {
        "CustomCNN fp32": steps.do("Latency", "benchmark", float_models[custom], "--quick", "--json"),
        "MobileNetV2 fp32": steps.do("Latency", "benchmark", float_models[mobilenet], "--quick", "--json"),
        "MobileNetV2 int8": steps.do("Latency", "benchmark", model, "--quick", "--json"),
    }
    shown = _test_slices(mobilenet / "split.csv", phantoms)
    results = steps.do(
        "Classify", "classify", *shown, "--model", model, "--json", "--heatmap", out / "heatmaps", lines=True
    )
    page = out / "report.html"
    demo_page.write(
        page,
        demo_page.Story(
            audit=audit,
            gate=gate["gate"],
            scores=scores,
            latency=latency,
            results=results,
            heatmaps=out / "heatmaps",
            runs={"MobileNetV2": mobilenet, "CustomCNN": custom},
            commands=steps.commands,
            seconds=perf_counter() - begun,
        ),
    )
    _farewell(page, model, table, shown[0], progress)
    return page


class _Steps:
    """Runs commands in this process, keeps them for the report, and hands back what they print as JSON."""

    def __init__(self, progress: Progress) -> None:
        self.commands: list[str] = []
        self._progress = progress

    def do(self, title: str, *arguments: object, lines: bool = False) -> Any:
        words = [str(argument) for argument in arguments]
        self.commands.append(shlex.join(["edge-ct", *words]))
        self._progress.say(f"\n{title}: {self.commands[-1]}")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = cli.run(words)
        if code:
            raise EdgeCTError(f"the demo stopped at: {self.commands[-1]} (exit code {code})")
        text = printed.getvalue()
        if lines:
            return [json.loads(line) for line in text.splitlines()]
        return json.loads(text) if "--json" in words else text


def _test_slices(split: Path, phantoms: Path) -> list[Path]:
    """Two positive phantoms of the test split and a negative one, from the lower half of the chest."""
    table = read_split(split)
    tested = [i for i in table.where("test") if table.paths[i].endswith("-01.png")]
    positive, negative = ([table.paths[i] for i in tested if table.labels[i] == label] for label in (1, 0))
    return [phantoms / name for name in (*positive[:2], *negative[:1])]


def _farewell(page: Path, model: Path, table: Path, one: Path, progress: Progress) -> None:
    program = "edge-ct" if shutil.which("edge-ct") else sys.argv[0]  # `make demo` leaves its environment inactive
    progress.say(
        f"\nreport:  {page}  (open it in a browser; it needs no network)\n"
        f"bundle:  {model}\n"
        f"data:    {table.parent}  (synthetic)\n"
        "\nTry next:\n"
        f"  {program} classify {one} --model {model}\n"
        f"  {program} bundle inspect {model}\n"
        f"  {program} train mobilenetv2 --help\n"
    )
