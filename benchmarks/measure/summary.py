"""A measurement as lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from .bundle import Benchmark
from .compare import Comparison
from .machine import throttled_since
from .operator_times import Profile

_SHOWN_OPERATORS = 8


def lines(found: Benchmark) -> Iterator[str]:
    """What `edge-ct benchmark` prints."""
    size = f"{found.bytes:,} bytes, {found.parameters:,} parameters, {found.macs / 1e6:,.0f} M multiply-accumulates"
    yield f"{found.model}: {size}"
    yield f"  on {found.slices}{' (quick: too few queries for a report)' * found.quick}"
    for row in found.by_threads:
        for name, times in (("model only", row.model_only), ("end to end", row.end_to_end)):
            yield (
                f"  {name:<11} p50 {times.p50_ms:.2f}  p90 {times.p90_ms:.2f}  p99 {times.p99_ms:.2f}  "
                f"mean {times.mean_ms:.2f}  std {times.std_ms:.2f}  min {times.min_ms:.2f}  max {times.max_ms:.2f} ms  "
                f"(n = {times.n}, threads {row.threads})"
            )
    yield f"  end to end takes {found.end_to_end.p50_ms / found.model_only.p50_ms:.2f} times model only (p50)"
    for batch in found.by_batch:
        yield f"  batches of {batch.batch:<3} {batch.batch_ms:.1f} ms, {batch.slices_per_second:.0f} slices a second"
    yield f"  cold start  {found.cold_start_ms:.0f} ms, peak memory {found.peak_rss_mb:.0f} MB{_resident(found)}"
    yield f"  sustained   {found.slices_per_second:.0f} slices a second, one worker"
    for own in found.by_workers:
        yield (
            f"  {own.workers} workers   {own.slices_per_second:.0f} slices a second over {own.slices}, "
            f"{own.of_possible:.2f} of cores / model-only time; peak {own.peak_rss_mb:.0f} MB, "
            f"{own.growth_mb:+.1f} MB against 200 slices"
        )
    if found.loadgen:
        stream, offline = found.loadgen.single_stream, found.loadgen.offline
        yield (
            f"  LoadGen     SingleStream p90 {stream.p90_ms:.2f} ms, early-stopping estimate "
            f"{stream.p90_estimate_ms:.2f} ms ({stream.queries} queries{'' if stream.valid else ', not valid'}); "
            f"Offline {offline.slices_per_second:.0f} slices a second{'' if offline.valid else ', not valid'}; "
            f"logs in {found.loadgen.logs}"
        )
        yield f"              the same queries by our clock: p90 {stream.own_p90_ms:.2f} ms"
    share = found.timer_ns / 1e4 / found.model_only.p50_ms
    yield f"  timer       {found.timer_ns:.0f} ns a query, {share:.4f} % of a model-only one; not subtracted"
    yield f"  computed by {found.backend} ({found.precision}) on {found.device}"
    yield f"  {_machine(found)}"
    if found.profile:
        yield from _operators(found.profile)


def _resident(found: Benchmark) -> str:
    return "" if found.resident_mb is None else f"; resident after measuring {found.resident_mb:.0f} MB"


def _machine(found: Benchmark) -> str:
    words = [found.machine.cpu, f"{found.machine.cores} cores", *found.machine.vectors]
    words.append(f"governor {found.machine.governor or 'not told'}")
    if found.before and found.after:
        for name, unit in (("mhz", "MHz"), ("celsius", "degrees"), ("load", "load")):
            first, last = getattr(found.before, name), getattr(found.after, name)
            words.append(f"{unit} not told" if first is None else f"{unit} {first:g} before, {last:g} after")
        if found.after.throttled is None:
            words.append("throttling not told")
        else:
            words.append(", ".join(throttled_since(found.before, found.after)) or "not throttled meanwhile")
    return ", ".join(words)


def _operators(profile: Profile) -> Iterator[str]:
    timed = [operator for operator in profile.operators if operator.ms is not None]
    total = sum(operator.ms or 0.0 for operator in timed)
    yield f"  operators, cut one by one: {total:.2f} ms in all, the whole graph {profile.whole_ms:.2f} ms"
    kinds: dict[str, list[float]] = {}
    for operator in timed:
        kinds.setdefault(operator.name, []).append(operator.ms or 0.0)
    for name, times in sorted(kinds.items(), key=lambda item: -sum(item[1])):
        yield f"    {name:<20} {len(times):>3} times  {sum(times):8.3f} ms  {100 * sum(times) / total:5.1f} %"
    yield "  the slowest:"
    for operator in sorted(timed, key=lambda one: -(one.ms or 0.0))[:_SHOWN_OPERATORS]:
        shape = " x ".join(map(str, operator.output))
        yield f"    {operator.name:<20} {shape:<18} {operator.macs / 1e6:7.2f} M  {operator.ms or 0.0:8.3f} ms"


def comparison_lines(found: Comparison) -> Iterator[str]:
    """What `edge-ct benchmark compare` prints."""
    for note in found.notes:
        yield f"note: {note}"
    width = max(len(change.measure) for change in found.changes)
    models = dict.fromkeys(change.model for change in found.changes)
    for model in models:
        yield model
        for change in found.changes:
            if change.model != model:
                continue
            interval = "" if change.low is None else f"  [{_per_cent(change.low)}, {_per_cent(change.high or 1)}]"
            yield (
                f"  {change.measure:<{width}}  {change.before:>12,.3f} -> {change.after:>12,.3f}  "
                f"{_per_cent(change.ratio)}{interval}  {change.verdict}"
            )


def _per_cent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"
