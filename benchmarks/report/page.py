"""The HTML page of a report: the verdict, the Pareto plot and the table first, then the details."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edge_ct.reporting.counts import count_of
from edge_ct.reporting.html_page import estimate_cell, row, table, write_page
from edge_ct.reporting.markdown import render_markdown
from edge_ct.reporting.outcomes import outcome_markdown, source_markdown
from edge_ct.reporting.plotting import svg

from .. import plots
from ..measure.bundle import Benchmark
from ..measure.machine import throttled_since
from ..measure.timing import QUANTILES
from ..plots import TradeoffPoint
from .collect import Report, Subject


def write_report_page(path: Path, report: Report, probabilities: dict[str, np.ndarray], labels: np.ndarray) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        report: The report.
        probabilities: P(positive), float [n], by model.
        labels: 0 or 1, [n].
    """
    write_page(path, "edge-ct: accuracy beside latency", _parts(report, probabilities, labels))


def tradeoff_points(report: Report) -> list[TradeoffPoint]:
    """Return the models that were both scored and measured, as points of the Pareto plot."""
    points = []
    for subject in report.subjects:
        if subject.scores is None or subject.benchmark is None:
            continue
        metrics = {}
        for name in ("sensitivity", "accuracy"):
            estimate = getattr(subject.scores, name)
            if estimate.value is not None:
                metrics[name] = (estimate.value, estimate.low, estimate.high)
        if len(metrics) == 2:
            points.append(TradeoffPoint(subject.label, subject.benchmark.model_only.p50_ms, subject.reference, metrics))
    return points


def _parts(report: Report, probabilities: dict[str, np.ndarray], labels: np.ndarray) -> Iterator[str]:
    yield "<h1>Accuracy beside latency</h1>"
    yield f"<p class=notice>{html.escape(report.intended_use)}</p>"
    quick = " <strong>Quick mode: too few queries for a report.</strong>" * report.quick
    yield f"<p class=verdict>{html.escape(report.verdict)}{quick}</p>"
    points = tradeoff_points(report)
    if points:
        yield (
            f"<figure>{svg(plots.tradeoff(points))}<figcaption>Star: the reference. Filled markers and dashed line: no "
            "other model is both faster and better by that metric. Bars: 95 % intervals.</figcaption></figure>"
        )
    yield from _result_tables(report)
    measured = [(subject, subject.benchmark) for subject in report.subjects if subject.benchmark]
    if report.data.labelled:
        yield from _accuracy_section(report, probabilities, labels)
    if measured:
        yield from _latency_section(measured)
    yield from _origin_section(report, measured)


def _result_tables(report: Report) -> Iterator[str]:
    """Yield the table of the main results, notes on it, and a second table with the other results."""
    shown = [(subject, subject.benchmark) for subject in report.subjects if not subject.reason and subject.benchmark]
    yield table(
        (
            "model",
            "accuracy",
            "sensitivity",
            "specificity",
            "AUC",
            "file size",
            "p50 / p90",
            "memory",
            "slices/s",
            "speed-up at<br>equal sensitivity",
        ),
        (row(_main_cells(subject, benchmark), marked=subject.front) for subject, benchmark in shown),
    )
    failed = "".join(
        f"<li>{html.escape(subject.label)}: {html.escape(subject.reason)}</li>"
        for subject in report.subjects
        if subject.reason
    )
    if failed:
        yield f"<p>Not measured, because the file failed verification or the command failed:</p><ul>{failed}</ul>"
    data = report.data
    accuracy = (
        f"n = {count_of(data.n, 'slice')}, {data.positives} of them positive, "
        f"{html.escape(' and '.join(data.splits))} split; at "
        "probability 0.5; 95 % intervals (Wilson; bootstrap for F1, AUC, ECE). "
        if data.labelled
        else "The data has no labels: latency only. "
    )
    yield (
        f"<p><small>{accuracy}Bold: no other model is at once as fast, as sensitive and as specific. Times: model "
        "only, one slice at a time. Memory: peak of a process that judges one slice. Slices/s: end to end, one slice "
        "after "
        "the other. Speed-up at equal sensitivity: the reference's time divided by the model's, with the model's "
        "specificity at the threshold at which it finds as many positive slices as the reference; the threshold is "
        "chosen on these slices, so the figure is a bound.</small></p>"
    )
    yield table(
        (
            "model",
            "F1",
            "ECE",
            "sensitivity kept",
            "McNemar p<br>all / positive",
            "agreement",
            "parameters",
            "MACs",
        ),
        (row(_other_cells(subject, benchmark), marked=subject.front) for subject, benchmark in shown),
    )
    if data.labelled:
        yield (
            "<p><small>Sensitivity kept: divided by the reference's sensitivity. McNemar: exact test of all slices and "
            "of the positive slices, against the reference on the same slices.</small></p>"
        )


def _main_cells(subject: Subject, benchmark: Benchmark) -> list[str]:
    cells = [f"{html.escape(subject.label)}<br><small>{subject.kind}{', reference' * subject.reference}</small>"]
    for metric in ("accuracy", "sensitivity", "specificity", "auc"):
        cells.append(estimate_cell(getattr(subject.scores, metric), metric != "auc") if subject.scores else "")
    cells += [
        f"{benchmark.bytes / 1e6:.2f} MB",
        f"{benchmark.model_only.p50_ms:.2f} /<br>{benchmark.model_only.p90_ms:.2f} ms",
        f"{benchmark.peak_rss_mb:,.0f} MB",
        f"{benchmark.slices_per_second:.1f}",
    ]
    equal = subject.against.equal if subject.against else None
    if equal and equal.speed_up:
        specificity = equal.specificity.value
        note = "" if specificity is None else f"specificity {100 * specificity:.1f} %"
        return [*cells, f"{equal.speed_up:,.1f} x<br><span class=interval>{note}</span>"]
    return [*cells, ""]


def _other_cells(subject: Subject, benchmark: Benchmark) -> list[str]:
    cells = [html.escape(subject.label)]
    if subject.scores:
        cells += [estimate_cell(subject.scores.f1), estimate_cell(subject.scores.ece, False)]
    else:
        cells += ["", ""]
    comparison = subject.against
    if comparison:
        cells += [
            estimate_cell(comparison.kept),
            f"{comparison.mcnemar_p:.2g} / {comparison.mcnemar_p_positives:.2g}",
            f"{100 * comparison.agreement:.1f} %",
        ]
    else:
        cells += ["", "", ""]
    return [*cells, f"{benchmark.parameters / 1e6:.2f} M", f"{benchmark.macs / 1e6:,.0f} M"]


def _accuracy_section(report: Report, probabilities: dict[str, np.ndarray], labels: np.ndarray) -> Iterator[str]:
    scored = {subject.label: subject for subject in report.subjects if subject.scores}
    reference = next(subject.label for subject in report.subjects if subject.reference)
    yield (
        "<h2>Reliability</h2><p>Bins of width 0.1; the area of a circle is the share of slices in the bin. Runs are "
        "not calibrated.</p>"
    )
    yield f"<figure>{plots.reliability({name: probabilities[name] for name in scored}, labels)}</figure>"
    if 0 < labels.sum() < len(labels):
        yield "<h2>ROC</h2><p>Circle: the operating point; 0.5 for a run. Grey: the reference.</p>"
        curves = {
            name: (probabilities[name], subject.at_threshold.threshold if subject.at_threshold else 0.5)
            for name, subject in scored.items()
        }
        yield f"<figure>{plots.roc(curves, labels, reference)}</figure>"
    yield from _confusion_tables(scored)


def _confusion_tables(scored: dict[str, Subject]) -> Iterator[str]:
    yield "<h2>Confusion matrices</h2><p>At probability 0.5, and for bundles also at their operating point.</p>"
    rows = []
    for name, subject in scored.items():
        for scores in (subject.scores, subject.at_threshold):
            if scores:
                counts = scores.confusion
                threshold = "0.5" if scores is subject.scores else f"{scores.threshold:.3f}"
                numbers = [str(count) for count in (counts.tp, counts.fn, counts.tn, counts.fp)]
                cells = [html.escape(name), threshold, *numbers]
                rows.append(row([*cells, estimate_cell(scores.sensitivity), estimate_cell(scores.specificity)]))
    header = ("model", "threshold", "true positives", "false negatives", "true negatives", "false positives")
    yield table((*header, "sensitivity", "specificity"), rows)
    kinds = ("positive", "negative", "refer", "rejected")
    decided = [
        row([html.escape(name), *(str(subject.decisions[kind]) for kind in kinds)])
        for name, subject in scored.items()
        if subject.decisions
    ]
    if decided:
        yield "<p>Decisions of the device for the slices that each model was scored on:</p>"
        yield table(("model", *kinds), decided)
    yield from _outcome_tables(scored)


def _outcome_tables(scored: dict[str, Subject]) -> Iterator[str]:
    """Yield how positives and negatives were decided, and the metrics by source."""
    for name, subject in scored.items():
        if subject.outcomes:
            yield f"<h2>How {html.escape(name)} decided</h2><p>Shares of the positives and of the negatives.</p>"
            yield render_markdown(outcome_markdown(subject.outcomes), f"decisions of {name}")
        if subject.sources:
            yield f"<h2>{html.escape(name)} by source</h2><p>Sensitivity and specificity at probability 0.5.</p>"
            yield render_markdown(source_markdown(subject.sources), f"{name} by source")


def _latency_section(measured: Sequence[tuple[Subject, Benchmark]]) -> Iterator[str]:
    yield "<h2>Latency</h2>"
    boxes = {}
    rows = []
    for subject, benchmark in measured:
        kinds = {"model only": benchmark.model_only, "end to end": benchmark.end_to_end}
        boxes[subject.label] = {
            kind: dict(zip(QUANTILES, times.quantiles, strict=True)) for kind, times in kinds.items() if times.quantiles
        }
        for kind, times in kinds.items():
            values = (times.p50_ms, times.p90_ms, times.p99_ms, times.mean_ms, times.std_ms, times.min_ms, times.max_ms)
            numbers = [f"{value:.2f}" for value in values]
            rows.append(row([html.escape(subject.label), kind, *numbers, str(times.n), str(times.threads)]))
    yield (
        f"<figure>{plots.latency_boxes(boxes)}<figcaption>Box: quartiles; whiskers: 5 to 99 %.</figcaption></figure>"
    )
    yield table(("model", "ms", "p50", "p90", "p99", "mean", "std", "min", "max", "n", "threads"), rows)
    yield "<p>Device, precision and batches:</p>"
    yield table(
        (
            "model",
            "device",
            "precision",
            "backend",
            "batch of 1",
            "best batch",
            "cold start",
            "resident memory",
            "timer",
        ),
        (row(_backend_cells(subject.label, benchmark)) for subject, benchmark in measured),
    )


def _backend_cells(label: str, benchmark: Benchmark) -> list[str]:
    best = max(benchmark.by_batch, key=lambda batch: batch.slices_per_second, default=None)
    share = benchmark.timer_ns / 1e4 / benchmark.model_only.p50_ms
    return [
        html.escape(label),
        html.escape(benchmark.device),
        html.escape(benchmark.precision),
        html.escape(benchmark.backend),
        f"{1000 / benchmark.model_only.p50_ms:,.1f} slices/s",
        f"{best.batch}: {best.slices_per_second:,.1f} slices/s" if best else "one slice at a time",
        f"{benchmark.cold_start_ms:,.0f} ms",
        "" if benchmark.resident_mb is None else f"{benchmark.resident_mb:,.0f} MB",
        f"{benchmark.timer_ns:.0f} ns, {share:.4f} % of a query",
    ]


def _origin_section(report: Report, measured: Sequence[tuple[Subject, Benchmark]]) -> Iterator[str]:
    yield "<h2>Machine, data, commands</h2>"
    for _, benchmark in measured[:1]:
        machine = benchmark.machine
        words = [machine.cpu, f"{machine.cores} cores", *machine.vectors, machine.architecture]
        words += [f"{machine.memory_gb} GB", machine.system, f"Python {machine.python}"]
        words.append(f"governor {machine.governor or 'not reported'}")
        yield f"<p>{html.escape(', '.join(words))}.</p>"
    yield table(
        ("during the measurement of", "MHz", "degrees", "load", "throttling"),
        [row(_condition_cells(subject.label, benchmark)) for subject, benchmark in measured],
    )
    data = report.data
    facts = [f"{html.escape(data.name)}, split: {html.escape(' and '.join(data.splits) or 'none')}"]
    if data.labelled:
        facts += [
            f"{count_of(data.n, 'slice')} that every model was scored on and none was trained on; "
            f"{data.positives} are positive",
            f"{count_of(data.dropped, 'more slice')} scored by some models only, and left out",
            f"fingerprint <code>{data.fingerprint}</code>",
        ]
    made = f"Made {html.escape(report.created)} by edge-ct {html.escape(report.version)}"
    yield f"<p>Data: {'; '.join(facts)}. {made}.</p>"
    yield f"<pre>{html.escape(chr(10).join(report.commands))}</pre>"
    listed = "".join(f"<li>{html.escape(text)}</li>" for text in report.not_measured)
    yield f"<h2>Not measured</h2><ul>{listed}</ul>"


def _condition_cells(label: str, benchmark: Benchmark) -> list[str]:
    cells = [html.escape(label)]
    before, after = benchmark.before, benchmark.after
    if before is None or after is None:
        return [*cells, *["not reported"] * 4]
    for name in ("mhz", "celsius", "load"):
        first, last = getattr(before, name), getattr(after, name)
        cells.append("not reported" if first is None or last is None else f"{first:g} to {last:g}")
    if after.throttled is None:
        return [*cells, "not reported"]
    return [*cells, ", ".join(throttled_since(before, after)) or "none"]
