"""Sessions of browsers: a token in an HttpOnly cookie, and what the server remembers about it, in memory.

The session of a browser that has not given the PIN is its token alone, which the server has signed: any number of
visitors take no memory and end nobody's session. Sessions with the PIN are stored, so that they can be ended.
"""

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
_MAX_TOKEN = 200  # characters; what is longer is no token


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
    """The sessions of all browsers, each forgotten after twelve idle hours.

    At most 512 sessions with the PIN are stored, and the reviewers' names of at most 512 others.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without a session; `clock` returns seconds."""
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Session] = OrderedDict()
        self._signed_in: OrderedDict[str, Session] = OrderedDict()

    def find(self, token: str) -> Session | None:
        """Return the session of a cookie; None if it is unknown or expired."""
        key, now = _key(token), self._clock()
        with self._lock:
            for table in (self._signed_in, self._kept):
                session = table.get(key)
                if session is None:
                    continue
                if now - session.last > IDLE_SECONDS:
                    del table[key]
                    return None
                session.last = now
                table.move_to_end(key)
                return session
        return self._session_of(token, now)

    def open(self, signed_in: bool = False) -> Session:
        """Return a new session with a new token."""
        now = self._clock()
        if not signed_in:
            body = f"{secrets.token_urlsafe(24)}.{int(now)}"
            token = f"{body}.{self._sign('token', body)}"
            return Session(token, self._sign("csrf", token), False, now)
        session = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32), True, now)
        with self._lock:
            _put(self._signed_in, session)
        return session

    def keep(self, session: Session) -> None:
        """Store the session of a browser that has sent a form, so that its attributes last."""
        if not session.signed_in:
            with self._lock:
                _put(self._kept, session)

    def close(self, session: Session) -> None:
        """Forget a session."""
        with self._lock:
            self._signed_in.pop(_key(session.token), None)
            self._kept.pop(_key(session.token), None)

    def _session_of(self, token: str, now: float) -> Session | None:
        """Return the session that a signed token states."""
        body, _, signature = token.rpartition(".")
        if len(token) > _MAX_TOKEN or not token.isascii():
            return None
        if not hmac.compare_digest(self._sign("token", body), signature):
            return None
        issued = int(body.rpartition(".")[2])
        return Session(token, self._sign("csrf", token), False, now) if now - issued <= IDLE_SECONDS else None

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose} {text}".encode(), hashlib.sha256).hexdigest()


def _put(table: OrderedDict[str, Session], session: Session) -> None:
    table[_key(session.token)] = session
    while len(table) > _MAX_SESSIONS:
        table.popitem(last=False)


def _key(token: str) -> str:
    """Return a digest of a token: the time that a look-up takes then tells nothing about the token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
