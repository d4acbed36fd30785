"""Limits on what a peer may send: bytes of one object, bytes of all objects in transfer, bytes of one PDU.

pynetdicom holds an object in memory until it is complete. The part of an object beyond a limit is received and dropped,
so that memory stays bounded and the request still gets its status.
"""

from __future__ import annotations

import threading
from typing import Any

MAX_PDU = 128 << 10


class InFlight:
    """Bytes of the objects that are being received, by association."""

    def __init__(self, max_object: int, max_together: int) -> None:
        """Set the limits in bytes: of one object, and of all objects together."""
        self.max_object, self.max_together = max_object, max_together
        self._held: dict[int, int] = {}
        self._over: set[int] = set()
        self._lock = threading.Lock()

    def count_pdu(self, event: Any) -> None:
        """Handle EVT_PDU_RECV: count the data of a PDU, and drop the data if it exceeds a limit."""
        key = id(event.assoc)
        for item in getattr(event.pdu, "presentation_data_value_items", ()):
            value = item.presentation_data_value or b""
            if not value or value[0] & 1:  # A command, not data.
                continue
            with self._lock:
                held = self._held.get(key, 0) + len(value)
                together = sum(self._held.values()) + len(value)
                if key in self._over or held > self.max_object or together > self.max_together:
                    self._over.add(key)
                    self._held.pop(key, None)
                    item.presentation_data_value = value[:1]
                else:
                    self._held[key] = held

    def complete(self, assoc: Any) -> bool:
        """Forget the object of an association; return whether all of its data was kept."""
        with self._lock:
            self._held.pop(id(assoc), None)
            whole = id(assoc) not in self._over
            self._over.discard(id(assoc))
            return whole


def limit_pdu_length(event: Any) -> None:
    """Handle EVT_CONN_OPEN: close a connection whose PDU states a greater length than was negotiated, unread."""
    socket = event.assoc.dul.socket
    receive = socket.recv

    def receive_limited(size: int) -> bytearray:
        if size > MAX_PDU + 64:
            raise OSError(f"a PDU of {size} bytes; {MAX_PDU} were negotiated")
        return bytearray(receive(size))

    socket.recv = receive_limited
