"""The services without a server, and a real server in its own process, without a network (see the conftest above)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from edge_ct.bundle import read_bundle
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.phantom import make_slice

pytest.importorskip("flask", reason="the web extra is not installed")
pytest.importorskip("waitress", reason="the web extra is not installed")

from flask.testing import FlaskClient

from edge_ct.device_app.web.app import create_app
from edge_ct.device_app.web.request_checks import allowed_hosts
from edge_ct.device_app.web.services import Services

# Its `sitecustomize` makes whatever would leave the machine fail, in every Python that finds it on its path.
NO_NETWORK = Path(__file__).parents[1] / "no_network"
_PYTHONPATH = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]


def png(patient: int, index: int, positive: bool = False, size: int = 96) -> bytes:
    """A phantom slice as a file."""
    return cv2.imencode(".png", make_slice(patient, index, positive, size).image)[1].tobytes()


def variant(number: int) -> bytes:
    """Return a phantom slice with `number` in its corner: any number of different files, at no cost."""
    image = _one_slice().copy()
    image[0, :4] = np.frombuffer(number.to_bytes(4, "little"), np.uint8)
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


@cache
def _one_slice() -> np.ndarray:
    return make_slice(7, 4, True, 224).image


def token_of(page: str) -> str:
    """The CSRF token that a page carries."""
    found = re.search(r'<meta name="csrf" content="([^"]+)">', page)
    assert found, page[:300]
    return found[1]


@pytest.fixture
def services(tiny_bundle: Path, tmp_path: Path) -> Iterator[Services]:
    """Open services on port 8042, without a PIN, that offer tmp_path/stick."""
    stick = tmp_path / "stick"
    stick.mkdir()
    made = Services(
        read_bundle(tiny_bundle),
        Worklist(tmp_path / "state"),
        allowed_hosts(8042, lan=False, more=[]),
        roots=[stick],
        workers=1,
    )
    made.open()
    made.queue.wait(60)
    yield made
    made.close()


class Home(FlaskClient):
    """Flask's test client, calling the server by a name that it answers to."""

    def open(self, *arguments: Any, **more: Any) -> Any:
        """Read the whole answer, which closes the file that it is read from."""
        return super().open(*arguments, **{"base_url": "http://127.0.0.1:8042", "buffered": True, **more})


def browser(services: Services) -> Home:
    """A new browser, without cookies."""
    return Home(create_app(services), use_cookies=True)


@pytest.fixture
def client(services: Services) -> Home:
    return browser(services)


@pytest.fixture
def csrf(client: Any) -> dict[str, str]:
    """The headers that a POST needs."""
    return {"X-CSRF-Token": token_of(client.get("/").text), "Accept": "application/json"}


@dataclass
class Served:
    """A running `edge-ct serve`."""

    process: subprocess.Popen[str]
    url: str
    urls: list[str]
    pin: str | None
    state: Path
    log: list[str] = field(default_factory=list)
    connections: list[HTTPConnection] = field(default_factory=list)

    def connect(self) -> HTTPConnection:
        """A connection that is closed when the server has stopped."""
        self.connections.append(HTTPConnection(*self.address, timeout=120))
        return self.connections[-1]

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 80)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)

    def close(self) -> None:
        """Close what leads to it."""
        for connection in self.connections:
            connection.close()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


class Browser:
    """A connection with a session cookie and a CSRF token, as a script needs for an upload."""

    def __init__(self, served: Served) -> None:
        self._connection = served.connect()
        self.headers: dict[str, str] = {}
        status, headers, body = self.ask("GET", "/")
        assert status == 200, body
        self.headers = {"Cookie": headers["Set-Cookie"].partition(";")[0], "X-CSRF-Token": token_of(body.decode())}

    def ask(self, method: str, path: str, body: bytes | None = None, **more: str) -> tuple[int, dict[str, str], bytes]:
        """One request: status, headers, body."""
        names = {name.replace("_", "-"): value for name, value in more.items()}
        self._connection.request(method, path, body, {**self.headers, **names})
        answer = self._connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()

    def upload(self, name: str, content: bytes) -> tuple[int, dict[str, Any]]:
        """Send one file; return the status and the JSON answer."""
        boundary = "edge-ct-test-boundary"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        status, _, said = self.ask("POST", "/upload", body, Content_Type=kind, Accept="application/json")
        return status, json.loads(said)


def start_server(model: Path, state: Path, *arguments: object, port: int = 0) -> Served:
    """Start `edge-ct serve`, without a network; it is ready when this returns."""
    command = ["serve", "--model", model, "--state", state, "--port", port, "--json", *arguments]
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_ct", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "EDGE_CT_NO_NETWORK": "1", "PYTHONPATH": os.pathsep.join((str(NO_NETWORK), *_PYTHONPATH))},
    )
    log: list[str] = []
    assert process.stdout and process.stderr
    threading.Thread(target=lambda: log.extend(process.stderr), daemon=True).start()
    line = process.stdout.readline()
    assert line, (process.wait(60), log)
    said = json.loads(line)
    return Served(process, said["urls"][0], said["urls"], said["pin"], state, log)


@pytest.fixture
def serve(tiny_bundle: Path, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start `edge-ct serve` with further arguments; it is ready when this returns."""
    running: list[Served] = []

    def start(*arguments: object, state: Path | None = None, model: Path | None = None) -> Served:
        served = start_server(model or tiny_bundle, state or tmp_path / "state", *arguments)
        running.append(served)
        return served

    yield start
    for served in running:
        served.stop(signal.SIGKILL)
        served.close()
