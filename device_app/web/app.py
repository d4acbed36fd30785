"""The Flask application: which address leads where, and what every request passes before and after."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from flask import Flask, Response, current_app, g, request, url_for
from werkzeug.exceptions import HTTPException

from edge_ct import __version__
from edge_ct.errors import EdgeCTError, InputRejected, MissingExtra, StorageFull

from .request_checks import HEADERS
from .services import Desk
from .sessions import COOKIE, IDLE_SECONDS, Session
from .translations import LANGUAGES, Words, preferred

THEMES = ("auto", "light", "dark")
CSRF_FIELD, CSRF_HEADER = "csrf", "X-CSRF-Token"
_EXTENSION = "edge-ct"
# What is shown before the PIN is given: nothing of a patient, nothing of the device.
_OPEN = frozenset({"static", "pin", "enter", "ready", "settings"})


@dataclass(frozen=True)
class Refusal(Exception):
    """An answer other than a page: status, a key of the catalogue, seconds to wait."""

    status: int
    key: str
    wait: int | None = None


def create(desk: Desk) -> Flask:
    """The application of a desk."""
    from . import sign_in, uploads, views

    app = Flask(__name__, static_folder="static", template_folder="templates")
    app.extensions[_EXTENSION] = desk
    app.config.update(
        MAX_CONTENT_LENGTH=desk.limits.request_bytes,
        MAX_FORM_MEMORY_SIZE=512 << 10,  # werkzeug counts its read buffer too
        MAX_FORM_PARTS=desk.limits.files + 4,
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.before_request(_check)
    app.after_request(_finish)
    app.context_processor(_shared)
    for error in (Refusal, HTTPException, EdgeCTError, Exception):
        app.register_error_handler(error, _answer)
    get, post = ["GET"], ["POST"]
    for rule, name, view, methods in (
        ("/", "worklist", views.worklist, get),
        ("/rows", "rows", views.rows, get),
        ("/state", "state", views.state, get),
        ("/events", "events", views.events, get),
        ("/ready", "ready", views.ready, get),
        ("/slices/<int:number>", "slice", views.slice_page, get),
        ("/slices/<int:number>/print", "summary", views.summary, get),
        ("/slices/<int:number>/<any(slice, thumb, layer, overlay):kind>.png", "picture", views.picture, get),
        ("/slices/<int:number>/review", "review", views.review, post),
        ("/model", "model", views.model, get),
        ("/device", "device", views.device, get),
        ("/device/self-test", "self_test", views.self_test, post),
        ("/add", "add", uploads.add, get),
        ("/upload", "upload", uploads.upload, post),
        ("/folders/<token>", "folder", uploads.folder, get),
        ("/folders/<token>/read", "read_folder", uploads.read_folder, post),
        ("/folders/stop", "stop_reading", uploads.stop_reading, post),
        ("/pin", "pin", sign_in.pin, get),
        ("/enter", "enter", sign_in.enter, post),
        ("/leave", "leave", sign_in.leave, post),
        ("/settings", "settings", sign_in.settings, post),
    ):
        app.add_url_rule(rule, name, view, methods=methods)
    return app


def the_desk() -> Desk:
    """The desk of the running application."""
    found = current_app.extensions[_EXTENSION]
    assert isinstance(found, Desk)
    return found


def words() -> Words:
    """The words of this request's language: chosen, else the browser's, else the server's."""
    if "words" not in g:
        chosen = request.cookies.get("lang", "")
        language = chosen if chosen in LANGUAGES else preferred(request.headers.get("Accept-Language", ""))
        g.words = Words(language or the_desk().language)
    found = g.words
    assert isinstance(found, Words)
    return found


def session() -> Session | None:
    """Of this request."""
    found = g.get("session")
    return found if isinstance(found, Session) else None


def begin(entered: bool) -> Session:
    """Give this browser a new session."""
    opened = the_desk().sessions.open(entered)
    g.session, g.new_session = opened, True
    return opened


def wants_json() -> bool:
    """Whether a script asks, not a page."""
    return bool(request.accept_mimetypes.best_match(["text/html", "application/json"]) == "application/json")


def _check() -> Response | None:
    desk = the_desk()
    if not desk.hosts.good(request.headers.get("Host")):
        raise Refusal(421, "error.host")
    token = request.cookies.get(COOKIE)
    g.session = desk.sessions.find(token) if token else None
    own = session()
    if desk.gate and not (own and own.entered) and request.endpoint not in _OPEN:
        if request.method == "GET" and not wants_json() and request.endpoint in ("worklist", "slice", "model", None):
            return Response(status=303, headers={"Location": url_for("pin")})
        raise Refusal(401, "error.pin")
    if request.method == "POST":
        site = request.headers.get("Sec-Fetch-Site")
        if not desk.hosts.same_origin(request.headers.get("Origin"), request.headers.get("Host"), site):
            raise Refusal(403, "error.csrf")
        given = request.headers.get(CSRF_HEADER) or request.form.get(CSRF_FIELD, "")
        if own is None or not own.allows(given):
            raise Refusal(403, "error.csrf")
    return None


def _finish(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers[name] = value
    if request.endpoint == "static" and request.args.get("v"):
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    elif "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "Cookie, Accept-Language"
    own = session()
    if own is not None and g.get("new_session"):
        response.set_cookie(COOKIE, own.token, max_age=IDLE_SECONDS, httponly=True, samesite="Strict")
    return response


def _shared() -> dict[str, Any]:
    """What every template may use."""
    desk, t = the_desk(), words()
    own = session() or begin(entered=False)
    theme = request.cookies.get("theme", "auto")
    return {
        "t": t,
        "languages": LANGUAGES,
        "theme": theme if theme in THEMES else "auto",
        "themes": THEMES,
        "csrf": own.csrf,
        "locked": desk.gate is not None and not own.entered,
        "with_pin": desk.gate is not None,
        "asset": _asset,
        "page": request.endpoint,
        "version": __version__,
        "model_name": desk.bundle.identity,
        "path": request.full_path.rstrip("?") if request.method == "GET" else url_for("worklist"),
    }


def _asset(name: str) -> str:
    return str(url_for("static", filename=name, v=_digest(name)))


@cache
def _digest(name: str) -> str:
    """So that a browser keeps a static file for good, and takes another one after an update."""
    content = resources.files(__package__).joinpath("static", name).read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


def _answer(error: Exception) -> Response:
    """Any failure as a page or as JSON, in words that say what to do; never a traceback."""
    from flask import jsonify, render_template

    status, key, wait, detail = 500, "error.internal", None, None
    if isinstance(error, Refusal):
        status, key, wait = error.status, error.key, error.wait
    elif isinstance(error, HTTPException):
        status = error.code or 500
        key = {404: "error.missing", 405: "error.missing", 413: "error.large"}.get(status, "error.request")
        if status >= 500:
            key = "error.internal"
    elif isinstance(error, EdgeCTError):
        status, key, detail = status_of(error), "error.detail", str(error)
    else:
        current_app.logger.error("%s %s: %s: %s", request.method, request.path, type(error).__name__, error)
    text = words()(key, detail=detail or "", seconds=wait or 0)
    if wants_json() or request.endpoint in ("picture", "events", "rows", "state"):
        response = jsonify(error=text)
    else:
        response = Response(render_template("error.html", status=status, text=text), mimetype="text/html")
    response.status_code = status
    if wait is not None:
        response.headers["Retry-After"] = str(wait)
    return response


def status_of(error: EdgeCTError) -> int:
    """The HTTP status of one of this project's errors."""
    from .judging_queue import Busy

    for kind, status in ((Busy, 503), (StorageFull, 507), (MissingExtra, 501), (InputRejected, 422)):
        if isinstance(error, kind):
            return status
    return 400
