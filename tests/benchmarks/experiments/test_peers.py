"""Peers: ratios by hand, and two engines in processes of their own, in turns."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge_ct.benchmarks.experiments import peers
from edge_ct.bundle import read_bundle
from edge_ct.errors import EdgeCTError


def test_a_ratio_is_of_rounds() -> None:
    """A round in which the machine was twice as slow for both changes nothing."""
    assert peers.ratio([[1, 1], [2, 2], [1, 1]], [[2, 2], [4, 4], [2, 2]]) == (0.5, 0.5, 0.5)
    middle, low, high = peers.ratio([[1], [1], [1], [1], [1]], [[1], [2], [4], [5], [10]])
    assert (middle, low, high) == (0.25, 0.2, 0.5)


def test_rows_hold_every_engine_and_query() -> None:
    found = []
    for engine, ms in ((peers.OURS, 2.0), ("slow", 8.0), ("keras", 50.0)):
        own = peers.Peer(engine, 1, None, f"{engine} 1", (3.0, -3.0) if engine != "slow" else (9.0, -9.0))
        own.times = {"model": [[ms] * 3] * 4, "end": [[2 * ms] * 3] * 4}
        found.append(own)
    table = peers.peer_rows(found, "net@1")
    assert len(table) == 6
    slow = next(row for row in table if row["engine"] == "slow" and row["query"] == "end to end")
    assert (slow["p50_ms"], slow["ours_to_theirs"], slow["n"], slow["same_logits"]) == ("16.000", "0.250", 12, "no")
    assert {row["same_logits"] for row in table if row["engine"] == "keras"} == {"not comparable"}


@pytest.mark.slow
def test_engines_take_turns_and_agree(tiny_bundle: Path, tmp_path: Path) -> None:
    opened, flatbuffer = read_bundle(tiny_bundle), tmp_path / "model.tflite"
    path, network_input = peers.write_slice_and_input(opened, tmp_path)
    flatbuffer.write_bytes(opened.model)
    with ExitStack() as stack:
        ours = peers.start_peer("edge-ct", sys.executable, tiny_bundle, path, network_input, 1, stack)
        theirs = peers.start_peer("litert", sys.executable, flatbuffer, path, network_input, 1, stack)
        for _ in range(2):
            for own in (ours, theirs):
                for kind in peers.KINDS:
                    own.run_turn(kind, 0.05, 5)
        assert ours.logits == theirs.logits
        assert theirs.version.startswith("ai-edge-litert ")
        assert all(1 <= len(turn) <= 5 for own in (ours, theirs) for turn in own.times["model"])
        assert len(peers.peer_rows([ours, theirs], "tiny")) == 4
        ours.process.kill()
        ours.process.wait()
        with pytest.raises(EdgeCTError, match="ended with exit code"):
            ours.run_turn("model", 0.05, 5)


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    with ExitStack() as stack, pytest.raises(EdgeCTError, match="ended with exit code"):
        peers.start_peer("no-such-engine", sys.executable, tmp_path, tmp_path, tmp_path, 1, stack)


def test_the_worker_needs_nothing_of_edge_ct() -> None:
    """It runs where there is only tflite-runtime and OpenCV."""
    worker = Path(peers.__file__).with_name("peer_worker.py")
    code = f"import runpy, sys, json; runpy.run_path({str(worker)!r}); print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True).stdout)
    assert not any(name == "edge_ct" for name in loaded)
