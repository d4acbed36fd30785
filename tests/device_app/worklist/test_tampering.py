"""Tampering with a worklist by somebody who can write its files but has not the device key: each is found and named."""

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edge_ct import cli
from edge_ct.classifier import Classifier, Judgement
from edge_ct.device_app.pseudonym import existing_key
from edge_ct.device_app.worklist.audit_trail import audit_key
from edge_ct.device_app.worklist.reader import WorklistReader
from edge_ct.device_app.worklist.records import prepare_entry
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.errors import EdgeCTError

from .tampering import Tampering, apply, forge, plain, sql, swap_pictures_of


@pytest.fixture(scope="module")
def original(
    tmp_path_factory: pytest.TempPathFactory,
    judged: Callable[..., Judgement],
    unreadable: Callable[..., Judgement],
    tiny_classifier: Classifier,
) -> Path:
    """Results 1 and 2 (deleted by retention), 3 to 6 with pictures and maps, 7 unreadable; reviews 2, 3 and 4."""
    folder = tmp_path_factory.mktemp("original") / "state"
    days = iter([1, 1, 1, *[9] * 50])
    with Worklist(folder, clock=lambda: f"2026-01-{next(days):02}T00:00:00.000Z") as worklist:
        for number in range(2):
            worklist.add(
                prepare_entry(judged(number), tiny_classifier.bundle, origin="watch", fingerprint=bytes([number] * 16))
            )
        worklist.review(1, "Lima", "agree")
        for number, decision in enumerate(("positive", "refer", "negative", "negative"), 2):
            entry = prepare_entry(
                judged(number, decision, 0.5), tiny_classifier.bundle, origin="watch", fingerprint=bytes([number] * 16)
            )
            worklist.add(entry)
        worklist.add(prepare_entry(unreadable(), tiny_classifier.bundle, origin="watch"))
        worklist.prune(7, unreviewed=True)
        worklist.review(4, "Lima", "override", "positive", "ground glass")
        worklist.review(4, "Reis", "override", "negative", "motion")
        worklist.review(5, "Reis", "agree")
        assert worklist.check().problem is None
    return folder


def rehash(connection: sqlite3.Connection, folder: Path) -> None:
    """Change the first entry and give all entries the hashes that follow: a whole new chain, without the key."""
    sql("UPDATE audit SET actor = 'somebody' WHERE seq = 1")(connection, folder)
    before, hashes = "", []
    for *entry, _, _ in connection.execute("SELECT * FROM audit ORDER BY seq"):
        before = hashlib.sha256(msgspec.json.encode([before, *entry])).hexdigest()
        hashes.append(f"UPDATE audit SET hash = '{before}' WHERE seq = {entry[0]}")
    sql(*hashes)(connection, folder)


swap_pictures = swap_pictures_of(3, 4)


def delete_row(connection: sqlite3.Connection, folder: Path) -> None:
    """Delete a result with all that belongs to it, and append the entry of a retention that never was."""
    sql("DELETE FROM pictures WHERE result = 3", "DELETE FROM results WHERE id = 3")(connection, folder)
    forge("prune", "prune", None, {"before": "2026-01-20T00:00:00.000Z", "results": [[3, 3]]})(connection, folder)


def change_file(name: str, change: Callable[[bytes], bytes | None]) -> Tampering:
    def tamper(connection: sqlite3.Connection, folder: Path) -> None:
        content = change((folder / name).read_bytes())
        (folder / name).unlink() if content is None else (folder / name).write_bytes(content)

    return tamper


# Name, tampering, and the beginning of what is said of it.
TAMPERINGS: list[tuple[str, Tampering, str]] = [
    (
        "pictures of two patients swapped",
        swap_pictures,
        "the picture of result 3 was changed after entry 4; the picture of result 4 was changed after entry 5",
    ),
    (
        "picture replaced",
        plain("UPDATE pictures SET png = x'89504e47' WHERE result = 5"),
        "the picture of result 5 was changed",
    ),
    (
        "picture deleted",
        plain("DELETE FROM pictures WHERE result = 5"),
        "the picture of result 5 of entry 6 is missing",
    ),
    (
        "picture given to an unreadable file",
        plain("INSERT INTO pictures (result, png) VALUES (7, x'89')"),
        "the picture of result 7 was changed",
    ),
    (
        "picture of a deleted result",
        plain("INSERT INTO pictures (result, png) VALUES (1, x'89')"),
        "the picture of result 1 was inserted",
    ),
    (
        "heat map removed",
        plain("UPDATE pictures SET heat = NULL, heat_rows = NULL WHERE result = 3"),
        "the heat map of result 3 was changed",
    ),
    (
        "heat map blanked",
        plain("UPDATE pictures SET heat = zeroblob(length(heat)) WHERE result = 3"),
        "the heat map of result 3 was changed",
    ),
    (
        "heat map under another method",
        plain("UPDATE pictures SET heat_method = 'occlusion' WHERE result = 3"),
        "the heat map of result 3 was changed",
    ),
    (
        "heat map turned",
        plain("UPDATE pictures SET heat_rows = heat_columns * 2, heat_columns = heat_rows / 2 WHERE result = 3"),
        "the heat map of result 3 was changed",
    ),
    (
        "open result marked as reviewed",
        plain("UPDATE results SET state = 'reviewed' WHERE id = 3"),
        "result 3 has no review, but the file says it is reviewed",
    ),
    (
        "reviewed result marked as open",
        plain("UPDATE results SET state = 'open', review = NULL WHERE id = 5"),
        "result 5 was last reviewed by review 4, but the file says it is open",
    ),
    (
        "review of another result shown",
        plain("UPDATE results SET state = 'reviewed', review = 4 WHERE id = 3"),
        "result 3 has no review, but the file says it is reviewed by review 4",
    ),
    (
        "earlier review shown as the last",
        plain("UPDATE results SET review = 2 WHERE id = 4"),
        "result 4 was last reviewed by review 3",
    ),
    (
        "review moved to another result",
        sql("UPDATE reviews SET result = 3 WHERE id = 4"),
        "review 4 was changed after entry 12",
    ),
    ("review reworded", sql("UPDATE reviews SET note = 'x' WHERE id = 4"), "review 4 was changed after entry 12"),
    ("review deleted", plain("DELETE FROM reviews WHERE id = 2"), "review 2 of entry 10 is missing"),
    (
        "review inserted",
        plain("INSERT INTO reviews VALUES (5, 3, 't', 'r', 'agree', 'positive', '')"),
        "review 5 has no audit entry",
    ),
    (
        "urgency lowered",
        sql("UPDATE results SET urgency = 3 WHERE id = 3"),
        "the urgency of result 3 is not that of its decision, positive",
    ),
    (
        "decision changed",
        sql("UPDATE results SET decision = 'negative', urgency = 3 WHERE id = 3"),
        "result 3 was changed after entry 4",
    ),
    (
        "probability made infinite",
        sql("UPDATE results SET probability = 9e999 WHERE id = 7"),
        "result 7 was changed after entry 8",
    ),
    (
        "share of the lungs made up",
        sql("UPDATE results SET lesion_share = 0 WHERE id = 3"),
        "result 3 was changed after entry 4",
    ),
    (
        "hash of the pixels as bytes",
        sql("UPDATE results SET sha256 = x'00' WHERE id = 3"),
        "result 3 was changed after entry 4",
    ),
    (
        "result deleted",
        sql("DELETE FROM pictures WHERE result = 6", "DELETE FROM results WHERE id = 6"),
        "result 6 of entry 7 is missing, and no entry deletes it",
    ),
    ("result deleted under a forged retention", delete_row, "entry 13 was not written with the device key"),
    (
        "result that retention deleted put back",
        sql(
            "CREATE TEMP TABLE copy AS SELECT * FROM results WHERE id = 3",
            "UPDATE copy SET id = 1, identity = 'i'",
            "INSERT INTO results SELECT * FROM copy",
        ),
        "result 1 was deleted by entry 9, but it is in the file",
    ),
    ("file marked as seen", plain("INSERT INTO seen VALUES (x'ff', 3)"), "another program marked a file as seen"),
    (
        "seen file given to another result",
        plain("UPDATE seen SET result = 4 WHERE result = 3"),
        "a file seen as result 3 was changed to result 4",
    ),
    (
        "seen file forgotten",
        plain("DELETE FROM seen WHERE result = 1"),
        "a file seen as result 1 is no longer marked as seen",
    ),
    ("trigger dropped", plain("DROP TRIGGER answers_stay"), "trigger answers_stay is missing"),
    (
        "trigger without effect",
        sql("CREATE TRIGGER reviews_stay_ BEFORE UPDATE ON reviews BEGIN SELECT 1; END"),
        "trigger reviews_stay_ was added",
    ),
    (
        "trigger that suppresses results",
        plain("CREATE TRIGGER quiet BEFORE INSERT ON results BEGIN SELECT RAISE(IGNORE); END"),
        "trigger quiet was added",
    ),
    ("index dropped", plain("DROP INDEX results_by_urgency"), "index results_by_urgency is missing"),
    ("table replaced", plain("DROP TABLE seen"), "table seen is missing"),
    ("column added", plain("ALTER TABLE reviews ADD COLUMN extra TEXT"), "table reviews was changed"),
    (
        "second entry for a result",
        forge("watch", "add", 3, {"decision": "negative", "digest": "0" * 64, "picture": None, "heat": None}),
        "entry 13 was not written with the device key",
    ),
    ("entry without an HMAC", forge("watch", "again", 3, {}, "NULL"), "entry 13 was not written with the device key"),
    ("whole chain with new hashes", rehash, "entry 1 was not written with the device key"),
    ("HMACs removed", sql("UPDATE audit SET mac = NULL"), "no entry is bound to the device key"),
    (
        "first HMACs removed",
        sql("UPDATE audit SET mac = NULL WHERE seq < 5"),
        "entries before 5 are not bound to the device key",
    ),
    (
        "passed off as an earlier version's",
        sql(
            "UPDATE audit SET actor = 'x' WHERE seq = 1",
            "ALTER TABLE audit DROP COLUMN mac",
            "ALTER TABLE results DROP COLUMN lesion_share",
            "ALTER TABLE results DROP COLUMN lung_area",
            "PRAGMA user_version = 1",
        ),
        "entry 1 was changed",
    ),
    ("entry changed", sql("UPDATE audit SET actor = 'x' WHERE seq = 4"), "entry 4 was changed"),
    ("entry removed", sql("DELETE FROM audit WHERE seq = 4"), "entry 4 is missing"),
    (
        "last entry cut off",
        sql(
            "DELETE FROM audit WHERE seq = 12",
            "DELETE FROM reviews WHERE id = 4",
            "UPDATE results SET state = 'open', review = NULL WHERE id = 5",
            "UPDATE sqlite_sequence SET seq = 3 WHERE name = 'reviews'",
        ),
        "worklist.head names entry 12, and the trail of 11 entries does not contain it",
    ),
    (
        "number of the next result lowered",
        plain("UPDATE sqlite_sequence SET seq = 6 WHERE name = 'results'"),
        "the number of the next row of results was changed: 6, not 7",
    ),
    (
        "number of the next review raised",
        plain("UPDATE sqlite_sequence SET seq = 99 WHERE name = 'reviews'"),
        "the number of the next row of reviews was changed: 99, not 4",
    ),
    ("head file deleted", change_file("worklist.head", lambda content: None), "worklist.head is missing"),
    (
        "head file set back",
        change_file("worklist.head", lambda content: content.replace(b'"entry":12', b'"entry":11')),
        "worklist.head was changed",
    ),
    ("head file overwritten", change_file("worklist.head", lambda content: b"x" * 256), "worklist.head is damaged"),
    (
        "device key replaced",
        change_file("device.key", lambda content: b"00" * 32),
        "entry 1 was not written with the device key",
    ),
    (
        "device key deleted",
        change_file("device.key", lambda content: None),
        "nothing shows that edge-ct wrote the trail",
    ),
    (
        "device key damaged",
        change_file("device.key", lambda content: b"zz"),
        "nothing shows that edge-ct wrote the trail",
    ),
]


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "state"))


@pytest.mark.parametrize(
    ("tampering", "problem"), [case[1:] for case in TAMPERINGS], ids=[case[0].replace(" ", "-") for case in TAMPERINGS]
)
def test_tampering_is_found(tampering: Tampering, problem: str, folder: Path) -> None:
    apply(tampering, folder)
    with WorklistReader.open(folder) as worklist:
        verification = worklist.verify()
    assert "; ".join(verification.problems).startswith(problem)
    assert verification.problem == verification.problems[0]


def test_shortened_trail_is_found_however_much_is_stored_afterwards(
    folder: Path, judged: Callable[..., Judgement], tiny_classifier: Classifier
) -> None:
    """Were the head file written again, five new results would hide the four entries that were cut off."""
    cut = ("audit WHERE seq > 8", "reviews", "results WHERE id = 99")
    apply(sql(*[f"DELETE FROM {rows}" for rows in cut], "UPDATE results SET state = 'open', review = NULL"), folder)
    with Worklist(folder) as worklist:
        for number in range(20, 25):
            worklist.add(prepare_entry(judged(number), tiny_classifier.bundle, origin="watch"))
        assert "worklist.head names entry 12, and the trail of 13 entries" in str(worklist.verify().problems)


def test_head_file_that_is_behind_is_no_problem(
    folder: Path, judged: Callable[..., Judgement], tiny_classifier: Classifier
) -> None:
    """A power failure can lose what was last written to it, but never an entry."""
    head = (folder / "worklist.head").read_bytes()
    for number in (20, 21):
        with Worklist(folder) as worklist:
            worklist.add(prepare_entry(judged(number), tiny_classifier.bundle, origin="watch"))
            assert worklist.verify().problem is None
        if number == 20:
            (folder / "worklist.head").write_bytes(head)
    assert b'"entry":14' in (folder / "worklist.head").read_bytes()


def test_heat_map_that_is_made_later_is_in_the_trail(folder: Path) -> None:
    with Worklist(folder) as worklist:
        heat = worklist.heat(3)
        assert heat is not None
        worklist.set_heat(4, heat)
        assert worklist.trail(4)[-1]["action"] == "heat"
        assert worklist.verify().problem is None
    apply(plain("UPDATE pictures SET heat = NULL WHERE result = 4"), folder)
    with WorklistReader.open(folder) as reader:
        assert reader.verify().problem == "the heat map of result 4 was changed after entry 13"


@pytest.mark.parametrize("content", [None, b"00" * 32])
def test_without_its_key_a_worklist_is_read_and_not_written(folder: Path, content: bytes | None) -> None:
    (folder / "device.key").unlink()
    if content:
        (folder / "device.key").write_bytes(content)
    with pytest.raises(EdgeCTError, match=r"device\.key: .*restore it from a backup"):
        Worklist(folder)
    assert (folder / "device.key").exists() == bool(content)
    with WorklistReader.open(folder) as reader:
        assert len(reader.rows()) == 5


def test_key_of_the_trail_is_not_the_key_of_the_pseudonyms(folder: Path) -> None:
    """Otherwise an HMAC that a pseudonym shows would be one that an entry could carry."""
    device_key = existing_key(folder)
    assert device_key is not None
    assert audit_key(device_key) != device_key


def test_swapped_pictures_through_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The case `swapped_pictures`: two patients' pictures change places, and `verify` names both results."""
    assert cli.run(["worklist", "verify", "--state", str(folder)]) == 0
    head = capsys.readouterr().out.split()[-1]
    apply(swap_pictures, folder)
    for options in ([], ["--head", head], ["--json"]):
        assert cli.run(["worklist", "verify", "--state", str(folder), *options]) == 9
        out, err = capsys.readouterr()
        assert "the picture of result 3 was changed" in err
        assert "the picture of result 4 was changed" in err
    assert len(json.loads(out)["problems"]) == 2
    assert cli.run(["doctor", "--state", str(folder), "--json"]) == 10
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["worklist"]["status"] == "failure"
    assert "the picture of result 3 was changed" in checks["worklist"]["detail"]
