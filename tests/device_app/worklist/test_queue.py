"""Queues: once for each key, claimed for a while, in turn, across restarts."""

import itertools
from datetime import date, timedelta

import msgspec
import pytest

from edge_ct.device_app.worklist.queue import Topic
from edge_ct.device_app.worklist.worklist import Worklist


def keys(items: list) -> list[str]:
    return [item.key for item in items]


def test_items_are_put_once_for_each_key(worklist: Worklist) -> None:
    queue = worklist.queue("out")
    item = queue.put("a", {"path": "x"}, topic="pacs", now=1)
    assert item is not None
    assert item == queue.get("a")
    assert not queue.put("a", {"path": "y"}, now=2)
    assert worklist.queue("in").put("a", [1])
    (item,) = queue.items()
    assert (item.key, item.topic, item.state, item.attempts, item.created) == ("a", "pacs", "waiting", 0, 1)
    assert msgspec.json.decode(item.payload) == {"path": "x"}
    assert queue.get("a") == item
    assert queue.get("b") is None
    assert queue.counts() == {"waiting": 1, "done": 0, "failed": 0}


def test_claim_is_for_one_worker_until_its_lease_ends(worklist: Worklist) -> None:
    queue = worklist.queue("out")
    for number, key in enumerate("abc"):
        queue.put(key, None, now=number)
    assert keys(queue.claim(limit=2, lease=30, now=10)) == ["a", "b"]
    assert keys(queue.claim(limit=2, lease=30, now=11)) == ["c"]
    assert queue.claim(now=12) == []
    # The first worker died: its items come back, and count their attempts.
    again = queue.claim(limit=5, lease=30, now=40)
    assert keys(again) == ["a", "b"]
    assert [item.attempts for item in again] == [1, 1]


def test_done_retry_and_give_up(worklist: Worklist) -> None:
    queue = worklist.queue("out")
    for key in "abc":
        queue.put(key, None, now=0)
    first, second, third = queue.claim(limit=3, now=1)
    queue.finish([first.id], now=2)
    queue.retry(second.id, "no route", after=10, now=2)
    queue.give_up(third.id, "refused", now=2)
    assert queue.counts() == {"waiting": 1, "done": 1, "failed": 1}
    assert queue.claim(now=11) == []
    (item,) = queue.claim(now=12)
    assert (item.key, item.error, item.attempts) == ("b", "no route", 1)
    assert keys(queue.items("failed")) == ["c"]
    assert queue.retry_all(now=13) == 2
    assert keys(queue.claim(limit=9, now=13)) == ["b", "c"]
    assert not queue.put("a", None)  # what was done is not done again


def test_topics_by_how_long_they_have_been_quiet(worklist: Worklist) -> None:
    queue = worklist.queue("in")
    for now, (key, topic) in enumerate([("1", "x"), ("2", "y"), ("3", "x"), ("4", "z")]):
        queue.put(key, None, topic=topic, now=now)
    queue.finish([queue.claim(topic="z", now=9)[0].id])
    assert queue.topics() == [Topic("y", 1, 1), Topic("x", 2, 2)]
    assert keys(queue.items(topic="x")) == ["1", "3"]


def test_items_survive_a_restart_and_retention_takes_finished_ones(worklist: Worklist) -> None:
    queue = worklist.queue("out")
    queue.put("a", None, now=0)
    queue.put("b", None, now=0)
    queue.finish([queue.claim(now=0)[0].id], now=1)
    worklist.close()
    with Worklist(worklist.folder) as later:
        assert keys(later.queue("out").items()) == ["a", "b"]
        later.prune(30)
        assert keys(later.queue("out").items()) == ["a", "b"]  # The trail has not seen 30 days pass.
    days = itertools.count(0, 8)
    with Worklist(worklist.folder, clock=lambda: f"{date(2030, 1, 1) + timedelta(next(days))}T00:00:00.000Z") as aged:
        for _ in range(5):
            aged.note("test", "day", {})
        aged.prune(30)
        assert keys(aged.queue("out").items()) == ["b"]


def test_transaction_that_fails_is_undone(worklist: Worklist) -> None:
    queue = worklist.queue("out")
    queue.put("a", None)
    with pytest.raises(ZeroDivisionError), worklist._store.writing() as connection:
        connection.execute("DELETE FROM queue")
        raise ZeroDivisionError
    assert keys(queue.items()) == ["a"]
