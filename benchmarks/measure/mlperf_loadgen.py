"""The SingleStream and Offline scenarios of MLPerf, through MLCommons' own load generator; its logs are kept.

LoadGen asks the queries and times them itself. What it asks is what `model only` measures: prepared slices through the
`Classifier`. MLPerf wants ten minutes; here a report takes as long as our own loop does, and the logs say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec
import numpy as np

from edge_ct.errors import EdgeCTError, MissingExtra

_DETAIL = "mlperf_log_detail.txt"
_MARK = ":::MLLOG "
# LoadGen takes its own percentile from the sorted latencies; numpy's `higher` does the same.
_PERCENTILE = 90


class SingleStream(msgspec.Struct, frozen=True):
    """One query after another. p90_estimate_ms: LoadGen's early-stopping estimate, an upper bound at its confidence.

    own_p90_ms: of the very same queries by our clock. valid: whether its rules are met for the duration asked for.
    """

    p50_ms: float
    p90_ms: float
    p90_estimate_ms: float
    mean_ms: float
    queries: int
    valid: bool
    own_p50_ms: float
    own_p90_ms: float


class Offline(msgspec.Struct, frozen=True):
    """All samples at once: slices a second."""

    slices_per_second: float
    slices: int
    valid: bool


class LoadGen(msgspec.Struct, frozen=True):
    """version: of mlcommons-loadgen. logs: the folder that holds one of each scenario."""

    version: str
    single_stream: SingleStream
    offline: Offline
    logs: str


def run(query: Callable[[int], object], samples: int, queries: int, seconds: float, logs: Path) -> LoadGen:
    """Ask `query(i)`, i below `samples`, in both scenarios. Raises `MissingExtra` without mlcommons-loadgen."""
    version = _module()[1]
    stream = single_stream(query, samples, queries, seconds, logs / "single-stream")
    rate = 1000 / stream.mean_ms
    return LoadGen(version, stream, offline(query, samples, queries, seconds, rate, logs / "offline"), str(logs))


def single_stream(
    query: Callable[[int], object], samples: int, queries: int, seconds: float, logs: Path
) -> SingleStream:
    """Run the scenario; at least `queries` queries and `seconds`."""
    module, _ = _module()
    settings = module.TestSettings()
    settings.scenario = module.TestScenario.SingleStream
    settings.single_stream_expected_latency_ns = 1_000_000
    own: list[int] = []

    def issue(asked: Sequence[Any]) -> None:
        for sample in asked:
            begun = perf_counter_ns()
            query(sample.index)
            own.append(perf_counter_ns() - begun)
            module.QuerySamplesComplete([module.QuerySampleResponse(sample.id, 0, 0)])

    found = _test(module, settings, issue, samples, queries, seconds, logs)
    p50, p90 = np.percentile(own, [50, _PERCENTILE], method="higher") / 1e6
    return SingleStream(
        p50_ms=found["result_50.00_percentile_latency_ns"] / 1e6,
        p90_ms=found["result_90.00_percentile_latency_ns"] / 1e6,
        p90_estimate_ms=found["early_stopping_latency_ss"] / 1e6,
        mean_ms=found["result_mean_latency_ns"] / 1e6,
        queries=found["result_query_count"],
        valid=found["result_validity"] == "VALID",
        own_p50_ms=float(p50),
        own_p90_ms=float(p90),
    )


def offline(
    query: Callable[[int], object], samples: int, queries: int, seconds: float, rate: float, logs: Path
) -> Offline:
    """Run the scenario; rate: slices a second that are expected, by which LoadGen sizes its one query."""
    module, _ = _module()
    settings = module.TestSettings()
    settings.scenario = module.TestScenario.Offline
    settings.offline_expected_qps = rate

    def issue(asked: Sequence[Any]) -> None:
        for sample in asked:
            query(sample.index)
            module.QuerySamplesComplete([module.QuerySampleResponse(sample.id, 0, 0)])

    found = _test(module, settings, issue, samples, queries, seconds, logs)
    return Offline(
        slices_per_second=found["result_samples_per_second"],
        slices=found.get("generated_samples_per_query", queries),
        valid=found["result_validity"] == "VALID",
    )


def _test(
    module: Any,
    settings: Any,
    issue: Callable[[Sequence[Any]], None],
    samples: int,
    queries: int,
    seconds: float,
    logs: Path,
) -> dict[str, Any]:
    """Run one test; returns what its log says, by key."""
    settings.mode = module.TestMode.PerformanceOnly
    settings.min_query_count = queries
    settings.min_duration_ms = round(1000 * seconds)
    log = module.LogSettings()
    logs.mkdir(parents=True, exist_ok=True)
    log.log_output.outdir = str(logs)
    log.log_output.copy_summary_to_stdout = False
    log.enable_trace = False
    failed: list[Exception] = []

    def guarded(asked: Sequence[Any]) -> None:
        try:
            issue(asked)
        except Exception as error:  # through LoadGen's own thread it would end the process
            failed.append(error)
            module.QuerySamplesComplete([module.QuerySampleResponse(sample.id, 0, 0) for sample in asked])

    under_test = module.ConstructSUT(guarded, lambda: None)
    library = module.ConstructQSL(samples, samples, lambda indices: None, lambda indices: None)
    try:
        module.StartTestWithLogSettings(under_test, library, settings, log, "")
    finally:
        module.DestroyQSL(library)
        module.DestroySUT(under_test)
    if failed:
        raise failed[0]
    return read_log(logs / _DETAIL)


def read_log(path: Path) -> dict[str, Any]:
    """The last value of each key of a detail log. Raises `EdgeCTError` where it is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        entries = [msgspec.json.decode(line[len(_MARK) :]) for line in lines if line.startswith(_MARK)]
        found = {entry["key"]: entry["value"] for entry in entries}
    except (OSError, UnicodeDecodeError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise EdgeCTError(f"{path}: not a log of LoadGen: {error}") from error
    if "result_validity" not in found:
        raise EdgeCTError(f"{path}: LoadGen reports no result")
    return found


def _module() -> tuple[Any, str]:
    try:
        from importlib.metadata import version

        import mlperf_loadgen

        return mlperf_loadgen, version("mlcommons-loadgen")
    except ImportError as error:
        raise MissingExtra("--loadgen needs mlcommons-loadgen: pip install 'edge-ct[loadgen]'") from error
