"""The audit trail: what was changed, put in or taken out is found, and named."""

import hashlib
import hmac
import itertools
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_ct.classifier import Classifier, Judgement
from edge_ct.device_app.worklist import audit_trail
from edge_ct.device_app.worklist.reader import WorklistReader
from edge_ct.device_app.worklist.records import prepare_entry
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.errors import WorklistDamaged


@pytest.fixture
def filled(worklist: Worklist, judged: Callable[..., Judgement], tiny_classifier: Classifier) -> Worklist:
    """Entries 1 to 3 are results 1 to 3, entry 4 a review of 2, entry 5 the slice of 1 again."""
    for number in range(3):
        worklist.add(prepare_entry(judged(number, "negative", 0.2), tiny_classifier.bundle, origin="classify"))
    worklist.review(2, "Lima", "override", "positive")
    worklist.add(prepare_entry(judged(0, "negative", 0.2), tiny_classifier.bundle, origin="watch"))
    return worklist


def tamper(own: Worklist, *statements: str) -> None:
    """As somebody would who can write the file and knows of the triggers."""
    connection = sqlite3.connect(own.folder / "worklist.sqlite", isolation_level=None)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    connection.close()


def test_untouched_trail_is_good(filled: Worklist) -> None:
    found = filled.check()
    assert (found.entries, found.results, found.reviews, found.problem) == (5, 3, 1, None)


def test_chain_by_hand(filled: Worklist) -> None:
    """SHA-256 over the JSON of [hash before, number, time, actor, action, subject, detail], and an HMAC of it."""
    connection = sqlite3.connect(filled.folder / "worklist.sqlite")
    device_key = bytes.fromhex((filled.folder / "device.key").read_text())
    key = hmac.new(device_key, b"edge-ct audit trail", hashlib.sha256).digest()
    before = ""
    for *entry, written, mac in connection.execute("SELECT * FROM audit ORDER BY seq"):
        text = json.dumps([before, *entry], separators=(",", ":"), ensure_ascii=False)
        before = hashlib.sha256(text.encode()).hexdigest()
        assert before == written
        assert mac == hmac.new(key, before.encode(), hashlib.sha256).hexdigest()
    assert filled.verify().head == before


@pytest.mark.parametrize(
    ("statement", "problem", "entry"),
    [
        ("UPDATE audit SET time = '2020' WHERE seq = 2", "entry 2 was changed", 2),
        ("UPDATE audit SET actor = 'x' WHERE seq = 1", "entry 1 was changed", 1),
        ("UPDATE audit SET detail = '{}' WHERE seq = 4", "entry 4 was changed", 4),
        ("UPDATE audit SET subject = NULL WHERE seq = 5", "entry 5 was changed", 5),
        ("DELETE FROM audit WHERE seq = 3", "entry 3 is missing", 3),
        ("DELETE FROM audit WHERE seq = 1", "entry 1 is missing", 1),
        ("UPDATE audit SET seq = 6 WHERE seq = 5", "entry 5 is missing", 5),
        ("UPDATE results SET probability = 0.9 WHERE id = 2", "result 2 was changed after entry 2", 2),
        ("UPDATE results SET decision = 'positive' WHERE id = 3", "result 3 was changed after entry 3", 3),
        ("UPDATE results SET patient = 'x' WHERE id = 1", "result 1 was changed after entry 1", 1),
        ("DELETE FROM results WHERE id = 2", "result 2 of entry 2 is missing", 2),
        ("UPDATE reviews SET label = 'negative'", "review 1 was changed after entry 4", 4),
        ("DELETE FROM reviews", "review 1 of entry 4 is missing", 4),
        (
            "INSERT INTO results (identity, time, origin, source, decision, urgency, model, bundle) "
            "VALUES ('i', 't', 'o', 's', 'negative', 3, 'm', 'b')",
            "result 4 has no audit entry",
            None,
        ),
        # The end of the trail, cut off: the rows that it tells of are there still.
        ("DELETE FROM audit WHERE seq > 2", "worklist.head names entry 5, and the trail of 2 entries", None),
    ],
)
def test_tampering_is_found_and_named(filled: Worklist, statement: str, problem: str, entry: int | None) -> None:
    tamper(filled, statement)
    found = filled.verify()
    assert found.problem is not None
    assert problem in found.problem
    assert found.entry == entry
    with pytest.raises(WorklistDamaged, match=problem):
        filled.check()


def test_a_folder_replaced_by_an_older_copy_is_found_by_its_head(filled: Worklist, tmp_path: Path) -> None:
    filled.close()
    older = tmp_path / "older"
    shutil.copytree(filled.folder, older)
    with Worklist(filled.folder) as later:
        later.review(1, "Lima", "agree")
        head = later.check().head
        assert later.verify(head).problem is None
    with WorklistReader.open(older) as copy:
        assert copy.verify().problem is None  # nothing in the folder tells
        assert "shortened" in str(copy.verify(head).problem)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET time = '2020'",
        "DELETE FROM audit",
        "INSERT INTO audit VALUES (9, 't', 'a', 'b', NULL, '{}', 'h', 'm')",
        "INSERT OR REPLACE INTO audit VALUES (2, 't', 'a', 'b', NULL, '{}', 'h', 'm')",
        "UPDATE results SET decision = 'positive'",
        "UPDATE results SET probability = 1",
        "UPDATE results SET reason = 'x', state = 'open'",
        "UPDATE reviews SET note = 'x'",
    ],
)
def test_file_itself_refuses(filled: Worklist, statement: str) -> None:
    connection = sqlite3.connect(filled.folder / "worklist.sqlite", isolation_level=None)
    with pytest.raises(sqlite3.IntegrityError, match=r"cannot be (changed|shortened)|can only be appended"):
        connection.execute(statement)
    assert filled.verify().problem is None


def test_damaged_pages_are_found(filled: Worklist) -> None:
    filled.close()
    path = filled.folder / "worklist.sqlite"
    content = bytearray(path.read_bytes())
    at = content.rindex(b"classify")
    content[at - 400 : at + 400] = bytes(800)
    path.write_bytes(content)
    with WorklistReader.open(filled.folder) as again:
        assert "damaged" in str(again.verify().problem)


@given(st.sets(st.integers(1, 300)))
def test_ranges_hold_the_same_numbers(numbers: set[int]) -> None:
    found = audit_trail.runs_of(sorted(numbers))
    assert {number for first, last in found for number in range(first, last + 1)} == numbers
    assert all(first <= last for first, last in found)
    assert all(later[0] > sooner[1] + 1 for sooner, later in itertools.pairwise(found))


def test_notes_of_others_are_in_the_chain(worklist: Worklist, tmp_path: Path) -> None:
    worklist.note("serve", "start", {"version": "1"})
    (entry,) = worklist.trail()
    assert (entry["actor"], entry["action"], entry["result"]) == ("serve", "start", None)
    assert worklist.check().entries == 1
