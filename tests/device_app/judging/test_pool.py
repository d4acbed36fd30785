"""Worker processes: a file that ends one is a rejected slice, and everything else is judged."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from edge_ct import cli
from edge_ct.bundle import Bundle, read_bundle, write_bundle
from edge_ct.classifier import Classifier
from edge_ct.device_app.judging import worker
from edge_ct.device_app.judging.incidents import MAX_ENDS
from edge_ct.device_app.judging.judge import SliceJudgement
from edge_ct.device_app.judging.pool import JudgingPool, WorkerEnded
from edge_ct.device_app.judging.sources import Source, find_sources
from edge_ct.device_app.maintenance.doctor import examine
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.errors import EdgeCTError, ModelRejected
from edge_ct.phantom import make_slice

from ... import hostile

Row = tuple[str, str, str | None]


def row(judgement: SliceJudgement, classifier: Classifier) -> Row:
    result = judgement.result
    return Path(result.source).name, result.decision, result.reason


def end_over_bad(judgement: SliceJudgement, classifier: Classifier) -> Row:
    """Stands for a decoder that ends its process, in the way that the file's name says."""
    name = Path(judgement.result.source).name
    if judgement.readable and name.startswith("segfault"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if judgement.readable and name.startswith("memory"):
        bytearray(1 << 30)
    if judgement.readable and name.startswith("endless"):
        while True:
            pass
    return row(judgement, classifier)


def fork(classifier: Classifier) -> Iterator[int]:
    yield os.getpid()


# In a process of its own: memory that the tests' process had freed before would not count against the limit.
FILL_MEMORY = """
import sys
from edge_ct.bundle import read_bundle
from edge_ct.device_app.judging import worker
from edge_ct.device_app.judging.pool import JudgingPool

def fill_memory(classifier):
    size = 0
    for megabytes in range(16, 1024, 16):
        try:
            bytearray(megabytes << 20)
        except MemoryError:
            break
        size = megabytes
    yield size

with JudgingPool(read_bundle(sys.argv[1]), 1) as pool:
    (most,) = pool.run(fill_memory)
    assert worker.MEMORY >> 21 < most <= worker.MEMORY >> 20, most
    assert len(bytearray(1 << 30)) == 1 << 30
"""


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(make_slice(number, 3, number % 2 == 0, 64).image).save(folder / f"good-{number}.png")
    return folder


def add(folder: Path, name: str) -> Path:
    path = folder / name
    Image.fromarray(make_slice(zlib.crc32(name.encode()) % 1000, 3, True, 64).image).save(path)
    return path


def judged(pool: JudgingPool, folder: Path) -> dict[str, tuple[str, str | None]]:
    batches = pool.judge_each(find_sources([str(folder)]), end_over_bad)
    return {name: (decision, reason) for batch in batches for name, decision, reason in batch}


def test_a_worker_that_ends_is_a_rejected_row_and_is_replaced(bundle: Bundle, folder: Path) -> None:
    for name in ("segfault-1.png", "segfault-2.png", "memory.png"):
        add(folder, name)
    with JudgingPool(bundle, 2) as pool:
        rows = judged(pool, folder)
        assert len(rows) == 9
        assert rows["segfault-1.png"] == rows["segfault-2.png"] == ("rejected", "damaged: its decoder ended")
        assert rows["memory.png"] == ("rejected", "reading it takes more memory than an image may take")
        assert all(decision != "rejected" for name, (decision, _) in rows.items() if name.startswith("good"))
        assert pool.ends == 3 * MAX_ENDS
        assert not pool.broken
        # None of them is given to a third worker.
        assert judged(pool, folder) == rows
        assert pool.ends == 3 * MAX_ENDS


def test_a_file_that_takes_too_long_is_stopped(bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(folder, "endless.png")
    with JudgingPool(bundle, 2) as pool:
        start = time.process_time()
        (rows,) = [pool.judge(Source(str(folder / "endless.png")), end_over_bad, 0.5)]
        assert rows == [("endless.png", "rejected", "reading it takes longer than an image may take")]
        assert time.process_time() - start < 5
        assert pool.judge(Source(str(folder / "good-1.png")), end_over_bad, 5)[0][1] != "rejected"


def test_a_file_that_takes_too_long_delays_no_other(bundle: Bundle, folder: Path) -> None:
    """Workers that judge quick files have the next ones already when they end."""
    add(folder, "endless.png")
    for number in range(6, 30):
        add(folder, f"good-{number}.png")
    sources = list(find_sources([str(folder)]))
    sources.insert(20, sources.pop(next(i for i, source in enumerate(sources) if "endless" in source.name)))
    with JudgingPool(bundle, 2) as pool:
        rows = [row_ for batch in pool.judge_each(sources, end_over_bad, 0.5) for row_ in batch]
        assert [name for name, _, _ in rows] == [Path(source.name).name for source in sources]
        late = "reading it takes longer than an image may take"
        assert [(name, reason) for name, decision, reason in rows if decision == "rejected"] == [("endless.png", late)]
        assert pool.ends == 1


def test_a_reader_that_leaves_ends_what_it_asked_for(bundle: Bundle, folder: Path) -> None:
    sources = list(find_sources([str(folder)]))
    with JudgingPool(bundle, 2) as pool:
        batches = pool.judge_each(sources * 20, row)
        next(batches)
        batches.close()  # type: ignore[attr-defined]
        rows = [row_ for batch in pool.judge_each(sources, row) for row_ in batch]
        assert [name for name, _, _ in rows] == [Path(source.name).name for source in sources]
        assert pool.ends == 0


def test_a_worker_is_limited_in_memory_and_its_parent_is_not(tiny_bundle: Path) -> None:
    subprocess.run([sys.executable, "-c", FILL_MEMORY, str(tiny_bundle)], check=True)


def test_what_ended_workers_is_remembered_with_the_worklist(
    bundle: Bundle, folder: Path, tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = add(folder, "segfault.png")
    with JudgingPool(bundle, 1) as pool, Worklist(tmp_path / "state") as worklist:
        pool.incidents = worklist.quarantine(MAX_ENDS)
        judged(pool, folder)
        (file,) = worklist.quarantine(MAX_ENDS).files()
        assert (file.ends, file.source, file.quarantined) == (MAX_ENDS, str(path), True)
        assert (file.size, file.reason) == (path.stat().st_size, "damaged: its decoder ended")
    copy = folder / "another name.png"
    copy.write_bytes(path.read_bytes())
    with JudgingPool(bundle, 1) as pool, Worklist(tmp_path / "state") as worklist:
        quarantine = pool.incidents = worklist.quarantine(MAX_ENDS)
        (only,) = pool.judge(Source(str(copy)), end_over_bad)
        assert only == ("another name.png", "rejected", "quarantined: damaged: its decoder ended")
        assert pool.ends == 0
        state = ["--state", str(tmp_path / "state")]
        assert cli.run(["worklist", "quarantine", *state]) == 0
        assert f"quarantined  {file.sha256[:12]}  2 ends" in capsys.readouterr().out
        assert [check.status for check in examine(tiny_bundle, tmp_path / "state") if check.name == "quarantine"] == [
            "warning"
        ]
        assert quarantine.release(file.sha256[:12]) == file
        assert quarantine.files() == []
        assert pool.judge(Source(str(copy)), end_over_bad)[0][1] != "rejected"
        with pytest.raises(EdgeCTError, match="0 quarantined files"):
            quarantine.release("00")


def test_a_worker_killed_while_it_waits_is_replaced(bundle: Bundle) -> None:
    with JudgingPool(bundle, 1) as pool:
        (pid,) = pool.run(fork)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerEnded):
            pool.run(fork)
        (other,) = pool.run(fork)
        assert other != pid


def test_a_pool_whose_fork_server_ended_says_so(bundle: Bundle) -> None:
    with JudgingPool(bundle, 1) as pool:
        (pid,) = pool.run(fork)
        os.kill(pool._server.pid, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EdgeCTError):
            pool.run(fork)
        with pytest.raises(EdgeCTError, match="restart the command"):
            pool.run(fork)
        assert pool.broken


def test_workers_end_with_their_pool(bundle: Bundle) -> None:
    with JudgingPool(bundle, 1) as pool:
        (pid,) = pool.run(fork)
    end = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_bundle_that_cannot_be_loaded_is_rejected(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "broken.tflite"
    members = {one.input: bundle.member(one.input) for one in bundle.manifest.golden}
    model = bytearray(bundle.model)
    model[len(model) // 3 : len(model) // 3 + 4000] = b"\xff" * 4000
    write_bundle(path, bytes(model), bundle.manifest, members)
    with JudgingPool(read_bundle(path), 1) as pool, pytest.raises((ModelRejected, EdgeCTError)):
        pool.run(Classifier.check_golden)  # type: ignore[arg-type]


def work_without_end(classifier: Classifier) -> Iterator[int]:
    """Yield slices that each take less than a slice may take."""
    number = 0
    while True:
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
        yield number
        number += 1


def test_many_frames_together_have_a_deadline(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SLICES", 2)
    with JudgingPool(bundle, 1) as pool:
        with pytest.raises(WorkerEnded) as caught:
            pool.run(work_without_end, 0.5)
        assert caught.value.late
        assert pool.run(fork)


class Peak:
    """Most memory that one of a pool's processes has held, beyond what a worker holds that is idle."""

    def __init__(self, pool: JudgingPool) -> None:
        self._pool, self._stop = pool, threading.Event()
        self._thread = threading.Thread(target=self._measure)
        self._idle = self._most = 0

    def __enter__(self) -> "Peak":
        (process,) = self._pool.run(fork)
        self._idle = self._resident(process)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def above_idle(self) -> int:
        return self._most - self._idle

    def _measure(self) -> None:
        server = self._pool._server.pid
        while not self._stop.wait(0.02):
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
                self._most = max(self._most, *(self._resident(int(child)) for child in children), 0)

    @staticmethod
    def _resident(process: int) -> int:
        with contextlib.suppress(OSError):
            return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return 0


@pytest.mark.parametrize("count", [int(os.environ.get("EDGE_CT_LONG_TESTS") or 0) * 9800 + 200])
def test_mutated_inputs_end_no_parent_and_take_no_long_time(bundle: Bundle, count: int) -> None:
    """10,000 of them with EDGE_CT_LONG_TESTS=1."""
    sources = (Source(f"{number}", content) for number, content in enumerate(hostile.mutations(count)))
    longest = 0.0
    with JudgingPool(bundle, 2) as pool, Peak(pool) as peak:
        begun, seen = time.monotonic(), 0
        for batch in pool.judge_each(sources, row):
            longest, begun = max(longest, time.monotonic() - begun), time.monotonic()
            for name, decision, reason in batch:
                seen += 1
                assert name
                assert decision in ("positive", "negative", "refer", "rejected")
                assert (reason is None) or ("Error" not in reason and "\n" not in reason)
        assert seen >= count
        assert not pool.broken
        assert pool.ends <= count // 50
    # Files that are judged one after the other wait for those before them: this is more than one file takes.
    assert longest < 10
    assert 0 < peak.above_idle < 300 << 20


def test_flipped_run_lengths_among_good_ones(bundle: Bundle) -> None:
    """Over some of them a decoder panics, which is a BaseException and no Exception."""
    damaged = hostile.flipped_rle(60, 256)
    sources = [Source(f"flipped-{number}", content) for number, content in enumerate(damaged)]
    good = [Source(f"good-{number}", hostile.rle_object(number, 256)) for number in range(6)]
    with JudgingPool(bundle, 2) as pool:
        rows = [own for batch in pool.judge_each([*sources, *good], row) for own in batch]
    assert [name for name, _, _ in rows] == [source.name for source in (*sources, *good)]
    unreadable = [reason for name, _, reason in rows if name.startswith("flipped") and "DICOM" in str(reason)]
    assert len(unreadable) >= 2
    assert all("DICOM" not in str(reason) for name, _, reason in rows if name.startswith("good"))
