"""Pages while another process holds the worklist or the clock is wrong, and requests that no worklist can answer."""

from __future__ import annotations

import io
import sqlite3
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from edge_ct.device_app.web import slice_views
from edge_ct.device_app.web.presenters import retention_line
from edge_ct.device_app.web.services import Services
from edge_ct.device_app.web.translations import Words
from edge_ct.device_app.worklist.retention import DailyRetention, Pruned
from edge_ct.device_app.worklist.time_evidence import ClockState

from .conftest import Home, png, token_of


@pytest.fixture
def judged(client: Home, csrf: dict[str, str]) -> None:
    """One result, number 1."""
    answer = client.post("/upload", data={"files": [(io.BytesIO(png(1, 2)), "a.png")]}, headers=csrf)
    assert answer.status_code == 201


@pytest.fixture
def locked(services: Services, judged: None) -> Iterator[None]:
    """Another process writes, and does not end."""
    connection = sqlite3.connect(services.worklist.folder / "worklist.sqlite", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    yield
    connection.close()


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize(
    "path", ["/", "/rows", "/state", "/slices/1", "/slices/1/overlay.png", "/slices/1/print", "/model", "/device"]
)
def test_pages_are_answered_while_another_process_writes(client: Home, path: str) -> None:
    start = time.monotonic()
    assert client.get(path).status_code == 200
    assert time.monotonic() - start < 5


@pytest.mark.usefixtures("locked")
def test_a_review_that_cannot_be_stored_says_when_to_try_again(
    client: Home, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slice_views, "REVIEW_PATIENCE", 0.2)
    form = {"verdict": "agree", "reviewer": "Lima", "csrf": token_of(client.get("/").text)}
    answer = client.post("/slices/1/review", data=form)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "another process" in answer.text
    assert services.worklist.reviews(1) == []


@pytest.mark.usefixtures("judged")
def test_pages_are_answered_while_a_thread_of_the_server_waits_to_write(client: Home, services: Services) -> None:
    with services.worklist._store.writing():
        assert client.get("/").status_code == 200


@pytest.mark.parametrize("number", [1 << 63, 10**30, (1 << 63) - 1])
@pytest.mark.parametrize("path", ["/slices/{}", "/slices/{}/print", "/slices/{}/slice.png", "/series/{}"])
def test_numbers_that_no_result_can_have(client: Home, number: int, path: str) -> None:
    assert client.get(path.format(number)).status_code == 404


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("", 400),
        ("[", 400),
        ("127.0.0.1:8042/x", 400),
        ("a b", 400),
        ("x" * 5000, 400),
        ("12\u0663:80", 400),
        ("127.0.0.1:999999", 400),
        ("elsewhere.example:8042", 421),
        ("[::2]:8042", 421),
    ],
)
def test_odd_host_names(client: Home, host: str, status: int) -> None:
    assert client.get("/", headers={"Host": host}).status_code == status


@pytest.mark.usefixtures("judged")
def test_retention_that_deletes_nothing_is_said_on_the_page(client: Home, services: Services) -> None:
    """The clock is set back by a month: nothing is deleted, and the list and the device's page say why."""
    assert "no old result is deleted" not in client.get("/").text
    latest = datetime.now(timezone.utc) + timedelta(days=30)
    clock = services.worklist._clock
    services.worklist._clock = lambda: latest.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    services.worklist.note("test", "later", {})
    services.worklist._clock = clock
    services.retention = DailyRetention(services.worklist, 90, False, lambda line: None)
    services.retention.run_if_due()
    for path in ("/", "/device"):
        page = client.get(path).text
        assert "The clock is behind the latest entry" in page
        assert "no old result is deleted" in page
    assert "nenhum resultado antigo" in client.get("/", headers={"Accept-Language": "pt-BR"}).text


@pytest.mark.parametrize(("n", "text"), [(1, "1 old result is kept"), (2, "2 old results are kept"), (0, None)])
def test_results_that_nobody_reviewed_are_said_to_be_kept(n: int, text: str | None) -> None:
    now = datetime.now(timezone.utc)
    line = retention_line(Pruned(0, n, 0, ClockState("good", now, now)), Words("en"))
    assert line == (text and f"{text} because nobody has reviewed {'it' if n == 1 else 'them'}.")
