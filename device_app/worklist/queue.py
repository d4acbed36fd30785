"""Queues in the worklist's file: work that must be done once and survive restarts (objects to judge, objects to send).

An item is put once for each key, claimed for a while, and done, retried or given up. A worker that dies loses its claim
when the lease ends, so an item is worked on at least once; its key lets the other side tell a second time.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from .database import Store


class Item(msgspec.Struct, frozen=True):
    """One piece of work. key: stable, unique in its queue. topic: what it belongs to (a series, a target).

    payload: JSON of the queue's own. times: seconds since 1970.
    """

    id: int
    key: str
    topic: str
    payload: msgspec.Raw
    state: str
    attempts: int
    created: float
    next_try: float
    finished: float | None
    error: str | None


class Topic(msgspec.Struct, frozen=True):
    """A topic with waiting items: how many, and when the last one came, in seconds since 1970."""

    topic: str
    waiting: int
    last: float


_COLUMNS = "id, key, topic, payload, state, attempts, created, next_try, finished, error"


class Queue:
    """One queue, by name."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self.name = store, name

    def put(self, key: str, payload: object, topic: str = "", now: float | None = None) -> bool:
        """Add an item, on the disk when this returns; False where the key is there already. Raises `StorageFull`."""
        self._store.check_room()
        with self._store.writing() as connection:
            return self.put_within(connection, key, payload, topic, now)

    def put_within(
        self, connection: sqlite3.Connection, key: str, payload: object, topic: str = "", now: float | None = None
    ) -> bool:
        """As `put`, inside a transaction of the caller's."""
        moment = time.time() if now is None else now
        added = connection.execute(
            "INSERT OR IGNORE INTO queue (queue, key, topic, payload, created, next_try) VALUES (?, ?, ?, ?, ?, ?)",
            (self.name, key, topic, msgspec.json.encode(payload).decode(), moment, moment),
        )
        return added.rowcount == 1

    def claim(
        self, limit: int = 1, lease: float = 60.0, topic: str | None = None, now: float | None = None
    ) -> list[Item]:
        """Take up to `limit` items whose turn it is, the longest waiting first; nobody else gets them for `lease` s."""
        moment = time.time() if now is None else now
        with self._store.writing() as connection:
            items = self._select(
                connection,
                "state = 'waiting' AND next_try <= ? AND (? IS NULL OR topic = ?) ORDER BY next_try, id LIMIT ?",
                (moment, topic, topic, limit),
            )
            connection.executemany(
                "UPDATE queue SET next_try = ?, attempts = attempts + 1 WHERE id = ?",
                [(moment + lease, item.id) for item in items],
            )
        return items

    def done(self, item: int, now: float | None = None) -> None:
        """The work is finished."""
        with self._store.writing() as connection:
            self.done_within(connection, item, now)

    @staticmethod
    def done_within(connection: sqlite3.Connection, item: int, now: float | None = None) -> None:
        """As `done`, inside a transaction of the caller's."""
        moment = time.time() if now is None else now
        connection.execute("UPDATE queue SET state = 'done', finished = ?, error = NULL WHERE id = ?", (moment, item))

    def finish(self, items: Sequence[int], now: float | None = None) -> None:
        """All of these are finished, or none."""
        with self._store.writing() as connection:
            for item in items:
                self.done_within(connection, item, now)

    def retry(self, item: int, error: str, after: float, now: float | None = None) -> None:
        """It failed; its turn comes again `after` seconds from now."""
        moment = time.time() if now is None else now
        with self._store.writing() as connection:
            connection.execute("UPDATE queue SET next_try = ?, error = ? WHERE id = ?", (moment + after, error, item))

    def give_up(self, item: int, error: str, now: float | None = None) -> None:
        """It failed for good; it stays, as failed, until retention or `again`."""
        moment = time.time() if now is None else now
        with self._store.writing() as connection:
            connection.execute(
                "UPDATE queue SET state = 'failed', finished = ?, error = ? WHERE id = ?", (moment, error, item)
            )

    def again(self, now: float | None = None) -> int:
        """Let everything that failed for good, or waits for its next turn, be tried now. Returns how many."""
        moment = time.time() if now is None else now
        with self._store.writing() as connection:
            return connection.execute(
                "UPDATE queue SET state = 'waiting', next_try = ?, finished = NULL WHERE queue = ? AND state != 'done'",
                (moment, self.name),
            ).rowcount

    def items(self, state: str | None = None, topic: str | None = None, limit: int = 1000) -> list[Item]:
        """Items in the order they came."""
        with self._store.reading() as connection:
            return self._select(
                connection,
                "(? IS NULL OR state = ?) AND (? IS NULL OR topic = ?) ORDER BY id LIMIT ?",
                (state, state, topic, topic, limit),
            )

    def get(self, key: str) -> Item | None:
        """The item of a key."""
        with self._store.reading() as connection:
            return next(iter(self._select(connection, "key = ?", (key,))), None)

    def topics(self) -> list[Topic]:
        """Topics with waiting items, the one that has been quiet longest first."""
        query = "SELECT topic, count(*), max(created) FROM queue WHERE queue = ? AND state = 'waiting' GROUP BY topic"
        with self._store.reading() as connection:
            return [Topic(*row) for row in connection.execute(f"{query} ORDER BY 3, 1", (self.name,))]

    def counts(self) -> dict[str, int]:
        """How many items there are of each state."""
        query = "SELECT state, count(*) FROM queue WHERE queue = ? GROUP BY state"
        with self._store.reading() as connection:
            return {"waiting": 0, "done": 0, "failed": 0, **dict(connection.execute(query, (self.name,)).fetchall())}

    def _select(self, connection: sqlite3.Connection, where: str, values: Sequence[object]) -> list[Item]:
        rows = connection.execute(f"SELECT {_COLUMNS} FROM queue WHERE queue = ? AND {where}", (self.name, *values))
        return [_item(row) for row in rows.fetchall()]


def _item(values: Sequence[Any]) -> Item:
    found: Any = (*values[:3], msgspec.Raw(values[3].encode()), *values[4:])
    return Item(*found)
