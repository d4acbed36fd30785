"""Ten bombs among 200 good slices, in a watched folder and as uploads, under the memory limit of the units.

The limit of a systemd unit is one of a control group, which a test may not make everywhere. What stands for it here is
the memory of all processes of the service, with shared pages counted once (PSS), measured five times a second.
"""

import contextlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import pytest

from edge_ct.device_app.maintenance.systemd import plan_files
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.phantom import make_slice

from .. import hostile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the memory of processes is read from /proc")
GOOD = 200


def bombs() -> list[bytes]:
    return [
        hostile.jpeg_of_scans(),
        hostile.excess_rows(),
        hostile.text_chunks(),
        hostile.compressed(hostile.j2k(4096, components=500), side=4096),
        hostile.compressed(hostile.boxed(hostile.j2k())),
        hostile.deflated_items(),
        hostile.empty_items(),
        hostile.many_elements(),
        hostile.tiff(t256=60_000, t257=60_000),
        hostile.compressed(hostile.j2k(4096, tile=1), side=4096),
    ]


def good(number: int) -> bytes:
    return cv2.imencode(".png", make_slice(number, number % 7, number % 2 == 0, 96).image)[1].tobytes()


class Memory:
    """The most memory that a process and its descendants have held together, in bytes."""

    def __init__(self, process: int) -> None:
        self._process, self.most = process, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._measure)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._stop.wait(0.2):
            self.most = max(self.most, sum(map(_shared_size, _family(self._process))))


def _family(process: int) -> list[int]:
    family = [process]
    for member in family:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{member}/task").iterdir():
                family += [int(child) for child in (task / "children").read_text().split()]
    return family


def _shared_size(process: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def memory_limit(bundle: Path, service: str) -> int:
    """MemoryMax of a unit, in bytes."""
    files = plan_files(bundle, watch=Path("/srv"), callers=[], targets=[], lan=False, keep_days=90, user="edge-ct")
    (unit,) = [str(content) for path, content in files.items() if path.stem == f"edge-ct-{service}"]
    return int(re.findall(r"^MemoryMax=(\d+)M$", unit, re.MULTILINE)[0]) << 20


def check(state: Path, rejected: Callable[[str], bool]) -> None:
    with Worklist(state) as worklist:
        rows = worklist.rows(limit=1000)
    # Bombs that are the same DICOM instance share a row.
    assert {row.decision for row in rows if rejected(row.source)} == {"rejected"}
    kept = [row for row in rows if not rejected(row.source)]
    assert len(kept) == GOOD
    assert all(row.probability is not None for row in kept), [row.reason for row in kept if row.probability is None]


def test_in_a_watched_folder(tiny_bundle: Path, tmp_path: Path) -> None:
    folder, state = tmp_path / "hot", tmp_path / "state"
    folder.mkdir()
    for number in range(GOOD):
        (folder / f"{number:03}.png").write_bytes(good(number))
    for number, content in enumerate(bombs()):
        (folder / f"{20 * number:03}-bomb.dcm").write_bytes(content)
    options = ["--model", tiny_bundle, "--state", state, "--settle", "0.05", "--interval", "0.05"]
    command = [sys.executable, "-m", "edge_ct", "watch", folder, "--once", "--json", *options]
    with (
        subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
        Memory(process.pid) as memory,
    ):
        assert process.stdout
        printed = [json.loads(line) for line in process.stdout]
        assert process.wait(300) == 3  # some could not be read, and the service did not end over them
    assert len(printed) == GOOD + 10
    assert [row["decision"] for row in printed if "bomb" in row["source"]] == ["rejected"] * 10
    check(state, lambda name: "bomb" in name)
    assert 0 < memory.most < memory_limit(tiny_bundle, "watch")


def test_as_uploads(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("flask", reason="the web extra is not installed")
    state = tmp_path / "state"
    options = ["--model", tiny_bundle, "--state", state, "--port", 0, "--json"]
    command = [sys.executable, "-m", "edge_ct", "serve", *options]
    files = [(f"{number}.png", good(number)) for number in range(GOOD)]
    for number, content in enumerate(bombs()):
        assert len(content) < 16 << 20
        files.insert(20 * number, (f"bomb-{number}", content))
    with (
        subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process,
        Memory(process.pid) as memory,
    ):
        assert process.stdout
        where = urlsplit(json.loads(process.stdout.readline())["urls"][0])
        connection = HTTPConnection(str(where.hostname), where.port, timeout=120)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            cookie = str(answer.getheader("Set-Cookie")).partition(";")[0]
            token = re.findall(r'<meta name="csrf" content="([^"]+)">', answer.read().decode())[0]
            headers = {"Cookie": cookie, "X-CSRF-Token": token, "Content-Type": "multipart/form-data; boundary=b"}
            for name, content in files:
                head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
                connection.request("POST", "/upload", head.encode() + content + b"\r\n--b--\r\n", headers)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 303, name
            connection.request("GET", "/ready", headers=headers)
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["ready"]) == (200, True)
        finally:
            connection.close()
            process.terminate()
        assert process.wait(60) == 0
    check(state, lambda name: "bomb" in name)
    assert 0 < memory.most < memory_limit(tiny_bundle, "serve")
