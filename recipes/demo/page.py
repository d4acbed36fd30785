"""One self-contained HTML page: opens from a USB stick, prints on A4, readable in greyscale."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_ct.manifest import INTENDED_USE
from edge_ct.reporting import html_page, plotting

_SHIPPED = "MobileNetV2 int8"
_REFERENCE = "Ensemble fp32"
_METRICS = ("accuracy", "sensitivity", "specificity", "auc")


@dataclass(frozen=True)
class Story:
    """What the page tells: the JSON of the commands, and files to show.

    scores, latency: model name -> what `evaluate` and `benchmark` printed. heatmaps: the folder that `classify`
    wrote them to, which has none of a slice that was rejected.
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


def write(path: Path, story: Story) -> None:
    """Write the page, whole or not at all."""
    html_page.write_page(
        path,
        "edge-ct demo report",
        (
            "<h1>edge-ct demo: from slices to an offline classifier</h1>",
            "<p class=notice><strong>Synthetic slices.</strong> Every picture here was drawn from random numbers. The "
            f"figures say that the software works; they say nothing about patients. {html.escape(INTENDED_USE)}</p>",
            f"<p class=verdict>{_verdict(story)}</p>",
            _models(story),
            _pictures(story),
            _gate(story),
            _training(story),
            _data(story),
            _reproduce(story),
        ),
    )


def _verdict(story: Story) -> str:
    int8, reference = story.scores[_SHIPPED], story.scores[_REFERENCE]
    small, large = story.latency[_SHIPPED], story.latency["MobileNetV2 fp32"]
    return (
        f"The int8 MobileNetV2 has a sensitivity of {_percent(int8['sensitivity'])} where the full-precision ensemble "
        f"has {_percent(reference['sensitivity'])} (n = {int8['n']} test slices of patients never trained on), in "
        f"{small['bytes'] / 1024:,.0f} KiB and {small['model_only']['p50_ms']:.2f} ms a slice: "
        f"{large['model_only']['p50_ms'] / small['model_only']['p50_ms']:.1f} times as fast as the same at fp32."
    )


def _models(story: Story) -> str:
    rows = []
    for name, scores in story.scores.items():
        latency = story.latency.get(name)
        cells = [name, *(_cell(scores[metric]) for metric in _METRICS)]
        if latency:
            cells += [f"{latency['bytes'] / 1024:,.0f} KiB", f"{latency['model_only']['p50_ms']:.2f} ms"]
            cells += [f"{latency['end_to_end']['p50_ms']:.2f} ms"]
        else:
            cells += ["<small>not measured</small>"] * 3
        rows.append(html_page.row(cells, marked=name == _SHIPPED))
    header = ("model", "accuracy", "sensitivity", "specificity", "AUC", "file", "model only", "end to end")
    points = {
        name: (story.latency[name]["model_only"]["p50_ms"], *_interval(story.scores[name]["sensitivity"]))
        for name in story.latency
    }
    bars = {name: {m: _interval(s[m]) for m in _METRICS[:3]} for name, s in story.scores.items()}
    n, split = story.scores[_SHIPPED]["n"], story.scores[_SHIPPED]["split"]
    shipped = story.latency[_SHIPPED]
    return (
        "<h2>Accuracy beside latency</h2>"
        f"{html_page.table(header, rows)}"
        f"<p><small>Test split, n = {n}, {split}; at probability 0.5; 95 % intervals (Wilson; bootstrap for AUC). "
        f"Times are medians of {shipped['model_only']['n']} queries, one thread, quick mode. End to end is PNG bytes "
        f"(512 px) to result. Cold start of the int8 bundle {shipped['cold_start_ms']:.0f} ms, peak memory "
        f"{shipped['peak_rss_mb']:.0f} MB. "
        "fp32 scores are Keras', fp32 times the TFLite file's.</small></p>"
        f"<div class=pair><figure>{plotting.accuracy_latency(points)}</figure></div>"
        f"<figure>{plotting.intervals(bars)}</figure>"
    )


def _pictures(story: Story) -> str:
    figures = []
    for result in story.results:
        source = Path(result["source"])
        picture = next(story.heatmaps.glob(f"{source.stem}-*.png"), None)
        called, shown = result["decision"], "slice" if picture is None else "slice and heat map"
        reason = f" ({html.escape(result['reason'])})" if result["reason"] else ""
        p = "" if result["probability"] is None else f", P = {result['probability']:.3f}"
        figures.append(
            f"<figure>{_image(picture or source, f'phantom {shown}, called {called}')}<figcaption>True class "
            f"{html.escape(source.parent.name)}; called <strong>{called}</strong>{reason}{p}.</figcaption></figure>"
        )
    return (
        "<h2>Three slices, judged by the int8 bundle</h2><p>The map is the class map of the same inference: where the "
        "network found evidence, at no extra cost.</p>" + "".join(figures)
    )


def _gate(story: Story) -> str:
    gate = story.gate
    return (
        "<h2>What int8 cost</h2>"
        f"<p>Gate on the {gate['split']} split (n = {gate['fp32']['n']}), stated before measuring: at most "
        f"{gate['max_drop']:g} points of sensitivity or accuracy lost. "
        f"<strong>{'Passed' if gate['passed'] else 'Failed'}.</strong> Sensitivity "
        f"{_percent(gate['fp32']['sensitivity'])} at fp32, {_percent(gate['converted']['sensitivity'])} at int8; "
        f"the two agree on {gate['agreement']:.1%} of the slices; "
        f"exact McNemar p = {gate['mcnemar_p']:.2f}, on the positives {gate['mcnemar_p_positives']:.2f}.</p>"
    )


def _training(story: Story) -> str:
    parts = []
    for name, folder in story.runs.items():
        parts.append(
            f"<h3>{name}</h3><div class=pair>{_image(folder / 'curves.png', f'learning curves of {name}')}"
            f"{_image(folder / 'confusion.png', f'confusion matrix of {name}')}</div>"
        )
    return "<h2>Training</h2>" + "".join(parts)


def _data(story: Story) -> str:
    audit = story.audit
    counts = ", ".join(f"{count} {html.escape(name)}" for name, count in audit["classes"].items())
    warnings = "".join(f"<li>{html.escape(text)}</li>" for text in audit["warnings"]) or "<li>nothing to warn of</li>"
    return f"<h2>Data check</h2><p>{audit['n']} phantom slices: {counts}.</p><ul>{warnings}</ul>"


def _reproduce(story: Story) -> str:
    machine = story.latency[_SHIPPED]["machine"]
    shown = ", ".join(html.escape(str(value)) for value in machine.values() if value is not None)
    commands = html.escape("\n".join(story.commands))
    return (
        f"<h2>Machine and commands</h2><p>{shown}. The whole demo took {story.seconds:.0f} s.</p><pre>{commands}</pre>"
        "<p>Not measured: the ensemble's latency; anything on a Raspberry Pi; anything on a real slice.</p>"
    )


def _cell(estimate: dict[str, float]) -> str:
    value, low, high = _interval(estimate)
    return f"{value:.1%}<br><span class=interval>{low:.1%} to {high:.1%}</span>"


def _percent(estimate: dict[str, float]) -> str:
    value, low, high = _interval(estimate)
    return f"{value:.1%} [{low:.1%}, {high:.1%}]"


def _interval(estimate: dict[str, float]) -> tuple[float, float, float]:
    return estimate["value"], estimate["low"], estimate["high"]


def _image(path: Path, alt: str) -> str:
    encoded = base64.b64encode(path.read_bytes()).decode()
    return f'<img src="data:image/png;base64,{encoded}" alt="{html.escape(alt)}">'
