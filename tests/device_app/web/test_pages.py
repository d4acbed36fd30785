"""The pages and what they let through, by Flask's test client."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_ct.bundle import CARD, add_members, unpack_bundle
from edge_ct.device_app.web import uploads
from edge_ct.device_app.web.judging_queue import Busy
from edge_ct.device_app.web.pin import PinGate, hash_pin
from edge_ct.device_app.web.services import Services, UploadLimits

from .conftest import Home, browser, png, token_of

PAGES = ("/", "/?show=negative", "/rows", "/add", "/slices/1", "/slices/1/print", "/model", "/device")
PIN = "493817"


def send(client: Home, csrf: dict[str, str], *files: tuple[str, bytes], **more: Any) -> Any:
    data = {"files": [(io.BytesIO(content), name) for name, content in files], "folder": more.pop("folder", "")}
    return client.post("/upload", data=data, headers={**csrf, **more.pop("headers", {})}, **more)


@pytest.fixture
def judged(client: Home, csrf: dict[str, str]) -> list[dict[str, Any]]:
    """Three rows: two slices and a file that is not an image."""
    answer = send(client, csrf, ("a.png", png(1, 2)), ("b.png", png(2, 3, True)), ("notes.txt", b"hello"))
    assert answer.status_code == 201
    files = answer.json["files"]
    assert isinstance(files, list)
    return files


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


@pytest.mark.parametrize("language", ["en", "pt-BR"])
@pytest.mark.parametrize("path", PAGES)
def test_every_page_says_what_it_is_for(path: str, language: str, client: Home, judged: Any) -> None:
    client.set_cookie("lang", language, domain="127.0.0.1")
    answer = client.get(path)
    assert answer.status_code == 200
    if path != "/rows":
        research = {"en": "Research use only", "pt-BR": "Somente para pesquisa"}[language]
        assert research in answer.text
        assert f'lang="{language}"' in answer.text
    own = re.sub(r'<p lang="en">.*?</p>', "", answer.text)  # the bundle's own words of its use
    assert "diagnos" not in own.lower()


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


def test_a_series_is_opened_read_and_printed(client: Home, csrf: dict[str, str], services: Services) -> None:
    names = [f"{i}.png" for i in range(5)]
    for i, name in enumerate(names[:4]):
        send(client, csrf, (name, png(i, 3, i % 2 == 1)), folder="CD/../patient 1")
    send(client, csrf, (names[4], b"nothing"), folder="CD/../patient 1")
    send(client, csrf, ("other.png", png(9, 3)))
    rows = services.worklist.rows(by="number")
    assert [row.source for row in rows[:5]] == [f"CD/patient 1/{name}" for name in names]
    page = client.get("/").text
    assert page.count('<li class="row') == 2
    number = int(re.findall(r'href="/series/(\d+)"', page)[0])
    shown = client.get(f"/series/{number}").text
    assert [int(found) for found in re.findall(r'href="/slices/(\d+)" title', shown)] == [1, 2, 3, 4, 5]
    assert "1 not judged" in shown
    assert client.get("/series/77").status_code == 404

    # Those that search, filter or turn a page come back to where they were.
    client.get("/?q=patient&sort=newest")
    assert 'href="/?q=patient&amp;sort=newest" rel="up"' in client.get(f"/series/{number}").text
    assert client.get("/?sort=sideways").status_code == 400
    assert client.get("/?q=nobody").text.count('<li class="row') == 0

    # The next open slice is one of the same series, until all have been read.
    token = token_of(shown)
    seen = {1}
    for _ in range(3):
        last = max(seen)
        client.post(f"/slices/{last}/review", data={"csrf": token, "reviewer": "Dr Lima", "verdict": "agree"})
        if any(services.worklist.get(one).outcome == "positive" for one in seen):
            break
        seen.add(int(client.get(f"/slices/{last}/next").headers["Location"].rpartition("/")[2]))
    answer = client.post(
        f"/series/{number}/review",
        data={"csrf": token, "reviewer": "Dr Lima", "verdict": "negative", "note": "clear"},
        headers={"Accept": "application/json"},
    )
    assert answer.json == {"url": f"/series/{number}"}
    read = [services.worklist.get(one) for one in range(1, 6)]
    assert all(row.review for row in read)
    late = [row for row in read if row.review and row.review.note == "clear"]
    assert {row.outcome for row in late if row.decision != "rejected"} <= {"negative"}
    assert client.get("/slices/2/next").headers["Location"] == "/slices/6"
    assert "Dr Lima" in client.get(f"/series/{number}/print").text
    for wrong in ({"verdict": "positive"}, {"reviewer": " "}):
        form = {"csrf": token, "reviewer": "Dr Lima", "verdict": "agree", **wrong}
        assert client.post(f"/series/{number}/review", data=form).status_code == 400


def test_pages_of_the_list(client: Home, services: Services, csrf: dict[str, str]) -> None:
    send(client, csrf, ("a.png", png(1, 2)))
    with services.worklist._store.writing() as connection:
        columns = "origin, source, decision, urgency, probability, model, bundle, time"
        for i in range(119):
            connection.execute(
                f"INSERT INTO results (identity, {columns}) SELECT ?, {columns} FROM results WHERE id = 1", (f"{i}",)
            )
    first, last = client.get("/").text, client.get("/?page=3").text
    assert "1–50 of 120" in first
    assert 'href="/?page=2"' in first
    assert "101–120 of 120" in last
    assert last.count('<li class="row') == 20


def test_a_deleted_result_says_so(client: Home, services: Services, judged: Any) -> None:
    with services.worklist._store.writing() as connection:
        for table in ("pictures WHERE result", "results WHERE id"):
            connection.execute(f"DELETE FROM {table} = 1")
    for path in ("/slices/1", "/series/1", "/slices/1/print"):
        answer = client.get(path)
        assert answer.status_code == 410
        assert "has been deleted" in answer.text
    assert client.get("/slices/4").status_code == 404


def test_scores_never_read_as_certainty(client: Home, services: Services, judged: Any) -> None:
    with services.worklist._store.writing() as connection:
        connection.execute("DROP TRIGGER answers_stay")
        connection.execute("UPDATE results SET probability = 0.9996 WHERE id = 1")
        connection.execute("UPDATE results SET probability = 0.0002 WHERE id = 2")
    page = client.get("/").text
    assert "&gt;\u00a099\u00a0%" in page
    assert "&lt;\u00a01\u00a0%" in page
    assert "100\u00a0%" not in page


def test_what_asks_for_a_change_is_a_post(client: Home) -> None:
    for path in POSTS:
        assert client.get(path).status_code in (404, 405)


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


def test_a_name_is_shown_as_text(client: Home, csrf: dict[str, str]) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    send(client, csrf, (name, png(1, 2)))
    page = client.get("/").text
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_the_list_is_ordered_by_urgency(client: Home, csrf: dict[str, str], services: Services) -> None:
    for i in range(8):
        send(client, csrf, (f"{i}.png", png(i, i % 5, i % 2 == 1)))
    send(client, csrf, ("broken.png", png(1, 1)[:100]))
    shown = [int(number) for number in re.findall(r'href="/slices/(\d+)"', client.get("/").text)]
    rows = {row.id: row for row in services.worklist.rows()}
    rank = {"positive": 0, "refer": 1, "rejected": 2, "negative": 3}
    assert len(shown) == 9
    assert shown == sorted(shown, key=lambda i: (rank[rows[i].decision], -(rows[i].probability or 0), i))
    only = re.findall(r'href="/slices/(\d+)"', client.get("/?show=rejected").text)
    assert [rows[int(number)].decision for number in only] == ["rejected"]
    assert client.get("/?show=everything").status_code == 400


def test_pictures(client: Home, judged: Any) -> None:
    def picture(kind: str, number: int = 1) -> Any:
        answer = client.get(f"/slices/{number}/{kind}.png")
        return (
            cv2.imdecode(np.frombuffer(answer.data, np.uint8), cv2.IMREAD_UNCHANGED)
            if answer.data[:4] == b"\x89PNG"
            else answer
        )

    assert np.array_equal(picture("slice"), cv2.imdecode(np.frombuffer(png(1, 2), np.uint8), cv2.IMREAD_UNCHANGED))
    assert picture("thumb").shape == (128, 128)
    assert picture("layer").shape == (96, 96, 4)
    assert picture("overlay").shape == (96, 96, 3)
    assert picture("thumb", 3).status_code == 404
    assert picture("slice", 99).status_code == 404
    assert picture("other").status_code == 404


def test_a_review_stands_beside_the_answer(client: Home, services: Services, judged: Any) -> None:
    page = client.get("/slices/1")
    token = token_of(page.text)
    before = services.worklist.get(1)
    other = {"positive": "negative", "negative": "positive", "refer": "positive"}[before.decision]
    form = {"csrf": token, "reviewer": "Dr  Lima", "verdict": other, "note": "motion"}
    assert client.post("/slices/1/review", data=form).status_code == 303
    after = services.worklist.get(1)
    assert after.review is not None
    assert (after.review.reviewer, after.review.label, after.review.note) == ("Dr Lima", other, "motion")
    assert (after.decision, after.probability) == (before.decision, before.probability)
    shown = client.get("/slices/1").text
    words = {"positive": "COVID-19 pneumonia", "negative": "no sign of COVID-19 pneumonia"}[other]
    assert f"Dr Lima reads {words}" in shown
    headline = re.search(r'<p class="word">.*?<span>(.*?)</span>', shown)
    assert headline
    assert headline[1] == f"Read as {words}"
    assert services.worklist.get(1).outcome == other
    assert 'name="reviewer" value="Dr Lima"' in shown
    assert client.post("/slices/1/review", data={**form, "reviewer": " "}).status_code == 400
    assert client.post("/slices/1/review", data={**form, "verdict": "x"}).status_code == 400
    assert client.post("/slices/1/review", data={**form, "verdict": before.decision}).status_code == 400
    assert client.post("/slices/99/review", data=form).status_code == 404
    assert len(services.worklist.reviews(1)) == 1


def test_language_and_theme_are_kept(client: Home) -> None:
    token = token_of(client.get("/").text)
    answer = client.post("/settings", data={"csrf": token, "lang": "pt-BR", "back": "/model?x=1"})
    assert answer.headers["Location"] == "/model?x=1"
    assert "Ficha do modelo" in client.get("/model").text
    client.post("/settings", data={"csrf": token, "theme": "dark"})
    assert 'data-theme="dark"' in client.get("/").text
    assert client.post("/settings", data={"csrf": token, "lang": "xx"}).status_code == 400
    for back in ("//evil.example/", "http://evil.example/", "/\\evil.example", "evil", "/a\nb"):
        answer = client.post("/settings", data={"csrf": token, "theme": "light", "back": back})
        assert answer.headers["Location"] == "/"


def test_the_browsers_language_is_heard(client: Home) -> None:
    assert 'lang="pt-BR"' in client.get("/", headers={"Accept-Language": "pt;q=0.9"}).text
    assert 'lang="en"' in client.get("/", headers={"Accept-Language": "de"}).text


def test_model_card_and_device(client: Home, csrf: dict[str, str], services: Services) -> None:
    page = client.get("/model").text
    assert services.bundle.identity in page
    assert "45.0\u00a0% – 55.0\u00a0%" in page
    assert "Passed" in client.get("/device").text
    answer = client.post("/device/self-test", headers=csrf)
    assert "Passed: the model gives" in answer.text


def test_the_card_that_a_bundle_carries_is_shown(
    client: Home, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 'id="card"' not in client.get("/model").text
    table = b"| model | positive | refer | negative |\n| - | - | - | - |\n| a | 1 | 2 | 3 |\n"
    card = b"# Card\n\n## Use\n\n<b>Not</b> for **any** diagnosis.\n\n" + table
    monkeypatch.setattr(services, "bundle", unpack_bundle(add_members(services.bundle, {CARD: card}), "carried"))
    page = client.get("/model").text
    assert "<p>&lt;b&gt;Not&lt;/b&gt; for <strong>any</strong> diagnosis.</p>" in page
    assert "<h3>Use</h3>" in page
    assert page.count('<tr><th scope="row">a</th><td>1</td><td>2</td><td>3</td></tr>') == 2  # on top, and in its place


def test_a_failed_self_test_is_shown(
    client: Home, csrf: dict[str, str], services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_ct.errors import ModelRejected

    def wrong() -> float:
        raise ModelRejected("golden slice 0 gives something else")

    monkeypatch.setattr(services.queue, "check", wrong)
    answer = client.post("/device/self-test", headers=csrf)
    assert answer.status_code == 500
    assert "do not use this device" in answer.text


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
