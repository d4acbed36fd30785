"""The commands that explain runs: `edge-ct explain gradcam`, `activations`, `attended`, `figures` and `nearest`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge_ct import slices as slice_files
from edge_ct.dataset import Dataset, load
from edge_ct.errors import EdgeCTError
from edge_ct.network_analysis.receptive_field import Centres
from edge_ct.reporting.counts import count_of
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import refuse_existing, write_bytes, write_text
from edge_ct.system.progress import QUIET, Progress

from ..plots.map_plots import draw_depth_strip, draw_layer, draw_map_grid
from ..plots.paper_figure_plots import draw_class_pair, draw_depth, draw_maps
from .activations import choose_layers, measure_responses
from .attended import AttendedIntensities, AttentionRow, measure_intensities, summarise_pair
from .grad_cam import Method, compute_maps
from .nearest import Neighbour, build_prototypes, embed, find_nearest, score_prototypes
from .network import LAST_CONVOLUTION, RunNetwork, accepted_slices, load_network, read_slices
from .output import find_slices, format_cell, pack_arrays, spread_indices, start_folder, write_page_if
from .paper_figures import (
    attended_rows,
    labelled_slices,
    map_runs,
    network_row,
    pair_with_modified,
    phantom_slices,
)
from .reports import NearestReport, WrittenFiles

_MAX_DRAWN = 6  # slices per class in the figures of the attended region


def explain_gradcam(
    run: Path,
    sources: Sequence[Path],
    out: Path,
    methods: Sequence[Method],
    layer: str | None,
    html: bool,
    force: bool,
    progress: Progress = QUIET,
) -> WrittenFiles:
    """Write the maps of a run as overlays and as arrays.

    Args:
        run: Run folder.
        sources: Slice files or folders of them.
        out: Folder to write.
        methods: Kinds of maps; by default Grad-CAM, Grad-CAM++ and, if the network has one, the class map.
        layer: Layer for Grad-CAM; by default the last convolution.
        html: Write a page of the pictures, too.
        force: Replace the output folder.
        progress: Where progress is shown.

    Raises:
        DataRejected: The run cannot be used.
        InputRejected: Every slice is rejected, or cannot be read.
        EdgeCTError: The network has no such layer or no class map.
    """
    refuse_existing(out, force)
    network = load_network(run)
    names = tuple(methods) or (("gradcam", "gradcam++") + (("classmap",) if network.has_class_map else ()))
    if layer and set(names) == {"classmap"}:
        raise EdgeCTError("--layer applies to Grad-CAM only: the class map is always that of the head")
    paths = accepted_slices(find_slices(sources, progress), progress)
    pixels, images = read_slices(paths, network.preprocess)
    maps: dict[str, np.ndarray] = {}
    with progress.bar("computing maps", len(names)) as on_done:
        for method in names:
            maps[method] = compute_maps(network, images, method, layer)
            on_done(1)
    p = 1 / (1 + np.exp(-network.log_odds(images)))
    shown_layer = layer or LAST_CONVOLUTION
    start_folder(out, {"run": network.name, "layer": shown_layer, "methods": list(names)})
    captions = [f"{path.stem[:18]}\nP {value:.2f}" for path, value in zip(paths, p, strict=True)]
    columns: dict[str, Sequence[np.ndarray | None]] = {name: list(values) for name, values in maps.items()}
    progress.say("measuring the centres of the cells")
    at: dict[str, Centres] = dict.fromkeys(columns, network.centres(layer))
    if layer and "classmap" in at:
        at["classmap"] = network.centres()
    draw_map_grid(pixels, columns, captions, f"{network.name}, layer {shown_layer}", out / "maps.png", at)
    write_bytes(out / "maps.npz", pack_arrays(maps))
    write_text(out / "maps.csv", to_csv(("slice", "probability"), zip(map(str, paths), p.tolist(), strict=True)))
    files = ["maps.png", "maps.npz", "maps.csv", *write_page_if(html, out, f"{network.name}: maps")]
    rows = [("slice", "P, uncalibrated"), *((str(path), f"{value:.3f}") for path, value in zip(paths, p, strict=True))]
    return WrittenFiles(tuple(files), tuple(rows))


def explain_activations(
    run: Path,
    sources: Sequence[Path],
    out: Path,
    names: Sequence[str],
    every: int,
    filters: int,
    html: bool,
    force: bool,
    progress: Progress = QUIET,
) -> WrittenFiles:
    """Write one picture of activation maps per layer, and one along the depth.

    Args:
        run: Run folder.
        sources: Slice files or folders of them.
        out: Folder to write.
        names: Names of layers; if there are none, convolutions are chosen by `every`.
        every: Show every k-th convolution; 0 shows about eight.
        filters: Number of filters per layer, those of highest variance.
        html: Write a page of the pictures, too.
        force: Replace the output folder.
        progress: Where progress is shown.

    Raises:
        DataRejected: The run cannot be used.
        InputRejected: Every slice is rejected, or cannot be read.
        EdgeCTError: The network has no such layer.
    """
    refuse_existing(out, force)
    network = load_network(run)
    layers = choose_layers(network, names, every)
    paths = accepted_slices(find_slices(sources, progress), progress)
    pixels, images = read_slices(paths, network.preprocess)
    responses = measure_responses(network, images, layers, filters)
    start_folder(out, {"run": network.name, "layers": [response.layer for response in responses]})
    captions = [path.stem[:18] for path in paths]
    draw_depth_strip(pixels, responses, captions, network.name, out / "strip.png")
    files = ["strip.png"]
    for number, response in enumerate(responses, start=1):
        name = f"{number:02d}-{response.layer}.png"
        draw_layer(response, captions, network.name, out / name)
        files.append(name)
    rows = [("layer", "size", "filters shown")]
    rows += [
        (response.layer, "x".join(map(str, response.maps.shape[2:])), " ".join(map(str, response.filters)))
        for response in responses
    ]
    return WrittenFiles((*files, *write_page_if(html, out, f"{network.name}: activations")), tuple(rows))


def explain_attended(
    base: Path,
    modified: Path,
    out: Path,
    data: Path | None,
    limit: int,
    html: bool,
    force: bool,
    progress: Progress = QUIET,
) -> WrittenFiles:
    """Compare the attended region of a base network and its Modified form (Garg et al. 2020, section 2.5.1).

    Args:
        base: Run folder of the base network.
        modified: Run folder of the Modified network.
        out: Folder to write.
        data: Labelled slices; None takes the test split of the base run.
        limit: Maximum number of slices per class.
        html: Write a page of the pictures, too.
        force: Replace the output folder.
        progress: Where progress is shown.

    Raises:
        DataRejected: A run or the slices cannot be used.
    """
    refuse_existing(out, force)
    first, second = load_network(base), load_network(modified)
    dataset = _labelled_slices_of(first, data)
    dataset = dataset.take(spread_indices(dataset, limit))
    pixels, images = read_slices(list(dataset.paths), first.preprocess)
    other_images = np.stack([second.preprocess(slice_pixels) for slice_pixels in pixels])
    progress.say(f"computing maps of {count_of(len(dataset), 'slice')} with {first.name} and {second.name}")
    measured = measure_intensities(
        compute_maps(first, images), compute_maps(second, other_images), first.preprocess.size
    )
    groups = [(name, dataset.labels == value) for value, name in enumerate(dataset.classes)]
    tables = [
        summarise_pair(f"{first.name} / {second.name}", label, measured.base[members], measured.modified[members])
        for label, members in [*groups, ("both", np.ones(len(dataset), bool))]
        if members.any()
    ]
    header = AttentionRow.__struct_fields__
    start_folder(out, {"base": first.name, "modified": second.name, "n": len(dataset)})
    values = [msgspec.structs.astuple(row) for row in tables]
    write_text(out / "attended.csv", to_csv(header, values))
    files = ["attended.csv", *_draw_attended(first, second, dataset, pixels, measured, out)]
    rows = [header, *(tuple(format_cell(cell) for cell in row) for row in values)]
    title = f"{first.name} and {second.name}: attended region"
    return WrittenFiles((*files, *write_page_if(html, out, title, {"Mean intensity": rows})), tuple(rows))


def _draw_attended(
    first: RunNetwork,
    second: RunNetwork,
    dataset: Dataset,
    pixels: Sequence[np.ndarray],
    measured: AttendedIntensities,
    out: Path,
) -> list[str]:
    """Draw both networks' maps of some slices of each class; return the names of the files."""
    files = []
    at = {network.name: network.centres() for network in (first, second)}
    for value, name in ((1, "positive"), (0, "negative")):
        drawn = np.flatnonzero(dataset.labels == value)[:_MAX_DRAWN]
        if not len(drawn):
            continue
        columns: dict[str, Sequence[np.ndarray | None]] = {
            first.name: [measured.maps_base[i] for i in drawn],
            second.name: [measured.maps_modified[i] for i in drawn],
        }
        captions = [dataset.paths[i].stem[:18] for i in drawn]
        title = f"{dataset.classes[value]}: Grad-CAM"
        draw_map_grid([pixels[i] for i in drawn], columns, captions, title, out / f"{name}.png", at)
        files.append(f"{name}.png")
    return files


def explain_figures(
    runs: Sequence[Path],
    out: Path,
    data: Path | None,
    count: int,
    cells: int,
    limit: int,
    html: bool,
    force: bool,
    progress: Progress = QUIET,
) -> WrittenFiles:
    """Draw figures 4 to 7 of Garg et al. 2020 for several runs, and write the tables beside them.

    Args:
        runs: Run folders.
        out: Folder to write.
        data: Labelled slices; None draws phantoms.
        count: Number of slices per class in figures 4 and 5.
        cells: The deepest layer with at least this many cells per side is mapped.
        limit: Maximum number of slices per class in the tables.
        html: Write a page of the pictures, too.
        force: Replace the output folder.
        progress: Where progress is shown.

    Raises:
        DataRejected: A run or the slices cannot be used.
        EdgeCTError: All runs are Modified networks, or the slices are of one class.
    """
    refuse_existing(out, force)
    if data is None:
        slices = phantom_slices(limit)
    else:
        dataset = load(data)
        dataset = dataset.take(spread_indices(dataset, limit))
        slices = labelled_slices(dataset, [slice_files.read(path).pixels for path in dataset.paths])
    mapped = map_runs(runs, slices, cells, progress)
    if not pair_with_modified(mapped):
        raise EdgeCTError("all runs are Modified networks: name the runs of their base networks, too")
    start_folder(out, {"runs": [run.name for run in mapped], "slices": len(slices.labels)})
    draw_maps(mapped, slices, 1, count, out / "figure-4.png")
    draw_maps(mapped, slices, 0, count, out / "figure-5.png")
    draw_depth(mapped, slices, out / "figure-6.png")
    draw_class_pair(mapped, slices, out / "figure-7.png")
    tables: dict[str, Sequence[msgspec.Struct]] = {
        "networks.csv": [network_row(run, slices) for run in mapped],
        "attended.csv": attended_rows(mapped, slices),
    }
    shown: dict[str, Sequence[tuple[str, ...]]] = {}
    for name, table in tables.items():
        if table:
            header = table[0].__struct_fields__
            write_text(out / name, to_csv(header, [msgspec.structs.astuple(row) for row in table]))
            shown[name] = [header, *(tuple(map(format_cell, msgspec.structs.astuple(row))) for row in table)]
    files = [*(f"figure-{number}.png" for number in range(4, 8)), *shown]
    page = write_page_if(html, out, "Maps of several networks", shown)
    return WrittenFiles((*files, *page), tuple(shown["networks.csv"]))


def explain_nearest(
    run: Path, sources: Sequence[Path], count: int, data: Path | None, scored: bool, progress: Progress = QUIET
) -> NearestReport:
    """Find the training groups most similar to slices, and score the prototypes alone.

    Args:
        run: Run folder.
        sources: Slice files or folders of them; may be empty.
        count: Maximum number of groups per slice.
        data: Where the run's slices are now, if they have moved.
        scored: Score the classification by prototypes alone on the test split.
        progress: Where progress is shown.

    Raises:
        DataRejected: The run cannot be used, or its training slices cannot be read.
        InputRejected: Every slice is rejected, or cannot be read.
    """
    network = load_network(run)
    prototypes = build_prototypes(network, data, progress)
    similar: dict[str, list[Neighbour]] = {}
    if sources:
        paths = accepted_slices(find_slices(sources, progress), progress)
        _, images = read_slices(paths, network.preprocess)
        neighbours = find_nearest(prototypes, embed(network, images), network.run.info.classes, count)
        similar = dict(zip(map(str, paths), neighbours, strict=True))
    scores = score_prototypes(network, prototypes, data, progress) if scored else None
    return NearestReport(len(prototypes.groups), similar, scores)


def _labelled_slices_of(network: RunNetwork, data: Path | None) -> Dataset:
    """Return the slices of `data`, or of the run's test split."""
    if data is not None:
        return load(data, network.run.info.classes[1])
    return network.run.dataset().take(network.run.split().where("test"))
