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
from edge_ct.files import fresh_folder, refuse_existing, write_bytes, write_text
from edge_ct.metrics import Scores
from edge_ct.progress import QUIET, Progress
from edge_ct.run import to_csv

from . import activations as layers_of
from . import attended, bundle_maps, cam, faithful, figures, gallery, nearest, network, perturb

_MARKER = "explain.json"
_MOST = 64  # slices of one picture


class Shown(msgspec.Struct, frozen=True):
    """What a command wrote. rows: a table, whose first row is the header."""

    files: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()

    def lines(self) -> list[str]:
        """For people."""
        return _aligned(self.rows)


class Checks(msgspec.Struct, frozen=True):
    """What `explain check` found; None where it was not measured."""

    model: str
    curves: faithful.Curves
    pointing: faithful.Pointing
    lung_share: tuple[faithful.LungShare, ...]
    scrambled: faithful.Scrambled | None
    scrambled_passed: bool | None

    def lines(self) -> list[str]:
        """For people."""
        c, p = self.curves, self.pointing
        found = [
            f"{self.model}; positive slices n = {c.n}",
            f"  deletion   {c.deletion:.3f} (cells in random places {c.deletion_random:.3f}), lower is better",
            f"  insertion  {c.insertion:.3f} (cells in random places {c.insertion_random:.3f}), higher is better",
            f"  pointing game on phantoms: {p.hits} of {p.n}; IoU with the lesion {p.iou:.2f}; "
            f"{p.lung_share:.0%} of the energy in the lungs, which are {p.by_chance:.0%} of the slice",
        ]
        for own in self.lung_share:
            found.append(
                f"  {own.label}: {own.share:.0%} of the energy in the lungs, which are {own.by_chance:.0%} of the "
                f"slice; n = {own.n}"
            )
        if self.scrambled:
            steps = ", ".join(
                f"{share:.0%}: {value:.2f}"
                for share, value in zip(self.scrambled.share, self.scrambled.correlation, strict=True)
            )
            found.append(
                f"  weights scrambled from the head down, rank correlation with the true map: {steps} "
                f"({'passed' if self.scrambled_passed else 'FAILED: the map does not depend on the network'})"
            )
        return found


class Nearest(msgspec.Struct, frozen=True):
    """slices: source -> its nearest groups; scores: of the prototypes alone."""

    prototypes: int
    slices: dict[str, list[nearest.Neighbour]]
    scores: Scores | None

    def lines(self) -> list[str]:
        """For people."""
        found = []
        for source, own in self.slices.items():
            found.append(source)
            found += [f"  {one.similarity:.3f}  {one.label:<10} {one.group} ({one.slices} slices)" for one in own]
        if self.scores:
            shown = ", ".join(
                f"{name} {one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
                for name, one in self.scores.estimates().items()
                if name in ("accuracy", "sensitivity", "specificity", "f1") and one.value is not None
            )
            found.append(f"{self.prototypes} prototypes alone, test part, n = {self.scores.n}: {shown}")
        return found


def gradcam(
    run: Path,
    sources: Sequence[Path],
    out: Path,
    methods: Sequence[cam.Method],
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
    pixels, images = network.read(paths, found.preprocess)
    maps = {}
    with progress.bar("mapping", len(names)) as on_done:
        for method in names:
            maps[method] = cam.maps(found, images, method, layer)
            on_done(1)
    p = 1 / (1 + np.exp(-found.log_odds(images)))
    _begin(out, {"run": found.name, "layer": layer or network.LAST, "methods": list(names)})
    captions = [f"{path.stem[:18]}\nP {value:.2f}" for path, value in zip(paths, p, strict=True)]
    columns: dict[str, Sequence[np.ndarray | None]] = {name: list(own) for name, own in maps.items()}
    figures.grid(pixels, columns, captions, f"{found.name}, layer {layer or network.LAST}", out / "maps.png")
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
    pixels, images = network.read(paths, found.preprocess)
    responses = layers_of.responses(found, images, layers, filters)
    _begin(out, {"run": found.name, "layers": [response.layer for response in responses]})
    captions = [path.stem[:18] for path in paths]
    figures.strip(pixels, responses, captions, found.name, out / "strip.png")
    files = ["strip.png"]
    for number, response in enumerate(responses, start=1):
        name = f"{number:02d}-{response.layer}.png"
        figures.layer(response, captions, found.name, out / name)
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
    found = attended.intensities(first, second, images, others)
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
        figures.grid([pixels[i] for i in shown], columns, captions, title, out / f"{name}.png")
        files.append(f"{name}.png")
    rows = [header, *(tuple(_text(cell) for cell in row) for row in values)]
    page = _page(out, f"{first.name} and {second.name}: attended region", html, {"Mean intensity": rows})
    return Shown((*files, *page), tuple(rows))


def bundle(
    path: Path,
    sources: Sequence[Path],
    out: Path,
    seconds: float,
    run: Path | None,
    seed: int,
    html: bool,
    force: bool,
    progress: Progress = QUIET,
) -> Shown:
    """Class map, occlusion and RISE of a bundle; agreement with its run where one is given."""
    refuse_existing(out, force)
    found = bundle_maps.BundleNetwork(path)
    paths = _files(sources)
    for one in paths:
        result = found.classifier.classify(one)
        if result.decision == "rejected":
            raise InputRejected(f"{one}: rejected, so there is nothing to explain: {result.reason}")
    pixels, images = network.read(paths, found.preprocess)
    maps: dict[str, Any] = {}
    if found.classifier.manifest.tensors.class_map is not None:
        maps["class map"] = np.maximum(found.maps(images), 0)
    counts = []
    with progress.bar("hiding parts", 2 * len(images)) as on_done:
        hidden, weighed = [], []
        for image in images:
            hidden.append(np.maximum(perturb.occlusion(found.log_odds, image, seconds), 0))
            on_done(1)
            own, used = perturb.rise(found.log_odds, image, seconds, seed=seed)
            weighed.append(np.maximum(own, 0))
            counts.append(used)
            on_done(1)
    maps["occlusion"], maps["RISE"] = hidden, weighed
    rows: list[tuple[str, ...]] = [("slice", "P, uncalibrated", "RISE masks")]
    p = 1 / (1 + np.exp(-found.log_odds(images)))
    rows += [(str(one), f"{value:.3f}", str(used)) for one, value, used in zip(paths, p, counts, strict=True)]
    if run is not None:
        agreed = bundle_maps.agreement(found, network.load(run), images)
        rows += [(name, _text(value), "") for name, value in msgspec.structs.asdict(agreed).items()]
    _begin(out, {"bundle": found.name, "seconds": seconds, "seed": seed})
    captions = [f"{one.stem[:18]}\nP {value:.2f}" for one, value in zip(paths, p, strict=True)]
    figures.grid(pixels, {name: list(own) for name, own in maps.items()}, captions, found.name, out / "maps.png")
    arrays = {name.replace(" ", "_"): np.stack(own) for name, own in maps.items() if name != "occlusion"}
    arrays |= {f"occlusion_{number}": own for number, own in enumerate(maps["occlusion"])}
    write_bytes(out / "maps.npz", _archive(arrays))
    write_text(out / "maps.csv", to_csv(rows[0], rows[1:]))
    files = ("maps.png", "maps.npz", "maps.csv", *_page(out, f"{found.name}: maps", html, {"Slices": rows}))
    return Shown(files, tuple(rows))


def check(target: Path, data: Path | None, phantoms: int, limit: int, seed: int, progress: Progress = QUIET) -> Checks:
    """All checks that apply to a run or a bundle. data: labelled slices; None: phantoms alone."""
    scrambled = None
    if target.is_dir():
        opened = network.load(target)
        model: Any = opened

        def maps(images: np.ndarray) -> np.ndarray:
            return cam.maps(opened, images, signed=True)
    else:
        model = bundle_maps.BundleNetwork(target)
        maps = model.maps
    shown = faithful.phantoms(phantoms, 256)
    images = np.stack([model.preprocess(one.image) for one in shown])
    progress.say(f"pointing game on {len(shown)} phantoms")
    pointing = faithful.pointing(model.log_odds, maps, images, shown)
    pixels, labels, classes = [one.image for one in shown], np.ones(len(shown), int), ("", "phantoms")
    if data is not None:
        dataset = load(data)
        dataset = dataset.take(_some(dataset, limit))
        pixels, images = network.read(list(dataset.paths), model.preprocess)
        labels, classes = dataset.labels, dataset.classes
    heat = maps(images)
    shares = tuple(
        faithful.lung_share(heat[own], [pixels[i] for i in np.flatnonzero(own)], classes[value])
        for value in (1, 0)
        if (own := labels == value).any()
    )
    chosen = np.flatnonzero(model.log_odds(images) > 0)[:limit]
    if not len(chosen):
        raise EdgeCTError(f"{model.name} calls none of the slices positive: there is no evidence to take away")
    progress.say(f"deletion and insertion on {len(chosen)} slices")
    curves = faithful.curves(model.log_odds, heat[chosen], images[chosen], seed)
    if target.is_dir():
        progress.say("scrambling weights")
        scrambled = faithful.scrambled(
            opened, lambda net, views: cam.maps(net, views, signed=True), images[chosen][:16], seed=seed
        )
    return Checks(model.name, curves, pointing, shares, scrambled, scrambled.passed if scrambled else None)


def nearest_cases(
    run: Path, sources: Sequence[Path], count: int, data: Path | None, scored: bool, progress: Progress = QUIET
) -> Nearest:
    """The nearest training groups of slices, and the score of the prototypes alone."""
    found = network.load(run)
    prototypes = nearest.prototypes(found, data, progress)
    near: dict[str, list[nearest.Neighbour]] = {}
    if sources:
        paths = _files(sources)
        _, images = network.read(paths, found.preprocess)
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


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
