"""Waitress with limits, so that nobody can hold all places: deadlines, places per address, bodies that are admitted.

Each connection is in one of these phases; in all but `served` it has a deadline, and may lose its place to a newcomer:

    idle     between two requests
    head     the headers are arriving
    body     the body is arriving, at 64 KiB a second or more
    served   the application is answering
    answer   the answer is being sent, at 64 KiB a second or more
    linger   a refused body is dropped for a moment, so that its sender can read the refusal
"""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from .body_admission import BUSY, UPLOAD, BodyAdmission
from .request_checks import HEADERS, Refusal
from .translations import Words, preferred_language

CONNECTIONS, CONNECTIONS_AT_ADDRESS = 240, 60
BODIES, BODIES_AT_ADDRESS = 32, 16
# Bytes of all bodies that are arriving or being judged, in bodies of the largest size.
_BODY_BUDGET = 4
_PAGE_THREADS, _UPLOAD_THREADS = 8, 8
_RATE = 64 << 10  # bytes a second
# Seconds that a phase may last, beside what its bytes take at this rate.
_DEADLINES = {"idle": 30.0, "head": 10.0, "body": 20.0, "answer": 30.0, "linger": 2.0}
# A listener to events that takes none of them for so many seconds is gone.
_SILENT_SECONDS = 60.0
# A body that is this many seconds slower than the rate loses its place to another one.
_SLOW_SECONDS = 1.0
_HEADER_BYTES = 32 << 10


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection."""

    request: Any  # the one that is arriving
    requests: list[Any]  # those that have arrived and are not answered

    def __init__(self, server: HttpFront, sock: socket.socket, address: Any, adj: Any, map: Any = None) -> None:
        """Take a connection that was accepted, or close it if there is no place."""
        self.address = str(address[0])
        self._since, self._bytes, self._phase = time.monotonic(), 0, "head"
        self._answered = self._unread = self._lingering = False
        super().__init__(server, sock, address, adj, map=map)
        server.make_room(self)

    def phase(self, now: float) -> str:
        """Return the phase, and note when it began."""
        if self._lingering:
            phase = "linger"
        elif self.request is not None:  # Perhaps before the answer to the request before it is sent.
            phase = "body" if self.request.headers_finished else "head"
        elif self.requests:
            phase = "served"
        elif self.total_outbufs_len or self.close_when_flushed:
            phase = "answer"
        else:
            phase = "idle" if self._answered else "head"
        if phase != self._phase:
            self._phase, self._since = phase, now
            self._bytes = self.total_outbufs_len if phase == "answer" else 0
        return phase

    def slowness(self, now: float) -> float:
        """Return by how many seconds the phase has lasted longer than its bytes take; below 0 for one that is fast."""
        phase = self.phase(now)
        patience = 5.0 if phase == "idle" else 0.0
        return now - self._since - self._bytes / _RATE - patience

    def is_late(self, now: float) -> bool:
        """Return whether the deadline of the phase has passed."""
        phase = self.phase(now)
        if phase == "served":
            silent = time.time() - self.last_activity
            return bool(self.total_outbufs_len) and silent > _SILENT_SECONDS
        return now - self._since > _DEADLINES[phase] + self._bytes / _RATE

    def received(self, data: bytes) -> bool:
        """Take what has arrived; refuse a body of which the headers show that it cannot be accepted."""
        now = time.monotonic()
        self.phase(now)
        taken = bool(super().received(data))
        if self.phase(now) == "body":
            self._bytes += len(data)
        with self.requests_lock:
            if self._refuse_body():
                self.requests.append(self.request)
                self.request = None
                if len(self.requests) == 1:
                    self.server.add_task(self)
        return taken

    def send_continue(self) -> None:
        """Ask for the body that a client holds back, if it is admitted; `received` goes on with a refused request."""
        if not self._refuse_body():
            super().send_continue()

    def _refuse_body(self) -> bool:
        """Check the request whose body is arriving, once; a refused one becomes complete, with an error."""
        request = self.request
        if request is None or not request.headers_finished or request.completed or hasattr(request, "admitted"):
            return False
        request.admitted = True
        refusal = self.server.admit(self, request)
        if refusal is None:
            return False
        request.error, request.expect_continue, request.completed = _Answer(request, refusal, self.server), False, True
        self._unread = True
        return True

    def service(self) -> None:
        """Answer one request, in a thread of its own; then the place of its body is free."""
        request = self.requests[0]
        super().service()
        self._answered = True
        self.server.release(request)

    def readable(self) -> bool:
        """Return whether something may be received."""
        return self._lingering or bool(super().readable())

    def handle_read(self) -> None:
        """Receive something; the rest of a refused body is dropped."""
        if not self._lingering:
            super().handle_read()
            return
        with suppress(OSError):
            self.recv(65536)  # At the end of the connection, this closes the channel.

    def handle_close(self) -> None:
        """Close the connection; after a refusal, wait until the client has read it."""
        if self._unread and not self._lingering and self.connected:
            with suppress(OSError):
                # To close a connection whose data were not read would discard the refusal on its way.
                self.socket.shutdown(socket.SHUT_WR)
                self._lingering, self.will_close, self.close_when_flushed = True, False, False
                self.phase(time.monotonic())
                return
        self.drop()

    def drop(self) -> None:
        """Close the connection at once; a request that has arrived keeps its place until a thread has seen to it."""
        self.server.release(self.request)
        super().handle_close()


class HttpFront(TcpWSGIServer):  # type: ignore[misc]
    """The server: `turn` waits for connections and data, threads answer."""

    channel_class = Channel

    def __init__(self, application: Any, bound: socket.socket, admission: BodyAdmission, streams: int) -> None:
        """Start to accept connections.

        Args:
            application: The WSGI application.
            bound: The socket to serve on.
            admission: Decides which bodies are read.
            streams: Maximum number of requests whose answer never ends.
        """
        self._admission = admission
        self._lock = threading.Lock()
        self._reserved = 0
        self._checked = time.monotonic()
        self._budget = _BODY_BUDGET * admission.largest(UPLOAD)
        self._uploads = ThreadedTaskDispatcher()
        self._uploads.set_thread_count(_UPLOAD_THREADS)
        pages = ThreadedTaskDispatcher()
        pages.set_thread_count(_PAGE_THREADS + streams)
        adjustments = Adjustments(
            sockets=[bound],
            connection_limit=1 << 20,  # `make_room` keeps the limits.
            max_request_body_size=admission.largest(UPLOAD),
            max_request_header_size=_HEADER_BYTES,
            channel_request_lookahead=1,  # Notices a reader that left while its stream is open.
            ident=None,
        )
        super().__init__(
            application,
            {},
            _sock=bound,
            dispatcher=pages,
            adj=adjustments,
            sockinfo=(bound.family, bound.type, bound.proto, bound.getsockname()),
            bind_socket=False,
        )

    def turn(self, seconds: float) -> None:
        """Accept, receive and send what is there, waiting for it up to `seconds`."""
        now = time.monotonic()
        if now - self._checked >= 1:
            self._checked = now
            self._end_late(now)
        self.asyncore.loop(timeout=min(seconds, 1.0), map=self._map, count=1, use_poll=True)

    def seconds_behind(self) -> float:
        """Return for how many seconds no turn has begun."""
        return time.monotonic() - self._checked

    def stop_accepting(self) -> None:
        """Accept no further connection."""
        self.accepting = False
        self.socket.close()
        self.del_channel(self._map)

    @property
    def is_answering(self) -> bool:
        """True while a request is being answered, or an answer is being sent."""
        return any(channel.requests or channel.total_outbufs_len for channel in list(self.active_channels.values()))

    def end_threads(self) -> None:
        """End the threads that answer."""
        for dispatcher in (self.task_dispatcher, self._uploads):
            dispatcher.shutdown(timeout=1)

    def add_task(self, channel: Channel) -> None:
        """Give a request to a thread; uploads, which wait for judging, have threads of their own."""
        request = channel.requests[0]
        is_upload = request.error is None and request.path == UPLOAD
        (self._uploads if is_upload else self.task_dispatcher).add_task(channel)

    def readable(self) -> bool:
        """Return whether connections are accepted. None is closed here, as the base class does while it polls.

        The number of a file that is closed between two steps of a poll could be that of a new connection in the second.
        """
        return bool(self.accepting)

    def _end_late(self, now: float) -> None:
        """End connections whose deadline has passed."""
        for channel in list(self.active_channels.values()):
            if channel.is_late(now):
                channel.drop()

    def make_room(self, channel: Channel) -> None:
        """Close the slowest connection if there is one too many, of the same address or in all."""
        channels = [other for other in self.active_channels.values() if other is not channel]
        same = [other for other in channels if other.address == channel.address]
        if len(same) >= CONNECTIONS_AT_ADDRESS:
            channels = same
        elif len(channels) < CONNECTIONS:
            return
        now = time.monotonic()
        waiting = [other for other in channels if other.phase(now) != "served"]
        (max(waiting, key=lambda other: other.slowness(now)) if waiting else channel).drop()

    def admit(self, channel: Channel, request: Any) -> Refusal | None:
        """Return why the body of a request is not read; None if it is, and has a place now."""
        size = None if request.chunked else request.content_length
        refusal = self._admission.refuse(request.command, request.path, request.headers, size)
        if refusal is not None:
            return refusal
        now = time.monotonic()
        others = [other for other in list(self.active_channels.values()) if other is not channel]
        bodies = [other for other in others if other.phase(now) == "body"]
        same = [other for other in bodies if other.address == channel.address]
        size = size or self._admission.largest(request.path)
        if len(same) >= BODIES_AT_ADDRESS:
            full = same
        elif len(bodies) >= BODIES or self._reserved + size > self._budget:
            full = bodies
        else:
            full = []
        if full:
            slowest = max(full, key=lambda other: other.slowness(now))
            if slowest.slowness(now) <= _SLOW_SECONDS:
                return BUSY
            slowest.drop()
        with self._lock:
            if self._reserved + size > self._budget:
                return BUSY
            request.reserved = size
            self._reserved += size
        return None

    def release(self, request: Any) -> None:
        """Give the place of the body of a request back, if it has one."""
        with self._lock:
            self._reserved -= getattr(request, "reserved", 0)
            if request is not None:
                request.reserved = 0

    @property
    def language(self) -> str:
        """The language for browsers that ask for none of those supported."""
        return self._admission.services.language


class _Answer:
    """A refusal in the form that Waitress sends."""

    def __init__(self, request: Any, refusal: Refusal, server: HttpFront) -> None:
        self._refusal = refusal
        language = preferred_language(request.headers.get("ACCEPT_LANGUAGE", "")) or server.language
        self._text = Words(language)(refusal.key)
        self._json = "application/json" in request.headers.get("ACCEPT", "")

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        kind = "application/json" if self._json else "text/plain; charset=utf-8"
        body = json.dumps({"error": self._text}) if self._json else f"{self._text}\n"
        headers = [("Content-Type", kind), ("Cache-Control", "no-store"), *HEADERS.items()]
        if self._refusal.wait is not None:
            headers.append(("Retry-After", str(self._refusal.wait)))
        return f"{self._refusal.status} Refused", headers, body.encode()
