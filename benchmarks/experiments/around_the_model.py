"""What surrounds the model of a bundle, as ratios to its own time: file to answer, folder, lesion map, engines.

    python -m edge_ct.benchmarks.experiments.around_the_model accurate.tflite fast.tflite --out around-the-model.csv

writes one row for each bundle. All parts take turns, so that other load meets each of them; a ratio is the median of
the ratios of the rounds. `cpu` columns count processor time, which other programs disturb less than time by the clock.

- `file_over_model`        from the bytes of a PNG (512 px phantoms by default) to its result, over the model alone
- `*_cpu_ms`               processor time of each step of that, as a profile
- `lesion_map_over_none`   the graph over the same graph without the operators that only the lesion map needs
- `folder_share`           slices a second of a folder, over processors divided by the model's time
- `openvino_of_litert`     OpenVINO's time over LiteRT's; empty where it is not installed or refused
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import click
import cv2
import numpy as np

from edge_ct import slices
from edge_ct.classifier import Classifier
from edge_ct.cli import run_program
from edge_ct.engines.comparison import compare_engines
from edge_ct.engines.names import DEFAULT_ENGINE
from edge_ct.imaging.lung_box import find_lung_fields
from edge_ct.imaging.slice_check import check_slice
from edge_ct.lesions import measure_lesions
from edge_ct.runtime import interpreter_class
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import write_text
from edge_ct.system.native_output import captured_native_stderr
from edge_ct.system.progress import Progress
from edge_ct.trust.opening import open_bundle

from ..measure.bundle import describe_slices, phantom_files, read_slice_files
from ..measure.machine import condition, describe
from ..measure.tflite_graph import without_output
from ..measure.throughput import throughput

Step = Callable[[int], object]
_WALL, _CPU = 0, 1


def measure_steps(steps: Mapping[str, Step], count: int, rounds: int) -> dict[str, np.ndarray]:
    """Time steps in turns.

    Args:
        steps: Each is called with the number of a slice.
        count: Number of slices.
        rounds: Number of rounds; one more before them is not timed.

    Returns:
        For each step the milliseconds of one call, [rounds, 2]: by the clock, and of the processor.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            wall, cpu = perf_counter(), process_time()
            for number in range(count):
                step(number)
            taken = (1000 * (perf_counter() - wall) / count, 1000 * (process_time() - cpu) / count)
            if turn:
                times[name].append(taken)
    return {name: np.array(values) for name, values in times.items()}


def median_ratio(times: np.ndarray, reference: np.ndarray, clock: int) -> float:
    """Return the median over the rounds of the ratio of two steps, by one of the two clocks."""
    return float(np.median(times[:, clock] / reference[:, clock]))


def steps_of(classifier: Classifier, contents: Sequence[bytes]) -> dict[str, Step]:
    """Return the steps from the bytes of a file to its result, the whole (`file`) and the model alone (`model`)."""
    preprocess = classifier.manifest.preprocess
    pixels = [slices.decode(content, "slice").pixels for content in contents]
    lungs = [find_lung_fields(picture) for picture in pixels]
    regions = [preprocess.region_around(own, *picture.shape) for own, picture in zip(lungs, pixels, strict=True)]
    images = [preprocess.resized(picture, region) for picture, region in zip(pixels, regions, strict=True)]
    steps: dict[str, Step] = {
        "model": lambda i: classifier.infer(images[i]),
        "file": lambda i: classifier.classify(contents[i], "slice"),
        "decode": lambda i: slices.decode(contents[i], "slice"),
        "check": lambda i: check_slice(pixels[i]),
        "lungs": lambda i: find_lung_fields(pixels[i]),
        "resize": lambda i: preprocess.resized(pixels[i], regions[i]),
    }
    maps = [classifier.infer(image)[1].lesion_map for image in images]

    def measure_map(number: int) -> None:
        lesion_map, fields = maps[number], lungs[number]
        if lesion_map is not None and fields is not None:
            measure_lesions(lesion_map, fields, regions[number], pixels[number].shape)

    return steps | {"lesions": measure_map}


def lesion_map_steps(classifier: Classifier) -> dict[str, Step]:
    """Return two steps that run the graph with its lesion map and without; none for a graph that has no such map."""
    lesion_map = classifier.manifest.tensors.lesion_map
    if lesion_map is None:
        return {}
    model = classifier.bundle.model
    return {"with map": _invocation(model), "without map": _invocation(without_output(model, lesion_map.position))}


def _invocation(model: bytes) -> Step:
    with captured_native_stderr():
        interpreter = interpreter_class()(model_content=model, num_threads=1)
        interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    # The time does not depend on the content of the slice.
    interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    return lambda number: interpreter.invoke()


def measure_bundle_surroundings(path: Path, data: Path | None, rounds: int, folder: bool) -> dict[str, Any]:
    """Measure one bundle; the result is a row of the table.

    Args:
        path: The bundle.
        data: Folder or CSV of slices; None measures on phantoms of 512 px.
        rounds: Number of rounds.
        folder: Whether to judge a folder of 2,000 files, too, with as many workers as there are processors.
    """
    bundle = open_bundle(path)
    classifier = Classifier(bundle)
    contents = phantom_files() if data is None else read_slice_files(data)
    machine, before = describe(), condition()
    times = measure_steps(steps_of(classifier, contents) | lesion_map_steps(classifier), len(contents), rounds)
    model = times["model"]
    row: dict[str, Any] = {"model": classifier.identity, "slices": describe_slices(contents, data), "rounds": rounds}
    for name in ("model", "file"):
        row[f"{name}_ms"] = _rounded(np.median(times[name][:, _WALL]))
    row["file_over_model"] = _rounded(median_ratio(times["file"], model, _WALL))
    row["file_over_model_cpu"] = _rounded(median_ratio(times["file"], model, _CPU))
    for name in ("model", "file", "decode", "check", "lungs", "resize", "lesions"):
        row[f"{name}_cpu_ms"] = _rounded(np.median(times[name][:, _CPU]))
    row["lesion_map_over_none"] = row["lesion_map_over_none_cpu"] = ""
    if "with map" in times:
        row["lesion_map_over_none"] = _rounded(median_ratio(times["with map"], times["without map"], _WALL))
        row["lesion_map_over_none_cpu"] = _rounded(median_ratio(times["with map"], times["without map"], _CPU))
    row |= {"workers": "", "folder_slices_per_second": "", "folder_share": ""}
    if folder:
        (judged,) = throughput(path, contents, [machine.cores], machine.cores, float(row["model_ms"]))
        row |= {
            "workers": judged.workers,
            "folder_slices_per_second": f"{judged.slices_per_second:.1f}",
            "folder_share": _rounded(judged.of_possible),
        }
    others = [engine for engine in compare_engines(bundle) if engine.engine != DEFAULT_ENGINE]
    row["openvino_of_litert"] = next((_rounded(one.of_litert) for one in others if one.of_litert is not None), "")
    row["openvino_refused"] = next((one.refused for one in others if one.refused is not None), "")
    return row | {
        "cpu": machine.cpu,
        "vectors": " ".join(machine.vectors),
        "cores": machine.cores,
        "runtime": machine.runtime,
        "opencv": cv2.__version__,
        "load_before": "" if before.load is None else before.load,
    }


def _rounded(value: float | np.floating[Any]) -> str:
    return f"{value:.3f}"


@click.command()
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="CSV file to write the rows to.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder or CSV of slices to measure on; 512 px phantoms by default."
)
@click.option("--rounds", type=click.IntRange(3), default=15, show_default=True, help="Number of rounds to measure.")
@click.option(
    "--folder/--no-folder", default=True, help="Also judge a folder of 2,000 files, which needs an idle machine."
)
def command(bundles: tuple[Path, ...], out: Path | None, data: Path | None, rounds: int, folder: bool) -> None:
    """Measure what surrounds the model of each of BUNDLES."""
    progress = Progress()
    rows = []
    for path in bundles:
        progress.say(f"measuring {path.name}")
        rows.append(measure_bundle_surroundings(path, data, rounds, folder))
    table = to_csv(list(rows[0]), (row.values() for row in rows))
    if out is None:
        click.echo(table, nl=False)
    else:
        write_text(out, table)


if __name__ == "__main__":
    run_program(command)
