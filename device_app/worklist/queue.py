"""Queues in the worklist's file, for work that must survive restarts: objects to judge and objects to send.

An item is put once for each key, claimed for a limited time, and then finished, retried or given up. A worker that dies
loses its claim when the lease ends. Each item is therefore processed at least once; its key lets the receiver recognise
a repetition.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from .database import Store

# Names of the queues: DICOM objects that were received, and DICOM objects that are to be sent.
RECEIVED = "dicom-received"
OUTGOING = "dicom-out"


class Item(msgspec.Struct, frozen=True):
    """One piece of work. Times are in seconds since 1970.

    Attributes:
        key: Unique within the queue, and the same after a restart.
        topic: What the item belongs to: a series, or a target.
        payload: JSON; its content is known to the user of the queue.
        state: `waiting`, `done` or `failed`.
        attempts: How often the item was claimed.
        next_try: When the item may be claimed.
        finished: When the item was done or given up; None while it waits.
        error: Why the last attempt failed; None if it did not.
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
    """A topic with waiting items.

    Attributes:
        waiting: Number of waiting items.
        last: When the latest item was put, in seconds since 1970.
    """

    topic: str
    waiting: int
    last: float


_COLUMNS = ", ".join(Item.__struct_fields__)


class Queue:
    """One queue of the worklist's file. The argument `now` of its methods is in seconds since 1970."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self.name = store, name

    def put(self, key: str, payload: object, topic: str = "", now: float | None = None) -> Item | None:
        """Add an item; it is on the disk when this returns.

        Returns:
            The item; None if the queue already has an item with this key.

        Raises:
            StorageFull: There is no room for it.
        """
        self._store.check_room()
        moment = time.time() if now is None else now
        with self._store.writing() as connection:
            inserted = connection.execute(
                "INSERT OR IGNORE INTO queue (queue, key, topic, payload, created, next_try) VALUES (?, ?, ?, ?, ?, ?)",
                (self.name, key, topic, msgspec.json.encode(payload).decode(), moment, moment),
            )
            return self._select(connection, "key = ?", (key,))[0] if inserted.rowcount == 1 else None

    def claim(
        self, limit: int = 1, lease: float = 60.0, topic: str | None = None, now: float | None = None
    ) -> list[Item]:
        """Claim items that are due, the longest waiting first.

        Args:
            limit: Maximum number of items.
            lease: Seconds for which nobody else can claim them.
            topic: Claim only items of this topic.
            now: The current time.
        """
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

    def finish(self, items: Sequence[int], now: float | None = None) -> None:
        """Mark items as done, by their ids: all of them or none."""
        moment = time.time() if now is None else now
        with self._store.writing() as connection:
            connection.executemany(
                "UPDATE queue SET state = 'done', finished = ?, error = NULL WHERE id = ?",
                [(moment, item) for item in items],
            )

    def retry(self, item: int, error: str, after: float, now: float | None = None) -> None:
        """Note that an attempt failed; the item is due again in `after` seconds."""
        moment = time.time() if now is None else now
        with self._store.writing() as connection:
            connection.execute("UPDATE queue SET next_try = ?, error = ? WHERE id = ?", (moment + after, error, item))

    def give_up(self, item: int, error: str, now: float | None = None) -> None:
        """Mark an item as failed; it is kept until retention deletes it or `retry_all` revives it."""
        moment = time.time() if now is None else now
        with self._store.writing() as connection:
            connection.execute(
                "UPDATE queue SET state = 'failed', finished = ?, error = ? WHERE id = ?", (moment, error, item)
            )

    def retry_all(self, now: float | None = None) -> int:
        """Make every item that failed, or waits for its next attempt, due at once; return their number."""
        moment = time.time() if now is None else now
        with self._store.writing() as connection:
            return connection.execute(
                "UPDATE queue SET state = 'waiting', next_try = ?, finished = NULL WHERE queue = ? AND state != 'done'",
                (moment, self.name),
            ).rowcount

    def items(self, state: str | None = None, topic: str | None = None, limit: int = 1000) -> list[Item]:
        """Return items in the order in which they were put."""
        with self._store.reading() as connection:
            return self._select(
                connection,
                "(? IS NULL OR state = ?) AND (? IS NULL OR topic = ?) ORDER BY id LIMIT ?",
                (state, state, topic, topic, limit),
            )

    def get(self, key: str) -> Item | None:
        """Return the item with this key."""
        with self._store.reading() as connection:
            return next(iter(self._select(connection, "key = ?", (key,))), None)

    def topics(self) -> list[Topic]:
        """Return the topics with waiting items, the one without a new item for longest first."""
        query = "SELECT topic, count(*), max(created) FROM queue WHERE queue = ? AND state = 'waiting' GROUP BY topic"
        with self._store.reading() as connection:
            return [Topic(*row) for row in connection.execute(f"{query} ORDER BY 3, 1", (self.name,))]

    def counts(self) -> dict[str, int]:
        """Return the number of items in each state."""
        query = "SELECT state, count(*) FROM queue WHERE queue = ? GROUP BY state"
        with self._store.reading() as connection:
            return {"waiting": 0, "done": 0, "failed": 0, **dict(connection.execute(query, (self.name,)).fetchall())}

    def _select(self, connection: sqlite3.Connection, condition: str, values: Sequence[object]) -> list[Item]:
        query = f"SELECT {_COLUMNS} FROM queue WHERE queue = ? AND {condition}"
        return [_read_item(row) for row in connection.execute(query, (self.name, *values)).fetchall()]


def _read_item(values: Sequence[Any]) -> Item:
    fields: Any = (*values[:3], msgspec.Raw(values[3].encode()), *values[4:])
    return Item(*fields)
