"""Slow, silent and greedy clients over the loopback interface: whoever behaves is served all the same."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from edge_ct.device_app.web import http_front
from edge_ct.device_app.web.app import create_app
from edge_ct.device_app.web.body_admission import BodyAdmission
from edge_ct.device_app.web.http_front import HttpFront
from edge_ct.device_app.web.request_checks import allowed_hosts
from edge_ct.device_app.web.services import Services
from edge_ct.device_app.web.sessions import Session

from .conftest import Browser, Served, png, variant

Serve = Callable[..., Served]
Address = tuple[str, int]
MIB = 1 << 20


def upload_head(address: Address, size: int, cookie: str = "", csrf: str = "", more: str = "") -> bytes:
    return (
        f"POST /upload HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nContent-Length: {size}\r\nCookie: {cookie}\r\n"
        f"X-CSRF-Token: {csrf}\r\nContent-Type: multipart/form-data; boundary=b\r\n{more}\r\n"
    ).encode()


def read_all(connection: socket.socket) -> bytes:
    parts = []
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


class Crowd:
    """Slow clients in one thread, each of which sends a byte of its request now and then."""

    def __init__(self, address: Address, requests: list[bytes]) -> None:
        self._stop = threading.Event()
        self._connections = [socket.create_connection(address, timeout=10) for _ in requests]
        for connection in self._connections:
            connection.setblocking(False)
        self._rest = [bytearray(request) for request in requests]
        self._thread = threading.Thread(target=self._drip, daemon=True)

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        for connection in self._connections:
            connection.close()

    def _drip(self) -> None:
        while not self._stop.wait(0.2):
            for connection, rest in zip(self._connections, self._rest, strict=True):
                with suppress(OSError):
                    if rest:
                        connection.send(rest[:1])
                        del rest[:1]


def temporary_bytes(process: int) -> int:
    """Size of the files without a name that a process holds open."""
    size = 0
    for path in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):
            if "(deleted)" in str(path.readlink()):
                size += path.stat().st_size
    return size


def test_200_slow_clients_keep_nobody_waiting(serve: Serve) -> None:
    served = serve()
    host = f"Host: {served.address[0]}:{served.address[1]}\r\n".encode()
    own = Browser(served)
    slow_upload = upload_head(served.address, 60 * MIB, own.headers["Cookie"], own.headers["X-CSRF-Token"])
    kinds = [b"", b"GET / HTTP/1.1\r\n" + host, b"POST /enter HTTP/1.1\r\nContent-Length: 9\r\n", slow_upload]
    with Crowd(served.address, [kinds[number % 3] for number in range(200)]):
        for number in range(3):
            begun = time.monotonic()
            browser = Browser(served)
            assert browser.ask("GET", "/ready")[0] == 200
            status, said = browser.upload("good.png", variant(number))
            assert (status, said["files"][0]["new"]) == (201, True)
            assert time.monotonic() - begun < 2
            time.sleep(0.5)
    uploads = [socket.create_connection(served.address, timeout=10) for _ in range(60)]
    for connection in uploads:
        connection.sendall(slow_upload + b"x" * 1000)
    time.sleep(1.5)
    begun = time.monotonic()
    browser = Browser(served)
    assert browser.ask("GET", "/")[0] == 200
    assert browser.upload("good.png", variant(100))[0] == 201
    assert time.monotonic() - begun < 2
    for connection in uploads:
        connection.close()


def test_abandoned_uploads_do_not_fill_the_disk(serve: Serve) -> None:
    served = serve()
    own = Browser(served)
    head = upload_head(served.address, 64 * MIB, own.headers["Cookie"], own.headers["X-CSRF-Token"])
    most = 0
    with ExitStack() as stack:
        for _ in range(40):
            connection = stack.enter_context(socket.create_connection(served.address, timeout=10))
            with suppress(OSError):
                connection.sendall(head)
                for _ in range(24):
                    connection.sendall(bytes(MIB))
            most = max(most, temporary_bytes(served.process.pid))
        assert own.ask("GET", "/ready")[0] == 200
    assert MIB < most < 300 * MIB
    end = time.monotonic() + 10
    while temporary_bytes(served.process.pid) > MIB:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert Browser(served).upload("good.png", png(1, 2))[0] == 201


@pytest.mark.parametrize("lan", [False, True])
def test_a_body_is_refused_before_it_is_read_where_nothing_allows_it(serve: Serve, lan: bool) -> None:
    served = serve(*(["--lan"] if lan else []))
    expected = b" 401 " if lan else b" 403 "
    for more in ("", "Expect: 100-continue\r\n", "Accept: application/json\r\n"):
        with socket.create_connection(served.address, timeout=5) as connection:
            connection.sendall(upload_head(served.address, 60 * MIB, more=more))
            answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1" + expected)
        assert b"100 Continue" not in answer
        assert (b'{"error"' in answer) == ("json" in more)
    # The refusal is read even by a client that goes on sending.
    with socket.create_connection(served.address, timeout=5) as connection:
        connection.sendall(upload_head(served.address, 60 * MIB) + bytes(4 * MIB))
        assert expected in read_all(connection)


def test_a_form_is_small_and_a_body_has_a_method(serve: Serve) -> None:
    served = serve()
    own = Browser(served)
    head = upload_head(served.address, MIB, own.headers["Cookie"], own.headers["X-CSRF-Token"])
    for request, status in (
        (head.replace(b"/upload", b"/settings"), b" 413 "),
        (head.replace(b"POST", b"PUT"), b" 405 "),
        (head.replace(b"Content-Length: 1048576", b"Transfer-Encoding: chunked").replace(b"/upload", b"/x"), b" 411 "),
        (head.replace(b"Host: 127.0.0.1", b"Host: elsewhere.example"), b" 421 "),
        (head.replace(b"X-CSRF-Token: ", b"X-CSRF-Token: x"), b" 403 "),
        (head.replace(b"Content-Type", b"Origin: http://elsewhere.example\r\nContent-Type"), b" 403 "),
    ):
        with socket.create_connection(served.address, timeout=5) as connection:
            connection.sendall(request)
            assert read_all(connection).startswith(b"HTTP/1.1" + status), request


@pytest.fixture
def front(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpFront]:
    """A server in this process, with deadlines of a second."""
    for name, value in (("_DEADLINES", dict.fromkeys(http_front._DEADLINES, 1.0)), ("_SILENT_SECONDS", 2.0)):
        monkeypatch.setattr(http_front, name, value)
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    services.hosts = allowed_hosts(bound.getsockname()[1], False, [])
    made = HttpFront(create_app(services), bound, BodyAdmission(services), 2)
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            made.turn(0.1)

    thread = threading.Thread(target=run)
    thread.start()
    yield made
    stop.set()
    thread.join()
    for channel in list(made.active_channels.values()):
        channel.drop()
    made.stop_accepting()
    made.trigger.close()
    made.end_threads()


def address_of(front: HttpFront) -> Address:
    return "127.0.0.1", int(front.effective_port)


@pytest.fixture
def session(services: Services) -> Session:
    return services.sessions.open()


def drip_until_closed(connection: socket.socket, request: bytes, pause: float = 0.1) -> float:
    """Send a request byte by byte until the server closes the connection; the seconds that took."""
    begun = time.monotonic()
    connection.settimeout(pause)
    for position in range(len(request)):
        try:
            connection.sendall(request[position : position + 1])
            if not connection.recv(1000):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - begun


def test_every_phase_has_a_deadline(front: HttpFront, session: Session) -> None:
    address = address_of(front)
    head = upload_head(address, 1000, f"edge-ct={session.token}", session.csrf)
    hello = f"GET /ready HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n\r\n".encode()
    for already, dripped in ((b"", b""), (b"", hello + b"x" * 1000), (head, b"x" * 1000), (hello, b"")):
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(already)
            begun = time.monotonic()
            if dripped:
                drip_until_closed(connection, dripped)
            else:
                read_all(connection)
            assert 0.5 < time.monotonic() - begun < 5, (already, dripped)


def test_a_body_that_is_fast_enough_outlives_the_deadline(front: HttpFront, session: Session) -> None:
    address = address_of(front)
    files = (
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        + bytes(400_000)
        + b"\r\n--b--\r\n"
    )
    head = upload_head(address, len(files), f"edge-ct={session.token}", session.csrf, "Connection: close\r\n")
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head)
        for position in range(0, len(files), 20_000):
            connection.sendall(files[position : position + 20_000])
            time.sleep(0.12)  # about 160 kB a second for 2.4 s
        assert b" 303 " in read_all(connection)


def test_places_of_bodies_are_given_back(front: HttpFront, session: Session) -> None:
    address = address_of(front)
    head = upload_head(address, 1000, f"edge-ct={session.token}", session.csrf)
    for _ in range(3):
        connections = [socket.create_connection(address, timeout=10) for _ in range(10)]
        for connection in connections:
            connection.sendall(head + b"x" * 10)
        end = time.monotonic() + 5
        while front._reserved != 10 * 1000:
            assert time.monotonic() < end
            time.sleep(0.01)
        for connection in connections:
            connection.close()
        while front._reserved:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_a_reader_who_takes_nothing_loses_its_place(front: HttpFront, services: Services, session: Session) -> None:
    address = address_of(front)
    with socket.create_connection(address, timeout=10) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(f"GET /events HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n\r\n".encode())
        connection.recv(100)
        assert len(services.events._listeners) == 1
        end = time.monotonic() + 20
        while front.active_channels:
            services.events.send("state", "x" * 500_000)
            assert time.monotonic() < end
            time.sleep(0.05)
    while services.events._listeners:
        services.events.send("state", "x")
        assert time.monotonic() < end
        time.sleep(0.05)


def test_connections_of_one_address_leave_places_for_others(front: HttpFront, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux, all of 127.0.0.0/8 is this machine."""
    monkeypatch.setattr(http_front, "_DEADLINES", dict.fromkeys(http_front._DEADLINES, 30.0))
    address = address_of(front)

    def connect(source: str) -> socket.socket:
        return socket.create_connection(address, timeout=5, source_address=(source, 0))

    with ExitStack() as stack:
        others = [stack.enter_context(connect("127.0.0.9")) for _ in range(5)]
        for _ in range(100):
            stack.enter_context(connect("127.0.0.8"))
        end = time.monotonic() + 5
        while sum(channel.address == "127.0.0.8" for channel in _channels(front)) != http_front.CONNECTIONS_AT_ADDRESS:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert sum(channel.address == "127.0.0.9" for channel in _channels(front)) == len(others)
        end = time.monotonic() + 30
        for number in range(10, 16):
            for _ in range(50):
                stack.enter_context(connect(f"127.0.0.{number}"))
        # A connection that is being accepted counts for a moment before another one makes room for it.
        while len(_channels(front)) > http_front.CONNECTIONS:
            assert len(_channels(front)) <= http_front.CONNECTIONS + 1
            assert time.monotonic() < end
            time.sleep(0.01)
        with connect("127.0.0.7") as good:
            good.sendall(f"GET /ready HTTP/1.0\r\nHost: {address[0]}:{address[1]}\r\n\r\n".encode())
            assert b" 200 " in read_all(good)


def _channels(front: HttpFront) -> list[Any]:
    return list(front.active_channels.values())


def test_guessing_and_visiting_keep_out_nobody_who_has_the_pin(serve: Serve) -> None:
    """From thirty addresses of the loopback network, with 600 visitors who take a session each."""
    served = serve("--lan", "--pin", "493817")
    port = served.address[1]
    signed_in = _sign_in(served, "127.0.0.1", "493817")
    assert signed_in

    def guess(source: str) -> None:
        for number in range(5):
            _sign_in(served, source, f"{number:06d}")

    threads = [threading.Thread(target=guess, args=(f"127.0.0.{number}",)) for number in range(40, 70)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for _ in range(600 if os.environ.get("EDGE_CT_LONG_TESTS") else 60):
        assert b"Set-Cookie" in _ask(("127.0.0.1", port), "127.0.0.90", "GET /pin HTTP/1.0", "")
    begun = time.monotonic()
    assert _sign_in(served, "127.0.0.99", "493817")
    assert time.monotonic() - begun < 3
    assert b" 200 " in _ask(("127.0.0.1", port), "127.0.0.1", "GET /rows HTTP/1.0", f"Cookie: {signed_in}\r\n")


def _ask(address: Address, source: str, line: str, more: str, body: str = "") -> bytes:
    head = f"{line}\r\nHost: {address[0]}:{address[1]}\r\n{more}"
    if body:
        head += f"Content-Length: {len(body)}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    with socket.create_connection(address, timeout=30, source_address=(source, 0)) as connection:
        connection.sendall(f"{head}\r\n{body}".encode())
        return read_all(connection)


def _sign_in(served: Served, source: str, pin: str) -> str:
    """Give a PIN from an address; the cookie of the session, or "" where the PIN was not taken."""
    from .conftest import token_of

    address = ("127.0.0.1", served.address[1])
    page = _ask(address, source, "GET /pin HTTP/1.0", "").decode()
    cookie, token = _cookie(page), token_of(page)
    answer = _ask(address, source, "POST /enter HTTP/1.0", f"Cookie: {cookie}\r\n", f"pin={pin}&csrf={token}")
    return _cookie(answer.decode()) if b" 303 " in answer else ""


def _cookie(answer: str) -> str:
    return answer.split("Set-Cookie: ")[1].partition(";")[0]
