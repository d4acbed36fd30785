"""`edge-ct serve` as a process of its own, without a network."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote

import pytest

from edge_ct.device_app.web import server
from edge_ct.device_app.web.pin import PIN_FILE
from edge_ct.device_app.worklist.worklist import Worklist

from ... import hostile
from .conftest import Browser, Served, png, variant

Serve = Callable[..., Served]


def run(*arguments: object, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_ct", "serve", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **more)  # type: ignore[call-overload, no-any-return]


def test_it_serves_uploads_and_stops_on_sigterm(serve: Serve) -> None:
    served = serve()
    assert served.urls == [served.url]
    assert served.url.startswith("http://127.0.0.1:")
    browser = Browser(served)
    assert browser.ask("GET", "/ready")[0] == 200
    status, said = browser.upload("a.png", png(1, 2))
    assert status == 201
    number = said["files"][0]["id"]
    assert browser.ask("GET", f"/slices/{number}/thumb.png")[2].startswith(b"\x89PNG")
    assert served.stop(signal.SIGTERM) == 0
    with Worklist(served.state) as worklist:
        assert worklist.get(number).source == "a.png"
        assert worklist.verify().problem is None


def test_news_come_as_a_stream_which_ends_with_the_server(serve: Serve) -> None:
    served = serve()
    browser, listener = Browser(served), Browser(served)
    listener._connection.request("GET", "/events", headers=listener.headers)
    stream = listener._connection.getresponse()
    assert stream.getheader("Content-Type", "").startswith("text/event-stream")
    browser.upload("a.png", png(1, 2))
    lines: list[bytes] = []
    while not any(b'"version"' in line for line in lines):
        lines.append(stream.readline())
    assert b"event: state\n" in lines
    begun = time.monotonic()
    assert served.stop() == 0
    assert stream.read().count(b"event") < 10
    assert time.monotonic() - begun < server.DRAIN_SECONDS


def test_uploads_that_were_taken_are_answered_before_it_stops(serve: Serve) -> None:
    served = serve("--workers", "1")
    browsers = [Browser(served) for _ in range(4)]
    answers: list[tuple[str, int]] = []
    ask_to_stop = threading.Event()

    def upload(number: int, browser: Browser) -> None:
        for i in range(12):
            name = f"{number}-{i}.png"
            try:
                status, _ = browser.upload(name, variant(100 * number + i))
            except (OSError, HTTPException):  # the door is shut
                return
            answers.append((name, status))
            if len(answers) == 8:
                ask_to_stop.set()

    threads = [threading.Thread(target=upload, args=each) for each in enumerate(browsers)]
    for thread in threads:
        thread.start()
    assert ask_to_stop.wait(120)
    assert served.stop(signal.SIGINT) == 0
    for thread in threads:
        thread.join(60)
    with Worklist(served.state) as worklist:
        kept = {row.source for row in worklist.rows()}
    acknowledged = {name for name, status in answers if status == 201}
    assert len(acknowledged) >= 8
    assert acknowledged <= kept
    assert len(kept - acknowledged) == 0, "a row that nobody was told of: its answer was lost"


def test_files_that_end_decoders_are_rejected_and_good_ones_go_on(serve: Serve) -> None:
    served = serve("--workers", "2")
    browser = Browser(served)
    bombs = [*hostile.flipped_rle(60, 256)[:24], hostile.jpeg_of_scans(), hostile.excess_rows(), hostile.text_chunks()]
    bombs.append(hostile.compressed(hostile.j2k(4096, components=500), side=4096))
    answers = [browser.upload(f"bomb-{number}", content) for number, content in enumerate(bombs)]
    assert {status for status, _ in answers} == {201}
    begun = time.monotonic()
    status, answer = browser.upload("good.png", variant(1))
    assert (status, time.monotonic() - begun < 20) == (201, True)
    assert answer["files"][0]["decision"] != "rejected"
    assert browser.ask("GET", "/ready")[0] == 200
    with Worklist(served.state) as worklist:
        rows = {row.source: row for row in worklist.rows(limit=100)}
    assert [rows[f"bomb-{number}"].decision for number in (24, 25, 27)] == ["rejected"] * 3
    assert sum("damaged or unsupported DICOM" in str(row.reason) for row in rows.values()) >= 1


def test_a_body_over_the_limit_is_cut_off(serve: Serve) -> None:
    served = serve()
    with socket.create_connection(served.address, timeout=60) as connection:
        connection.sendall(b"POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999999999999\r\n\r\n")
        assert b" 413 " in connection.recv(1000)
    assert Browser(served).ask("GET", "/ready")[0] == 200


def test_with_lan_a_pin_is_made_once_told_once_and_kept_as_a_hash(serve: Serve) -> None:
    served = serve("--lan")
    assert served.pin is not None
    assert len(served.pin) == 6
    assert served.pin not in (served.state / PIN_FILE).read_text()
    connection = Stranger(served)
    assert connection.ask("GET", "/rows")[0] == 401
    assert connection.enter("000000" if served.pin != "000000" else "000001") == 403
    assert connection.enter(served.pin) == 303
    assert connection.ask("GET", "/rows")[0] == 200
    assert served.stop() == 0
    again = serve("--lan")
    assert again.pin is None
    assert Stranger(again).enter(served.pin) == 303


class Stranger(Browser):
    """A browser that has not given the PIN."""

    def __init__(self, served: Served) -> None:
        from .conftest import token_of

        self._connection = served.connect()
        self.headers = {}
        _, headers, body = self.ask("GET", "/pin")
        self.headers = {"Cookie": headers["Set-Cookie"].partition(";")[0], "X-CSRF-Token": token_of(body.decode())}

    def enter(self, pin: str) -> int:
        form = f"pin={quote(pin)}".encode()
        status, headers, _ = self.ask("POST", "/enter", form, Content_Type="application/x-www-form-urlencoded")
        if "Set-Cookie" in headers:
            self.headers["Cookie"] = headers["Set-Cookie"].partition(";")[0]
        return status


def test_a_given_pin_is_not_told(serve: Serve) -> None:
    served = serve("--lan", "--pin", "493817")
    assert served.pin is None
    assert Stranger(served).enter("493817") == 303


def test_for_people_it_prints_where_the_page_is_and_a_code_for_the_phone(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("segno", reason="the web extra is not installed")
    if not server.addresses():
        pytest.skip("this machine has no address but loopback's")
    command = ["serve", "--model", tiny_bundle, "--state", tmp_path / "s", "--port", "0", "--lan"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "edge_ct", *map(str, command)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Research use only" in line:
            break
    process.terminate()
    assert process.wait(60) == 0
    process.stdout.close()
    text = "".join(lines)
    assert text.startswith("ready: http://127.0.0.1:")
    assert f"http://{server.addresses()[0]}:" in text
    assert "PIN " in text
    assert "\u2580" in text or "\u2584" in text


def test_wrong_starts_are_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    state = ("--state", tmp_path / "state")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        busy = run("--model", tiny_bundle, *state, "--port", port)
    no_folder = run("--model", tiny_bundle, *state, "--port", 0, "--folder", tmp_path / "none")
    no_model = run("--model", tmp_path / "none.tflite", *state)
    bad_pin = run("--model", tiny_bundle, *state, "--lan", "--pin", "12", "--port", 0)
    for done, code, words in (
        (busy, 1, "name another --port"),
        (no_folder, 1, "not a folder"),
        (no_model, 4, "no such bundle"),
        (bad_pin, 1, "6 to 32 digits"),
    ):
        assert done.returncode == code, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert words in done.stderr
    assert run("--model", tiny_bundle, "--pin", "123456").returncode == 2


def test_a_model_that_is_wrong_here_is_exit_code_4(tiny_bundle: Path, tmp_path: Path) -> None:
    import msgspec

    from edge_ct.bundle import read_bundle, write_bundle

    bundle = read_bundle(tiny_bundle)
    golden = tuple(msgspec.structs.replace(one, logits=(50.0, -50.0)) for one in bundle.manifest.golden)
    members = {one.input: bundle.member(one.input) for one in golden}
    wrong = tmp_path / "wrong.tflite"
    write_bundle(wrong, bundle.model, msgspec.structs.replace(bundle.manifest, golden=golden), members)
    done = run("--model", wrong, "--state", tmp_path / "state", "--port", 0, "--json")
    assert done.returncode == 4
    assert done.stdout == ""
    assert "do not use it here" in done.stderr


def test_without_the_extra_it_names_the_extra(tiny_bundle: Path, tmp_path: Path) -> None:
    code = "import sys\nsys.modules['flask'] = None\nfrom edge_ct.cli import main\nmain(sys.argv[1:])"
    command = ["serve", "--model", tiny_bundle, "--state", tmp_path / "s", "--port", "0"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 6, done.stderr
    assert "pip install 'edge-ct[web]'" in done.stderr


def test_nothing_heavy_and_no_framework_of_training_is_loaded(tiny_bundle: Path) -> None:
    code = "import sys, edge_ct.device_app.web.commands, edge_ct.device_app.web.server\n"
    code += "import edge_ct.device_app.web.app, edge_ct.device_app.web.views\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert {"flask", "edge_ct"} <= loaded
    assert loaded & {"tensorflow", "keras", "sklearn", "pandas", "matplotlib", "scipy", "pydicom"} == set()
