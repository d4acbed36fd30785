"""What the views need from the current request: services, language, session, and how to refuse it."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app, g, request

from edge_ct.errors import EdgeCTError, InputRejected, MissingExtra, StorageFull

from .judging_queue import Busy
from .services import Services
from .sessions import Session
from .translations import LANGUAGES, Words, preferred_language

THEMES = ("auto", "light", "dark")
EXTENSION = "edge-ct"


@dataclass(frozen=True)
class Refusal(Exception):
    """An error page instead of an answer.

    Attributes:
        status: HTTP status.
        key: Key of the text in `strings.json`.
        wait: Seconds after which the request may be repeated, if that helps.
    """

    status: int
    key: str
    wait: int | None = None


def current_services() -> Services:
    """Return the services of the running application."""
    services = current_app.extensions[EXTENSION]
    assert isinstance(services, Services)
    return services


def words() -> Words:
    """Return the texts in the language of this request: the chosen one, else the browser's, else the server's."""
    if "words" not in g:
        chosen = request.cookies.get("lang", "")
        language = chosen if chosen in LANGUAGES else preferred_language(request.headers.get("Accept-Language", ""))
        g.words = Words(language or current_services().language)
    current = g.words
    assert isinstance(current, Words)
    return current


def current_session() -> Session | None:
    """Return the session of this request, if the browser has one."""
    session = g.get("session")
    return session if isinstance(session, Session) else None


def begin_session(signed_in: bool) -> Session:
    """Give the browser of this request a new session."""
    session = current_services().sessions.open(signed_in)
    g.session, g.new_session = session, True
    return session


def wants_json() -> bool:
    """Return whether a script sent this request and expects JSON rather than a page."""
    return bool(request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json")


def http_status(error: EdgeCTError) -> int:
    """Return the HTTP status of an error of this project."""
    for kind, status in ((Busy, 503), (StorageFull, 507), (MissingExtra, 501), (InputRejected, 422)):
        if isinstance(error, kind):
            return status
    return 400
