"""What the views need from the current request: services, language, session, and how to answer it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from flask import Response, current_app, g, jsonify, make_response, redirect, request, url_for

from edge_ct.errors import EdgeCTError, InputRejected, MissingExtra, StorageFull, WorklistBusy

from .judging_queue import Busy
from .services import Services
from .sessions import Session
from .translations import LANGUAGES, Words, preferred_language

THEMES = ("auto", "light", "dark")
EXTENSION = "edge-ct"


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


def go_to(address: str) -> Response:
    """Answer a form that was stored: lead a browser to `address`, or tell a script to go there."""
    if wants_json():
        return make_response(jsonify(url=address))
    return make_response(redirect(address, 303))


def list_url() -> str:
    """Return the address of the worklist as this browser last showed it: search, filter, order and page."""
    session = current_session()
    query: dict[str, Any] = {**session.list_query} if session else {}
    return str(url_for("worklist", **query))


def local_now() -> str:
    """Return the current time in the time zone of the device, as text."""
    return words().time(datetime.now(timezone.utc))


def http_status(error: EdgeCTError) -> int:
    """Return the HTTP status of an error of this project."""
    for kind, status in (
        (Busy, 503),
        (WorklistBusy, 503),
        (StorageFull, 507),
        (MissingExtra, 501),
        (InputRejected, 422),
    ):
        if isinstance(error, kind):
            return status
    return 400
