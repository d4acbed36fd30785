"""The trial on a cluster: its archive, its processes and its comparison. The trial itself takes minutes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_ct.benchmarks.experiments import cluster_archive
from edge_ct.benchmarks.experiments.cluster_archive import Memory


def test_the_archive_has_every_slice_under_many_names(tmp_path: Path) -> None:
    paths = cluster_archive.write_archive(tmp_path / "archive", [b"a", b"b", b"c"], 1001)
    assert len(set(paths)) == 1001
    assert sorted(path.name for path in (tmp_path / "archive").iterdir()) == ["0000", "0001", "0002"]
    counts = [sum(path.read_bytes() == content for path in paths) for content in (b"a", b"b", b"c")]
    assert sum(counts) == 1001
    assert min(counts) > 300
    assert paths == sorted(paths)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_processes_of_processes_are_found() -> None:
    grandparent = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", grandparent], stdin=-1, stdout=-1) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        found = cluster_archive.descendants(process.pid)
        process.stdin.write(b"\n")
        process.stdin.close()
    assert len(found) == 1
    assert process.pid not in found
    assert set(cluster_archive.descendants(os.getpid())).isdisjoint(found)


def test_a_row_equals_the_line_of_a_local_run_only_in_every_column() -> None:
    row = dict.fromkeys(cluster_archive.COMPARED) | {"source": "a.png", "decision": "refer", "probability": 0.1 + 0.2}
    text = {name: "" if value is None else str(value) for name, value in row.items()}
    assert cluster_archive._same(row, text)
    for name, other in (("probability", "0.3"), ("reason", "blank"), ("decision", "positive")):
        assert not cluster_archive._same(row, text | {name: other})


def test_memory_is_shown_at_quarters_of_the_rows() -> None:
    measured = [Memory(rows, 100 + rows / 100, 0) for rows in (0, 10, 30, 45, 60, 80, 100, 100)]
    quarters = cluster_archive._at_quarters(measured, 100)
    assert [memory.rows for memory in quarters] == [30, 60, 80, 100]
