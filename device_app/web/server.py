"""Sockets and signals: from a desk to a running server, and to a stop that loses nothing."""

from __future__ import annotations

import logging
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from edge_ct.errors import EdgeCTError

from .services import Desk

_REQUEST_THREADS = 16
_CONNECTIONS = 100
_SIOCGIFADDR = 0x8915
DRAIN_SECONDS = 20.0


def bind(port: int, lan: bool) -> socket.socket:
    """A listening address: loopback, or with `lan` all of this machine. Raises `EdgeCTError`."""
    address = "0.0.0.0" if lan else "127.0.0.1"
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        raise EdgeCTError(f"cannot listen on {address}:{port}: {error.strerror}; give another --port") from error
    return bound


def addresses() -> list[str]:
    """This machine's IPv4 addresses but loopback's, asked of the kernel: no name service, no packet."""
    import fcntl

    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)
                found.append(socket.inet_ntoa(answer[20:24]))
    return [address for address in found if not address.startswith("127.")]


class Server:
    """Waitress on a bound socket. `run` returns after SIGTERM or SIGINT, when what was taken has been answered."""

    def __init__(self, desk: Desk, bound: socket.socket) -> None:
        from waitress.server import create_server

        from .app import create

        self._desk = desk
        self._stopping = False
        logging.getLogger("waitress").setLevel(logging.CRITICAL)  # "queue depth": uploads wait there by design
        self._waitress: Any = create_server(
            create(desk),
            sockets=[bound],
            threads=_REQUEST_THREADS + desk.streams,
            connection_limit=_CONNECTIONS,
            channel_timeout=60,
            cleanup_interval=10,
            max_request_body_size=desk.limits.request_bytes,
            channel_request_lookahead=1,  # notices a reader who left while its stream is open
            ident=None,
        )

    def run(self, ready: Callable[[], None]) -> bool:
        """Serve until told to stop. ready: called once slices can be judged. Whether all was finished in time.

        Raises what loading the model raised.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        threading.Thread(target=self._watch, args=(ready,), name="ready", daemon=True).start()
        while not self._stopping:
            self._turn(1.0)
        if self._desk.workers.error:
            raise self._desk.workers.error
        return self._drain()

    def _watch(self, ready: Callable[[], None]) -> None:
        try:
            self._desk.workers.wait()
            ready()
        except Exception:
            self._stop()

    def _stop(self, *_: object) -> None:
        self._stopping = True
        self._waitress.pull_trigger()

    def _turn(self, seconds: float) -> None:
        self._waitress.asyncore.loop(timeout=seconds, map=self._waitress._map, count=1)

    def _drain(self) -> bool:
        """Take no connection more, answer what was asked, finish what is queued."""
        self._waitress.accepting = False
        self._waitress.socket.close()
        self._waitress.del_channel(self._waitress._map)
        self._desk.quiet_down()
        end = time.monotonic() + DRAIN_SECONDS
        while self._asked() and time.monotonic() < end:
            self._turn(0.1)
        done = not self._asked()
        self._waitress.task_dispatcher.shutdown(timeout=1)
        return self._desk.close(max(1.0, end - time.monotonic())) and done

    def _asked(self) -> bool:
        """Whether a request is being answered, or an answer sent."""
        return any(
            channel.requests or channel.total_outbufs_len for channel in list(self._waitress.active_channels.values())
        )
