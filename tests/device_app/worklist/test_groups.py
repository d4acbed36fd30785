"""The groups of the worklist against groupings and decisions that are computed here, one slice after the other."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_ct.classifier import Classifier, Judgement
from edge_ct.decision import decide, decide_series
from edge_ct.device_app.worklist.export import to_csv, to_json
from edge_ct.device_app.worklist.groups import GroupQuery, _key, natural_key
from edge_ct.device_app.worklist.records import Entry, Row, prepare_entry
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.errors import EdgeCTError
from edge_ct.manifest import DecisionRule

RULE = DecisionRule(0.4, 0.6, 0.95, 0.95, 100, 100)

Add = Callable[..., Row]


@pytest.fixture
def blank(judged: Callable[..., Judgement], tiny_classifier: Classifier) -> Entry:
    return prepare_entry(judged(1), tiny_classifier.bundle, origin="serve")


@pytest.fixture
def add(worklist: Worklist, blank: Entry) -> Add:
    """Store a slice with a probability, or a rejected one, under any name, series and patient."""
    numbers = iter(range(100_000))

    def stored(source: str, p: float | None, series: str | None = None, **more: object) -> Row:
        decision = "rejected" if p is None else decide(p, RULE).decision
        entry = dataclasses.replace(
            blank,
            identity=f"{next(numbers)}",
            source=source,
            probability=p,
            decision=decision,
            series=series,
            **more,  # type: ignore[arg-type]
        )
        return worklist.add(entry).row

    return stored


def test_series_are_decided_by_their_mean_and_folders_by_their_most_urgent_slice(
    worklist: Worklist, blank: Entry, add: Add
) -> None:
    chances = {"1.2.3": [0.9, 0.8, 0.3, None], "1.2.4": [0.7, 0.1, 0.1], "1.2.5": [None, None], "1.2.6": [0.9, 0.2]}
    for series, values in chances.items():
        for i, p in enumerate(values):
            add(f"cd/IM{i}", p, series, study="1.2", patient="p")
    for i, p in enumerate([0.7, 0.1, 0.1]):
        add(f"visit/{i}.png", p)
    add("alone.png", 0.5)
    add("lonely.png", 0.2)
    page = worklist.groups(RULE, blank.bundle)
    by_series = {group.row.series: group for group in page.groups if group.kind == "series"}
    assert len(by_series) == 4
    for series, values in chances.items():
        group, judged = by_series[series], [p for p in values if p is not None]
        expected = decide_series(judged, RULE)
        assert group.decision == (expected.decision if expected else "rejected")
        assert group.probability == (pytest.approx(expected.probability) if expected else None)
        assert (group.slices, group.judged) == (len(values), len(judged))
        assert group.positive == sum(p >= 0.6 for p in judged)
        assert group.row.probability == max(judged, default=None)
    assert by_series["1.2.4"].decision == "negative"
    folder = next(group for group in page.groups if group.kind == "folder")
    assert (folder.decision, folder.slices, folder.positive, folder.probability) == ("positive", 3, 1, 0.7)
    assert sum(group.kind == "slice" for group in page.groups) == 2
    rank = {"positive": 0, "refer": 1, "rejected": 2, "negative": 3}
    order = [(rank[group.outcome], -(group.probability or 0)) for group in page.groups]
    assert order == sorted(order)
    assert page.counts == {"all": 7, "positive": 2, "refer": 2, "rejected": 1, "negative": 2, "reviewed": 0}


def test_a_series_of_another_model_is_not_averaged(worklist: Worklist, blank: Entry, add: Add) -> None:
    for p in (0.9, 0.1, 0.1):
        add("cd/a", p, "1.2", bundle="b" * 64)
        add("cd/a", p, "1.2")
    decisions = {group.row.bundle: group.decision for group in worklist.groups(RULE, blank.bundle).groups}
    assert decisions == {"b" * 64: "positive", blank.bundle: "negative"}


def test_a_folder_is_another_group_on_another_day(tmp_path: Path, blank: Entry) -> None:
    now = ["2026-03-01T23:59:00.000Z"]
    with Worklist(tmp_path / "w", clock=lambda: now[0]) as worklist:
        for day in ("01", "02", "02"):
            now[0] = f"2026-03-{day}T12:00:00.000Z"
            worklist.add(dataclasses.replace(blank, identity=f"{day}{worklist.version()}", source="inbox/a.png"))
        assert sorted(group.slices for group in worklist.groups(RULE, blank.bundle).groups) == [1, 2]


def test_reviews_count_before_the_model(worklist: Worklist, blank: Entry, add: Add) -> None:
    rows = [add(f"cd/{i}", p, "1.2") for i, p in enumerate((0.9, 0.8, 0.7, None))]

    def now() -> tuple[str, str | None, int]:
        group = worklist.group(rows[0].id, RULE, blank.bundle)
        assert group is not None
        return group.outcome, group.reading, group.positive

    assert now() == ("positive", None, 3)
    worklist.review(rows[0].id, "Dr Lima", "override", "negative")
    assert now() == ("positive", None, 2)
    worklist.review(rows[1].id, "Dr Lima", "override", "unusable")
    worklist.review(rows[2].id, "Dr Lima", "override", "negative")
    assert now() == ("negative", "negative", 0)
    assert worklist.groups(RULE, blank.bundle).counts["reviewed"] == 1
    worklist.review(rows[1].id, "Dr Silva", "agree")
    assert now() == ("positive", "positive", 1)
    group = worklist.group(rows[3].id, RULE, blank.bundle)
    assert group is not None
    assert group.row.id == rows[1].id


def test_search_filter_order_and_pages(worklist: Worklist, blank: Entry, add: Add) -> None:
    for i in range(12):
        add(f"folder{i}/slice.png", i / 12, f"1.2.{i}", patient=f"patient {i}")
    worklist.review(1, "Dr Lima", "agree")

    def numbers(**options: object) -> list[int]:
        return [group.row.id for group in worklist.groups(RULE, blank.bundle, GroupQuery(**options)).groups]  # type: ignore[arg-type]

    assert numbers(search="FOLDER3/") == [4]
    assert numbers(search="1.2.11") == [12]
    assert numbers(search="lima") == [1]
    assert numbers(search="no such", patient=worklist.pseudonym("patient 7")) == [8]
    assert numbers(shown="reviewed") == [1]
    assert set(numbers(shown="positive")) == {9, 10, 11, 12}
    assert numbers(order="newest") == list(range(12, 0, -1))
    assert numbers(order="name") == list(range(1, 13))
    assert numbers(limit=5, offset=10) == numbers()[10:]
    assert worklist.groups(RULE, blank.bundle, GroupQuery(limit=5)).total == 12
    assert numbers()[-1] == 1
    assert worklist.group(99, RULE, blank.bundle) is None
    assert worklist.group_rows(99) == []


def test_exports_name_the_decision_that_counts(worklist: Worklist, add: Add) -> None:
    for p in (0.9, 0.1, 0.5):
        add("folder/a.png", p)
    worklist.review(1, "Dr Lima", "override", "negative")
    worklist.review(2, "Dr Lima", "override", "unusable")
    rows = worklist.rows(by="number")
    expected = ["negative", "rejected", "refer"]
    assert [line["outcome"] for line in csv.DictReader(io.StringIO(to_csv(rows)))] == expected
    assert [line["outcome"] for line in json.loads(to_json(rows))] == expected
    assert [line["decision"] for line in json.loads(to_json(rows))] == ["positive", "negative", "refer"]


def test_natural_order() -> None:
    assert sorted(["s10.png", "s9.png", "S1.png"], key=natural_key) == ["S1.png", "s9.png", "s10.png"]


def test_deleted_results_are_known(tmp_path: Path, blank: Entry) -> None:
    now = ["2026-03-01T12:00:00.000Z"]
    with Worklist(tmp_path / "w", clock=lambda: now[0]) as worklist:
        row = worklist.add(blank).row
        assert not worklist.was_deleted(row.id)
        now[0] = "2026-03-08T18:00:00.000Z"
        assert worklist.prune(7, unreviewed=True).deleted == 1
        assert worklist.was_deleted(row.id)
        assert not worklist.was_deleted(row.id + 1)
        with pytest.raises(EdgeCTError):
            worklist.get(row.id)


def test_the_slices_of_a_group_are_found_by_an_index(worklist: Worklist, add: Add) -> None:
    row = add("folder/a.png", 0.5)
    with worklist._store.reading() as connection:
        query = f"EXPLAIN QUERY PLAN SELECT id FROM results WHERE {_key()} = 'x'"
        assert "results_by_group" in str(connection.execute(query).fetchall())
    assert [found.id for found in worklist.group_rows(row.id)] == [row.id]


def test_five_thousand_results_of_three_hundred_series(worklist: Worklist, blank: Entry) -> None:
    slim = dataclasses.replace(blank, png=None, heat=None)
    entries = [
        dataclasses.replace(
            slim, identity=f"{i}", series=f"1.2.840.{i % 300}", patient=f"{i % 300 % 200}", probability=i / 5e3
        )
        for i in range(5000)
    ]
    worklist.add_all(entries[:5000])
    took = []
    for _ in range(5):
        start = time.process_time()
        page = worklist.groups(RULE, blank.bundle)
        took.append(time.process_time() - start)
    assert (page.total, len(page.groups)) == (300, 50)
    assert min(took) < 0.3
