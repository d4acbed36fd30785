"""The report of the demo: one HTML file that opens from a USB stick, prints on A4 and is readable in greyscale."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_ct.manifest import INTENDED_USE, Estimate
from edge_ct.reporting.html_page import estimate_cell, row, table, write_page

from ..plots import accuracy_latency, metric_intervals

_SHIPPED = "MobileNetV2 int8"
_REFERENCE = "Ensemble fp32"
_METRICS = ("accuracy", "sensitivity", "specificity", "auc")


@dataclass(frozen=True)
class DemoResults:
    """What the page shows: the JSON that the commands printed, and files.

    Attributes:
        audit: What `data check` printed.
        gate: The gate of `convert --int8`.
        scores: Model name -> what `evaluate` printed.
        latency: Model name -> what `benchmark` printed.
        results: What `classify` printed, one entry a slice.
        heatmaps: Folder of heat maps; there is none for a rejected slice.
        runs: Network name -> run folder.
        commands: The commands, as a user would type them.
        seconds: Duration of the whole demo by the clock.
        processor_seconds: Processor time of the whole demo, which other programs hardly change.
    """

    audit: dict[str, Any]
    gate: dict[str, Any]
    scores: dict[str, dict[str, Any]]
    latency: dict[str, dict[str, Any]]
    results: list[dict[str, Any]]
    heatmaps: Path
    runs: dict[str, Path]
    commands: list[str]
    seconds: float
    processor_seconds: float


def write_demo_page(path: Path, results: DemoResults) -> None:
    """Write the page, whole or not at all."""
    write_page(
        path,
        "edge-ct demo report",
        (
            "<h1>edge-ct demo: from slices to an offline classifier</h1>",
            "<p class=notice><strong>Synthetic slices.</strong> Every picture here was drawn from random numbers. The "
            f"figures show that the software works, and say nothing about patients. {html.escape(INTENDED_USE)}</p>",
            f"<p class=verdict>{_verdict(results)}</p>",
            _models(results),
            _pictures(results),
            _gate(results),
            _training(results),
            _data(results),
            _reproduce(results),
        ),
    )


def _verdict(results: DemoResults) -> str:
    int8, reference = results.scores[_SHIPPED], results.scores[_REFERENCE]
    small, large = results.latency[_SHIPPED], results.latency["MobileNetV2 fp32"]
    speed = large["model_only"]["p50_ms"] / small["model_only"]["p50_ms"]
    return (
        f"With {results.processor_seconds / 60:.1f} minutes of processor time, this machine drew slices, trained two "
        "networks, taught one of them to outline lesions, and made an offline classifier of "
        f"{small['bytes'] / 1024:,.0f} KiB. The int8 file decides {results.gate['agreement']:.1%} of the slices as the "
        f"network at fp32 does, in {small['model_only']['p50_ms']:.2f} ms per slice: {speed:.1f} times as fast. It "
        f"separates the classes with an AUC of {_estimate(int8['auc']).text(3)} and has a sensitivity of "
        f"{_percent(int8['sensitivity'])}; the full-precision ensemble has {_percent(reference['sensitivity'])} (n = "
        f"{int8['n']} test slices of patients that no network was trained on).</p><p><small>The networks are small on "
        "purpose: they start from random weights and train for minutes on slices of 96 px, so that the demo needs no "
        "network and no GPU. Their figures are a floor. The shipped models start from pretrained weights, see "
        "larger slices, and are measured in the model card.</small>"
    )


def _models(results: DemoResults) -> str:
    rows = []
    for name, scores in results.scores.items():
        latency = results.latency.get(name)
        cells = [name, *(estimate_cell(_estimate(scores[metric])) for metric in _METRICS)]
        if latency:
            cells += [f"{latency['bytes'] / 1024:,.0f} KiB", f"{latency['model_only']['p50_ms']:.2f} ms"]
            cells += [f"{latency['end_to_end']['p50_ms']:.2f} ms"]
        else:
            cells += ["<small>not measured</small>"] * 3
        rows.append(row(cells, marked=name == _SHIPPED))
    header = ("model", "accuracy", "sensitivity", "specificity", "AUC", "file size", "model only", "end to end")
    points = {
        name: (results.latency[name]["model_only"]["p50_ms"], *_interval(results.scores[name]["sensitivity"]))
        for name in results.latency
    }
    intervals = {
        name: {metric: _interval(scores[metric]) for metric in _METRICS[:3]} for name, scores in results.scores.items()
    }
    n, split = results.scores[_SHIPPED]["n"], results.scores[_SHIPPED]["split"]
    shipped = results.latency[_SHIPPED]
    return (
        "<h2>Accuracy beside latency</h2>"
        f"{table(header, rows)}"
        f"<p><small>Test split, n = {n}, {split}; at probability 0.5; 95 % intervals (Wilson; bootstrap for AUC). "
        f"Times are medians of {shipped['model_only']['n']} queries on one thread, in quick mode. End to end: from the "
        f"bytes of a PNG file (512 px) to the result. Cold start of the int8 bundle: "
        f"{shipped['cold_start_ms']:.0f} ms, peak memory {shipped['peak_rss_mb']:.0f} MB. fp32 scores were computed "
        "by Keras, fp32 times measured on the "
        "TFLite file.</small></p>"
        f"<div class=pair><figure>{accuracy_latency(points)}</figure></div>"
        f"<figure>{metric_intervals(intervals)}</figure>"
    )


def _pictures(results: DemoResults) -> str:
    figures = []
    for result in results.results:
        source = Path(result["source"])
        picture = next(results.heatmaps.glob(f"{source.stem}-*.png"), None)
        called, shown = result["decision"], "slice" if picture is None else "slice and heat map"
        reason = f" ({html.escape(result['reason'])})" if result["reason"] else ""
        p = "" if result["probability"] is None else f", P = {result['probability']:.3f}"
        if result["lesion_share"] is not None:
            p += f"; {result['lesion_share']:.0%} of the lung affected"
        figures.append(
            f"<figure>{_image(picture or source, f'phantom {shown}, called {called}')}<figcaption>True class "
            f"{html.escape(source.parent.name)}; called <strong>{called}</strong>{reason}{p}.</figcaption></figure>"
        )
    return (
        "<h2>Three slices, judged by the int8 bundle</h2><p>The colours mark what the network takes for a lesion. "
        "Its lesion map comes from the same inference as the decision, and has learned from phantoms whose lesions are "
        "known.</p>" + "".join(figures)
    )


def _gate(results: DemoResults) -> str:
    gate = results.gate
    return (
        "<h2>Loss through int8</h2>"
        f"<p>Gate on the {gate['split']} split (n = {gate['fp32']['n']}), fixed before the measurement: a loss of at "
        f"most {gate['max_drop']:g} percentage points of sensitivity or accuracy. "
        f"<strong>{'Passed' if gate['passed'] else 'Failed'}.</strong> Sensitivity "
        f"{_percent(gate['fp32']['sensitivity'])} at fp32, {_percent(gate['converted']['sensitivity'])} at int8; "
        f"the two agree on {gate['agreement']:.1%} of the slices; "
        f"exact McNemar test: p = {gate['mcnemar_p']:.2f}, on the positive slices "
        f"p = {gate['mcnemar_p_positives']:.2f}.</p>"
    )


def _training(results: DemoResults) -> str:
    parts = []
    for name, folder in results.runs.items():
        parts.append(
            f"<h3>{name}</h3><div class=pair>{_image(folder / 'curves.png', f'learning curves of {name}')}"
            f"{_image(folder / 'confusion.png', f'confusion matrix of {name}')}</div>"
        )
    return "<h2>Training</h2>" + "".join(parts)


def _data(results: DemoResults) -> str:
    audit = results.audit
    counts = ", ".join(f"{count} {html.escape(name)}" for name, count in audit["classes"].items())
    warnings = "".join(f"<li>{html.escape(text)}</li>" for text in audit["warnings"]) or "<li>no warnings</li>"
    return f"<h2>Data check</h2><p>{audit['n']} phantom slices: {counts}.</p><ul>{warnings}</ul>"


def _reproduce(results: DemoResults) -> str:
    machine = results.latency[_SHIPPED]["machine"]
    details = {
        "processor": machine["cpu"],
        "architecture": machine["architecture"],
        "cores": machine["cores"],
        "memory": machine["memory_gb"] and f"{machine['memory_gb']} GB",
        "vector instructions": " ".join(machine["vectors"]),
        "system": machine["system"],
        "Python": machine["python"],
        "runtime": machine["runtime"],
    }
    shown = "; ".join(f"{name}: {html.escape(str(value))}" for name, value in details.items() if value)
    commands = html.escape("\n".join(results.commands))
    return (
        f"<h2>Machine and commands</h2><p>{shown}. The whole demo took {results.seconds:.0f} s by the "
        f"clock and {results.processor_seconds:.0f} s of processor time.</p>"
        f"<pre>{commands}</pre>"
        "<p>Not measured: the ensemble's latency; any figure on a Raspberry Pi; any figure on real slices.</p>"
    )


def _estimate(fields: dict[str, float]) -> Estimate:
    return msgspec.convert(fields, Estimate)


def _percent(fields: dict[str, float]) -> str:
    return _estimate(fields).text(1, percent=True)


def _interval(fields: dict[str, float]) -> tuple[float, float, float]:
    return fields["value"], fields["low"], fields["high"]


def _image(path: Path, alt: str) -> str:
    encoded = base64.b64encode(path.read_bytes()).decode()
    return f'<img src="data:image/png;base64,{encoded}" alt="{html.escape(alt)}">'
