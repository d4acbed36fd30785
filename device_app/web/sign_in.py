"""The PIN page, and the choices that a browser stores in cookies: language and theme."""

from __future__ import annotations

import math

from flask import Response, jsonify, make_response, redirect, render_template, request, url_for

from .request_checks import Refusal
from .request_context import (
    THEMES,
    begin_session,
    current_services,
    current_session,
    go_to,
    wants_json,
    words,
)
from .translations import LANGUAGES

_YEAR = 365 * 86400


def pin() -> Response:
    """Show the page that asks for the PIN."""
    session, to = current_session(), _local_path(request.args.get("to", ""))
    if current_services().gate is None or (session and session.signed_in):
        return _redirect_to(to)
    return make_response(render_template("pin.html", problem=None, to=to))


def enter() -> Response:
    """Check a submitted PIN, and lead to the page that was asked for before it."""
    services, session = current_services(), current_session()
    to = _local_path(request.form.get("to", ""))
    if services.gate is None:
        return _redirect_to(url_for("worklist"))
    wait = services.gate.check(request.remote_addr or "", request.form.get("pin", "").strip())
    if wait is None:
        if session:
            services.sessions.close(session)
        begin_session(signed_in=True)  # Under a new token, because others may know the old one.
        return go_to(to)
    seconds = math.ceil(wait)
    problem = words()("pin.wait", seconds=seconds) if seconds else words()("pin.wrong")
    page = jsonify(error=problem) if wants_json() else render_template("pin.html", problem=problem, to=to)
    response = make_response(page, 429 if seconds else 403)
    if seconds:
        response.headers["Retry-After"] = str(seconds)
    return response


def leave() -> Response:
    """End the session of this browser."""
    session = current_session()
    if session:
        current_services().sessions.close(session)
    return _redirect_to(url_for("pin" if current_services().gate else "worklist"))


def settings() -> Response:
    """Store a language or a theme in a cookie, and return to the page where it was chosen."""
    response = _redirect_to(_local_path(request.form.get("back", "")))
    for name, known in (("lang", LANGUAGES), ("theme", THEMES)):
        value = request.form.get(name)
        if value is None:
            continue
        if value not in known:
            raise Refusal(400, "error.request")
        response.set_cookie(name, value, max_age=_YEAR, httponly=True, samesite="Strict")
    return response


def _local_path(path: str) -> str:
    """Return a path of this server; the worklist instead of anything that could lead to another site."""
    local = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if local and len(path) < 500 else url_for("worklist")


def _redirect_to(address: str) -> Response:
    return make_response(redirect(address, 303))
