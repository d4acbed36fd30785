"""Each stored value that the audit trail covers, changed in every way that SQLite allows, and each kind of addition."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_ct.classifier import Classifier, Judgement
from edge_ct.device_app.worklist.reader import WorklistReader
from edge_ct.device_app.worklist.records import prepare_entry
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.errors import EdgeCTError

from .tampering import apply, sql

TABLES = ("results", "pictures", "reviews", "audit", "seen")
# The value in another storage class, as another value of the same one, and none.
CHANGES = {
    "other class": "CAST({column} AS BLOB)",
    "other value": "CASE typeof({column}) WHEN 'integer' THEN {column} + 1 WHEN 'real' THEN {column} / 2 + 0.01"
    " WHEN 'null' THEN 1 WHEN 'blob' THEN zeroblob(length({column}) + 1) ELSE {column} || ' ' END",
    "none": "NULL",
}


@pytest.fixture(scope="module")
def original(
    tmp_path_factory: pytest.TempPathFactory, judged: Callable[..., Judgement], tiny_classifier: Classifier
) -> Path:
    folder = tmp_path_factory.mktemp("original") / "state"
    with Worklist(folder) as worklist:
        for number in range(3):
            entry = prepare_entry(
                judged(number), tiny_classifier.bundle, origin="watch", fingerprint=bytes([number] * 16), patient="P"
            )
            worklist.add(entry)
        worklist.review(2, "Lima", "override", "negative", "motion")
        assert worklist.check().problem is None
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "state"))


def problems(folder: Path) -> list[str]:
    with WorklistReader.open(folder) as worklist:
        return list(worklist.verify().problems)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("table", TABLES)
def test_every_column_of_a_row(table: str, change: str, original: Path, tmp_path: Path) -> None:
    with sqlite3.connect(original / "worklist.sqlite") as connection:
        columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        key = {"seen": "result", "pictures": "result", "audit": "seq"}.get(table, "id")
        (row,) = connection.execute(f"SELECT max({key}) FROM {table}").fetchone()
    connection.close()
    changed = 0
    for column in columns:
        folder = Path(shutil.copytree(original, tmp_path / column))
        before = _rows(folder, table)
        statement = f"UPDATE {table} SET {column} = {CHANGES[change].format(column=column)} WHERE {key} = {row}"
        try:
            apply(sql("PRAGMA foreign_keys=OFF", "PRAGMA ignore_check_constraints=ON", statement), folder)
        except sqlite3.IntegrityError:  # NOT NULL, or a key that must be a number
            continue
        if _rows(folder, table) == before:
            continue
        changed += 1
        assert problems(folder), f"{table}.{column}"
    assert changed > 0 or change == "none"  # most columns must not be empty


def _rows(folder: Path, table: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / "worklist.sqlite") as connection:
        rows = connection.execute(f"SELECT * FROM {table}").fetchall()
    connection.close()
    return [tuple((type(value), value) for value in row) for row in rows]


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE VIEW open_results AS SELECT 1",),
        ("CREATE TABLE elsewhere (a)",),
        ("ALTER TABLE results ADD COLUMN hidden TEXT",),
        ("DROP INDEX results_by_urgency", "CREATE INDEX results_by_urgency ON results (id)"),
        ("ALTER TABLE seen RENAME TO seen_", "CREATE TABLE seen (fingerprint BLOB, result INTEGER)"),
        ("PRAGMA user_version=1",),
        ("PRAGMA user_version=0",),
        ("PRAGMA user_version=99",),
        ("UPDATE results SET id = 30 WHERE id = 3", "UPDATE pictures SET result = 30 WHERE result = 3"),
        (
            "UPDATE results SET id = -1 WHERE id = 1",
            "UPDATE results SET id = 1 WHERE id = 2",
            "UPDATE results SET id = 2 WHERE id = -1",
        ),
        ("DELETE FROM sqlite_sequence",),
        ("INSERT INTO sqlite_sequence VALUES ('results', 50)",),
        ("INSERT INTO notes VALUES ('x', 'y') ON CONFLICT DO UPDATE SET value = 'z'", "DELETE FROM seen"),
    ],
    ids=lambda statements: statements[0][:32],
)
def test_additions_and_exchanges(folder: Path, statements: tuple[str, ...]) -> None:
    apply(sql("PRAGMA foreign_keys=OFF", *statements), folder)
    try:
        found = problems(folder)
    except EdgeCTError as error:  # it is no worklist of this version any more
        found = [str(error)]
    assert found
    assert all("\n" not in line for line in found)


def test_what_sqlite_itself_would_not_notice(folder: Path) -> None:
    """The note of a reviewer, changed in the bytes of the file."""
    path = folder / "worklist.sqlite"
    content = path.read_bytes()
    assert b"motion" in content
    path.write_bytes(content.replace(b"motion", b"lesion"))
    assert problems(folder)
