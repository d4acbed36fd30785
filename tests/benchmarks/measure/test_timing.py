"""Timing: percentiles by hand, queries counted and seconds kept on an invented clock, the timer's cost."""

import itertools

import numpy as np
import pytest

from edge_ct.benchmarks.measure import timing


class Ticking:
    """A clock that a query moves on; every look at it costs `look` nanoseconds."""

    def __init__(self, look: int = 0) -> None:
        self.now, self.look = 0, look

    def __call__(self) -> int:
        self.now += self.look
        return self.now

    def spend(self, milliseconds: float) -> None:
        self.now += round(1e6 * milliseconds)


def test_summary_of_known_times() -> None:
    found = timing.summarise([float(ms) for ms in range(1, 102)], threads=2)
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == (51, 91, 100)
    assert (found.mean_ms, found.min_ms, found.max_ms, found.n, found.threads) == (51, 1, 101, 101, 2)
    assert found.std_ms == pytest.approx(29.300170647967224)  # sqrt(101 * 102 / 12)
    assert dict(zip(timing.QUANTILES, found.quantiles, strict=True))[50.0] == 51
    assert (found.quantiles[0], found.quantiles[-1]) == (1, 101)


def test_blocks_are_consecutive() -> None:
    found = timing.summarise([1.0] * 100 + [3.0] * 100, threads=1)
    assert found.block_p50s == (1.0,) * 10 + (3.0,) * 10
    assert found.block_p90s == found.block_p50s
    assert timing.summarise([2.0, 4.0], 1).block_p50s == (2.0, 4.0)
    assert timing.summarise([2.0], 1).std_ms == 0


def test_queries_are_counted_after_the_warm_up_and_last_long_enough() -> None:
    clock, asked = Ticking(), []

    def query(i: int) -> None:
        asked.append(i)
        clock.spend(2.0)

    times, rate = timing.measure(query, queries=5, seconds=0, label="x", clock=clock)
    assert times == [2.0] * 5
    assert rate == 500
    assert asked == [*range(timing.WARM_UP), *range(5)]
    times, _ = timing.measure(query, queries=5, seconds=20, label="x", clock=clock)
    assert len(times) == 10_000  # twenty seconds of two milliseconds


def test_seconds_do_not_cut_queries_short() -> None:
    clock = Ticking()
    times, _ = timing.measure(lambda i: clock.spend(1000), queries=7, seconds=2, label="x", clock=clock)
    assert len(times) == 7


def test_the_timers_own_cost_is_what_an_empty_query_takes() -> None:
    assert timing.timer_ns(Ticking(look=40)) == pytest.approx(40)
    assert 0 < timing.timer_ns() < 1e6


def test_the_bar_reaches_its_end_and_is_not_drawn_at_every_query() -> None:
    import contextlib

    clock, drawn = Ticking(), []

    class Bar:
        @contextlib.contextmanager
        def bar(self, label, total):  # type: ignore[no-untyped-def]
            yield drawn.append

    timing.measure(lambda i: clock.spend(1), 1000, 0, "x", Bar(), clock)  # type: ignore[arg-type]
    assert sum(drawn) == 1000
    assert len(drawn) <= 6


@pytest.mark.parametrize("quick", [True, False])
def test_a_report_asks_1024_queries_for_a_minute(quick: bool) -> None:
    assert timing.queries(quick) == ((200, 0.0) if quick else (1024, 60.0))


def test_quantiles_rise() -> None:
    assert all(first < second for first, second in itertools.pairwise(timing.QUANTILES))
    assert np.all(np.diff(timing.summarise(list(np.random.default_rng(0).gamma(2, size=500)), 1).quantiles) >= 0)
