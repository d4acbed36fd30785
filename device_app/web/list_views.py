"""The worklist of series and folders, the page and the sheet of each, and the way to the next open one."""

from __future__ import annotations

from typing import Any, get_args

from flask import Response, make_response, redirect, render_template, request, url_for

from ..worklist.groups import GroupQuery, Order, Shown, SliceGroup
from ..worklist.records import Label, Row, Verdict
from .presenters import FILTERS, ORDERS, present_group, present_row, probability_scale
from .request_checks import Refusal
from .request_context import current_services, current_session, go_to, list_url, local_now, words
from .slice_views import REVIEW_PATIENCE, stored_row

_PER_PAGE = 50
_MAX_SEARCH = 100
_SHEET_THUMBNAILS = 18


def worklist() -> Response:
    """Show the worklist, most urgent series first."""
    return make_response(render_template("list.html", **_list_context()))


def rows() -> Response:
    """Return the lines of the worklist alone, for the script that refreshes them."""
    return make_response(render_template("_rows.html", **_list_context()))


def _list_context() -> dict[str, object]:
    services, session, t = current_services(), current_session(), words()
    shown: Any = request.args.get("show", "all")
    order: Any = request.args.get("sort", "urgency")
    search = " ".join(request.args.get("q", "").split())[:_MAX_SEARCH]
    page = max(1, request.args.get("page", 1, type=int))
    if shown not in get_args(Shown) or order not in get_args(Order):
        raise Refusal(400, "error.request")
    found = services.worklist.groups(
        services.bundle.manifest.decision_rule,
        services.bundle.seal,
        GroupQuery(
            search=search,
            patient=services.worklist.pseudonym(search) if search else None,
            shown=shown,
            order=order,
            limit=_PER_PAGE,
            offset=_PER_PAGE * (page - 1),
        ),
    )
    chosen = {"show": (shown, "all"), "q": (search, ""), "sort": (order, "urgency")}
    query = {name: value for name, (value, usual) in chosen.items() if value != usual}
    if session:
        session.list_query = query | ({"page": str(page)} if page > 1 else {})
        if session.list_query:
            services.sessions.keep(session)
    return {
        "groups": [present_group(group, t) for group in found.groups],
        "total": found.total,
        "first": _PER_PAGE * (page - 1) + 1,
        "page_number": page,
        "more": found.total > _PER_PAGE * page,
        "query": query,
        "shown": shown,
        "order": order,
        "search": search,
        "filters": FILTERS,
        "orders": ORDERS,
        "counts": found.counts,
        "scale": probability_scale(services.bundle.manifest),
    }


def series(number: int) -> Response:
    """Show the group that a result belongs to: its decision and its slices."""
    return make_response(render_template("series.html", **_series_context(number)))


def series_sheet(number: int) -> Response:
    """Show a group as one sheet to print."""
    context = _series_context(number)
    slices: Any = context["slices"]
    telling = sorted(slices, key=lambda card: -1.0 if card.outcome.at is None else card.outcome.at, reverse=True)
    sheet = render_template(
        "summary.html", **context, printed=local_now(), telling=telling[:_SHEET_THUMBNAILS] if len(slices) > 1 else []
    )
    return make_response(sheet)


def _series_context(number: int) -> dict[str, object]:
    services, session, t = current_services(), current_session(), words()
    group = _group(number)
    listed = services.worklist.group_rows(number)
    cards = [present_row(row, t) for row in listed]
    return {
        "card": present_row(group.row, t),
        "shown": present_group(group, t),
        "slices": cards,
        "open": sum(row.state == "open" for row in listed),
        "has_picture": group.row.sha256 is not None,
        "method": services.heat_method(group.row),
        "scale": probability_scale(services.bundle.manifest),
        "reviews": [card for card in cards if card.reviewed],
        "reviewer": session.reviewer if session else "",
        "other_model": group.row.bundle != services.bundle.seal,
        "list_url": list_url(),
        "printing": True,
    }


def review_series(number: int) -> Response:
    """Review all open slices of a group: agree with the model on each, or read each as negative."""
    services, session = current_services(), current_session()
    verdict = request.form.get("verdict", "")
    reviewer = " ".join(request.form.get("reviewer", "").split())
    if verdict not in ("agree", "negative"):
        raise Refusal(400, "error.request")
    if not reviewer:
        raise Refusal(400, "error.reviewer")
    stored_row(number)
    for row in services.worklist.group_rows(number):
        if row.state == "open":
            differs = verdict == "negative" and row.decision in ("positive", "refer")
            kind: Verdict = "override" if differs else "agree"
            label: Label | None = "negative" if differs else None
            services.worklist.review(
                row.id, reviewer, kind, label, request.form.get("note", ""), patience=REVIEW_PATIENCE
            )
    if session:
        session.reviewer = reviewer
    return go_to(url_for("series", number=number))


def next_open(number: int) -> Response:
    """Lead to the next open slice of the same series, else to the most urgent open series, else to the worklist."""
    services = current_services()
    rule, seal = services.bundle.manifest.decision_rule, services.bundle.seal
    group = services.worklist.group(number, rule, seal)
    listed = services.worklist.group_rows(number)
    if group is not None and group.reading is None:
        following = _next_in_group(listed, number)
        if following is not None:
            return go_to(url_for("slice", number=following))
    members = {row.id for row in listed}
    for candidate in services.worklist.groups(rule, seal, GroupQuery(limit=2)).groups:
        if candidate.reading is None and candidate.row.id not in members:
            return go_to(group_url(candidate))
    return make_response(redirect(list_url(), 303))


def _next_in_group(listed: list[Row], number: int) -> int | None:
    """Return the next open slice after a slice, beginning again at the start; judged slices come before others."""
    place = next((i for i, row in enumerate(listed) if row.id == number), 0)
    ahead = [row for row in listed[place + 1 :] + listed[:place] if row.state == "open"]
    judged = [row for row in ahead if row.probability is not None]
    return (judged or ahead)[0].id if ahead else None


def group_url(group: SliceGroup) -> str:
    """Return the address of a group: a single slice has no page of a series."""
    return url_for("slice" if group.slices == 1 else "series", number=group.row.id)


def _group(number: int) -> SliceGroup:
    services = current_services()
    stored_row(number)
    group = services.worklist.group(number, services.bundle.manifest.decision_rule, services.bundle.seal)
    if group is None:
        raise Refusal(410, "error.deleted")
    return group
