"""Changes to the files of a worklist that edge-ct did not make."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec

Tampering = Callable[[sqlite3.Connection, Path], None]


def sql(*statements: str) -> Tampering:
    """Return a tampering by SQL, past the triggers, which are there again afterwards."""

    def tamper(connection: sqlite3.Connection, folder: Path) -> None:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for _, statement in triggers:
            connection.execute(statement)

    return tamper


def plain(statement: str) -> Tampering:
    """Return a tampering by one statement, which no trigger hinders."""
    return lambda connection, folder: [None for _ in connection.execute(statement)] and None


def forge(actor: str, action: str, subject: int | None, detail: object, mac: str = "'00'") -> Tampering:
    """Return a tampering that appends an entry with the right hash, as anybody can, and a wrong HMAC."""

    def tamper(connection: sqlite3.Connection, folder: Path) -> None:
        seq, before = connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1").fetchone()
        entry = [seq + 1, "2026-01-20T00:00:00.000Z", actor, action, subject, json.dumps(detail)]
        entry_hash = hashlib.sha256(msgspec.json.encode([before, *entry])).hexdigest()
        placeholders = f"?, ?, ?, ?, ?, ?, ?, {mac}" if mac else "?, ?, ?, ?, ?, ?, ?"
        connection.execute(f"INSERT INTO audit VALUES ({placeholders})", (*entry, entry_hash))

    return tamper


def swap_pictures_of(first: int, second: int) -> Tampering:
    def tamper(connection: sqlite3.Connection, folder: Path) -> None:
        query = "SELECT result, png FROM pictures WHERE result IN (?, ?)"
        pictures = dict(connection.execute(query, (first, second)).fetchall())
        for number, other in ((first, second), (second, first)):
            connection.execute("UPDATE pictures SET png = ? WHERE result = ?", (pictures[other], number))

    return tamper


def apply(tampering: Tampering, folder: Path) -> None:
    connection = sqlite3.connect(folder / "worklist.sqlite", isolation_level=None)
    tampering(connection, folder)
    connection.close()
