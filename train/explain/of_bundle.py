"""The commands that explain a bundle, and the check of its maps or a run's: `edge-ct explain bundle` and `check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edge_ct.dataset import load
from edge_ct.errors import EdgeCTError
from edge_ct.network_analysis.occlusion import occlusion_map
from edge_ct.reporting.counts import count_of
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import refuse_existing, write_bytes, write_text
from edge_ct.system.progress import QUIET, Progress

from ..plots.map_plots import draw_map_grid
from .bundle_maps import METHODS, BundleNetwork, measure_agreement
from .grad_cam import compute_maps
from .network import RunNetwork, accepted_slices, load_network, read_slices
from .output import find_slices, format_cell, pack_arrays, spread_indices, start_folder, write_page_if
from .reports import CheckReport, WrittenFiles
from .rise import rise_map
from .sanity_checks import (
    SEED,
    make_positive_phantoms,
    measure_deletion_insertion,
    measure_lung_share,
    play_pointing_game,
    scramble_weights,
)

_PHANTOM_SIZE = 256  # pixels
_SCRAMBLED_SLICES = 16


def explain_bundle(
    path: Path,
    sources: Sequence[Path],
    out: Path,
    methods: Sequence[str],
    seconds: float,
    run: Path | None,
    seed: int,
    html: bool,
    force: bool,
    progress: Progress = QUIET,
) -> WrittenFiles:
    """Compute class map, occlusion and RISE of a bundle, and write pictures and arrays.

    Args:
        path: The bundle.
        sources: Slice files or folders of them.
        out: Folder to write.
        methods: Some of `bundle_maps.METHODS`; by default all that the graph allows.
        seconds: Time limit per slice and method.
        run: The run that the bundle was made of: the agreement of its Grad-CAM is measured, too.
        seed: Seed of RISE's masks.
        html: Write a page of the pictures, too.
        force: Replace the output folder.
        progress: Where progress is shown.

    Raises:
        ModelRejected: The bundle cannot be used.
        InputRejected: Every slice is rejected, or cannot be read.
    """
    refuse_existing(out, force)
    bundle = BundleNetwork(path)
    network = load_network(run) if run is not None else None
    names = tuple(methods) or METHODS[0 if bundle.has_class_map else 1 :]
    paths = accepted_slices(find_slices(sources, progress), progress, bundle.rejection)
    pixels, images = read_slices(paths, bundle.preprocess)
    maps, mask_counts = _compute_bundle_maps(bundle, images, names, seconds, seed, progress)
    rows: list[tuple[str, ...]] = [("slice", "P, uncalibrated", "RISE masks")]
    p = 1 / (1 + np.exp(-bundle.log_odds(images)))
    rows += [(str(name), f"{value:.3f}", count) for name, value, count in zip(paths, p, mask_counts, strict=True)]
    if network is not None:
        agreement = measure_agreement(bundle, network, images)
        rows += [(name, format_cell(value), "") for name, value in msgspec.structs.asdict(agreement).items()]
    start_folder(out, {"bundle": bundle.name, "methods": list(names), "seconds": seconds, "seed": seed})
    captions = [f"{name.stem[:18]}\nP {value:.2f}" for name, value in zip(paths, p, strict=True)]
    columns: dict[str, Sequence[np.ndarray | None]] = dict(maps)
    draw_map_grid(pixels, columns, captions, bundle.name, out / "maps.png", {"class map": bundle.centres})
    arrays = {name.replace(" ", "_"): np.stack(values) for name, values in maps.items() if name != "occlusion"}
    # Occlusion maps may differ in size: each ends with the resolution that its time allowed.
    arrays |= {f"occlusion_{number}": values for number, values in enumerate(maps.get("occlusion", []))}
    write_bytes(out / "maps.npz", pack_arrays(arrays))
    write_text(out / "maps.csv", to_csv(rows[0], rows[1:]))
    page = write_page_if(html, out, f"{bundle.name}: maps", {"Slices": rows})
    return WrittenFiles(("maps.png", "maps.npz", "maps.csv", *page), tuple(rows))


def _compute_bundle_maps(
    bundle: BundleNetwork, images: np.ndarray, methods: Sequence[str], seconds: float, seed: int, progress: Progress
) -> tuple[dict[str, list[np.ndarray]], list[str]]:
    """Return heading -> one map per slice, and the number of RISE masks per slice (empty without RISE)."""
    maps: dict[str, list[np.ndarray]] = {}
    if "classmap" in methods:
        maps["class map"] = list(np.maximum(bundle.maps(images), 0))
    mask_counts = [""] * len(images)
    with progress.bar("hiding parts of slices", len(images) * len({"occlusion", "rise"} & set(methods))) as on_done:
        if "occlusion" in methods:
            maps["occlusion"] = []
            for image in images:
                maps["occlusion"].append(np.maximum(occlusion_map(bundle.log_odds, image, seconds), 0))
                on_done(1)
        if "rise" in methods:
            maps["RISE"] = []
            for number, image in enumerate(images):
                heat, count = rise_map(bundle.log_odds, image, seconds, seed=seed)
                maps["RISE"].append(np.maximum(heat, 0))
                mask_counts[number] = str(count)
                on_done(1)
    return maps, mask_counts


def check_maps(
    target: Path,
    data: Path | None,
    run: Path | None,
    phantoms: int,
    limit: int,
    seed: int,
    progress: Progress = QUIET,
) -> CheckReport:
    """Run all checks that apply to the maps of a run or a bundle.

    Args:
        target: Run folder or bundle.
        data: Labelled slices; None checks on phantoms alone.
        run: The run that a bundle was made of: the agreement of its Grad-CAM is measured, too.
        phantoms: Number of phantoms.
        limit: Maximum number of slices per class.
        seed: Added to the seed of the phantoms; also the seed of random places and permutations.
        progress: Where progress is shown.

    Raises:
        EdgeCTError: `run` was given for a run, or the network calls no slice positive.
    """
    if run is not None and target.is_dir():
        raise EdgeCTError("--run names the run that a bundle was made of; leave it out when a run is checked")
    model = load_network(target) if target.is_dir() else BundleNetwork(target)
    compare_with = load_network(run) if run is not None else None

    def maps(views: np.ndarray) -> np.ndarray:
        return _signed_maps(model, views)

    at = model.centres() if isinstance(model, RunNetwork) else model.centres
    shown = make_positive_phantoms(phantoms, _PHANTOM_SIZE, SEED + seed)
    images = np.stack([model.preprocess(phantom.image) for phantom in shown])
    progress.say(f"playing the pointing game on {len(shown)} phantoms")
    pointing = play_pointing_game(model.log_odds, maps, images, shown, at)
    pixels, labels, classes = [phantom.image for phantom in shown], np.ones(len(shown), int), ("", "phantoms")
    if data is not None:
        dataset = load(data)
        dataset = dataset.take(spread_indices(dataset, limit))
        pixels, images = read_slices(list(dataset.paths), model.preprocess)
        labels, classes = dataset.labels, dataset.classes
    heat = maps(images)
    shares = tuple(
        measure_lung_share(heat[members], [pixels[i] for i in np.flatnonzero(members)], classes[value], at)
        for value in (1, 0)
        if (members := labels == value).any()
    )
    positive = np.flatnonzero(model.log_odds(images) > 0)[:limit]
    if not len(positive):
        raise EdgeCTError(f"{model.name} calls none of the slices positive, so deletion and insertion do not apply")
    progress.say(f"measuring deletion and insertion on {count_of(len(positive), 'slice')}")
    curves = measure_deletion_insertion(model.log_odds, heat[positive], images[positive], at, seed)
    agreement = scrambled = None
    if compare_with is not None and isinstance(model, BundleNetwork):
        progress.say(f"comparing with Grad-CAM of {run} on {count_of(len(images), 'slice')}")
        agreement = measure_agreement(model, compare_with, images)
    if isinstance(model, RunNetwork):
        progress.say("scrambling the weights")
        scrambled = scramble_weights(model, _signed_maps, images[positive][:_SCRAMBLED_SLICES], seed=seed)
    passed = scrambled.passed if scrambled else None
    return CheckReport(model.name, curves, pointing, shares, agreement, scrambled, passed)


def _signed_maps(model: RunNetwork | BundleNetwork, images: np.ndarray) -> np.ndarray:
    """Return signed maps, float32 [n, h, w]: the class map of a bundle, Grad-CAM of a run."""
    return compute_maps(model, images, signed=True) if isinstance(model, RunNetwork) else model.maps(images)
