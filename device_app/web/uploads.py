"""Uploads and folders of the device into the judging queue. A file is acknowledged once its row is on the disk."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import datetime
from typing import IO, Any

from flask import Response, jsonify, make_response, redirect, render_template, request, url_for

from edge_ct.errors import EdgeCTError, InputRejected

from ..worklist.records import Added
from .presenters import present_row
from .request_checks import Refusal
from .request_context import current_services, http_status, wants_json, words

_WAIT_SECONDS = 120.0
_MAX_DEPTH = 3


def add() -> Response:
    """Show the page where slices are added."""
    services = current_services()
    page = render_template(
        "add.html",
        roots=services.folders.roots(),
        here=None,
        below=[],
        trail=[],
        reading=services.reader.state,
        limits=services.limits,
    )
    return make_response(page)


def upload() -> Response:
    """Judge the files of one request; answer with the rows of each, one for each slice, or why there is none.

    The field `folder` names the folder or the upload that the files belong to; the worklist shows them together.
    """
    services, t = current_services(), words()
    folder = display_folder(request.form.get("folder", ""))
    files = [file for file in request.files.getlist("files") if file.filename]
    if not files:
        raise Refusal(400, "error.nothing")
    if len(files) > services.limits.files:
        raise Refusal(413, "error.many")
    if not folder and len(files) > 1 and not wants_json():
        folder = f"upload-{datetime.now():%Y%m%d-%H%M%S}/"
    waiting: list[tuple[str, Future[list[Added]] | EdgeCTError]] = []
    for file in files:
        name = folder + display_name(file.filename or "")
        try:
            read = _limited_reader(file.stream, name, services.limits.file_bytes)
            waiting.append((name, services.submit(name, read)))
        except EdgeCTError as error:
            waiting.append((name, error))
    answers: list[dict[str, Any]] = []
    worst = 201
    for name, future in waiting:
        rows, status = _outcome(name, future)
        answers.extend(rows)
        worst = max(worst, status)
    if wants_json():
        response = jsonify(files=answers)
        response.status_code = worst
        if worst == 503:
            response.headers["Retry-After"] = "2"
        return response
    problems = [f"{answer['name']}: {answer['error']}" for answer in answers if "error" in answer]
    if problems:
        page = render_template("error.html", status=worst, text=t("error.files", n=len(problems)), lines=problems)
        return make_response(page, worst)
    return make_response(redirect(url_for("worklist"), 303))


def _outcome(name: str, future: Future[list[Added]] | EdgeCTError) -> tuple[list[dict[str, Any]], int]:
    """Wait for one file; return its rows or its error as JSON, and the HTTP status."""
    t = words()
    try:
        if isinstance(future, EdgeCTError):
            raise future
        slices = future.result(_WAIT_SECONDS)
    except EdgeCTError as error:
        key = "error.busy" if http_status(error) == 503 else "error.detail"
        return [{"name": name, "error": t(key, detail=str(error))}], http_status(error)
    except FutureTimeoutError:
        # The file may still become a row; if it is sent again, it is recognised by its pixels.
        return [{"name": name, "error": t("error.busy", detail="")}], 503
    names = [name] if len(slices) == 1 else [f"{name}#{number}" for number in range(1, len(slices) + 1)]
    return [_describe(name, added) for name, added in zip(names, slices, strict=True)], 201


def _describe(name: str, added: Added) -> dict[str, Any]:
    """Return a row as JSON."""
    card = present_row(added.row, words())
    return {
        "name": name,
        "id": card.id,
        "new": added.new,
        "decision": card.row.decision,
        "word": card.outcome.word,
        "chance": card.outcome.chance,
        "reason": card.reason,
        "url": url_for("slice", number=card.id),
    }


def folder(token: str) -> Response:
    """Show the sub-folders of a folder."""
    services = current_services()
    below = services.folders.subfolders(token)
    if below is None:
        raise Refusal(404, "error.folder")
    trail = services.folders.breadcrumbs(token)
    page = render_template(
        "add.html",
        roots=services.folders.roots(),
        here=trail[-1],
        below=below,
        trail=trail,
        reading=services.reader.state,
        limits=services.limits,
    )
    return make_response(page)


def read_folder(token: str) -> Response:
    """Start to read a folder and all folders below it."""
    services = current_services()
    path = services.folders.path(token)
    if path is None:
        raise Refusal(404, "error.folder")
    if not services.reader.start(path):
        raise Refusal(409, "error.reading")
    return make_response(redirect(url_for("add"), 303))


def stop_reading() -> Response:
    """Stop to read a folder, after the slices that are being judged."""
    current_services().reader.stop()
    return make_response(redirect(url_for("add"), 303))


def display_name(sent: str) -> str:
    """Return the name of a file for display: its last part, printable, at most 200 characters. Never used as a path."""
    last = sent.replace("\\", "/").rstrip("/").rpartition("/")[2]
    shown = "".join(c if c.isprintable() else "\ufffd" for c in last).strip()
    return shown[:200] or "slice"


def display_folder(sent: str) -> str:
    """Return the folder or upload that groups files, with a slash at its end; an empty text if there is none.

    It is for display and grouping, and is never used as a path.
    """
    parts = [display_name(part) for part in sent.replace("\\", "/").split("/") if part.strip(" .")]
    return "".join(f"{part}/" for part in parts[-_MAX_DEPTH:])


def _limited_reader(stream: IO[bytes], name: str, max_bytes: int) -> Callable[[], bytes]:
    """Return a function that reads an uploaded file when it is judged; until then, the file waits on the disk."""

    def read() -> bytes:
        data = stream.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise InputRejected(f"{name}: larger than {max_bytes / 2**20:.0f} MiB")
        return data

    return read
