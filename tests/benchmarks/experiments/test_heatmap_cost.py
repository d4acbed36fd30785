"""What maps add: the arithmetic by an invented judge, and the commands on a real bundle."""

from pathlib import Path

import numpy as np
import pytest

from edge_ct.benchmarks.experiments import heatmap_cost


def test_ratios_are_of_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round in which another program was busy moves no median."""
    now = {"wall": 0.0, "cpu": 0.0}
    calls: list[str] = []

    def judge(way: str) -> None:
        calls.append(way)
        slow = 50 if len(calls) in (4, 8) else 1
        cost = {"alone": 2.0, "maps": 2.1, "pictures": 5.0}[way] * slow
        now["wall"] += cost
        now["cpu"] += 2 * cost

    monkeypatch.setattr(heatmap_cost, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(heatmap_cost, "process_time", lambda: now["cpu"])
    found = heatmap_cost.measure(judge, rounds=5)
    assert calls == list(heatmap_cost.WAYS) * 6
    assert [(own.way, own.wall_s, own.cpu_s) for own in found] == [
        ("alone", pytest.approx(2), pytest.approx(4)),
        ("maps", pytest.approx(2.1), pytest.approx(4.2)),
        ("pictures", pytest.approx(5), pytest.approx(10)),
    ]
    assert [own.times_cpu for own in found] == [1.0, pytest.approx(1.05), pytest.approx(2.5)]


def test_each_way_judges_all_slices(tiny_bundle: Path, tmp_path: Path) -> None:
    judge = heatmap_cost.phantom_judge(tiny_bundle, tmp_path, 3)
    for way in heatmap_cost.WAYS:
        judge(way)
    with np.load(tmp_path / "maps.npz") as maps:
        assert len(maps["sources"]) == len(list((tmp_path / "pictures").iterdir()))
        assert maps["0"].dtype == np.float32
