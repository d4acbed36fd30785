"""The Flask application: its routes, and the checks that each request passes before and after."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import Any

from flask import Flask, Response, current_app, g, jsonify, render_template, request, url_for
from flask.globals import request_ctx
from werkzeug.exceptions import HTTPException

from edge_ct import __version__
from edge_ct.errors import EdgeCTError, WorklistBusy

from ..worklist.database import LARGEST_NUMBER
from . import list_views, sign_in, slice_views, uploads, views
from .presenters import retention_line
from .request_checks import HEADERS, Refusal, is_host
from .request_context import (
    EXTENSION,
    THEMES,
    begin_session,
    current_services,
    current_session,
    http_status,
    wants_json,
    words,
)
from .services import Services
from .sessions import COOKIE, IDLE_SECONDS
from .translations import LANGUAGES

# After so many seconds a browser may try again what another process kept from being stored.
_BUSY_SECONDS = 5
CSRF_FIELD, CSRF_HEADER = "csrf", "X-CSRF-Token"
# What a page asks for by itself: without the PIN it gets an error, where a page leads to the one that asks for the PIN.
_PARTS = ("picture", "events", "rows", "state")
_PICTURES = "slice, thumb, layer, outline, overlay"
# Endpoints that are served before the PIN is given; they tell nothing of patients and nothing of the device.
_PUBLIC = frozenset({"static", "pin", "enter", "ready", "settings", "token"})


def create_app(services: Services) -> Flask:
    """Return the application that serves `services`."""
    app = Flask(__name__, static_folder="static", template_folder="templates")
    app.extensions[EXTENSION] = services
    app.config.update(
        MAX_CONTENT_LENGTH=services.limits.request_bytes,
        MAX_FORM_MEMORY_SIZE=512 << 10,  # Werkzeug counts its read buffer, too.
        MAX_FORM_PARTS=services.limits.files + 4,
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.before_request(_check_request)
    app.after_request(_finish_response)
    app.context_processor(_template_context)
    for error in (Refusal, HTTPException, EdgeCTError, Exception):
        app.register_error_handler(error, _answer_error)
    get, post = ["GET"], ["POST"]
    number = f"<int(max={LARGEST_NUMBER}):number>"
    for rule, name, view, methods in (
        ("/", "worklist", list_views.worklist, get),
        ("/rows", "rows", list_views.rows, get),
        ("/state", "state", views.state, get),
        ("/events", "events", views.events, get),
        ("/token", "token", views.token, get),
        ("/ready", "ready", views.ready, get),
        (f"/series/{number}", "series", list_views.series, get),
        (f"/series/{number}/print", "series_sheet", list_views.series_sheet, get),
        (f"/series/{number}/review", "review_series", list_views.review_series, post),
        (f"/slices/{number}", "slice", slice_views.slice_page, get),
        (f"/slices/{number}/next", "next_open", list_views.next_open, get),
        (f"/slices/{number}/print", "summary", slice_views.summary, get),
        (f"/slices/{number}/<any({_PICTURES}):kind>.png", "picture", slice_views.picture, get),
        (f"/slices/{number}/review", "review", slice_views.review, post),
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


def _check_request() -> Response | None:
    """Refuse a foreign host name, a browser without the PIN, and a POST that comes from another site."""
    services = current_services()
    host = request.headers.get("Host")
    if not services.hosts.allows(host):
        raise Refusal(421, "error.host") if is_host(host) else Refusal(400, "error.request")
    token = request.cookies.get(COOKIE)
    g.session = services.sessions.find(token) if token else None
    session = current_session()
    if services.gate and not (session and session.signed_in) and request.endpoint not in _PUBLIC:
        if request.method == "GET" and not wants_json() and request.endpoint not in _PARTS:
            to = request.full_path.rstrip("?")
            return Response(status=303, headers={"Location": url_for("pin", to=None if to == "/" else to)})
        raise Refusal(401, "error.pin")
    if request.method == "POST":
        site = request.headers.get("Sec-Fetch-Site")
        if not services.hosts.is_same_origin(request.headers.get("Origin"), host, site):
            raise Refusal(403, "error.csrf")
        given = request.headers.get(CSRF_HEADER) or request.form.get(CSRF_FIELD, "")
        if session is not None and session.owns_csrf_token(given):
            services.sessions.keep(session)
        elif site != "same-origin" or "Origin" not in request.headers:
            raise Refusal(403, "error.csrf")
        # A page that was open while the server restarted has a token that nobody knows any more. Its browser says by
        # two headers, which no page can forge, that the form is ours.
    return None


def _finish_response(response: Response) -> Response:
    """Add security headers, caching rules and the session cookie."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    if request.endpoint == "static" and request.args.get("v"):
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    elif "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "Cookie, Accept-Language"
    session = current_session()
    if session is not None and g.get("new_session"):
        response.set_cookie(COOKIE, session.token, max_age=IDLE_SECONDS, httponly=True, samesite="Strict")
    return response


def _template_context() -> dict[str, Any]:
    """Return the variables that every template may use."""
    services, t = current_services(), words()
    session = current_session() or begin_session(signed_in=False)
    theme = request.cookies.get("theme", "auto")
    return {
        "t": t,
        "languages": LANGUAGES,
        "theme": theme if theme in THEMES else "auto",
        "themes": THEMES,
        "csrf": session.csrf,
        "locked": services.gate is not None and not session.signed_in,
        "with_pin": services.gate is not None,
        "asset": _asset_url,
        "page": request.endpoint,
        "version": __version__,
        "model_name": services.bundle.identity,
        "retention": retention_line(services.retention.last, t),
        "path": request.full_path.rstrip("?") if request.method == "GET" else url_for("worklist"),
    }


def _asset_url(name: str) -> str:
    return str(url_for("static", filename=name, v=_asset_digest(name)))


@cache
def _asset_digest(name: str) -> str:
    """Return a digest of a static file: it lets browsers cache the file forever, and reload it after an update."""
    content = resources.files(__package__).joinpath("static", name).read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


def _answer_error(error: Exception) -> Response:
    """Answer any error with a page or with JSON that says what to do, and never with a traceback."""
    if request_ctx.url_adapter is None:  # The Host header is malformed, so that no page can link to another one.
        return Response(f"{words()('error.request')}\n", 400, mimetype="text/plain")
    status, key, wait, detail = 500, "error.internal", None, None
    if isinstance(error, Refusal):
        status, key, wait = error.status, error.key, error.wait
    elif isinstance(error, HTTPException):
        status = error.code or 500
        key = {404: "error.missing", 405: "error.missing", 413: "error.large"}.get(status, "error.request")
        if status >= 500:
            key = "error.internal"
    elif isinstance(error, EdgeCTError):
        status, key, detail = http_status(error), "error.detail", str(error)
        wait = _BUSY_SECONDS if isinstance(error, WorklistBusy) else None
    else:
        current_app.logger.error("%s %s: %s: %s", request.method, request.path, type(error).__name__, error)
    text = words()(key, detail=detail or "", seconds=wait or 0)
    if wants_json() or request.endpoint in _PARTS:
        response = jsonify(error=text)
    else:
        response = Response(render_template("error.html", status=status, text=text), mimetype="text/html")
    response.status_code = status
    if wait is not None:
        response.headers["Retry-After"] = str(wait)
    return response
