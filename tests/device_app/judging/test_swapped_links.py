"""Links that take the place of a file between its listing and its reading lead nobody out of the folder."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from edge_ct.bundle import read_bundle
from edge_ct.classifier import Classifier
from edge_ct.device_app.judging.incidents import Content
from edge_ct.device_app.judging.judge import InProcess, judge_source
from edge_ct.device_app.judging.pool import JudgingPool
from edge_ct.device_app.judging.sources import Source
from edge_ct.device_app.watch.hot_folder import Watch
from edge_ct.device_app.web.folders import Folders
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.phantom import make_slice
from edge_ct.system.files import file_within

from ... import hostile

Swap = Callable[[Path, Path], None]


def swap_file(folder: Path, outside: Path) -> None:
    (folder / "study" / "1.png").unlink()
    (folder / "study" / "1.png").symlink_to(outside / "1.png")


def swap_folder(folder: Path, outside: Path) -> None:
    (folder / "study").rename(folder / "moved")
    (folder / "study").symlink_to(outside)


def swap_by_two_links(folder: Path, outside: Path) -> None:
    (folder / "step").symlink_to(outside)
    (folder / "study" / "1.png").unlink()
    (folder / "study" / "1.png").symlink_to("../step/1.png")


def swap_for_a_folder_of_processes(folder: Path, outside: Path) -> None:
    """Through /proc, where links lead to what a process has open."""
    (folder / "study" / "1.png").unlink()
    (folder / "study" / "1.png").symlink_to(f"/proc/self/cwd/{os.path.relpath(outside / '1.png', Path.cwd())}")


SWAPS = (swap_file, swap_folder, swap_by_two_links, swap_for_a_folder_of_processes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hot" / "study").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for path in (tmp_path / "hot/study/1.png", tmp_path / "outside/1.png"):
        Image.fromarray(make_slice(3, 3, True, 64).image).save(path)
    return tmp_path / "hot"


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("back", [False, True])
def test_a_watched_folder(
    folder: Path, worklist: Worklist, tiny_classifier: Classifier, swap: Swap, back: bool, tmp_path: Path
) -> None:
    """Also if the file is put back before anybody looks at it again."""
    seen: list[str | None] = []

    class Swapping(InProcess):
        def judge(self, source, prepare, seconds=0.0):  # type: ignore[no-untyped-def]
            status = (folder / "study" / "1.png").stat()
            good = (folder / "study" / "1.png").read_bytes()
            swap(folder, tmp_path / "outside")
            rows = super().judge(source, prepare, seconds)
            seen.extend(row.entry.reason for row in rows)
            if back:
                path = folder / "study" / "1.png"
                if (folder / "study").is_symlink():
                    (folder / "study").unlink()
                    (folder / "moved").rename(folder / "study")
                else:
                    path.unlink()
                    path.write_bytes(good)
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            return rows

    now = [0.0]
    watch = Watch(folder, worklist, Swapping(tiny_classifier), 1.0, clock=lambda: now[0])
    assert list(watch.scan()) == []
    now[0] = 1.5
    assert list(watch.scan()) == []
    assert seen == ["cannot be read: a link leads out of the folder"]
    assert worklist.rows() == []
    if back:  # it is judged now, as nobody exchanges it
        watch._judge = InProcess(tiny_classifier)
        now[0] = 3.0
        rows = [added.row for added in watch.scan()]
        assert [Path(row.source).name for row in rows] == ["1.png"]
        assert rows[0].reason != "cannot be read: a link leads out of the folder"


@pytest.mark.parametrize("swap", SWAPS)
def test_a_folder_of_the_page(folder: Path, tiny_classifier: Classifier, swap: Swap, tmp_path: Path) -> None:
    (source,), left_out = Folders([folder]).list_slices(folder / "study")
    assert (source.name, left_out) == ("study/1.png", None)
    swap(folder, tmp_path / "outside")
    (judgement,) = judge_source(tiny_classifier, source)
    assert judgement.result.reason == "cannot be read: a link leads out of the folder"
    assert (Content(source).size, Content(source).digest()) == (0, "")


def test_the_page_lists_nothing_behind_a_link_out_of_its_folders(folder: Path, tmp_path: Path) -> None:
    """A link to the root of the file system would keep the page busy for as long as it has files."""
    (folder / "all").symlink_to("/")
    (folder / "outside").symlink_to(tmp_path / "outside")
    (folder / "inside").symlink_to(folder / "study")
    sources, left_out = Folders([folder]).list_slices(folder)
    assert [source.name for source in sources] == ["hot/inside/1.png"]
    assert "links out of the folders that this page may read: 2 (all, outside)" in str(left_out)


def test_links_in_a_circle_are_no_folder_of_the_page(folder: Path) -> None:
    folders = Folders([folder])
    (below,) = folders.subfolders(folders.roots()[0].token) or []
    (folder / "study" / "1.png").unlink()
    (folder / "study").rmdir()
    (folder / "study").symlink_to(folder / "study")
    assert folders.path(below.token) is None


def test_a_worker_process_reads_the_file_that_was_checked(folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """PNG and DICOM, which is opened several times, in a worker's own list of open files."""
    (folder / "study" / "2").write_bytes(hostile.saved(hostile.ct(hostile.phantom(1))))
    (folder / "study" / "3.png").symlink_to(tmp_path / "outside" / "1.png")
    with JudgingPool(read_bundle(tiny_bundle), 1) as pool:
        for name, readable in (("1.png", True), ("2", True), ("3.png", False)):
            source = Source(str(folder / "study" / name), within=(folder,))
            ((decision, reason),) = pool.judge(source, _outcome)
            assert (reason != "cannot be read: a link leads out of the folder") == readable, name
            assert decision != "rejected" or not readable or "cannot be read" not in str(reason)


def _outcome(judgement, classifier):  # type: ignore[no-untyped-def]
    return judgement.result.decision, judgement.result.reason


def test_the_path_leads_to_the_checked_file_for_as_long_as_it_is_needed(folder: Path, tmp_path: Path) -> None:
    path = folder / "study" / "1.png"
    path.write_bytes(b"good")
    (tmp_path / "outside" / "1.png").write_bytes(b"foreign")
    with file_within(path, [folder]) as pinned:
        swap_file(folder, tmp_path / "outside")
        assert [pinned.read_bytes() for _ in range(2)] == [b"good", b"good"]
        assert pinned.is_file()
        assert pinned.stat().st_size == 4


def test_a_race_is_lost_by_whoever_exchanges_files(folder: Path, tmp_path: Path) -> None:
    path, spare = folder / "study" / "1.png", folder / "spare"
    (tmp_path / "outside" / "1.png").write_bytes(b"foreign")
    path.write_bytes(b"good")
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            spare.symlink_to(tmp_path / "outside" / "1.png")
            spare.replace(path)
            spare.write_bytes(b"good")
            spare.replace(path)

    thread = threading.Thread(target=exchange)
    thread.start()
    refused = read = 0
    try:
        for _ in range(20_000):
            try:
                with file_within(path, [folder]) as pinned:
                    assert pinned.read_bytes() in (b"good", b"")  # a file is empty before it is written
                    read += 1
            except OSError:
                refused += 1
            if read > 50 and refused > 50:
                break
    finally:
        stop.set()
        thread.join()
    assert read > 0
    assert refused > 0
