"""A disk that is really full: nothing acknowledged is lost, and work goes on when there is room."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from edge_ct import cli
from edge_ct.classifier import Classifier, Judgement
from edge_ct.device_app.worklist.database import Store
from edge_ct.device_app.worklist.records import prepare_entry
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.errors import StorageFull

from ... import hostile

Judged = Callable[..., Judgement]
READING = (["list", "--json"], ["show", "1"], ["verify"], ["quarantine"])
# As in a command whose disk is filled by another program after there was room.
WITHOUT_CHECK = """
import sys
from edge_ct import cli
from edge_ct.device_app.worklist.database import Store
Store.check_room = lambda *_: None
sys.exit(cli.run(sys.argv[1:]))
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "edge-ct-test", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        pytest.skip("no mount command")
    if mounted.returncode:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    path = disk / "other program"
    with path.open("ab") as file:
        file.write(bytes(max(0, shutil.disk_usage(disk).free - leave)))
    return path


def run(folder: Path, words: list[str]) -> int:
    return cli.run(["worklist", *words, "--state", str(folder)])


@pytest.mark.parametrize("leave", [0, 4 << 10, 32 << 10, 128 << 10])
def test_a_worklist_is_opened_and_begun_when_there_is_room(disk: Path, leave: int) -> None:
    ballast = fill(disk, leave)
    with pytest.raises(StorageFull, match="the disk is full"):
        Worklist(disk / "state")
    ballast.unlink()
    with Worklist(disk / "state") as worklist:
        assert worklist.verify().problem is None


@pytest.mark.parametrize("leave", [0, 30 << 10, 200 << 10])
def test_what_was_stored_stays_and_more_is_stored_when_there_is_room(
    disk: Path, leave: int, judged: Judged, tiny_classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "check_room", lambda *_: None)
    random = np.random.default_rng(1)

    def add(number: int) -> None:
        pixels = random.integers(0, 256, (256, 256), dtype=np.uint8)
        worklist.add(prepare_entry(judged(number, pixels=pixels), tiny_classifier.bundle, origin="classify"))

    with Worklist(disk / "state") as worklist:
        add(0)
        ballast, stored = fill(disk, leave), 1
        failed = 0
        for number in range(1, 40):
            try:
                add(number)
                stored += 1
            except StorageFull as error:
                assert "\n" not in str(error)
                failed += 1
        assert failed > 3
        assert len(worklist.rows()) == stored
        ballast.unlink()
        add(100)
        assert len(worklist.rows()) == stored + 1
        assert worklist.verify().problem is None


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
@pytest.mark.parametrize("killed", [False, True])
def test_a_worklist_on_a_full_disk_can_be_read(
    disk: Path,
    words: list[str],
    killed: bool,
    judged: Judged,
    tiny_classifier: Classifier,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also one whose last results are in its log, as after a power failure."""
    with Worklist(disk / "closed", min_free=0) as worklist:
        worklist.add(prepare_entry(judged(1), tiny_classifier.bundle, origin="classify"))
        shutil.copytree(disk / "closed", disk / "killed", ignore=shutil.ignore_patterns("*-shm"))
    fill(disk)
    assert run(disk / ("killed" if killed else "closed"), words) == 0
    if words[0] == "list":
        assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_watched_folder_goes_on_when_there_is_room(disk: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """Also if a file disappears meanwhile."""
    hot, state = tmp_path / "hot", disk / "state"
    hot.mkdir()
    options = ["--model", str(tiny_bundle), "--state", str(state), "--settle", "0.1", "--interval", "0.1"]
    command = [sys.executable, "-c", WITHOUT_CHECK, "watch", str(hot), *options]
    with Worklist(state, min_free=0):  # kept open: the other process must find room for its rows, not for its log
        ballast = fill(disk, 20 << 10)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                for number in range(12):
                    (hot / f"{number}.dcm").write_bytes(
                        hostile.saved(hostile.ct(hostile.phantom(number, 256), SOPInstanceUID=f"1.2.3.3.{number}"))
                    )
                assert process.stderr is not None
                while "the disk is full" not in (line := process.stderr.readline()):
                    assert line, "watch has ended"
                (hot / "11.dcm").unlink()
                ballast.unlink()
                _wait_for_rows(state, 11)
                assert process.poll() is None
                process.terminate()
                assert "Traceback" not in process.communicate(timeout=60)[1]
                assert process.returncode == 0
            finally:
                process.kill()
    with Worklist(state, min_free=0) as worklist:
        assert sorted(Path(row.source).stem for row in worklist.rows()) == sorted(map(str, range(11)))
        assert worklist.verify().problem is None


def test_an_upload_to_a_full_disk_is_refused_and_taken_when_there_is_room(disk: Path, tiny_bundle: Path) -> None:
    pytest.importorskip("flask", reason="the web extra is not installed")
    state = disk / "state"
    with Worklist(state, min_free=0):
        pass
    options = ["--model", str(tiny_bundle), "--state", str(state), "--port", "0", "--json"]
    with subprocess.Popen(
        [sys.executable, "-c", WITHOUT_CHECK, "serve", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            where = urlsplit(json.loads(process.stdout.readline())["urls"][0])
            connection = HTTPConnection(str(where.hostname), where.port, timeout=120)
            connection.request("GET", "/")
            answer = connection.getresponse()
            cookie = str(answer.getheader("Set-Cookie")).partition(";")[0]
            token = re.findall(r'<meta name="csrf" content="([^"]+)">', answer.read().decode())[0]
            headers = {"Cookie": cookie, "X-CSRF-Token": token, "Content-Type": "multipart/form-data; boundary=b"}

            def upload(number: int) -> int:
                content = hostile.saved(hostile.ct(hostile.phantom(number, 128), SOPInstanceUID=f"1.2.3.3.{number}"))
                head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.dcm"\r\n\r\n'
                connection.request("POST", "/upload", head + content + b"\r\n--b--\r\n", headers)
                answer = connection.getresponse()
                answer.read()
                return answer.status

            assert upload(1) == 303
            ballast = fill(disk)
            statuses = {upload(number) for number in range(2, 12)}
            assert 507 in statuses
            assert statuses <= {303, 507}
            ballast.unlink()
            assert upload(20) == 303
            connection.close()
            process.terminate()
            assert "Traceback" not in process.communicate(timeout=60)[1]
            assert process.returncode == 0
        finally:
            process.kill()
    with Worklist(state, min_free=0) as worklist:
        assert len(worklist.rows()) >= 2
        assert worklist.verify().problem is None


def _wait_for_rows(state: Path, count: int) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end:
        with Worklist(state, min_free=0) as worklist:
            if len(worklist.rows()) >= count:
                return
        time.sleep(0.5)
    raise AssertionError("rows are missing")
