"""Files over which worker processes have ended, by size and content."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from edge_ct.system.files import open_regular

from .sources import Source

# Ends of workers after which a file is not tried again.
MAX_ENDS = 2


class Incidents(Protocol):
    """Remembers over which files workers have ended."""

    def quarantined(self, size: int, digest: Callable[[], str]) -> str | None:
        """Return why a file of this size and SHA-256 is not judged any more; None if it may be judged."""

    def record(self, digest: str, size: int, name: str, reason: str) -> int:
        """Remember that a worker ended over a file. Returns how many have ended over it so far."""


@dataclass
class RecentIncidents:
    """Incidents of this process alone."""

    _ends: dict[str, tuple[int, int, str]] = field(default_factory=dict)

    def quarantined(self, size: int, digest: Callable[[], str]) -> str | None:
        """See `Incidents`."""
        if all(known != size for known, _, _ in self._ends.values()):
            return None
        _, ends, reason = self._ends.get(digest(), (0, 0, ""))
        return reason if ends >= MAX_ENDS else None

    def record(self, digest: str, size: int, name: str, reason: str) -> int:
        """See `Incidents`."""
        ends = self._ends.get(digest, (0, 0, ""))[1] + 1
        self._ends[digest] = (size, ends, reason)
        return ends


class Content:
    """Size and SHA-256 of a source, read when they are needed."""

    def __init__(self, source: Source) -> None:
        self._source, self._digest = source, ""
        self.size = 0
        with contextlib.suppress(OSError, ValueError), source.opened() as data:
            if isinstance(data, bytes):
                self.size = len(data)
            elif source.reason is None:
                self.size = data.stat().st_size

    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal digits; "" if the file cannot be read."""
        if not self._digest:
            import hashlib  # late: a cold `classify` of one file does not need it

            with contextlib.suppress(OSError, ValueError), self._source.opened() as data:
                if isinstance(data, bytes):
                    self._digest = hashlib.sha256(data).hexdigest()
                else:
                    digest = hashlib.sha256()
                    with open_regular(data) as file:
                        while block := file.read(1 << 20):
                            digest.update(block)
                    self._digest = digest.hexdigest()
        return self._digest
