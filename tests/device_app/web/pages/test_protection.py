"""What the pages let through: headers, cookies, host names, and the token that every change needs."""

from __future__ import annotations

from typing import Any

import pytest

from edge_ct.device_app.web.services import Services

from ..conftest import Home, browser, token_of
from .conftest import PAGES


def test_every_answer_carries_the_headers(client: Home, csrf: dict[str, str], judged: Any) -> None:
    paths = (*PAGES, "/nowhere", "/static/app.css", "/slices/1/slice.png", "/slices/77", "/state", "/ready", "/pin")
    answers = [client.get(path) for path in paths] + [client.post("/upload"), client.get("/", headers={"Host": "evil"})]
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Server" not in answer.headers


def test_the_cookie_is_for_this_site_alone(client: Home) -> None:
    cookie = client.get("/").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


def test_a_foreign_name_is_not_answered(client: Home) -> None:
    assert client.get("/", headers={"Host": "rebound.example:8042"}).status_code == 421
    assert client.get("/static/app.css", headers={"Host": "rebound.example:8042"}).status_code == 421


POSTS = (
    "/upload",
    "/slices/1/review",
    "/device/self-test",
    "/folders/x/read",
    "/folders/stop",
    "/settings",
    "/leave",
    "/enter",
)


@pytest.mark.parametrize("path", POSTS)
def test_nothing_changes_without_the_token_of_a_page(
    path: str, services: Services, client: Home, csrf: dict[str, str]
) -> None:
    before = services.worklist.version()
    other = browser(services)
    for headers in (
        {},
        {"X-CSRF-Token": ""},
        {"X-CSRF-Token": token_of(other.get("/").text)},
        {**csrf, "Origin": "http://evil.example"},
        {**csrf, "Sec-Fetch-Site": "cross-site"},
        {**csrf, "Origin": "null"},
    ):
        assert client.post(path, headers=headers).status_code == 403
    assert browser(services).post(path, headers=csrf).status_code == 403
    assert services.worklist.version() == before


def test_a_form_that_was_open_while_the_server_restarted_is_stored(services: Services, client: Home) -> None:
    """Its token is unknown, but the browser vouches for it; a script gets a new token instead."""
    client.set_cookie("edge-ct", "of-the-server-before", domain="127.0.0.1")
    ours = {"Origin": "http://127.0.0.1:8042", "Sec-Fetch-Site": "same-origin"}
    data = {"csrf": "old", "theme": "dark", "back": "/add"}
    assert client.post("/settings", data=data).status_code == 403
    for wrong in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "none"}, {"Origin": "http://evil.example"}):
        assert client.post("/settings", data=data, headers={**ours, **wrong}).status_code == 403
    assert client.post("/settings", data=data, headers=ours).headers["Location"] == "/add"
    token = client.get("/token").json["csrf"]
    assert client.post("/settings", data={**data, "csrf": token}).status_code == 303
    assert client.post("/settings", data=data).status_code == 403


def test_what_asks_for_a_change_is_a_post(client: Home) -> None:
    for path in POSTS:
        assert client.get(path).status_code in (404, 405)


def test_an_error_of_ours_shows_no_traceback(client: Home, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(services.worklist, "groups", broken)
    answer = client.get("/")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def test_readiness_is_honest(client: Home, services: Services) -> None:
    assert client.get("/ready").json == {"ready": True, "worker_ends": 0}
    services.queue._opened.clear()
    assert client.get("/ready").status_code == 503
    services.queue._opened.set()
