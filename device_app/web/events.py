"""Live news for open pages: server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import msgspec

# A page that was left keeps its place until a heartbeat fails: whoever clicks through pages must not run out of them.
HEARTBEAT_SECONDS = 3.0
_MAX_PENDING = 64


class Events:
    """The streams of all open pages.

    A slow listener loses its oldest events. That does no harm, because each event holds the whole state.
    """

    def __init__(self, max_listeners: int = 16) -> None:
        """Begin without a listener."""
        self._max_listeners = max_listeners
        self._lock = threading.Lock()
        self._listeners: dict[queue.Queue[bytes | None], str] = {}
        self._closed = False

    def send(self, name: str, value: object) -> None:
        """Send an event to all listeners; `value` is sent as JSON."""
        message = b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(value))
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            _put(listener, message)

    def listen(self, address: str = "") -> Iterator[bytes] | None:
        """Return the stream of a new listener at an address; None if there are too many, there or in all.

        The stream has a comment every few seconds, so that the server notices listeners that are gone.
        """
        listener: queue.Queue[bytes | None] = queue.Queue(_MAX_PENDING)
        with self._lock:
            # No address takes the last places, so that another one can still listen.
            here = sum(known == address for known in self._listeners.values())
            full = len(self._listeners) >= self._max_listeners
            if self._closed or full or here >= self._max_listeners - self._max_listeners // 4:
                return None
            self._listeners[listener] = address
        return _Stream(self, listener)

    def close(self) -> None:
        """End all streams."""
        with self._lock:
            self._closed = True
            listeners = list(self._listeners)
        for listener in listeners:
            _put(listener, None)

    def _remove(self, listener: queue.Queue[bytes | None]) -> None:
        with self._lock:
            self._listeners.pop(listener, None)


class _Stream:
    """An iterator with `close`, which a WSGI server calls even if it never asked for the first item."""

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
            return b": heartbeat\n\n"
        if message is None:
            raise StopIteration
        return message

    def close(self) -> None:
        self._events._remove(self._listener)


def _put(listener: queue.Queue[bytes | None], message: bytes | None) -> None:
    """Put a message into a queue; a full queue loses its oldest message."""
    while True:
        try:
            return listener.put_nowait(message)
        except queue.Full:
            try:
                listener.get_nowait()
            except queue.Empty:
                continue
