"""Uploads and folders into the queue. A file is acknowledged when its row is on the disk, not before."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from typing import IO, Any

from flask import Response, jsonify, make_response, redirect, render_template, request, url_for

from edge_ct.errors import EdgeCTError, InputRejected

from ..worklist.records import Added
from .app import Refusal, status_of, the_desk, wants_json, words
from .presenters import card

_WAIT_SECONDS = 120.0


def add() -> Response:
    """The page where slices are added."""
    desk = the_desk()
    return make_response(
        render_template(
            "add.html", roots=desk.folders.roots(), here=None, below=[], trail=[], reading=desk.reader.state,
            limits=desk.limits,
        )
    )  # fmt: skip


def upload() -> Response:
    """Take the files of one request; each is a row, or says why not."""
    desk, t = the_desk(), words()
    files = [file for file in request.files.getlist("files") if file.filename]
    if not files:
        raise Refusal(400, "error.nothing")
    if len(files) > desk.limits.files:
        raise Refusal(413, "error.many")
    waiting: list[tuple[str, Future[Added] | EdgeCTError]] = []
    for file in files:
        name = file_name(file.filename or "")
        try:
            waiting.append((name, desk.submit(name, _reader(file.stream, name, desk.limits.file_bytes))))
        except EdgeCTError as error:
            waiting.append((name, error))
    answers, worst = [], 201
    for name, future in waiting:
        answer, status = _settle(name, future)
        answers.append(answer)
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


def _settle(name: str, future: Future[Added] | EdgeCTError) -> tuple[dict[str, Any], int]:
    """What one file came to: its row, or an error that says that nothing of it is kept."""
    t = words()
    try:
        if isinstance(future, EdgeCTError):
            raise future
        added = future.result(_WAIT_SECONDS)
    except EdgeCTError as error:
        key = "error.busy" if status_of(error) == 503 else "error.detail"
        return {"name": name, "error": t(key, detail=str(error))}, status_of(error)
    except Late:
        # It may still become a row; sent again, it will be recognised by its pixels.
        return {"name": name, "error": t("error.busy", detail="")}, 503
    shown = card(added.row, t)
    return {
        "name": name,
        "id": shown.id,
        "new": added.new,
        "decision": shown.decision,
        "word": shown.word,
        "chance": shown.chance,
        "reason": shown.reason,
        "url": url_for("slice", number=shown.id),
    }, 201


def folder(token: str) -> Response:
    """What lies below a folder that was shown."""
    desk = the_desk()
    below = desk.folders.below(token)
    if below is None:
        raise Refusal(404, "error.folder")
    trail = desk.folders.trail(token)
    return make_response(
        render_template(
            "add.html", roots=desk.folders.roots(), here=trail[-1], below=below, trail=trail,
            reading=desk.reader.state, limits=desk.limits,
        )
    )  # fmt: skip


def read_folder(token: str) -> Response:
    """Begin to read a folder that was shown, with all below it."""
    desk = the_desk()
    path = desk.folders.path(token)
    if path is None:
        raise Refusal(404, "error.folder")
    if not desk.reader.start(path):
        raise Refusal(409, "error.reading")
    return make_response(redirect(url_for("add"), 303))


def stop_reading() -> Response:
    """Stop after the slices that are being judged."""
    the_desk().reader.stop()
    return make_response(redirect(url_for("add"), 303))


def file_name(sent: str) -> str:
    """What a client calls a file, for people: the last part, printable, at most 200 characters. Not used as a path."""
    last = sent.replace("\\", "/").rstrip("/").rpartition("/")[2]
    shown = "".join(c if c.isprintable() else "\ufffd" for c in last).strip()
    return shown[:200] or "slice"


def _reader(stream: IO[bytes], name: str, most: int) -> Any:
    """Reads a file that was sent when its turn comes: what waits lies on the disk."""

    def read() -> bytes:
        data = stream.read(most + 1)
        if len(data) > most:
            raise InputRejected(f"{name}: over {most / 2**20:.0f} MiB")
        return data

    return read
