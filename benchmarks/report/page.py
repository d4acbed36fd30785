"""The report's page: the verdict, the Pareto plot and the table first; then what they rest on."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_ct.reporting import html_page, plotting

from ..measure.bundle import Benchmark
from ..measure.machine import throttled_since
from ..measure.timing import QUANTILES
from .collect import Report, Subject

METRICS = ("accuracy", "sensitivity", "specificity", "f1", "auc", "ece")


def write(path: Path, report: Report, probabilities: dict[str, np.ndarray], labels: np.ndarray) -> None:
    """Write the page. probabilities: P(positive) [n] by model; labels [n]."""
    html_page.write_page(path, "edge-ct: accuracy beside latency", _parts(report, probabilities, labels))


def points(report: Report) -> list[dict[str, object]]:
    """What the Pareto plot shows: the models that were both scored and measured."""
    found: list[dict[str, object]] = []
    for own in report.subjects:
        if own.scores is None or own.benchmark is None:
            continue
        shown = {name: getattr(own.scores, name) for name in ("sensitivity", "accuracy")}
        if any(estimate.value is None for estimate in shown.values()):
            continue
        values = {name: (one.value, one.low, one.high) for name, one in shown.items()}
        found.append({"label": own.label, "ms": own.benchmark.model_only.p50_ms, "reference": own.reference, **values})
    return found


def _parts(report: Report, probabilities: dict[str, np.ndarray], labels: np.ndarray) -> Iterator[str]:
    yield "<h1>Accuracy beside latency</h1>"
    yield f"<p class=notice>{html.escape(report.intended_use)}</p>"
    quick = " <strong>Quick mode: too few queries for a report.</strong>" * report.quick
    yield f"<p class=verdict>{html.escape(report.verdict)}{quick}</p>"
    shown = points(report)
    if shown:
        yield (
            f"<figure>{plotting.svg(plotting.tradeoff(shown))}<figcaption>Star: the reference. "
            "Filled, and the dashed line: "
            "no other model is both faster and better by that measure. Bars: 95 % intervals.</figcaption></figure>"
        )
    yield from _tables(report)
    measured = [own for own in report.subjects if own.benchmark]
    if report.data.labelled:
        yield from _accuracy(report, probabilities, labels)
    if measured:
        yield from _latency(measured)
    yield from _origin(report, measured)


def _tables(report: Report) -> Iterator[str]:
    """What matters first, and the rest of what was measured."""
    header = ("model", "accuracy", "sensitivity", "specificity", "AUC", "file", "p50 / p90", "memory", "slices/s",
              "speed-up at<br>equal sensitivity")  # fmt: skip
    yield html_page.table(
        header, (html_page.row(_first(own), marked=own.front) for own in report.subjects if not own.reason)
    )
    data = report.data
    failed = "".join(
        f"<li>{html.escape(own.label)}: {html.escape(own.reason)}</li>" for own in report.subjects if own.reason
    )
    if failed:
        yield f"<p>Not measured, because the file failed verification or the command did:</p><ul>{failed}</ul>"
    said = (
        f"n = {data.n} slices, {data.positives} positive, {html.escape(' and '.join(data.splits))} split; at "
        "probability 0.5; 95 % intervals (Wilson; bootstrap for F1, AUC, ECE). "
        if data.labelled
        else "The data has no labels: latency only. "
    )
    yield (
        f"<p><small>{said}Bold: no other model is at once as fast, as sensitive and as specific. Times: model only, "
        "one slice at a time. Memory: peak of a process that judges one slice. Slices/s: end to end, one after the "
        "other. Speed-up at equal sensitivity: the reference's time over the model's, with the model's specificity at "
        "the threshold at which it finds as many positives as the reference; that threshold is chosen on these slices, "
        "so it is a bound.</small></p>"
    )
    header = (
        "model",
        "F1",
        "ECE",
        "sensitivity kept",
        "McNemar p<br>all / positive",
        "agreement",
        "parameters",
        "MACs",
    )
    rows = [html_page.row(_second(own), marked=own.front) for own in report.subjects if not own.reason]
    yield html_page.table(header, rows)
    if data.labelled:
        yield (
            "<p><small>Sensitivity kept: of the reference's; McNemar: exact, of all slices and of the positive ones, "
            "against the reference on the same slices.</small></p>"
        )


def _first(own: Subject) -> list[str]:
    name = f"{html.escape(own.label)}<br><small>{own.kind}{', reference' * own.reference}</small>"
    took = own.benchmark
    assert took is not None
    cells = [
        html_page.estimate_cell(getattr(own.scores, metric), metric != "auc") if own.scores else ""
        for metric in METRICS[:3] + METRICS[4:5]
    ]
    cells += [f"{took.bytes / 1e6:.2f} MB", f"{took.model_only.p50_ms:.2f} /<br>{took.model_only.p90_ms:.2f} ms"]
    cells += [f"{took.peak_rss_mb:,.0f} MB", f"{took.slices_per_second:.1f}"]
    equal = own.against.equal if own.against else None
    if equal and equal.speed_up:
        cells.append(f"{equal.speed_up:,.1f} x<br><span class=interval>{_specificity(equal.specificity.value)}</span>")
    else:
        cells.append("")
    return [name, *cells]


def _specificity(value: float | None) -> str:
    return "" if value is None else f"specificity {100 * value:.1f} %"


def _second(own: Subject) -> list[str]:
    versus, took = own.against, own.benchmark
    cells = [html.escape(own.label)]
    cells += (
        [html_page.estimate_cell(own.scores.f1), html_page.estimate_cell(own.scores.ece, False)]
        if own.scores
        else ["", ""]
    )
    cells += (
        [
            html_page.estimate_cell(versus.kept),
            f"{versus.mcnemar_p:.2g} / {versus.mcnemar_p_positives:.2g}",
            f"{100 * versus.agreement:.1f} %",
        ]
        if versus
        else ["", "", ""]
    )
    return [*cells, f"{took.parameters / 1e6:.2f} M", f"{took.macs / 1e6:,.0f} M"] if took else cells


def _accuracy(report: Report, probabilities: dict[str, np.ndarray], labels: np.ndarray) -> Iterator[str]:
    scored = {own.label: own for own in report.subjects if own.scores}
    reference = next(own.label for own in report.subjects if own.reference)
    yield "<h2>Reliability</h2><p>Bins of a tenth; a circle's area is its share of slices. Runs are uncalibrated.</p>"
    yield f"<figure>{plotting.reliability({name: probabilities[name] for name in scored}, labels)}</figure>"
    if 0 < labels.sum() < len(labels):
        yield "<h2>ROC</h2><p>Circle: the operating point, a run's at 0.5. Grey: the reference.</p>"
        curves = {
            name: (probabilities[name], own.at_threshold.threshold if own.at_threshold else 0.5)
            for name, own in scored.items()
        }
        yield f"<figure>{plotting.roc(curves, labels, reference)}</figure>"
    yield "<h2>Confusion matrices</h2><p>At probability 0.5; and, of bundles, at their operating point.</p>"
    rows = []
    for name, own in scored.items():
        for said, scores in (("0.5", own.scores), ("", own.at_threshold)):
            if scores:
                counts = scores.confusion
                at = said or f"{scores.threshold:.3f}"
                sides = html_page.estimate_cell(scores.sensitivity), html_page.estimate_cell(scores.specificity)
                numbers = [str(count) for count in (counts.tp, counts.fn, counts.tn, counts.fp)]
                rows.append(html_page.row([html.escape(name), at, *numbers, *sides]))
    header = (
        "model",
        "threshold",
        "true positive",
        "missed",
        "true negative",
        "false alarm",
        "sensitivity",
        "specificity",
    )
    yield html_page.table(header, rows)
    decided = [own for own in scored.values() if own.decisions]
    if decided:
        yield "<p>What the device would say of the slices it was scored on:</p>"
        kinds = ("positive", "negative", "refer", "rejected")
        yield html_page.table(
            ("model", *kinds),
            (
                html_page.row([html.escape(own.label), *(str((own.decisions or {})[kind]) for kind in kinds)])
                for own in decided
            ),
        )


def _latency(measured: list[Subject]) -> Iterator[str]:
    yield "<h2>Latency</h2>"
    boxes = {}
    rows = []
    for own in measured:
        took = own.benchmark
        assert took is not None
        kinds = {"model only": took.model_only, "end to end": took.end_to_end}
        boxes[own.label] = {
            kind: dict(zip(QUANTILES, times.quantiles, strict=True)) for kind, times in kinds.items() if times.quantiles
        }
        for kind, times in kinds.items():
            values = (times.p50_ms, times.p90_ms, times.p99_ms, times.mean_ms, times.std_ms, times.min_ms, times.max_ms)
            numbers = [f"{value:.2f}" for value in values]
            rows.append(html_page.row([html.escape(own.label), kind, *numbers, str(times.n), str(times.threads)]))
    yield f"<figure>{plotting.latencies(boxes)}<figcaption>Box: quartiles; whiskers: 5 to 99 %.</figcaption></figure>"
    header = ("model", "ms", "p50", "p90", "p99", "mean", "std", "min", "max", "n", "threads")
    yield html_page.table(header, rows)
    yield "<p>What computed, and batches:</p>"
    header = ("model", "device", "precision", "backend", "batch 1", "best batch", "cold start", "resident", "timer")
    yield html_page.table(
        header, (html_page.row(_computed(own.label, own.benchmark)) for own in measured if own.benchmark)
    )


def _computed(label: str, took: Benchmark) -> list[str]:
    one = f"{1000 / took.model_only.p50_ms:,.1f} slices/s"
    best = max(took.by_batch, key=lambda batch: batch.slices_per_second, default=None)
    share = took.timer_ns / 1e4 / took.model_only.p50_ms
    return [
        html.escape(label),
        html.escape(took.device),
        html.escape(took.precision),
        html.escape(took.backend),
        one,
        f"{best.batch}: {best.slices_per_second:,.1f} slices/s" if best else "one slice at a time",
        f"{took.cold_start_ms:,.0f} ms",
        "" if took.resident_mb is None else f"{took.resident_mb:,.0f} MB",
        f"{took.timer_ns:.0f} ns, {share:.4f} % of a query",
    ]


def _origin(report: Report, measured: list[Subject]) -> Iterator[str]:
    yield "<h2>Machine, data, commands</h2>"
    for own in measured[:1]:
        took = own.benchmark
        assert took is not None
        machine = took.machine
        words = [machine.cpu, f"{machine.cores} cores", *machine.vectors, machine.architecture]
        words += [f"{machine.memory_gb} GB", machine.system, f"Python {machine.python}"]
        words.append(f"governor {machine.governor or 'not told'}")
        yield f"<p>{html.escape(', '.join(words))}.</p>"
    rows = []
    for own in measured:
        took = own.benchmark
        if took and took.before and took.after:
            cells = [html.escape(own.label)]
            for name in ("mhz", "celsius", "load"):
                first, last = getattr(took.before, name), getattr(took.after, name)
                cells.append("not told" if first is None else f"{first:g} to {last:g}")
            told = took.after.throttled is not None
            cells.append(", ".join(throttled_since(took.before, took.after)) or "none" if told else "not told")
            rows.append(html_page.row(cells))
    yield html_page.table(("while measuring", "MHz", "degrees", "load", "throttling"), rows)
    data = report.data
    said = [f"{html.escape(data.name)}, split: {html.escape(' and '.join(data.splits) or 'none')}"]
    if data.labelled:
        said.append(
            f"{data.n} slices that every model was scored on and none was trained on, {data.positives} positive"
        )
        said.append(f"{data.dropped} more were scored by some models only and left out")
        said.append(f"fingerprint <code>{data.fingerprint}</code>")
    made = f"Made {html.escape(report.created)} by edge-ct {html.escape(report.version)}"
    yield f"<p>Data: {'; '.join(said)}. {made}.</p>"
    yield f"<pre>{html.escape(chr(10).join(report.commands))}</pre>"
    listed = "".join(f"<li>{html.escape(text)}</li>" for text in report.not_measured)
    yield f"<h2>Not measured</h2><ul>{listed}</ul>"
