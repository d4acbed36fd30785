"""The pages (worklist, slice, summary, model, device), their pictures, and their live events."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

import msgspec
from flask import Response, make_response, redirect, render_template, request, url_for

from edge_ct.errors import EdgeCTError, ModelRejected

from ..heatmaps import drawing
from ..maintenance.health import read_health
from ..worklist.records import Label, Row, Verdict
from .presenters import FILTERS, metric_rows, present_row, probability_scale, time_text
from .request_context import Refusal, current_services, current_session, words

_ROWS_PER_PAGE = 50
_MAX_ROWS = 1000
_STRIP = 40


def worklist() -> Response:
    """Show the worklist, most urgent rows first."""
    return make_response(render_template("list.html", **_list_context()))


def rows() -> Response:
    """Return the rows of the worklist alone, for the script that refreshes them."""
    return make_response(render_template("_rows.html", **_list_context()))


def _list_context() -> dict[str, object]:
    services, t = current_services(), words()
    shown = request.args.get("show", "all")
    if shown not in FILTERS:
        raise Refusal(400, "error.request")
    limit = min(max(request.args.get("most", _ROWS_PER_PAGE, type=int), _ROWS_PER_PAGE), _MAX_ROWS)
    if shown == "all":
        listed = services.worklist.rows(limit=limit + 1)
    elif shown == "reviewed":
        listed = services.worklist.rows(state="reviewed", limit=limit + 1)
    else:
        decision: Any = shown
        listed = services.worklist.rows(state="open", decision=decision, limit=limit + 1)
    counts: dict[str, int] = {str(name): n for name, n in services.worklist.counts("open").items()}
    counts["reviewed"] = sum(services.worklist.counts("reviewed").values())
    return {
        "cards": [present_row(row, t) for row in listed[:limit]],
        "more": limit + _ROWS_PER_PAGE if len(listed) > limit else None,
        "shown": shown,
        "filters": FILTERS,
        "counts": counts | {"all": sum(counts.values())},
        "scale": probability_scale(services.bundle.manifest),
    }


def state() -> Response:
    """Return the current state, for a page that got no stream of events."""
    return _json(current_services().state())


def events() -> Response:
    """Return a stream of events."""
    stream = current_services().events.listen()
    if stream is None:
        raise Refusal(503, "error.streams", 5)
    return Response(stream, mimetype="text/event-stream", headers={"Cache-Control": "no-store"})


def ready() -> Response:
    """Return 200 once slices are judged, 503 before; it needs no PIN and tells nothing else."""
    is_ready = current_services().queue.ready
    response = _json({"ready": is_ready})
    response.status_code = 200 if is_ready else 503
    return response


def slice_page(number: int) -> Response:
    """Show one slice: picture, heat map, decision, review."""
    return make_response(render_template("slice.html", **_slice_context(number)))


def summary(number: int) -> Response:
    """Show one slice as a page to print."""
    return make_response(render_template("summary.html", **_slice_context(number), printed=_now()))


def _slice_context(number: int) -> dict[str, object]:
    services, t = current_services(), words()
    row = _row(number)
    previous, strip, following, by_series = _neighbours(row)
    session = current_session()
    return {
        "card": present_row(row, t),
        "strip": [present_row(neighbour, t) for neighbour in strip],
        "by_series": by_series,
        "before": previous,
        "after": following,
        "has_picture": row.sha256 is not None,
        "method": services.heat_method(row),
        "scale": probability_scale(services.bundle.manifest),
        "reviews": [(review, time_text(review.time, t)) for review in services.worklist.reviews(number)],
        "reviewer": session.reviewer if session else "",
        "other_model": row.bundle != services.bundle.seal,
    }


def _neighbours(row: Row) -> tuple[int | None, list[Row], int | None, bool]:
    """Return the rows around a row: of its series in order of arrival, else of the worklist by urgency.

    Returns:
        The number of the row before, the rows of the strip, the number of the row after, and whether they are of one
        series.
    """
    stored = current_services().worklist
    neighbours = stored.rows(series=row.series, by="number") if row.series else stored.rows(limit=500)
    place = next((i for i, neighbour in enumerate(neighbours) if neighbour.id == row.id), None)
    if place is None:
        return None, [row], None, False
    start = max(0, min(place - _STRIP // 2, len(neighbours) - _STRIP))
    previous = neighbours[place - 1].id if place else None
    following = neighbours[place + 1].id if place + 1 < len(neighbours) else None
    return previous, neighbours[start : start + _STRIP], following, bool(row.series)


def picture(number: int, kind: str) -> Response:
    """Return a picture of a row as PNG."""
    content = _draw(number, kind)
    if content is None:
        raise Refusal(404, "error.picture")
    headers = {"Cache-Control": "private, max-age=600"}  # The picture of a row never changes.
    return Response(content, mimetype="image/png", headers=headers)


def _draw(number: int, kind: str) -> bytes | None:
    services = current_services()
    png = services.worklist.picture(number)
    if png is None or kind == "slice":
        return png
    if kind == "thumb":
        return drawing.draw_thumbnail(png)
    heat = services.heat(_row(number), png)
    if heat is None:
        return None
    return drawing.draw_layer(png, heat) if kind == "layer" else drawing.draw_overlay(png, heat)


_REVIEW_BUTTONS: dict[str, tuple[Verdict, Label | None]] = {
    "agree": ("agree", None),
    "positive": ("override", "positive"),
    "negative": ("override", "negative"),
    "unusable": ("override", "unusable"),
}


def review(number: int) -> Response:
    """Store a review of a result; the result itself stays as it is."""
    services, session = current_services(), current_session()
    _row(number)
    verdict, label = _REVIEW_BUTTONS.get(request.form.get("verdict", ""), (None, None))
    reviewer = " ".join(request.form.get("reviewer", "").split())
    if verdict is None:
        raise Refusal(400, "error.request")
    if not reviewer:
        raise Refusal(400, "error.reviewer")
    services.worklist.review(number, reviewer, verdict, label, request.form.get("note", ""))
    if session:
        session.reviewer = reviewer
    return make_response(redirect(url_for("slice", number=number) + "#review", 303))


def model() -> Response:
    """Show the model card."""
    bundle = current_services().bundle
    variants, metrics = metric_rows(bundle.manifest, words())
    page = render_template(
        "model.html",
        manifest=bundle.manifest,
        rule=bundle.manifest.decision_rule,
        identity=bundle.identity,
        variants=variants,
        metrics=metrics,
        seal=bundle.seal,
        size=len(bundle.content),
        scale=probability_scale(bundle.manifest),
        card=bundle.card,
    )
    return make_response(page)


def device() -> Response:
    """Show the health of the device."""
    return _device(None, None)


def self_test() -> Response:
    """Run the golden slices, and show the health of the device with the outcome."""
    try:
        return _device(current_services().queue.check(), None)
    except ModelRejected as error:
        return _device(None, str(error))


def _device(seconds: float | None, problem: str | None) -> Response:
    services = current_services()
    page = render_template(
        "device.html",
        health=read_health(services.worklist, services.bundle.manifest),
        state=services.state(),
        seconds=services.queue.self_test_seconds if seconds is None else seconds,
        problem=problem,
        golden=len(services.bundle.manifest.golden),
        used=services.worklist.used_bytes(),
        now=_now(),
        up=int(time.time() - services.started),
        tested=seconds is not None or problem is not None,
        results=sum(services.worklist.counts().values()),
    )
    return make_response(page, 200 if problem is None else 500)


def _row(number: int) -> Row:
    try:
        return current_services().worklist.get(number)
    except EdgeCTError as error:
        raise Refusal(404, "error.missing") from error


def _now() -> str:
    return words().time(datetime.now(timezone.utc))


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), mimetype="application/json")
