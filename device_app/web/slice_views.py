"""The page of a slice, its sheet to print, its pictures, and its review."""

from __future__ import annotations

from flask import Response, make_response, render_template, request, url_for

from edge_ct.dicom import LUNG_CENTRE_HU, LUNG_WIDTH_HU
from edge_ct.errors import EdgeCTError

from ..heatmaps.slice_pictures import draw_layer, draw_outline, draw_overlay, draw_thumbnail
from ..worklist.records import Label, Row, Verdict
from .presenters import present_group, present_row, probability_scale, time_text
from .request_checks import Refusal
from .request_context import current_services, current_session, go_to, list_url, local_now, words

# Seconds to wait for another process that writes; a script of the page then tries again.
REVIEW_PATIENCE = 10.0
_STRIP = 40


def slice_page(number: int) -> Response:
    """Show one slice: picture, heat map, decision, review."""
    return make_response(render_template("slice.html", **_slice_context(number)))


def summary(number: int) -> Response:
    """Show one slice as a sheet to print."""
    return make_response(render_template("summary.html", **_slice_context(number), printed=local_now(), telling=[]))


def _slice_context(number: int) -> dict[str, object]:
    services, session, t = current_services(), current_session(), words()
    row = stored_row(number)
    stored = services.worklist
    members = stored.group_rows(number)
    place = next((i for i, member in enumerate(members) if member.id == number), 0)
    start = max(0, min(place - _STRIP // 2, len(members) - _STRIP))
    group = stored.group(number, services.bundle.manifest.decision_rule, services.bundle.seal)
    return {
        "card": present_row(row, t),
        "shown": present_group(group, t) if group and group.slices > 1 else None,
        "strip": [present_row(member, t) for member in members[start : start + _STRIP]],
        "numbers": [member.id for member in members if member.sha256 is not None],
        "place": place + 1,
        "of": len(members),
        "before": members[place - 1].id if place else None,
        "after": members[place + 1].id if place + 1 < len(members) else None,
        "has_picture": row.sha256 is not None,
        "method": services.heat_method(row),
        # The stored picture of a DICOM slice is its lung window.
        "hounsfield": (LUNG_CENTRE_HU, LUNG_WIDTH_HU) if row.instance else None,
        "scale": probability_scale(services.bundle.manifest),
        "reviews": [(review, time_text(review.time, t)) for review in stored.reviews(number)],
        "reviewer": session.reviewer if session else "",
        "other_model": row.bundle != services.bundle.seal,
        "list_url": list_url(),
        "printing": False,
    }


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
        return draw_thumbnail(png)
    heat = services.heat(stored_row(number), png)
    if heat is None:
        return None
    return {"layer": draw_layer, "outline": draw_outline, "overlay": draw_overlay}[kind](png, heat)


_REVIEW_BUTTONS: dict[str, tuple[Verdict, Label | None]] = {
    "agree": ("agree", None),
    "positive": ("override", "positive"),
    "negative": ("override", "negative"),
    "unusable": ("override", "unusable"),
}


def review(number: int) -> Response:
    """Store a review of a result; the result itself stays as it is."""
    services, session = current_services(), current_session()
    stored_row(number)
    verdict, label = _REVIEW_BUTTONS.get(request.form.get("verdict", ""), (None, None))
    reviewer = " ".join(request.form.get("reviewer", "").split())
    if verdict is None:
        raise Refusal(400, "error.request")
    if not reviewer:
        raise Refusal(400, "error.reviewer")
    services.worklist.review(number, reviewer, verdict, label, request.form.get("note", ""), patience=REVIEW_PATIENCE)
    if session:
        session.reviewer = reviewer
    return go_to(url_for("slice", number=number) + "#review")


def stored_row(number: int) -> Row:
    """Return a result. Raises `Refusal`: it has been deleted, or never existed."""
    stored = current_services().worklist
    try:
        return stored.get(number)
    except EdgeCTError as error:
        raise Refusal(410, "error.deleted") if stored.was_deleted(number) else Refusal(404, "error.missing") from error
