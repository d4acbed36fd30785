"""The SingleStream and Offline scenarios of MLPerf, run by MLCommons' load generator, whose logs are kept.

LoadGen issues the queries and times them itself. A query is what `model only` measures: a preprocessed slice through
the `Classifier`. MLPerf asks for ten minutes; here a scenario takes as long as the project's own measurement, and the
logs state the duration.
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
# LoadGen takes an element of the sorted latencies as percentile; numpy's method `higher` does the same.
_PERCENTILE = 90


class SingleStream(msgspec.Struct, frozen=True):
    """Result of one query after another.

    Attributes:
        p50_ms: LoadGen's median; `p90_ms` its 90th percentile.
        p90_estimate_ms: LoadGen's early-stopping estimate, an upper bound at its confidence.
        mean_ms: LoadGen's mean.
        queries: Number of queries.
        valid: Whether LoadGen's rules are met for the duration asked for.
        own_p50_ms: Median of the same queries by this process's clock; `own_p90_ms` their 90th percentile.
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
    """Result of all samples in one query."""

    slices_per_second: float
    slices: int
    valid: bool


class LoadGen(msgspec.Struct, frozen=True):
    """Results of both scenarios.

    Attributes:
        version: Version of mlcommons-loadgen.
        single_stream: One query after another.
        offline: All samples in one query.
        logs: Folder with the logs of both.
    """

    version: str
    single_stream: SingleStream
    offline: Offline
    logs: str


def run(query: Callable[[int], object], samples: int, queries: int, seconds: float, logs: Path) -> LoadGen:
    """Run both scenarios.

    Args:
        query: Judges sample i, for i below `samples`.
        samples: Number of different samples.
        queries: Minimum number of queries.
        seconds: Minimum duration of each scenario.
        logs: Folder to write the logs to.

    Raises:
        MissingExtra: mlcommons-loadgen is not installed.
    """
    version = _module()[1]
    stream = single_stream(query, samples, queries, seconds, logs / "single-stream")
    rate = 1000 / stream.mean_ms
    return LoadGen(version, stream, offline(query, samples, queries, seconds, rate, logs / "offline"), str(logs))


def single_stream(
    query: Callable[[int], object], samples: int, queries: int, seconds: float, logs: Path
) -> SingleStream:
    """Run the SingleStream scenario; arguments as for `run`."""
    module, _ = _module()
    settings = module.TestSettings()
    settings.scenario = module.TestScenario.SingleStream
    settings.single_stream_expected_latency_ns = 1_000_000
    latencies: list[int] = []

    def issue(asked: Sequence[Any]) -> None:
        for sample in asked:
            begun = perf_counter_ns()
            query(sample.index)
            latencies.append(perf_counter_ns() - begun)
            module.QuerySamplesComplete([module.QuerySampleResponse(sample.id, 0, 0)])

    entries = _test(module, settings, issue, samples, queries, seconds, logs)
    p50, p90 = np.percentile(latencies, [50, _PERCENTILE], method="higher") / 1e6
    return SingleStream(
        p50_ms=entries["result_50.00_percentile_latency_ns"] / 1e6,
        p90_ms=entries["result_90.00_percentile_latency_ns"] / 1e6,
        p90_estimate_ms=entries["early_stopping_latency_ss"] / 1e6,
        mean_ms=entries["result_mean_latency_ns"] / 1e6,
        queries=entries["result_query_count"],
        valid=entries["result_validity"] == "VALID",
        own_p50_ms=float(p50),
        own_p90_ms=float(p90),
    )


def offline(
    query: Callable[[int], object], samples: int, queries: int, seconds: float, rate: float, logs: Path
) -> Offline:
    """Run the Offline scenario; `rate` is the expected slices per second, from which LoadGen sizes its query."""
    module, _ = _module()
    settings = module.TestSettings()
    settings.scenario = module.TestScenario.Offline
    settings.offline_expected_qps = rate

    def issue(asked: Sequence[Any]) -> None:
        for sample in asked:
            query(sample.index)
            module.QuerySamplesComplete([module.QuerySampleResponse(sample.id, 0, 0)])

    entries = _test(module, settings, issue, samples, queries, seconds, logs)
    return Offline(
        slices_per_second=entries["result_samples_per_second"],
        slices=entries.get("generated_samples_per_query", queries),
        valid=entries["result_validity"] == "VALID",
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
    """Run one test and return the entries of its log by key."""
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
        except Exception as error:  # an exception in LoadGen's thread would end the process
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
    """Return the last value of each key of a detail log; raises `EdgeCTError` if the file is not such a log."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        decoded = [msgspec.json.decode(line[len(_MARK) :]) for line in lines if line.startswith(_MARK)]
        entries = {entry["key"]: entry["value"] for entry in decoded}
    except (OSError, UnicodeDecodeError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise EdgeCTError(f"{path}: not a detail log of LoadGen: {error}") from error
    if "result_validity" not in entries:
        raise EdgeCTError(f"{path}: the log holds no result; LoadGen did not finish")
    return entries


def _module() -> tuple[Any, str]:
    try:
        from importlib.metadata import version

        import mlperf_loadgen

        return mlperf_loadgen, version("mlcommons-loadgen")
    except ImportError as error:
        raise MissingExtra("--loadgen needs mlcommons-loadgen: pip install 'edge-ct[loadgen]'") from error
