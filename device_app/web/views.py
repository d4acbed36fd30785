"""The pages of the model and the device, and what scripts ask for: state, events, readiness, a fresh token."""

from __future__ import annotations

import time

import msgspec
from flask import Response, make_response, render_template, request

from edge_ct.errors import ModelRejected
from edge_ct.reporting.markdown import render_markdown

from ..maintenance.health import Status, read_health
from .presenters import (
    measured_how,
    metric_rows,
    moment,
    outcome_cell,
    outcome_table,
    probability_scale,
    shorten_intervals,
)
from .request_checks import Refusal
from .request_context import begin_session, current_services, current_session, local_now, words


def state() -> Response:
    """Return the current state, for a page that got no stream of events."""
    return _json(current_services().state())


def events() -> Response:
    """Return a stream of events."""
    stream = current_services().events.listen(request.remote_addr or "")
    if stream is None:
        raise Refusal(503, "error.streams", 5)
    return Response(stream, mimetype="text/event-stream", headers={"Cache-Control": "no-store"})


def ready() -> Response:
    """Return 200 once slices are judged, 503 before, and how many workers have ended over files; it needs no PIN."""
    queue = current_services().queue
    is_ready = queue.ready
    response = _json({"ready": is_ready, "worker_ends": queue.judge.ends})
    response.status_code = 200 if is_ready else 503
    return response


def token() -> Response:
    """Return the token that forms of this browser must send, for a page that was open while the server restarted."""
    session = current_session() or begin_session(signed_in=False)
    return _json({"csrf": session.csrf})


def model() -> Response:
    """Show the model card."""
    bundle, t = current_services().bundle, words()
    three_ways = outcome_table(bundle.card, bundle.manifest.network.parameters) if bundle.card else None
    if three_ways:
        label = t("model.measured_outcomes")
        three_ways = render_markdown(three_ways, label, translate=lambda cell: outcome_cell(cell, t))
    variants, metrics = metric_rows(bundle.manifest, t)
    page = render_template(
        "model.html",
        manifest=bundle.manifest,
        rule=bundle.manifest.decision_rule,
        identity=bundle.identity,
        variants=variants,
        metrics=metrics,
        seal=bundle.seal,
        size=len(bundle.content),
        created=t.time(moment(bundle.manifest.created)),
        intended_use=t.of_card(bundle.manifest.intended_use),
        licence=t.of_card(bundle.manifest.licence),
        measured_how=measured_how(bundle.manifest, t),
        scale=probability_scale(bundle.manifest),
        three_ways=shorten_intervals(three_ways) if three_ways else None,
        card=render_markdown(bundle.card, t("model.card"), top=3, translate=t.of_card) if bundle.card else None,
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
    health, state = read_health(services.worklist, services.bundle.manifest), services.state()
    statuses = health.statuses()
    fit: Status = next(iter(statuses.values()))
    todos = [name for name, status in statuses.items() if status != "good"]
    if problem or not state.ready:
        fit, todos = "failure", ["model" if problem else "starting", *todos]
    page = render_template(
        "device.html",
        health=health,
        statuses=statuses,
        fit=fit,
        todos=todos,
        state=state,
        seconds=services.queue.self_test_seconds if seconds is None else seconds,
        problem=problem,
        golden=len(services.bundle.manifest.golden),
        used=services.worklist.used_bytes(),
        now=local_now(),
        up=int(time.time() - services.started),
        tested=seconds is not None or problem is not None,
        results=sum(services.worklist.counts().values()),
    )
    return make_response(page, 200 if problem is None else 500)


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), mimetype="application/json")
