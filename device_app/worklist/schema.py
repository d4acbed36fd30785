"""The tables, indexes and triggers of the worklist's file, and how a file is compared with them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

from .groups import INDEX
from .records import COLUMNS, LATER_COLUMNS

VERSION = 2

# The model's answer is never changed; what reviewers say about it is kept beside it, in `reviews`.
_VERSION_1 = """
CREATE TABLE results (
{columns},
  state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'reviewed')),
  review INTEGER REFERENCES reviews (id)
);
CREATE INDEX results_by_urgency ON results (state, urgency, probability DESC, id);
CREATE INDEX results_by_series ON results (series);
CREATE INDEX results_by_patient ON results (patient);
CREATE INDEX results_by_pixels ON results (sha256);
CREATE INDEX results_by_time ON results (time);
CREATE TABLE pictures (
  result INTEGER PRIMARY KEY REFERENCES results (id),
  png BLOB NOT NULL,
  heat BLOB,  -- float32: the cells row by row, then the centres of rows and columns, if they were measured
  heat_rows INTEGER,
  heat_columns INTEGER,
  heat_method TEXT
);
CREATE TABLE reviews (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  result INTEGER NOT NULL,
  time TEXT NOT NULL,
  reviewer TEXT NOT NULL,
  verdict TEXT NOT NULL CHECK (verdict IN ('agree', 'override')),
  label TEXT CHECK (label IN ('positive', 'negative', 'unusable')),
  note TEXT NOT NULL
);
CREATE INDEX reviews_by_result ON reviews (result);
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  time TEXT NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject INTEGER,
  detail TEXT NOT NULL,
  hash TEXT NOT NULL
);
CREATE INDEX audit_by_subject ON audit (action, subject);
CREATE TABLE seen (fingerprint BLOB PRIMARY KEY, result INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE queue (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  queue TEXT NOT NULL,
  key TEXT NOT NULL,
  topic TEXT NOT NULL,
  payload TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'failed')),
  attempts INTEGER NOT NULL DEFAULT 0,
  created REAL NOT NULL,
  next_try REAL NOT NULL,
  finished REAL,
  error TEXT,
  UNIQUE (queue, key)
);
CREATE INDEX queue_by_turn ON queue (queue, state, next_try);
CREATE INDEX queue_by_topic ON queue (queue, topic, state);
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TRIGGER answers_stay BEFORE UPDATE OF {names}
ON results BEGIN SELECT RAISE(ABORT, 'the answer of a model cannot be changed'); END;
CREATE TRIGGER reviews_stay BEFORE UPDATE ON reviews
BEGIN SELECT RAISE(ABORT, 'a review cannot be changed; add another one'); END;
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail cannot be changed'); END;
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit trail cannot be shortened'); END;
CREATE TRIGGER audit_is_appended BEFORE INSERT ON audit
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit)
BEGIN SELECT RAISE(ABORT, 'audit entries can only be appended'); END;
""".format(columns=",\n".join(f"  {name} {kind}" for name, kind in COLUMNS.items()), names=", ".join(COLUMNS))

_LATER = "\n".join(f"ALTER TABLE results ADD COLUMN {name} {kind};" for name, kind in LATER_COLUMNS.items())
# Version 2 binds each entry of the trail to the device key, finds the group of a result by an index, and stores the
# share of the lungs that shows opacities. A new file is made by the same statements as an old one is brought up by, so
# that both have the same schema.
_VERSION_2 = f"""
{INDEX};
ALTER TABLE audit ADD COLUMN mac TEXT;
CREATE TABLE IF NOT EXISTS quarantine (
  sha256 TEXT PRIMARY KEY,
  size INTEGER NOT NULL,
  source TEXT NOT NULL,
  ends INTEGER NOT NULL,
  reason TEXT NOT NULL,
  first REAL NOT NULL,
  last REAL NOT NULL
) WITHOUT ROWID;
{_LATER}
DROP TRIGGER answers_stay;
CREATE TRIGGER answers_stay BEFORE UPDATE OF {", ".join([*COLUMNS, *LATER_COLUMNS])}
ON results BEGIN SELECT RAISE(ABORT, 'the answer of a model cannot be changed'); END;
"""


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the version of the file's schema; 0 for a new file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def create_schema(connection: sqlite3.Connection, version: int = VERSION) -> None:
    """Make the tables, indexes and triggers of an empty file, within a transaction."""
    _execute(connection, _VERSION_1)
    if version > 1:
        _execute(connection, _VERSION_2)
    connection.execute(f"PRAGMA user_version={version}")


def upgrade_schema(connection: sqlite3.Connection) -> None:
    """Bring the schema of version 1 to version 2, within a transaction."""
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute('DROP TRIGGER "{}"'.format(name.replace('"', '""')))
    _execute(connection, _VERSION_1, only="CREATE TRIGGER")
    _execute(connection, _VERSION_2)
    connection.execute(f"PRAGMA user_version={VERSION}")


def schema_differences(connection: sqlite3.Connection) -> list[str]:
    """Compare the tables, indexes and triggers of a file with those that edge-ct makes.

    Returns:
        A sentence for each one that is missing, was changed, or was added by another program.
    """
    version = schema_version(connection)
    with sqlite3.connect(":memory:") as model:
        create_schema(model, version)
        expected = _objects(model)
    model.close()
    found = _objects(connection)
    if version == 1:  # The table of the quarantine was made when it was first needed.
        expected.pop("table quarantine", None)
        found.pop("table quarantine", None)
    differences = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            differences.append(f"{name} is missing from the file: another program removed it")
        elif name not in expected:
            differences.append(f"{name} was added to the file by another program")
        elif found[name] != expected[name]:
            differences.append(f"{name} was changed by another program")
    return differences


def _objects(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the statements that made the file's tables, indexes, triggers and views, by their kind and name."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    return {f"{kind} {name}": _normalise(sql or "") for kind, name, sql in connection.execute(query)}


def _normalise(statement: str) -> str:
    """Return a statement without comments, optional white space and the texts of errors, which may be reworded."""
    statement = re.sub(r"--[^\n]*", "", statement)
    statement = re.sub(r"RAISE\(ABORT, '[^']*'\)", "RAISE(ABORT)", statement)
    return re.sub(r"\s*([(),;])\s*", r"\1", " ".join(statement.split()))


def _execute(connection: sqlite3.Connection, script: str, only: str = "") -> None:
    """Execute the statements of a script that begin with `only`: `executescript` would commit the open transaction."""
    for statement in _statements(script):
        if statement.strip().startswith(only):
            connection.execute(statement)


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
