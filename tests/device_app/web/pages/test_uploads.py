"""Uploads: each is answered when its row is stored, and what is too much is refused and not stored."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from edge_ct.device_app.web import uploads
from edge_ct.device_app.web.judging_queue import Busy
from edge_ct.device_app.web.services import Services, UploadLimits

from ..conftest import Home, browser, png, token_of
from .conftest import send


def test_an_upload_is_answered_when_its_row_is_there(services: Services, judged: list[dict[str, Any]]) -> None:
    for said in judged:
        row = services.worklist.get(said["id"])
        assert (row.source, row.decision, row.origin) == (said["name"], said["decision"], "serve")
    assert judged[2]["decision"] == "rejected"
    assert "not a PNG" in judged[2]["reason"]
    assert services.worklist.verify().problem is None


def test_results_are_those_of_the_classifier(services: Services, judged: list[dict[str, Any]]) -> None:
    from edge_ct.classifier import Classifier

    expected = Classifier(services.bundle).classify(png(2, 3, True), "b.png")
    row = services.worklist.get(judged[1]["id"])
    assert row.probability == pytest.approx(expected.probability, abs=1e-12)
    assert row.decision == expected.decision


def test_the_same_slice_again_is_the_same_row(client: Home, csrf: dict[str, str], judged: list[dict[str, Any]]) -> None:
    again = send(client, csrf, ("other-name.png", png(1, 2))).json["files"][0]
    assert (again["id"], again["new"]) == (judged[0]["id"], False)


def test_a_form_without_a_script_works_too(client: Home, services: Services) -> None:
    token = token_of(client.get("/add").text)
    data = {"csrf": token, "files": [(io.BytesIO(png(1, 2)), "a.png")]}
    answer = client.post("/upload", data=data, headers={"Accept": "text/html"})
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/"
    assert len(services.worklist.rows()) == 1


def test_too_much_is_refused_and_none_of_it_kept(client: Home, csrf: dict[str, str], services: Services) -> None:
    assert send(client, csrf, *[(f"{i}.png", b"x") for i in range(65)]).status_code == 413
    assert send(client, csrf, *[(f"{i}.png", b"x") for i in range(90)]).status_code == 413
    assert send(client, csrf).status_code == 400
    services.limits = UploadLimits(file_bytes=1000)
    answer = send(client, csrf, ("large.png", bytes(1001)))
    assert answer.status_code == 422
    assert "error" in answer.json["files"][0]
    assert services.worklist.rows() == []


def test_a_request_over_the_limit_is_refused(tiny_bundle: Path, services: Services) -> None:
    services.limits = UploadLimits(request_bytes=10_000)
    client = browser(services)
    token = {"X-CSRF-Token": token_of(client.get("/").text), "Accept": "application/json"}
    assert send(client, token, ("large.png", bytes(20_000))).status_code == 413
    assert services.worklist.rows() == []


def test_a_full_queue_says_so_and_keeps_nothing(
    client: Home, csrf: dict[str, str], services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise Busy("64 slices are waiting already")

    monkeypatch.setattr(services.queue, "submit", full)
    answer = send(client, csrf, ("a.png", png(1, 2)))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert "send it again" in answer.json["files"][0]["error"]


def test_a_full_disk_is_not_an_acknowledgement(client: Home, csrf: dict[str, str], services: Services) -> None:
    services.worklist._store.max_bytes = 1
    answer = send(client, csrf, ("a.png", png(1, 2)))
    assert answer.status_code == 507
    assert "prune" in answer.json["files"][0]["error"]
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\scans\\a.png", "a.png"),
        ("a\nb\x00.png", "a\ufffdb\ufffd.png"),
        ("/", "slice"),
        ("", "slice"),
        ("x" * 300, "x" * 200),
    ],
)
def test_names_are_for_people_alone(sent: str, shown: str) -> None:
    assert uploads.display_name(sent) == shown
