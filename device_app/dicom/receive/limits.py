"""How much a peer may send: limits on one object, on all that are on their way, and on a protocol unit.

pynetdicom holds an object in memory until it is complete. What goes over a limit is received and dropped as it comes,
so that memory stays bounded and the request still gets its status.
"""

from __future__ import annotations

import threading
from typing import Any

MAX_PDU = 128 << 10


class InFlight:
    """Bytes of objects that are being received, by association."""

    def __init__(self, max_object: int, max_together: int) -> None:
        self.max_object, self.max_together = max_object, max_together
        self._held: dict[int, int] = {}
        self._over: set[int] = set()
        self._lock = threading.Lock()

    def received(self, event: Any) -> None:
        """For EVT_PDU_RECV: count a data unit, and empty it where that is too much."""
        key = id(event.assoc)
        for item in getattr(event.pdu, "presentation_data_value_items", ()):
            value = item.presentation_data_value or b""
            if not value or value[0] & 1:  # a command
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

    def taken(self, assoc: Any) -> bool:
        """An association's object is complete: forget it, and say whether all of it was kept."""
        with self._lock:
            self._held.pop(id(assoc), None)
            whole = id(assoc) not in self._over
            self._over.discard(id(assoc))
            return whole


def bound_units(event: Any) -> None:
    """For EVT_CONN_OPEN: a unit that claims to be larger than what was negotiated ends its connection, unread."""
    own = event.assoc.dul.socket
    receive = own.recv

    def bounded(size: int) -> bytearray:
        if size > MAX_PDU + 64:
            raise OSError(f"a unit of {size} bytes; {MAX_PDU} were negotiated")
        return bytearray(receive(size))

    own.recv = bounded
