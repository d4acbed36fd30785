"""The list, series and slices: their order, names, pictures, scores and reviews."""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np

from edge_ct.device_app.web.services import Services

from ..conftest import Home, png, token_of
from .conftest import send


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
    headline = re.search(r'<p class="word">(.*?)</p>', shown)
    assert headline
    assert re.sub(r"<[^>]+>", "", headline[1]) == f"Read as {words}"
    assert services.worklist.get(1).outcome == other
    assert 'name="reviewer" value="Dr Lima"' in shown
    assert client.post("/slices/1/review", data={**form, "reviewer": " "}).status_code == 400
    assert client.post("/slices/1/review", data={**form, "verdict": "x"}).status_code == 400
    assert client.post("/slices/1/review", data={**form, "verdict": before.decision}).status_code == 400
    assert client.post("/slices/99/review", data=form).status_code == 404
    assert len(services.worklist.reviews(1)) == 1
