"""Check that another machine, or another runtime, gives the same results as this one for the same slices.

    python scripts/same_results.py slices FOLDER [--real SARS-COV-2-CT]    write 50 phantoms, and 50 real slices
    python scripts/same_results.py judge FOLDER BUNDLE OUT                 judge them on this machine
    python scripts/same_results.py compare HERE THERE                      compare; exit code 1 if results differ

`judge` needs the base dependencies of a device only. Results are the same if the decoded pixels, the bytes that go into
the network and the decisions are equal, int8 outputs differ by at most one quantisation step, and golden slices pass.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np

from edge_ct import runtime, slices
from edge_ct.classifier import Classifier
from edge_ct.errors import ModelRejected
from edge_ct.imaging.slice_files import list_slices
from edge_ct.manifest import Tensor
from edge_ct.runtime import Outputs

COUNT = 50
# Larger and smaller than the input, odd and even, square and not, by factors of more than two and four.
SIDES = (
    (512, 512),
    (341, 505),
    (224, 224),
    (97, 130),
    (256, 200),
    (600, 900),
    (64, 64),
    (380, 380),
    (415, 283),
    (1100, 1030),
)
OUTPUTS = ("logits", "class_map", "embedding")


def write_slices(folder: Path, real: Path | None) -> None:
    """Write phantoms of several sizes as PNG, JPEG and TIFF, half of them positive, and copies of real slices."""
    from edge_ct.phantom import make_slice

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for index in range(COUNT):
        height, width = SIDES[index % len(SIDES)]
        image = make_slice(index, 4, index % 2 == 0, 128 if min(height, width) < 200 else 512).image
        suffix = ("png", "jpg", "tif", "png", "png")[index % 5]
        # This resizing need not be exact on every machine: the file holds the bytes.
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if not cv2.imwrite(str(folder / f"phantom-{index:02}.{suffix}"), resized):
            sys.exit(f"same_results: {folder}: cannot be written")
    if real is not None:
        for number, path in enumerate(_spread(list_slices(real).paths, COUNT)):
            shutil.copy(path, folder / f"real-{number:02}{path.suffix}")


def _spread(paths: list[Path], count: int) -> list[Path]:
    if len(paths) < count:
        sys.exit(f"same_results: {len(paths)} real slices, but {count} are needed")
    return [paths[index * len(paths) // count] for index in range(count)]


def judge(folder: Path, bundle: Path, out: Path) -> None:
    """Judge every slice of `folder`, and write intermediate and final results to `out` (.npz)."""
    classifier = Classifier(bundle)
    try:
        classifier.check_golden()
        golden = "right"
    except ModelRejected as error:
        golden = str(error)
    rows: list[dict[str, Any]] = []
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in OUTPUTS}
    begun = perf_counter()
    for path in sorted(folder.iterdir()):
        slice_ = slices.read(path)
        image = classifier.manifest.preprocess(slice_.pixels)
        # A rejected picture also goes through the network here: its input bytes and outputs must agree too.
        probability, outputs = classifier.infer(image)
        rows.append(
            {
                "source": path.name,
                "pixels": slice_.sha256,
                "input": hashlib.sha256(image.tobytes()).hexdigest(),
                "decision": classifier.judge_slice(slice_).result.decision,
                "probability": probability,
            }
        )
        for name in OUTPUTS:
            tensor = getattr(classifier.manifest.tensors, name)
            if tensor is not None:
                arrays[name].append(in_steps(outputs, tensor, name))
    about = {
        "bundle": classifier.identity,
        "golden": golden,
        "machine": platform.machine(),
        "runtime": runtime.interpreter_class().__module__.split(".")[0],
        "kernels": {None: "unknown kernels", True: "XNNPACK", False: "its own kernels"}[classifier.runtime.delegated],
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
        "seconds": perf_counter() - begun,
        "rows": rows,
    }
    saved: dict[str, Any] = {name: np.stack(outputs) for name, outputs in arrays.items() if outputs}
    np.savez(out, about=np.array(json.dumps(about)), **saved)


def in_steps(outputs: Outputs, tensor: Tensor, name: str) -> np.ndarray:
    """Return an output in quantisation steps, float64 [...]; an output of a float graph is returned unchanged."""
    values = np.asarray(getattr(outputs, name), np.float64)
    if tensor.dtype == "float32":
        return values
    return np.rint(values / tensor.scale) + tensor.zero_point


@dataclass(frozen=True, eq=False)
class JudgedSlices:
    """A file of `judge`: facts about the machine with one row a slice, and the outputs [slices, ...] by name."""

    about: dict[str, Any]
    outputs: dict[str, np.ndarray]

    @property
    def title(self) -> str:
        """The machine and the software on it."""
        about = self.about
        return (
            f"{about['machine']}, {about['runtime']} with {about['kernels']}, NumPy {about['numpy']}, "
            f"OpenCV {about['opencv']}, Python {about['python']}"
        )


def read_judged(path: Path) -> JudgedSlices:
    """Read a file of `judge`."""
    with np.load(path) as found:
        return JudgedSlices(json.loads(str(found["about"])), {name: found[name] for name in OUTPUTS if name in found})


def compare(here: JudgedSlices, there: JudgedSlices, other_arithmetic: bool = False) -> tuple[str, bool]:
    """Compare two files of `judge`.

    Args:
        here: Results of this machine.
        there: Results of the other one.
        other_arithmetic: Whether only the input of the network must be the same.

    Returns:
        A table, and whether the results are the same.
    """
    ours, theirs = here.about["rows"], there.about["rows"]
    if here.about["bundle"] != there.about["bundle"] or [r["source"] for r in ours] != [r["source"] for r in theirs]:
        return "the two files belong to different bundles or slices", False
    lines = [f"{here.about['bundle']}", f"  here   {here.title}", f"  there  {there.title}"]
    same_input = same_results = True
    lines.append(
        f"  {'':9}{'n':>4} {'pixels':>8} {'input':>8} {'decision':>9}   largest difference in steps (share of values "
        "that differ)"
    )
    for kind in sorted({row["source"].split("-")[0] for row in ours}):
        which = [index for index, row in enumerate(ours) if row["source"].startswith(kind)]
        same = {
            name: sum(ours[index][name] == theirs[index][name] for index in which)
            for name in ("pixels", "input", "decision")
        }
        apart = {name: np.abs(here.outputs[name][which] - there.outputs[name][which]) for name in here.outputs}
        same_input &= same["pixels"] == same["input"] == len(which)
        same_results &= same["decision"] == len(which) and all(d.max() <= 1 for d in apart.values())
        steps = ", ".join(f"{name} {d.max():g} ({(d > 0).mean():.2%})" for name, d in apart.items())
        lines.append(
            f"  {kind:9}{len(which):>4} {same['pixels']:>8} {same['input']:>8} {same['decision']:>9}   {steps}"
        )
    decisions = sorted({row["decision"] for row in ours})
    counts = ", ".join(f"{sum(row['decision'] == name for row in ours)} {name}" for name in decisions)
    farthest = max(abs(a["probability"] - b["probability"]) for a, b in zip(ours, theirs, strict=True))
    lines.append(f"  decisions here: {counts}; probabilities differ by at most {farthest:.2g}")
    lines.append(f"  golden slices: here {here.about['golden']}; there {there.about['golden']}")
    same_results &= here.about["golden"] == there.about["golden"] == "right"
    verdict = "same results" if same_input and same_results else "same input" if same_input else "different input"
    return "\n".join([*lines, f"  {verdict}"]), same_input and (same_results or other_arithmetic)


def main() -> None:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(description="Judge the same slices on two machines and compare the results.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("slices")
    command.add_argument("folder", type=Path)
    command.add_argument("--real", type=Path)
    command = commands.add_parser("judge")
    for name in ("folder", "bundle", "out"):
        command.add_argument(name, type=Path)
    command = commands.add_parser("compare")
    for name in ("here", "there"):
        command.add_argument(name, type=Path)
    command.add_argument(
        "--other-arithmetic",
        action="store_true",
        help="the other side has another runtime: only the input of the network must be the same",
    )
    arguments = parser.parse_args()
    if arguments.command == "slices":
        write_slices(arguments.folder, arguments.real)
    elif arguments.command == "judge":
        judge(arguments.folder, arguments.bundle, arguments.out)
    else:
        table, equal = compare(read_judged(arguments.here), read_judged(arguments.there), arguments.other_arithmetic)
        print(table)
        sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
