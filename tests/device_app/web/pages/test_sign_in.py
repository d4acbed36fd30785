"""The pages behind a PIN."""

from __future__ import annotations

import re
from typing import Any

import pytest

from edge_ct.device_app.web.pin import PinGate, hash_pin
from edge_ct.device_app.web.services import Services

from ..conftest import Home, browser, png, token_of
from .conftest import send

PIN = "493817"


class TestWithPin:
    """What a browser gets before and after it has sent the PIN."""

    @pytest.fixture(autouse=True)
    def gate(self, services: Services) -> None:
        services.gate = PinGate(hash_pin(PIN))

    def enter(self, client: Home, guess: str, **more: Any) -> Any:
        data = {"csrf": token_of(client.get("/pin").text), "pin": guess}
        return client.post("/enter", data=data, **more)

    def test_nothing_is_shown_before(self, services: Services, client: Home) -> None:
        assert client.get("/").headers["Location"] == "/pin"
        for path in ("/model", "/slices/1", "/slices/1/print", "/series/1/print", "/device", "/add", "/nowhere"):
            assert client.get(path).headers["Location"] == f"/pin?to={path}"
            assert client.get(path, headers={"Accept": "application/json"}).status_code == 401
        for path in ("/rows", "/state", "/events", "/slices/1/slice.png"):
            assert client.get(path).status_code == 401
        assert client.post("/device/self-test").status_code == 401
        page = client.get("/pin").text
        assert "Research use only" in page
        assert 'href="/device"' not in page
        headers = {"X-CSRF-Token": token_of(page), "Accept": "application/json"}
        assert send(client, headers, ("a.png", png(1, 2))).status_code == 401
        assert client.get("/ready").status_code == 200
        assert client.get("/static/app.css").status_code == 200
        assert services.worklist.rows() == []

    def test_the_right_pin_opens_under_a_new_token(self, client: Home, services: Services) -> None:
        old = client.get("/pin").headers["Set-Cookie"]
        assert self.enter(client, "000000").status_code == 403
        answer = self.enter(client, PIN)
        assert answer.status_code == 303
        new = answer.headers["Set-Cookie"]
        assert new.partition(";")[0] != old.partition(";")[0]
        assert client.get("/").status_code == 200
        stranger = browser(services)
        name, _, value = old.partition(";")[0].partition("=")
        stranger.set_cookie(name, value, domain="127.0.0.1")
        assert stranger.get("/rows").status_code == 401

    @pytest.mark.parametrize(
        ("asked", "shown"), [("/device", "/device"), ("/?show=refer", "/?show=refer"), ("//evil.example/", "/")]
    )
    def test_the_pin_leads_to_what_was_asked_for(self, client: Home, asked: str, shown: str) -> None:
        page = client.get("/pin", query_string={"to": asked}).text
        found = re.search(r'name="to" value="([^"]*)"', page)
        assert found and found[1] == shown
        data = {"csrf": token_of(page), "pin": "000000", "to": asked}
        assert f'name="to" value="{shown}"' in client.post("/enter", data=data).text
        assert client.post("/enter", data={**data, "pin": PIN}).headers["Location"] == shown

    def test_guesses_are_slowed_down(self, client: Home) -> None:
        statuses = [self.enter(client, "000000").status_code for _ in range(4)]
        assert statuses == [403, 403, 429, 429]
        refused = self.enter(client, PIN)
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1

    def test_leaving_locks_again(self, client: Home) -> None:
        self.enter(client, PIN)
        token = token_of(client.get("/").text)
        client.post("/leave", data={"csrf": token})
        assert client.get("/").headers["Location"] == "/pin"
