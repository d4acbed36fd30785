"""Measurements and comparisons as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from edge_ct.engines.comparison import fastest_engine

from .bundle import Benchmark
from .compare import Comparison
from .machine import throttled_since
from .operator_times import Profile

_SHOWN_OPERATORS = 8


def benchmark_lines(benchmark: Benchmark) -> Iterator[str]:
    """Yield the lines that `edge-ct benchmark` prints."""
    yield (
        f"{benchmark.model}: {benchmark.bytes:,} bytes, {benchmark.parameters:,} parameters, "
        f"{benchmark.macs / 1e6:,.0f} M multiply-accumulates"
    )
    yield f"  on {benchmark.slices}{' (quick: too few queries for a report)' * benchmark.quick}"
    yield from _latency_lines(benchmark)
    for batch in benchmark.by_batch:
        yield f"  batches of {batch.batch:<3} {batch.batch_ms:.1f} ms, {batch.slices_per_second:.0f} slices per second"
    resident = benchmark.resident_mb
    memory = "" if resident is None else f"; resident memory after the measurement {resident:.0f} MB"
    yield f"  cold start  {benchmark.cold_start_ms:.0f} ms, peak memory {benchmark.peak_rss_mb:.0f} MB{memory}"
    yield f"  sustained   {benchmark.slices_per_second:.0f} slices per second, one worker"
    for row in benchmark.by_workers:
        yield (
            f"  {row.workers} workers   {row.slices_per_second:.0f} slices per second over {row.slices} slices, "
            f"{row.of_possible:.2f} of cores / model-only time; peak {row.peak_rss_mb:.0f} MB, "
            f"{row.growth_mb:+.1f} MB against 200 slices"
        )
    yield from _loadgen_lines(benchmark)
    share = benchmark.timer_ns / 1e4 / benchmark.model_only.p50_ms
    yield f"  timer       {benchmark.timer_ns:.0f} ns per query, {share:.4f} % of a model-only query; not subtracted"
    yield f"  computed by {benchmark.backend} ({benchmark.precision}) on {benchmark.device}"
    yield from _engine_lines(benchmark)
    yield f"  {_machine(benchmark)}"
    if benchmark.profile:
        yield from _operator_lines(benchmark.profile)


def _latency_lines(benchmark: Benchmark) -> Iterator[str]:
    for row in benchmark.by_threads:
        for name, times in (("model only", row.model_only), ("end to end", row.end_to_end)):
            yield (
                f"  {name:<11} p50 {times.p50_ms:.2f}  p90 {times.p90_ms:.2f}  p99 {times.p99_ms:.2f}  "
                f"mean {times.mean_ms:.2f}  std {times.std_ms:.2f}  min {times.min_ms:.2f}  max {times.max_ms:.2f} ms  "
                f"(n = {times.n}, threads {row.threads})"
            )
    ratio = benchmark.end_to_end.p50_ms / benchmark.model_only.p50_ms
    yield f"  end to end takes {ratio:.2f} times as long as model only (p50)"


def _engine_lines(benchmark: Benchmark) -> Iterator[str]:
    if not benchmark.engines:
        return
    for time in benchmark.engines:
        if time.model_only_ms is None or time.of_litert is None:
            yield f"  {time.engine:<11} refused: {time.refused}"
            continue
        yield f"  {time.engine:<11} {time.model_only_ms:.2f} ms model only, {time.of_litert:.2f} times LiteRT's"
    fastest = fastest_engine(benchmark.engines)
    yield f"  the fastest engine here is {fastest.engine} ({fastest.version}): --engine {fastest.engine}"


def _loadgen_lines(benchmark: Benchmark) -> Iterator[str]:
    if benchmark.loadgen is None:
        return
    stream, offline = benchmark.loadgen.single_stream, benchmark.loadgen.offline
    yield (
        f"  LoadGen     SingleStream p90 {stream.p90_ms:.2f} ms, early-stopping estimate "
        f"{stream.p90_estimate_ms:.2f} ms ({stream.queries} queries{'' if stream.valid else ', not valid'}); "
        f"Offline {offline.slices_per_second:.0f} slices per second{'' if offline.valid else ', not valid'}; "
        f"logs in {benchmark.loadgen.logs}"
    )
    yield f"              the same queries by this process's clock: p90 {stream.own_p90_ms:.2f} ms"


def _machine(benchmark: Benchmark) -> str:
    machine = benchmark.machine
    words = [machine.cpu, f"{machine.cores} cores", *machine.vectors]
    words.append(f"governor {machine.governor or 'not reported'}")
    if benchmark.before and benchmark.after:
        for name, unit in (("mhz", "MHz"), ("celsius", "degrees"), ("load", "load")):
            first, last = getattr(benchmark.before, name), getattr(benchmark.after, name)
            words.append(f"{unit} not reported" if first is None else f"{unit} {first:g} before, {last:g} after")
        if benchmark.after.throttled is None:
            words.append("throttling not reported")
        else:
            words.append(", ".join(throttled_since(benchmark.before, benchmark.after)) or "not throttled meanwhile")
    return ", ".join(words)


def _operator_lines(profile: Profile) -> Iterator[str]:
    timed = [(operator, operator.ms) for operator in profile.operators if operator.ms is not None]
    total = sum(ms for _, ms in timed)
    yield f"  operators, each timed by cutting the graph: sum {total:.2f} ms; the whole graph {profile.whole_ms:.2f} ms"
    kinds: dict[str, list[float]] = {}
    for operator, ms in timed:
        kinds.setdefault(operator.name, []).append(ms)
    for name, times in sorted(kinds.items(), key=lambda item: -sum(item[1])):
        yield f"    {name:<20} {len(times):>3} times  {sum(times):8.3f} ms  {100 * sum(times) / total:5.1f} %"
    yield "  the slowest operators:"
    for operator, ms in sorted(timed, key=lambda pair: -pair[1])[:_SHOWN_OPERATORS]:
        shape = " x ".join(map(str, operator.output))
        yield f"    {operator.name:<20} {shape:<18} {operator.macs / 1e6:7.2f} M  {ms:8.3f} ms"


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """Yield the lines that `edge-ct benchmark compare` prints."""
    for note in comparison.notes:
        yield f"note: {note}"
    width = max(len(change.measure) for change in comparison.changes)
    for model in dict.fromkeys(change.model for change in comparison.changes):
        yield model
        for change in comparison.changes:
            if change.model != model:
                continue
            interval = "" if change.low is None else f"  [{_per_cent(change.low)}, {_per_cent(change.high or 1)}]"
            yield (
                f"  {change.measure:<{width}}  {change.before:>12,.3f} -> {change.after:>12,.3f}  "
                f"{_per_cent(change.ratio)}{interval}  {change.verdict}"
            )


def _per_cent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"
