"""Browsers: a random token in an HttpOnly cookie, and what the server remembers of each, in memory alone."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

COOKIE = "edge-ct"
IDLE_SECONDS = 12 * 3600
_MOST = 512


@dataclass
class Session:
    """One browser. token: what its cookie holds. csrf: what its forms must send along. entered: gave the PIN.

    reviewer: the name that was last signed with.
    """

    token: str
    csrf: str
    entered: bool
    last: float
    reviewer: str = ""

    def allows(self, csrf: str) -> bool:
        """Whether `csrf` came from a page of this session."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode())


class Sessions:
    """At most 512 of them, forgotten after twelve idle hours; one that gave the PIN is not pushed out by others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._strangers: OrderedDict[str, Session] = OrderedDict()
        self._entered: OrderedDict[str, Session] = OrderedDict()

    def find(self, token: str) -> Session | None:
        """The session of a cookie's token, None where it is unknown or too old."""
        key, now = _key(token), self._clock()
        with self._lock:
            for table in (self._entered, self._strangers):
                session = table.get(key)
                if session is None:
                    continue
                if now - session.last > IDLE_SECONDS:
                    del table[key]
                    return None
                session.last = now
                table.move_to_end(key)
                return session
        return None

    def open(self, entered: bool = False) -> Session:
        """A new session under a new token."""
        session = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32), entered, self._clock())
        with self._lock:
            table = self._entered if entered else self._strangers
            table[_key(session.token)] = session
            while len(table) > _MOST:
                table.popitem(last=False)
        return session

    def close(self, session: Session) -> None:
        """Forget a session."""
        with self._lock:
            self._entered.pop(_key(session.token), None)
            self._strangers.pop(_key(session.token), None)


def _key(token: str) -> str:
    """Tables are looked up by a hash, whose comparison tells nothing of the token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
