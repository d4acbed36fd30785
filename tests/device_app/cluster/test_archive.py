"""An archive on a Ray cluster: the rows of a local run, also where a worker is lost or the command is killed."""

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import pytest

from edge_ct import cli
from edge_ct.bundle import read_bundle
from edge_ct.device_app.cluster import archive
from edge_ct.device_app.cluster.archive import ArchiveOptions, ArchiveStudy, cut_blocks, judge_archive
from edge_ct.device_app.judging.sources import Source
from edge_ct.errors import EdgeCTError
from edge_ct.phantom import make_slice

pytest.importorskip("ray", reason="Ray is not installed (pip install 'edge-ct[cluster]')")
parquet = pytest.importorskip("pyarrow.parquet", reason="PyArrow is not installed (pip install 'edge-ct[cluster]')")
# Ray leaves sockets and files to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
parquet_parts = pytest.importorskip("edge_ct.device_app.cluster.parquet_parts")
SLICES = 60


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray with room for two workers; starting it takes longer than everything else here."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # listens on the loopback interface only
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:  # paths of sockets are short
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=2**27,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
        )
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 phantoms in folders whose order as text is not that of their names, and two files that cannot be read."""
    folder = tmp_path_factory.mktemp("archive")
    for number in range(SLICES):
        path = folder / ("a", "a-b", "b")[number % 3] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), make_slice(number, 4, number % 2 == 0, 96).image)
    (folder / "a" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    (folder / "b" / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("none")
    return folder


@pytest.fixture(scope="module")
def local(slices: Path, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a local run prints, without its times."""
    out = tmp_path_factory.mktemp("local") / "rows.json"
    with out.open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge_ct.device_app.classify.commands.print_json", lambda row: file.write(encoded(row) + "\n"))
        options = ["--json", "--workers", "1", "--model", str(tiny_bundle), "--state", str(out.parent)]
        assert cli.run(["classify", str(slices), *options]) == 3
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == SLICES + 2
    return [{name: value for name, value in row.items() if name != "ms"} for row in rows]


def encoded(row: object) -> str:
    import msgspec

    return msgspec.json.encode(row).decode()


def rows_of(out: Path) -> list[dict[str, Any]]:
    rows = [row for path in sorted(out.glob("part-*.parquet")) for row in parquet.read_table(path).to_pylist()]
    assert parquet.read_table(out).num_rows == len(rows)  # the folder is one table
    for row in rows:
        times = [row.pop(name) for name in ("decode_ms", "preprocess_ms", "inference_ms")]
        assert row["decision"] == "rejected" or min(times) > 0
    return rows


def stamps(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("part-*.parquet")}


def actors() -> list[int]:
    """Process ids of the actors below this process."""
    parents, found = {}, []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition(") ")
            parents[int(stat.parent.name)] = int(rest.split()[1])
            if "ray::BlockWork" in name:
                found.append(int(stat.parent.name))
        except OSError:
            continue

    def is_ours(pid: int) -> bool:
        while pid in parents:
            if pid == os.getpid():
                return True
            pid = parents[pid]
        return False

    return [pid for pid in found if is_ours(pid)]


def test_the_rows_of_a_local_run_where_a_worker_is_lost(
    ray: Any, slices: Path, local: list[dict[str, Any]], tiny_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results.parquet"
    killed: list[int] = []

    def kill_one() -> None:
        while not stamps(out):
            time.sleep(0.005)
        killed.extend(actors()[:1])
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_one, daemon=True)
    thread.start()
    study = judge_archive(ray, read_bundle(tiny_bundle), [str(slices)], ArchiveOptions(out))
    thread.join(10)
    assert len(killed) == 1
    assert rows_of(out) == local
    assert (study.complete, study.files, study.slices, study.unread) == (True, SLICES + 2, SLICES + 2, 2)
    assert study.counts["rejected"] == sum(row["decision"] == "rejected" for row in local)
    assert len(stamps(out)) == 8


def test_a_killed_command_goes_on_where_it_was(
    ray: Any,
    slices: Path,
    local: list[dict[str, Any]],
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, bundle = tmp_path / "results.parquet", read_bundle(tiny_bundle)

    class Killed(BaseException):
        pass

    write_part, written = parquet_parts.write_part, []

    def die_after_three(*arguments: Any) -> Any:
        if len(written) == 3:
            raise Killed
        written.append(arguments[1])
        return write_part(*arguments)

    monkeypatch.setattr(parquet_parts, "write_part", die_after_three)
    with pytest.raises(Killed):
        judge_archive(ray, bundle, [str(slices)], ArchiveOptions(out))
    monkeypatch.undo()
    first = stamps(out)
    assert len(first) == 3
    assert json.loads((out / "_study.json").read_text())["complete"] is False
    damaged = out / sorted(first)[0]
    damaged.write_bytes(damaged.read_bytes()[:-9])
    study = judge_archive(ray, bundle, [str(slices)], ArchiveOptions(out, workers=1))
    assert rows_of(out) == local
    after = stamps(out)
    assert [name for name in first if after[name] != first[name]] == [damaged.name]
    assert study.slices == len(local)
    assert json.loads((out / "_study.json").read_text())["complete"] is True
    # A file less: the blocks behind it are about other files, and the last part has none.
    (slices / "a-b" / "58.png").rename(tmp_path / "58.png")
    try:
        judge_archive(ray, bundle, [str(slices)], ArchiveOptions(out, workers=1))
    finally:
        (tmp_path / "58.png").rename(slices / "a-b" / "58.png")
    assert rows_of(out) == [row for row in local if not row["source"].endswith("58.png")]


def test_the_command(
    ray: Any,
    slices: Path,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(archive, "connected", lambda *arguments: nullcontext())
    monkeypatch.chdir(slices)
    arguments = [
        "classify",
        "b",
        "--model",
        str(tiny_bundle),
        "--state",
        str(tmp_path),
        "--cluster",
        "auto",
        "--workers",
        "1",
    ]
    assert cli.run([*arguments, "--out", str(tmp_path / "b"), "--json"]) == 3  # a file cannot be read
    study = json.loads(capsys.readouterr().out)
    assert (study["files"], study["slices"], study["unread"], study["complete"]) == (21, 21, 1, True)
    assert rows_of(tmp_path / "b")[0]["source"] == "b/02.png"
    assert cli.run([*arguments, "--out", str(tmp_path)]) == EdgeCTError.exit_code
    assert "holds no results of classify --cluster" in capsys.readouterr().err


def test_a_bundle_that_workers_cannot_use_and_other_versions(
    ray: Any, slices: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = read_bundle(tiny_bundle)
    (tmp_path / "out").mkdir()
    study = ArchiveStudy("other@01234567", "0" * 64, "litert")
    archive._write_study(tmp_path / "out", study)
    with pytest.raises(EdgeCTError, match="was judged with other@01234567 and litert"):
        judge_archive(ray, bundle, [str(slices)], ArchiveOptions(tmp_path / "out"))
    monkeypatch.setattr(archive, "installed_versions", lambda engine: {"edge-ct": "99"})
    with pytest.raises(EdgeCTError, match=r"has edge-ct .* instead of 99; install the same versions"):
        judge_archive(ray, bundle, [str(slices)], ArchiveOptions(tmp_path / "new", workers=1))
    with pytest.raises(EdgeCTError, match="no node has room"):
        judge_archive(ray, bundle, [str(slices)], ArchiveOptions(tmp_path / "new", threads=64))


@pytest.mark.parametrize(
    "options",
    [
        ["--cluster", "auto"],
        ["--out", "x"],
        ["--cluster", "auto", "--out", "x", "--csv"],
        ["--cluster", "auto", "--out", "x", "--by", "series"],
        ["--cluster", "auto", "--out", "x", "--worklist"],
    ],
)
def test_wrong_usage(options: list[str]) -> None:
    assert cli.run(["classify", "slices", *options]) == 2


def test_blocks_grow_and_depend_on_the_files_alone() -> None:
    sources = [Source(f"{number}.png") for number in range(20_000)]
    blocks = list(cut_blocks(iter(sources)))
    assert [source.name for block in blocks for source in block.sources] == [source.name for source in sources]
    sizes = [len(block.sources) for block in blocks]
    assert sizes[:17] == [8] * 16 + [16]
    assert max(sizes) <= 2048
    assert len(blocks) < 140
    assert [block.digest for block in cut_blocks(iter(sources))] == [block.digest for block in blocks]
    assert next(cut_blocks([Source("a.png")])).digest != next(cut_blocks([Source("b.png")])).digest
    assert all(source.path and source.path.is_absolute() for source in blocks[0].sources)
    with pytest.raises(EdgeCTError, match="standard input"):
        list(cut_blocks([Source("<stdin>", b"")]))
