"""Worklists of an earlier version: tampering is found before and after they are brought up, which happens once."""

import json
import shutil
from pathlib import Path

import pytest

from edge_ct.device_app.worklist import upgrade
from edge_ct.device_app.worklist.reader import WorklistReader
from edge_ct.device_app.worklist.worklist import Worklist

from .tampering import apply, forge, plain, sql, swap_pictures_of

OLD = Path(__file__).parents[2] / "compatibility" / "worklist"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (["UPDATE results SET state = 'open', review = NULL WHERE id = 1"], "result 1 was last reviewed by review 1"),
        (["UPDATE results SET urgency = 0 WHERE id = 4"], "the urgency of result 4"),
        (["DELETE FROM pictures WHERE result = 4"], "the picture of result 4 is missing"),
        (["INSERT INTO pictures (result, png) VALUES (9, x'89')"], "the picture of result 9 was inserted"),
        (["DROP TRIGGER audit_stays"], "trigger audit_stays is missing"),
        (["UPDATE sqlite_sequence SET seq = 1"], "the number of the next row of results was changed: 1, not 5"),
    ],
)
def test_tampering_with_an_old_worklist_is_found_before_and_after_it_is_brought_up(
    statements: list[str], problem: str, old: Path
) -> None:
    apply(sql(*statements) if "TRIGGER" not in statements[0] else plain(statements[0]), old)
    with WorklistReader.open(old) as reader:
        assert str(reader.verify().problem).startswith(problem)
        assert reader.verify().bound is None
    with Worklist(old) as worklist:
        entry = next(entry for entry in worklist.trail() if entry["action"] == "upgrade")
        assert json.loads(str(entry["detail"]))["problem"].startswith(problem)


def test_second_entry_for_a_result_of_an_old_worklist_is_found(old: Path) -> None:
    apply(forge("classify", "add", 2, {"digest": "0" * 64, "decision": "negative"}, mac=""), old)
    with WorklistReader.open(old) as reader:
        assert reader.verify().problems[0] == "entry 10 adds result 2 a second time"


def test_old_worklist_is_brought_up_once_and_says_so(old: Path) -> None:
    with WorklistReader.open(old) as reader:
        before = reader.check()
    with Worklist(old) as worklist:
        after = worklist.check(before.head)
        assert (after.results, after.reviews, after.bound) == (before.results, before.reviews, before.entries + 1)
        brought_up, adopted = worklist.trail(limit=2)
        assert (brought_up["action"], adopted["action"]) == ("upgrade", "adopt")
        detail = {"version": 2, "results": 5, "seen": {}, "problem": None}
        assert json.loads(str(brought_up["detail"])) == detail
        assert [known[0] for known in json.loads(str(adopted["detail"]))["pictures"]] == [1, 2, 4, 5]
    with Worklist(old) as worklist:
        assert worklist.check().entries == after.entries  # and not again
    apply(swap_pictures_of(1, 2), old)
    with WorklistReader.open(old) as reader:
        assert reader.verify().problems[0] == "the picture of result 1 was changed after entry 11"


def test_bringing_up_that_was_interrupted_goes_on(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "_ADOPTED_AT_ONCE", 1)
    adopt = upgrade.picture_digest
    left = iter(range(2))
    monkeypatch.setattr(upgrade, "picture_digest", lambda png: adopt(png) if next(left, None) is not None else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Worklist(old)
    with WorklistReader.open(old) as reader:
        assert reader.verify().problem is None
    monkeypatch.setattr(upgrade, "picture_digest", adopt)
    with Worklist(old) as worklist:
        assert [entry["action"] for entry in worklist.trail(limit=6)] == ["export", "upgrade", *["adopt"] * 4]
        assert worklist.verify().problem is None


def test_wrong_types_in_an_entry_are_a_problem_and_no_crash(old: Path) -> None:
    for subject, detail in ((1, []), (1, {"digest": 1}), ("x", {"digest": ""}), (None, {"digest": ""})):
        again = Path(shutil.copytree(old, old.parent / "again"))
        apply(forge("classify", "add", subject, detail, mac=""), again)  # type: ignore[arg-type]
        with WorklistReader.open(again) as reader:
            assert "entry 10" in str(reader.verify().problem)
        shutil.rmtree(again)
    apply(forge("prune", "prune", None, {"results": [[1, 10**15]]}, mac=""), old)
    with WorklistReader.open(old) as reader:
        assert "entry 10 deletes results 1 to 1000000000000000, which no entry adds" in str(reader.verify().problem)
