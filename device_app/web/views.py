"""The pages: worklist, slice, summary, model, device; their pictures and their live news."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from flask import Response, make_response, redirect, render_template, request, url_for

from edge_ct.errors import EdgeCTError, ModelRejected

from ..heatmaps import drawing
from ..maintenance import health
from ..worklist.records import Label, Row, Verdict
from .app import Refusal, session, the_desk, words
from .presenters import SHOWN, bar, card, figures, moment

_PER_PAGE = 50
_STRIP = 40


def worklist() -> Response:
    """The triage list."""
    return make_response(render_template("list.html", **_listed()))


def rows() -> Response:
    """The list's rows alone, for its script."""
    return make_response(render_template("_rows.html", **_listed()))


def _listed() -> dict[str, object]:
    desk, t = the_desk(), words()
    shown = request.args.get("show", "all")
    if shown not in SHOWN:
        raise Refusal(400, "error.request")
    most = min(max(request.args.get("most", _PER_PAGE, type=int), _PER_PAGE), 1000)
    if shown == "all":
        found = desk.worklist.rows(limit=most + 1)
    elif shown == "reviewed":
        found = desk.worklist.rows(state="reviewed", limit=most + 1)
    else:
        decision: Any = shown
        found = desk.worklist.rows(state="open", decision=decision, limit=most + 1)
    counts: dict[str, int] = {str(name): n for name, n in desk.worklist.counts("open").items()}
    counts["reviewed"] = sum(desk.worklist.counts("reviewed").values())
    return {
        "cards": [card(row, t) for row in found[:most]],
        "more": most + _PER_PAGE if len(found) > most else None,
        "shown": shown,
        "filters": SHOWN,
        "counts": counts | {"all": sum(counts.values())},
        "bar": bar(desk.bundle.manifest),
    }


def state() -> Response:
    """How things stand, for a script whose stream was refused."""
    return _json(the_desk().state())


def events() -> Response:
    """The stream of news."""
    stream = the_desk().events.listen()
    if stream is None:
        raise Refusal(503, "error.streams", 5)
    return Response(stream, mimetype="text/event-stream", headers={"Cache-Control": "no-store"})


def ready() -> Response:
    """200 when slices are judged, 503 before; asks for no PIN and tells nothing else."""
    response = _json({"ready": the_desk().workers.ready})
    response.status_code = 200 if the_desk().workers.ready else 503
    return response


def slice_page(number: int) -> Response:
    """One slice: picture, heat map, what to do, review."""
    return make_response(render_template("slice.html", **_slice(number)))


def summary(number: int) -> Response:
    """One page to print."""
    context = _slice(number)
    return make_response(render_template("summary.html", **context, printed=_now()))


def _slice(number: int) -> dict[str, object]:
    desk, t = the_desk(), words()
    row = _row(number)
    shown = card(row, t)
    before, strip, after, by_series = _around(row)
    own = session()
    return {
        "card": shown,
        "strip": [card(one, t) for one in strip],
        "by_series": by_series,
        "before": before,
        "after": after,
        "has_picture": row.sha256 is not None,
        "method": desk.heat_method(row),
        "bar": bar(desk.bundle.manifest),
        "reviews": [(one, moment(one.time, t)) for one in desk.worklist.reviews(number)],
        "reviewer": own.reviewer if own else "",
        "other_model": row.bundle != desk.bundle.seal,
    }


def _around(row: Row) -> tuple[int | None, list[Row], int | None, bool]:
    """The rows before and after, and those beside: of its series in the order they came, else as the list has them."""
    worklist = the_desk().worklist
    beside = worklist.rows(series=row.series, by="number") if row.series else worklist.rows(limit=500)
    place = next((i for i, one in enumerate(beside) if one.id == row.id), None)
    if place is None:
        return None, [row], None, False
    start = max(0, min(place - _STRIP // 2, len(beside) - _STRIP))
    before = beside[place - 1].id if place else None
    after = beside[place + 1].id if place + 1 < len(beside) else None
    return before, beside[start : start + _STRIP], after, bool(row.series)


def picture(number: int, kind: str) -> Response:
    """A picture of a row, as PNG."""
    content = _draw(number, kind)
    if content is None:
        raise Refusal(404, "error.picture")
    headers = {"Cache-Control": "private, max-age=600"}  # a row's picture never changes
    return Response(content, mimetype="image/png", headers=headers)


def _draw(number: int, kind: str) -> bytes | None:
    desk = the_desk()
    png = desk.worklist.picture(number)
    if png is None or kind == "slice":
        return png
    if kind == "thumb":
        return drawing.thumb(png)
    heat = desk.heat(_row(number), png)
    if heat is None:
        return None
    return drawing.layer(png, heat) if kind == "layer" else drawing.overlay(png, heat)


_BUTTONS: dict[str, tuple[Verdict, Label | None]] = {
    "agree": ("agree", None),
    "positive": ("override", "positive"),
    "negative": ("override", "negative"),
    "unusable": ("override", "unusable"),
}


def review(number: int) -> Response:
    """Sign a result off; the model's answer stays as it was."""
    desk, own = the_desk(), session()
    _row(number)
    verdict, label = _BUTTONS.get(request.form.get("verdict", ""), (None, None))
    reviewer = " ".join(request.form.get("reviewer", "").split())
    if verdict is None:
        raise Refusal(400, "error.request")
    if not reviewer:
        raise Refusal(400, "error.reviewer")
    desk.worklist.review(number, reviewer, verdict, label, request.form.get("note", ""))
    if own:
        own.reviewer = reviewer
    return make_response(redirect(url_for("slice", number=number) + "#review", 303))


def model() -> Response:
    """The model card."""
    desk, t = the_desk(), words()
    variants, lines = figures(desk.bundle.manifest, t)
    return make_response(
        render_template(
            "model.html", manifest=desk.bundle.manifest, identity=desk.bundle.identity, variants=variants,
            figures=lines, seal=desk.bundle.seal, size=len(desk.bundle.content),
            bar=bar(desk.bundle.manifest), card=desk.bundle.card,
        )
    )  # fmt: skip


def device() -> Response:
    """How the device is."""
    return _device(None, None)


def self_test() -> Response:
    """Run the golden slices again."""
    try:
        return _device(the_desk().workers.check(), None)
    except ModelRejected as error:
        return _device(None, str(error))


def _device(seconds: float | None, problem: str | None) -> Response:
    desk, t = the_desk(), words()
    page = render_template(
        "device.html", health=health.look(desk.worklist.folder), desk=desk, state=desk.state(), seconds=seconds,
        problem=problem, golden=len(desk.bundle.manifest.golden), used=desk.worklist.used_bytes(), now=_now(),
        up=int(time.time() - desk.started), tested=seconds is not None or problem is not None,
        everything=sum(desk.worklist.counts().values()), words=t,
    )  # fmt: skip
    return make_response(page, 200 if problem is None else 500)


def _row(number: int) -> Row:
    try:
        return the_desk().worklist.get(number)
    except EdgeCTError as error:
        raise Refusal(404, "error.missing") from error


def _now() -> str:
    from datetime import datetime, timezone

    return words().time(datetime.now(timezone.utc))


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), mimetype="application/json")
