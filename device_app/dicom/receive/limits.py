"""Limits on what a peer may send: bytes of a command, of one object, of all objects in transfer, and of one PDU.

pynetdicom holds a message in memory until it is complete. The part of an object beyond a limit is received and dropped,
so that memory stays bounded and the request still gets its status; an association whose commands are too long is ended.
"""

from __future__ import annotations

import threading
from typing import Any

MAX_PDU = 128 << 10
# Bytes of one command set (PS3.7, E); those of C-STORE and C-ECHO take a few hundred.
MAX_COMMAND = 64 << 10


class InFlight:
    """Bytes of the messages that are being received, by association."""

    def __init__(self, max_object: int, max_together: int) -> None:
        """Set the limits in bytes: of one object, and of all objects together."""
        self.max_object, self.max_together = max_object, max_together
        self._held: dict[int, int] = {}
        self._commands: dict[int, int] = {}
        self._over: set[int] = set()
        self._lock = threading.Lock()

    def count_pdu(self, event: Any) -> bool:
        """Count the content of a PDU, and drop data that exceeds a limit; False if the commands are too long."""
        key = id(event.assoc)
        fits = True
        for item in getattr(event.pdu, "presentation_data_value_items", ()):
            value = item.presentation_data_value or b""
            if not value:
                continue
            with self._lock:
                if value[0] & 1:
                    self._commands[key] = self._commands.get(key, 0) + len(value)
                    if self._commands[key] > MAX_COMMAND:
                        fits = False
                        item.presentation_data_value = b"\x01"  # a part of a command that is not its last
                    continue
                held = self._held.get(key, 0) + len(value)
                together = sum(self._held.values()) + len(value)
                if key in self._over or held > self.max_object or together > self.max_together:
                    self._over.add(key)
                    self._held.pop(key, None)
                    item.presentation_data_value = value[:1]
                else:
                    self._held[key] = held
        return fits

    def end_command(self, assoc: Any) -> None:
        """Begin to count the next command of an association: its message is complete."""
        with self._lock:
            self._commands.pop(id(assoc), None)

    def complete(self, assoc: Any) -> bool:
        """Forget the object of an association; return whether all of its data was kept."""
        with self._lock:
            self._held.pop(id(assoc), None)
            whole = id(assoc) not in self._over
            self._over.discard(id(assoc))
            return whole
