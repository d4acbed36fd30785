"""The PIN page, and what a browser keeps of its own: language and theme."""

from __future__ import annotations

import math

from flask import Response, make_response, redirect, render_template, request, url_for

from .app import THEMES, Refusal, begin, session, the_desk, words
from .translations import LANGUAGES

_YEAR = 365 * 86400


def pin() -> Response:
    """Where the PIN is asked for."""
    own = session()
    if the_desk().gate is None or (own and own.entered):
        return _to(url_for("worklist"))
    return make_response(render_template("pin.html", problem=None))


def enter() -> Response:
    """Hear a guess."""
    desk, own = the_desk(), session()
    if desk.gate is None:
        return _to(url_for("worklist"))
    wait = desk.gate.guess(request.remote_addr or "", request.form.get("pin", "").strip())
    if wait is None:
        if own:
            desk.sessions.close(own)
        begin(entered=True)  # under a new token: the old one may be known to others
        return _to(url_for("worklist"))
    seconds = math.ceil(wait)
    problem = words()("pin.wait", seconds=seconds) if seconds else words()("pin.wrong")
    response = make_response(render_template("pin.html", problem=problem), 429 if seconds else 403)
    if seconds:
        response.headers["Retry-After"] = str(seconds)
    return response


def leave() -> Response:
    """Forget this browser."""
    own = session()
    if own:
        the_desk().sessions.close(own)
    return _to(url_for("pin" if the_desk().gate else "worklist"))


def settings() -> Response:
    """Keep a language or a theme in a cookie, and go back to the page it was chosen on."""
    response = _to(_own_path(request.form.get("back", "")))
    for name, known in (("lang", LANGUAGES), ("theme", THEMES)):
        value = request.form.get(name)
        if value is None:
            continue
        if value not in known:
            raise Refusal(400, "error.request")
        response.set_cookie(name, value, max_age=_YEAR, httponly=True, samesite="Strict")
    return response


def _own_path(path: str) -> str:
    """A path of this server; the worklist for anything that could lead elsewhere."""
    good = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if good and len(path) < 500 else url_for("worklist")


def _to(address: str) -> Response:
    return make_response(redirect(address, 303))
