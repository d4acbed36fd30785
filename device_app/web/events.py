"""What happens, told to every open page: server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import msgspec

HEARTBEAT_SECONDS = 10.0
_PENDING = 64


class Events:
    """At most `most` listeners; a slow one loses events, yet each says how things stand, not a change."""

    def __init__(self, most: int = 16) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._listeners: set[queue.Queue[bytes | None]] = set()
        self._closed = False

    def tell(self, name: str, value: object) -> None:
        """Send one event to all."""
        message = b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(value))
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            _put(listener, message)

    def listen(self) -> Iterator[bytes] | None:
        """The stream of one listener, None where there are too many. A comment every ten seconds finds dead ones."""
        listener: queue.Queue[bytes | None] = queue.Queue(_PENDING)
        with self._lock:
            if self._closed or len(self._listeners) >= self._most:
                return None
            self._listeners.add(listener)
        return _Stream(self, listener)

    def close(self) -> None:
        """End all streams."""
        with self._lock:
            self._closed = True
            listeners = list(self._listeners)
        for listener in listeners:
            _put(listener, None)

    def _drop(self, listener: queue.Queue[bytes | None]) -> None:
        with self._lock:
            self._listeners.discard(listener)


class _Stream:
    """An iterator with `close`, which a server calls even where it never asked for the first item."""

    def __init__(self, events: Events, listener: queue.Queue[bytes | None]) -> None:
        self._events, self._listener = events, listener
        self._first = True

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> bytes:
        if self._first:
            self._first = False
            return b"retry: 2000\n\n"
        try:
            message = self._listener.get(timeout=HEARTBEAT_SECONDS)
        except queue.Empty:
            return b": still here\n\n"
        if message is None:
            raise StopIteration
        return message

    def close(self) -> None:
        self._events._drop(self._listener)


def _put(listener: queue.Queue[bytes | None], message: bytes | None) -> None:
    while True:
        try:
            return listener.put_nowait(message)
        except queue.Full:
            try:
                listener.get_nowait()  # the oldest
            except queue.Empty:
                continue
