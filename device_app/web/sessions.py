"""Sessions of browsers: a random token in an HttpOnly cookie, and what the server remembers about it, in memory."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

COOKIE = "edge-ct"
IDLE_SECONDS = 12 * 3600
_MAX_SESSIONS = 512


@dataclass
class Session:
    """The session of one browser.

    Attributes:
        token: Value of the cookie.
        csrf: Token that its forms must send.
        signed_in: True once the PIN has been given.
        last: Time of the last request, by the clock of `Sessions`.
        reviewer: Name under which the last review was signed.
        list_query: Search, filter, order and page with which the worklist was last shown.
    """

    token: str
    csrf: str
    signed_in: bool
    last: float
    reviewer: str = ""
    list_query: dict[str, str] = field(default_factory=dict)

    def owns_csrf_token(self, csrf: str) -> bool:
        """Return whether `csrf` is the token of this session, in constant time."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode())


class Sessions:
    """At most 512 sessions of each kind, forgotten after twelve idle hours.

    Sessions with the PIN are kept apart, so that strangers cannot displace them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without a session; `clock` returns seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._strangers: OrderedDict[str, Session] = OrderedDict()
        self._signed_in: OrderedDict[str, Session] = OrderedDict()

    def find(self, token: str) -> Session | None:
        """Return the session of a cookie; None if it is unknown or expired."""
        key, now = _key(token), self._clock()
        with self._lock:
            for table in (self._signed_in, self._strangers):
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

    def open(self, signed_in: bool = False) -> Session:
        """Return a new session with a new token."""
        session = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32), signed_in, self._clock())
        with self._lock:
            table = self._signed_in if signed_in else self._strangers
            table[_key(session.token)] = session
            while len(table) > _MAX_SESSIONS:
                table.popitem(last=False)
        return session

    def close(self, session: Session) -> None:
        """Forget a session."""
        with self._lock:
            self._signed_in.pop(_key(session.token), None)
            self._strangers.pop(_key(session.token), None)


def _key(token: str) -> str:
    """Return a digest of a token: the time that a look-up takes then tells nothing about the token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
