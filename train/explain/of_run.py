"""What each `edge-ct explain` command does: read, map, draw, write, and say what was found."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_ct import slices as slice_files
from edge_ct.dataset import Dataset, load
from edge_ct.errors import EdgeCTError, InputRejected
from edge_ct.network_analysis.occlusion import occlusion_map
from edge_ct.system.csv_text import to_csv
from edge_ct.system.files import fresh_folder, refuse_existing, write_bytes, write_text
from edge_ct.system.progress import QUIET, Progress

from . import activations as layers_of
from . import (
    attended,
    bundle_maps,
    gallery,
    grad_cam,
    nearest,
    network,
    paper_figure_plots,
    paper_figures,
    plots,
    rise,
    sanity_checks,
)
from .text import Checks, Nearest, Shown

_MARKER = "explain.json"
_MOST = 64  # slices of one picture


def gradcam(
    run: Path,
    sources: Sequence[Path],
    out: Path,
    methods: Sequence[grad_cam.Method],
    layer: str | None,
    html: bool,
    force: bool,
    progress: Progress = QUIET,
) -> Shown:
    """Overlays and raw arrays of a run's maps. Raises as `network.load`, `cam.maps`, `slices.read`."""
    refuse_existing(out, force)
    found = network.load(run)
    names = tuple(methods) or (("gradcam", "gradcam++") + (("classmap",) if found.has_class_map else ()))
    if layer and set(names) == {"classmap"}:
        raise EdgeCTError("--layer is of Grad-CAM; the class map has one place")
    paths = _files(sources)
    pixels, images = network.read(paths, found.preprocess, named=True)
    maps = {}
    with progress.bar("mapping", len(names)) as on_done:
        for method in names:
            maps[method] = grad_cam.maps(found, images, method, layer)
            on_done(1)
    p = 1 / (1 + np.exp(-found.log_odds(images)))
    _begin(out, {"run": found.name, "layer": layer or network.LAST, "methods": list(names)})
    captions = [f"{path.stem[:18]}\nP {value:.2f}" for path, value in zip(paths, p, strict=True)]
    columns: dict[str, Sequence[np.ndarray | None]] = {name: list(own) for name, own in maps.items()}
    progress.say("measuring where the cells look")
    at = dict.fromkeys(columns, found.centres(layer))
    if layer and "classmap" in at:
        at["classmap"] = found.centres()
    plots.grid(pixels, columns, captions, f"{found.name}, layer {layer or network.LAST}", out / "maps.png", at)
    write_bytes(out / "maps.npz", _archive(maps))
    write_text(out / "maps.csv", to_csv(("slice", "probability"), zip(map(str, paths), p.tolist(), strict=True)))
    files = ["maps.png", "maps.npz", "maps.csv", *_page(out, f"{found.name}: maps", html)]
    rows = [("slice", "P, uncalibrated"), *((str(path), f"{value:.3f}") for path, value in zip(paths, p, strict=True))]
    return Shown(tuple(files), tuple(rows))


def activations(
    run: Path,
    sources: Sequence[Path],
    out: Path,
    names: Sequence[str],
    every: int,
    filters: int,
    html: bool,
    force: bool,
) -> Shown:
    """One picture a layer, and the strip. Raises as `network.load`, `network.Network.layer`, `slices.read`."""
    refuse_existing(out, force)
    found = network.load(run)
    layers = layers_of.chosen(found, names, every)
    paths = _files(sources)
    pixels, images = network.read(paths, found.preprocess, named=True)
    responses = layers_of.responses(found, images, layers, filters)
    _begin(out, {"run": found.name, "layers": [response.layer for response in responses]})
    captions = [path.stem[:18] for path in paths]
    plots.strip(pixels, responses, captions, found.name, out / "strip.png")
    files = ["strip.png"]
    for number, response in enumerate(responses, start=1):
        name = f"{number:02d}-{response.layer}.png"
        plots.layer(response, captions, found.name, out / name)
        files.append(name)
    rows = [("layer", "size", "filters shown")]
    rows += [
        (response.layer, "x".join(map(str, response.maps.shape[2:])), " ".join(map(str, response.filters)))
        for response in responses
    ]
    return Shown((*files, *_page(out, f"{found.name}: activations", html)), tuple(rows))


def attended_region(
    base: Path,
    modified: Path,
    out: Path,
    data: Path | None,
    limit: int,
    html: bool,
    force: bool,
    progress: Progress = QUIET,
) -> Shown:
    """The table and the figures of one pair of networks, over the slices of each class."""
    refuse_existing(out, force)
    first, second = network.load(base), network.load(modified)
    dataset = _labelled(first, data)
    kept = _some(dataset, limit)
    dataset = dataset.take(kept)
    pixels, images = network.read(list(dataset.paths), first.preprocess)
    others = np.stack([second.preprocess(one) for one in pixels])
    progress.say(f"maps of {len(dataset)} slices by {first.name} and {second.name}")
    found = attended.intensities(grad_cam.maps(first, images), grad_cam.maps(second, others), first.preprocess.size)
    tables = [
        attended.summarise(f"{first.name} / {second.name}", label, found.base[own], found.modified[own])
        for label, own in [
            *((name, dataset.labels == value) for value, name in enumerate(dataset.classes)),
            ("both", np.ones(len(dataset), bool)),
        ]
        if own.any()
    ]
    header = attended.Attention.__struct_fields__
    _begin(out, {"base": first.name, "modified": second.name, "n": len(dataset)})
    values = [msgspec.structs.astuple(one) for one in tables]
    write_text(out / "attended.csv", to_csv(header, values))
    files = ["attended.csv"]
    at = {one.name: one.centres() for one in (first, second)}
    for value, name in ((1, "positive"), (0, "negative")):
        shown = np.flatnonzero(dataset.labels == value)[:6]
        if not len(shown):
            continue
        captions = [dataset.paths[i].stem[:18] for i in shown]
        columns: dict[str, Sequence[np.ndarray | None]] = {
            first.name: [found.maps_base[i] for i in shown],
            second.name: [found.maps_modified[i] for i in shown],
        }
        title = f"{dataset.classes[value]}: Grad-CAM"
        plots.grid([pixels[i] for i in shown], columns, captions, title, out / f"{name}.png", at)
        files.append(f"{name}.png")
    rows = [header, *(tuple(_text(cell) for cell in row) for row in values)]
    page = _page(out, f"{first.name} and {second.name}: attended region", html, {"Mean intensity": rows})
    return Shown((*files, *page), tuple(rows))


def overviews(
    runs: Sequence[Path],
    out: Path,
    data: Path | None,
    count: int,
    cells: int,
    limit: int,
    html: bool,
    force: bool,
    progress: Progress = QUIET,
) -> Shown:
    """Figures 4 to 7 of several runs, and the table of attended regions. data: labelled slices; None: phantoms."""
    refuse_existing(out, force)
    if data is None:
        views = paper_figures.of_phantoms(limit)
    else:
        dataset = load(data)
        dataset = dataset.take(_some(dataset, limit))
        views = paper_figures.of_slices(dataset, [slice_files.read(path).pixels for path in dataset.paths])
    seen = paper_figures.look(runs, views, cells, progress)
    if not paper_figures.pairs(seen):
        raise EdgeCTError("only Modified networks: name the networks that they are compared with, too")
    _begin(out, {"runs": [one.name for one in seen], "slices": len(views.labels)})
    paper_figure_plots.maps(seen, views, 1, count, out / "figure-4.png")
    paper_figure_plots.maps(seen, views, 0, count, out / "figure-5.png")
    paper_figure_plots.depth(seen, views, out / "figure-6.png")
    paper_figure_plots.beside(seen, views, out / "figure-7.png")
    tables: dict[str, list[Any]] = {"networks.csv": [paper_figures.row(one, views) for one in seen], "attended.csv": []}
    tables["attended.csv"] += paper_figures.table(seen, views)
    shown: dict[str, list[tuple[str, ...]]] = {}
    for name, own in tables.items():
        if own:
            header = own[0].__struct_fields__
            write_text(out / name, to_csv(header, [msgspec.structs.astuple(row) for row in own]))
            shown[name] = [header, *(tuple(map(_text, msgspec.structs.astuple(row))) for row in own)]
    files = [*(f"figure-{number}.png" for number in range(4, 8)), *shown]
    page = _page(out, "What several networks look at", html, shown)
    return Shown((*files, *page), tuple(shown["networks.csv"]))


def bundle(
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
) -> Shown:
    """Class map, occlusion and RISE of a bundle; agreement with its run where one is given.

    methods: of `bundle_maps.METHODS`; by default all that the graph allows.
    """
    refuse_existing(out, force)
    found = bundle_maps.BundleNetwork(path)
    whole = network.load(run) if run is not None else None
    names = tuple(methods) or bundle_maps.METHODS[0 if found.has_class_map else 1 :]
    paths = _files(sources)
    for one in paths:
        result = found.classifier.classify(one)
        if result.decision == "rejected":
            raise InputRejected(f"{one}: rejected, so there is nothing to explain: {result.reason}")
    pixels, images = network.read(paths, found.preprocess, named=True)
    maps: dict[str, list[np.ndarray]] = {}
    if "classmap" in names:
        maps["class map"] = list(np.maximum(found.maps(images), 0))
    masks = [""] * len(images)
    with progress.bar("hiding parts", len(images) * len({"occlusion", "rise"} & set(names))) as on_done:
        if "occlusion" in names:
            maps["occlusion"] = []
            for image in images:
                maps["occlusion"].append(np.maximum(occlusion_map(found.log_odds, image, seconds), 0))
                on_done(1)
        if "rise" in names:
            maps["RISE"] = []
            for number, image in enumerate(images):
                own, used = rise.rise(found.log_odds, image, seconds, seed=seed)
                maps["RISE"].append(np.maximum(own, 0))
                masks[number] = str(used)
                on_done(1)
    rows: list[tuple[str, ...]] = [("slice", "P, uncalibrated", "RISE masks")]
    p = 1 / (1 + np.exp(-found.log_odds(images)))
    rows += [(str(one), f"{value:.3f}", used) for one, value, used in zip(paths, p, masks, strict=True)]
    if whole is not None:
        agreed = bundle_maps.agreement(found, whole, images)
        rows += [(name, _text(value), "") for name, value in msgspec.structs.asdict(agreed).items()]
    _begin(out, {"bundle": found.name, "methods": list(names), "seconds": seconds, "seed": seed})
    captions = [f"{one.stem[:18]}\nP {value:.2f}" for one, value in zip(paths, p, strict=True)]
    columns: dict[str, Sequence[np.ndarray | None]] = dict(maps)
    plots.grid(pixels, columns, captions, found.name, out / "maps.png", {"class map": found.centres})
    arrays = {name.replace(" ", "_"): np.stack(own) for name, own in maps.items() if name != "occlusion"}
    arrays |= {f"occlusion_{number}": own for number, own in enumerate(maps.get("occlusion", []))}
    write_bytes(out / "maps.npz", _archive(arrays))
    write_text(out / "maps.csv", to_csv(rows[0], rows[1:]))
    files = ("maps.png", "maps.npz", "maps.csv", *_page(out, f"{found.name}: maps", html, {"Slices": rows}))
    return Shown(files, tuple(rows))


def check(
    target: Path,
    data: Path | None,
    run: Path | None,
    phantoms: int,
    limit: int,
    seed: int,
    progress: Progress = QUIET,
) -> Checks:
    """All checks that apply to a run or a bundle. data: labelled slices; None: phantoms alone. run: the bundle's."""
    if run is not None and target.is_dir():
        raise EdgeCTError("--run is the run that a bundle was made of; of a run alone there is nothing to agree with")
    scrambled = agreed = None
    whole = network.load(run) if run is not None else None
    if target.is_dir():
        opened = network.load(target)
        model: Any = opened

        def maps(images: np.ndarray) -> np.ndarray:
            return grad_cam.maps(opened, images, signed=True)

        at = opened.centres()
    else:
        model = bundle_maps.BundleNetwork(target)
        maps, at = model.maps, model.centres
    shown = sanity_checks.phantoms(phantoms, 256, sanity_checks.SEED + seed)
    images = np.stack([model.preprocess(one.image) for one in shown])
    progress.say(f"pointing game on {len(shown)} phantoms")
    pointing = sanity_checks.pointing(model.log_odds, maps, images, shown, at)
    pixels, labels, classes = [one.image for one in shown], np.ones(len(shown), int), ("", "phantoms")
    if data is not None:
        dataset = load(data)
        dataset = dataset.take(_some(dataset, limit))
        pixels, images = network.read(list(dataset.paths), model.preprocess)
        labels, classes = dataset.labels, dataset.classes
    heat = maps(images)
    shares = tuple(
        sanity_checks.lung_share(heat[own], [pixels[i] for i in np.flatnonzero(own)], classes[value], at)
        for value in (1, 0)
        if (own := labels == value).any()
    )
    chosen = np.flatnonzero(model.log_odds(images) > 0)[:limit]
    if not len(chosen):
        raise EdgeCTError(f"{model.name} calls none of the slices positive: there is no evidence to take away")
    progress.say(f"deletion and insertion on {len(chosen)} slices")
    curves = sanity_checks.curves(model.log_odds, heat[chosen], images[chosen], at, seed)
    if whole is not None:
        progress.say(f"agreement with Grad-CAM of {run} on {len(images)} slices")
        agreed = bundle_maps.agreement(model, whole, images)
    if target.is_dir():
        progress.say("scrambling weights")
        scrambled = sanity_checks.scrambled(
            opened, lambda net, views: grad_cam.maps(net, views, signed=True), images[chosen][:16], seed=seed
        )
    passed = scrambled.passed if scrambled else None
    return Checks(model.name, curves, pointing, shares, agreed, scrambled, passed)


def nearest_cases(
    run: Path, sources: Sequence[Path], count: int, data: Path | None, scored: bool, progress: Progress = QUIET
) -> Nearest:
    """The nearest training groups of slices, and the score of the prototypes alone."""
    found = network.load(run)
    prototypes = nearest.prototypes(found, data, progress)
    near: dict[str, list[nearest.Neighbour]] = {}
    if sources:
        paths = _files(sources)
        _, images = network.read(paths, found.preprocess, named=True)
        rows = nearest.nearest(prototypes, nearest.embed(found, images), found.run.info.classes, count)
        near = dict(zip(map(str, paths), rows, strict=True))
    scores = nearest.baseline(found, prototypes, data, progress) if scored else None
    return Nearest(len(prototypes.groups), near, scores)


def _files(sources: Sequence[Path]) -> list[Path]:
    """The slice files that were named, or lie in the folders that were. Raises `InputRejected` where there is none."""
    found = [path for source in sources for path in (slice_files.find(source) if source.is_dir() else [source])]
    if not found:
        raise InputRejected(f"{sources[0]}: no slice in this folder")
    if len(found) > _MOST:
        raise EdgeCTError(f"{len(found)} slices: at most {_MOST} fit into one picture; name fewer")
    return found


def _labelled(found: network.Network, data: Path | None) -> Dataset:
    if data is not None:
        return load(data, found.run.info.classes[1])
    table = found.run.split()
    return found.run.dataset().take(table.where("test"))


def _some(dataset: Dataset, limit: int) -> list[int]:
    """Indices of up to `limit` slices a class, spread over it."""
    kept: list[int] = []
    for value in (0, 1):
        own = np.flatnonzero(dataset.labels == value)
        kept += own[np.unique(np.linspace(0, len(own) - 1, min(limit, len(own))).round().astype(int))].tolist()
    return kept


def _begin(out: Path, what: dict[str, Any]) -> None:
    fresh_folder(out, _MARKER)
    write_bytes(out / _MARKER, msgspec.json.encode(what) + b"\n")


def _page(
    out: Path, title: str, html: bool, tables: dict[str, Sequence[Sequence[str]]] | None = None
) -> tuple[str, ...]:
    if not html:
        return ()
    gallery.write(title, sorted(out.glob("*.png")), tables or {}, out / "gallery.html")
    return ("gallery.html",)


def _archive(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
