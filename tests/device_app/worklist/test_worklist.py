"""The worklist: rows as they were judged, urgency, reviews beside answers, retention, room."""

import hashlib
import hmac
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edge_ct.classifier import Classifier, Judgement
from edge_ct.device_app.heatmaps import heatmap
from edge_ct.device_app.heatmaps.heatmap import Heat
from edge_ct.device_app.worklist import records
from edge_ct.device_app.worklist.records import prepare_entry
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.dicom import DicomIds
from edge_ct.errors import EdgeCTError, StorageFull
from edge_ct.lesions import LesionAreas

Judged = Callable[..., Judgement]


def raw(own: Worklist) -> sqlite3.Connection:
    """The file, past the worklist: what somebody with sqlite3 sees."""
    return sqlite3.connect(own.folder / "worklist.sqlite", isolation_level=None)


def test_row_holds_the_judgement(worklist: Worklist, judged: Judged, tiny_classifier: Classifier) -> None:
    judgement = judged(1, "refer", 0.5, "study/1.png")
    added = worklist.add(prepare_entry(judgement, tiny_classifier.bundle, origin="classify", patient=" Maria "))
    row = added.row
    assert added.new
    assert (row.source, row.decision, row.probability, row.reason) == ("study/1.png", "refer", 0.5, "why")
    assert (row.origin, row.state, row.review, row.series) == ("classify", "open", None, None)
    assert judgement.slice is not None
    assert row.sha256 == judgement.slice.sha256
    assert row.model == tiny_classifier.identity
    assert row.bundle == hashlib.sha256(tiny_classifier.bundle.content[:-64]).hexdigest()
    assert row.latency_ms == 6.0
    assert row.time.endswith("Z")
    assert worklist.get(row.id) == row
    # RFC 2104, by the standard library's own hand.
    key = bytes.fromhex((worklist.folder / "device.key").read_text())
    assert row.patient == hmac.new(key, b"Maria", hashlib.sha256).hexdigest()[:16]
    assert worklist.pseudonym("Maria") == row.patient
    assert worklist.pseudonym("  ") is None


def test_judgement_is_prepared_when_it_is_added(
    worklist: Worklist, judged: Judged, tiny_classifier: Classifier
) -> None:
    added = worklist.add(judged(1, "refer", 0.5), tiny_classifier.bundle, origin="watch")
    assert (added.new, added.row.decision, added.row.origin) == (True, "refer", "watch")
    assert not worklist.add(prepare_entry(judged(1), tiny_classifier.bundle, origin="classify")).new
    for missing in ({}, {"bundle": tiny_classifier.bundle}, {"origin": "watch"}):
        with pytest.raises(TypeError, match="its bundle and its origin"):
            worklist.add(judged(2), **missing)


def test_row_is_in_the_file_when_add_returns(worklist: Worklist, judged: Judged, tiny_classifier: Classifier) -> None:
    added = worklist.add(prepare_entry(judged(1), tiny_classifier.bundle, origin="classify"))
    with Worklist(worklist.folder) as other:
        assert other.rows() == [added.row]


def test_modes_of_log_and_commit(worklist: Worklist) -> None:
    (mode,) = raw(worklist).execute("PRAGMA journal_mode").fetchone()
    assert mode == "wal"
    with worklist._store.writing() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL, in SQLite's own numbers


def test_nobody_else_can_read_it(worklist: Worklist, judged: Judged, tiny_classifier: Classifier) -> None:
    worklist.add(prepare_entry(judged(1), tiny_classifier.bundle, origin="classify"))
    assert stat.S_IMODE(worklist.folder.stat().st_mode) == 0o700
    files = sorted(path.name for path in worklist.folder.iterdir())
    assert files == ["device.key", "worklist.head", "worklist.sqlite", "worklist.sqlite-shm", "worklist.sqlite-wal"]
    assert {stat.S_IMODE((worklist.folder / name).stat().st_mode) for name in files} == {0o600}


def test_dicom_identifiers_are_stored_and_the_patient_is_not(
    worklist: Worklist, judged: Judged, tiny_classifier: Classifier
) -> None:
    ids = DicomIds("SILVA^MARIA-0077", "1.2.3", "1.2.4", "1.2.5")
    row = worklist.add(prepare_entry(judged(1, ids=ids), tiny_classifier.bundle, origin="listen")).row
    assert (row.study, row.series, row.instance) == ("1.2.3", "1.2.4", "1.2.5")
    assert row.patient == worklist.pseudonym("SILVA^MARIA-0077")
    worklist.close()
    for path in worklist.folder.iterdir():
        assert b"SILVA" not in path.read_bytes()
        assert b"0077" not in path.read_bytes()


def test_urgency_as_a_health_worker_needs_it(
    worklist: Worklist, judged: Judged, unreadable: Judged, tiny_classifier: Classifier
) -> None:
    """Positive by probability, refer, rejected, negative; what somebody has reviewed comes after all of them."""
    cases = [
        ("negative", 0.1),
        ("refer", 0.5),
        ("positive", 0.8),
        ("negative", 0.3),
        ("positive", 0.99),
        ("refer", 0.6),
    ]
    numbers = [
        worklist.add(prepare_entry(judged(i, decision, p), tiny_classifier.bundle, origin="classify")).row.id
        for i, (decision, p) in enumerate(cases)
    ]
    bad = worklist.add(prepare_entry(unreadable(), tiny_classifier.bundle, origin="classify")).row.id
    order = [numbers[i] for i in (4, 2, 5, 1)] + [bad] + [numbers[i] for i in (3, 0)]
    assert [row.id for row in worklist.rows()] == order
    worklist.review(numbers[4], "Lima", "agree")
    worklist.review(numbers[0], "Lima", "agree")
    assert [row.id for row in worklist.rows()] == [*order[1:-1], numbers[4], numbers[0]]
    assert [row.id for row in worklist.rows(state="open", limit=2, offset=1)] == [numbers[5], numbers[1]]
    assert [row.id for row in worklist.rows(by="number")] == sorted([*numbers, bad])
    assert [row.id for row in worklist.rows(by="number", after=numbers[3])] == [numbers[4], numbers[5], bad]
    assert [row.id for row in worklist.rows(decision="refer")] == [numbers[5], numbers[1]]
    assert worklist.counts() == {"positive": 2, "refer": 2, "rejected": 1, "negative": 2}
    assert worklist.counts("open") == {"positive": 1, "refer": 2, "rejected": 1, "negative": 1}


def test_same_slice_twice_is_one_row_and_noted(worklist: Worklist, judged: Judged, tiny_classifier: Classifier) -> None:
    first = worklist.add(prepare_entry(judged(1, source="a.png"), tiny_classifier.bundle, origin="classify"))
    again = worklist.add(prepare_entry(judged(1, source="b.png"), tiny_classifier.bundle, origin="watch"))
    assert (again.row, again.new) == (first.row, False)
    (_, noted) = worklist.trail(first.row.id)
    name = hashlib.sha256(b"b.png").hexdigest()[:16]  # the trail outlives retention: it names no file
    assert (noted["actor"], noted["action"], noted["detail"]) == ("watch", "again", f'{{"source":"{name}"}}')
    assert worklist.verify().problem is None


def test_same_pixels_of_another_instance_or_key_are_another_row(
    worklist: Worklist, judged: Judged, tiny_classifier: Classifier
) -> None:
    bundle = tiny_classifier.bundle
    one, two = (judged(1, ids=DicomIds("p", "1", "2", instance)) for instance in ("3", "4"))
    numbers = {worklist.add(prepare_entry(own, bundle, origin="listen")).row.id for own in (one, two, one, judged(1))}
    numbers |= {
        worklist.add(prepare_entry(judged(1), bundle, origin="serve", key=key)).row.id for key in ("x", "y", "x")
    }
    assert len(numbers) == len(worklist.rows()) == 5


def test_unreadable_files_are_rows_of_their_own(
    worklist: Worklist, unreadable: Judged, tiny_classifier: Classifier
) -> None:
    """Two people's `image.png` can both be damaged."""
    for _ in range(2):
        row = worklist.add(prepare_entry(unreadable(), tiny_classifier.bundle, origin="classify")).row
        assert (row.sha256, row.latency_ms, worklist.picture(row.id)) == (None, None, None)
    assert len(worklist.rows()) == 2


def test_slice_and_heat_map_come_back(worklist: Worklist, judged: Judged, tiny_classifier: Classifier) -> None:
    judgement = judged(2)
    row = worklist.add(prepare_entry(judgement, tiny_classifier.bundle, origin="classify")).row
    png = worklist.picture(row.id)
    assert png is not None
    assert judgement.slice is not None
    assert judgement.outputs is not None
    assert np.array_equal(cv2.imdecode(np.frombuffer(png, np.uint8), -1), judgement.slice.pixels)
    heat = worklist.heat(row.id)
    assert heat is not None
    expected = heatmap.calibrated_log_odds(judgement.outputs.class_map, tiny_classifier.manifest.calibration)
    assert np.array_equal(heat.evidence, expected)
    assert heat.method == "class map"
    worklist.set_heat(row.id, Heat(np.ones((3, 5), np.float32), "occlusion"))
    later = worklist.heat(row.id)
    assert later is not None
    assert (later.evidence.shape, later.method, later.centres) == ((3, 5), "occlusion", None)
    worklist.set_heat(row.id, Heat(np.ones((2, 2), np.float32), "class map", (0.25, 0.875)))
    last = worklist.heat(row.id)
    assert last is not None
    assert (last.evidence.tolist(), last.centres) == ([[1, 1], [1, 1]], (0.25, 0.875))


@pytest.mark.parametrize(
    ("shape", "kept"), [((1024, 700), (1024, 700)), ((1025, 700), (513, 350)), ((64, 4096), (16, 1024))]
)
def test_large_slices_are_kept_smaller(shape: tuple[int, int], kept: tuple[int, int]) -> None:
    content = records.encode_picture(np.full(shape, 7, np.uint8), "x")
    assert cv2.imdecode(np.frombuffer(content, np.uint8), -1).shape == kept


def test_source_that_is_no_unicode_is_stored(
    worklist: Worklist, unreadable: Judged, tiny_classifier: Classifier
) -> None:
    source = os.fsdecode(b"s\xe3o.png")
    row = worklist.add(prepare_entry(unreadable(source), tiny_classifier.bundle, origin="watch")).row
    assert row.source == "s\\udce3o.png"


def test_probability_that_is_no_number(worklist: Worklist, judged: Judged, tiny_classifier: Classifier) -> None:
    row = worklist.add(prepare_entry(judged(1, "refer", float("nan")), tiny_classifier.bundle, origin="classify")).row
    assert row.probability is None
    assert worklist.verify().problem is None


def test_reviews_stand_beside_the_answer(worklist: Worklist, judged: Judged, tiny_classifier: Classifier) -> None:
    row = worklist.add(prepare_entry(judged(1), tiny_classifier.bundle, origin="classify")).row
    first = worklist.review(row.id, " Dr  Lima ", "override", "negative", " motion ")
    assert (first.reviewer, first.label, first.note) == ("Dr Lima", "negative", "motion")
    second = worklist.review(row.id, "Dr Reis", "agree")
    after = worklist.get(row.id)
    assert (after.decision, after.probability, after.time) == (row.decision, row.probability, row.time)
    assert (after.state, after.review, second.label) == ("reviewed", second, "positive")
    assert worklist.reviews(row.id) == [first, second]
    assert [entry["action"] for entry in worklist.trail(row.id)] == ["add", "review", "review"]
    assert worklist.verify().problem is None


def test_agreeing_with_a_referral_labels_nothing(
    worklist: Worklist, judged: Judged, tiny_classifier: Classifier
) -> None:
    row = worklist.add(prepare_entry(judged(1, "refer", 0.5), tiny_classifier.bundle, origin="classify")).row
    assert worklist.review(row.id, "Lima", "agree").label is None
    assert worklist.review(row.id, "Lima", "override", "positive").label == "positive"


@pytest.mark.parametrize(
    ("reviewer", "verdict", "label", "message"),
    [
        ("", "agree", None, "name"),
        ("Lima", "agree", "negative", "override the decision"),
        ("Lima", "override", None, "different label"),
        ("Lima", "override", "positive", "different label"),
        ("L" * 201, "agree", None, "200"),
    ],
)
def test_reviews_that_make_no_sense(
    worklist: Worklist,
    judged: Judged,
    tiny_classifier: Classifier,
    reviewer: str,
    verdict: str,
    label: str | None,
    message: str,
) -> None:
    row = worklist.add(prepare_entry(judged(1), tiny_classifier.bundle, origin="classify")).row
    with pytest.raises(EdgeCTError, match=message):
        worklist.review(row.id, reviewer, verdict, label)  # type: ignore[arg-type]
    assert worklist.get(row.id) == row
    with pytest.raises(EdgeCTError, match="no result 99"):
        worklist.review(99, "Lima", "agree")


@pytest.fixture
def dated(tmp_path: Path, judged: Judged, tiny_classifier: Classifier) -> Iterator[Worklist]:
    """Ten results, of 1 to 10 January 2026; it is the 11th."""
    times = [f"2026-01-{day:02}T00:00:00.000Z" for day in range(1, 11)]
    clock = iter([*times, *["2026-01-11T00:00:00.000Z"] * 50])
    with Worklist(tmp_path / "dated", clock=lambda: next(clock)) as own:
        for number in range(10):
            own.add(
                prepare_entry(
                    judged(number), tiny_classifier.bundle, origin="classify", fingerprint=bytes([number] * 16)
                )
            )
        yield own


def test_retention(dated: Worklist) -> None:
    dated.review(1, "Lima", "agree")
    pruned = dated.prune(keep_days=4, unreviewed=True)
    assert pruned.deleted == 6  # the 7th is four days old to the minute: kept
    assert [row.id for row in dated.rows(by="number")] == [7, 8, 9, 10]
    assert (dated.picture(1), dated.reviews(1)) == (None, [])
    assert dated.result_of_file(bytes([0] * 16)) == 1  # or a file that stays in its folder would come back
    found = dated.verify()
    assert (found.problem, found.results, found.entries) == (None, 4, 12)
    assert dated.prune(keep_days=4).deleted == 0
    with pytest.raises(EdgeCTError, match="at least one day"):
        dated.prune(0)


def test_numbers_are_never_used_again(dated: Worklist, judged: Judged, tiny_classifier: Classifier) -> None:
    dated.prune(1, unreviewed=True)
    assert dated.add(prepare_entry(judged(99), tiny_classifier.bundle, origin="classify")).row.id == 11


def test_retention_gives_room_back(tmp_path: Path, judged: Judged, tiny_classifier: Classifier) -> None:
    clock = iter(["2026-01-01T00:00:00.000Z"] * 30 + ["2026-01-08T12:00:00.000Z"] * 50)
    noise = np.random.default_rng(1)
    with Worklist(tmp_path / "s", clock=lambda: next(clock)) as own:
        for number in range(30):
            pixels = noise.integers(0, 256, (256, 256), dtype=np.uint8)
            own.add(prepare_entry(judged(number, pixels=pixels), tiny_classifier.bundle, origin="classify"))
        used, path = own.used_bytes(), own.folder / "worklist.sqlite"
        assert used > 30 * 65536
        own.prune(7, unreviewed=True)
        assert own.used_bytes() < 200_000
        assert path.stat().st_size + path.with_name(path.name + "-wal").stat().st_size < 200_000


def test_no_room_is_an_error_and_nothing_is_stored(tmp_path: Path, judged: Judged, tiny_classifier: Classifier) -> None:
    with Worklist(tmp_path / "a", max_bytes=200_000) as own:
        number = 0
        with pytest.raises(StorageFull, match="prune --keep-days"):
            while True:
                own.add(prepare_entry(judged(number), tiny_classifier.bundle, origin="classify"))
                number += 1
        assert 3 < number < 50
        assert len(own.rows()) == number
        assert own.verify().problem is None
    with Worklist(tmp_path / "b", min_free=1 << 60) as own:
        with pytest.raises(StorageFull, match="free on the disk"):
            own.add(prepare_entry(judged(1), tiny_classifier.bundle, origin="classify"))
        with pytest.raises(StorageFull):
            own.queue("out").put("key", {})
        assert own.rows() == []


def test_disk_that_fills_within_a_transaction(worklist: Worklist, judged: Judged, tiny_classifier: Classifier) -> None:
    """SQLite's own limit on pages gives the same error as a full disk does."""
    pixels = np.random.default_rng(1).integers(0, 256, (512, 512), dtype=np.uint8)
    with worklist._store.writing() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages + 10}")
    entries = [prepare_entry(judged(1), tiny_classifier.bundle, origin="classify")]
    entries.append(prepare_entry(judged(2, pixels=pixels), tiny_classifier.bundle, origin="classify"))
    with pytest.raises(StorageFull, match="nothing was stored"):
        worklist.add_all(entries)
    assert worklist.rows() == []
    assert worklist.verify().problem is None
    with worklist._store.writing() as connection:
        connection.execute("PRAGMA max_page_count=1000000")
    assert [added.new for added in worklist.add_all(entries)] == [True, True]


@pytest.mark.parametrize("content", [b"", b"zz\n", b"abcd\n", b"\xff\xfe", b"00" * 31])
def test_damaged_device_key_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "device.key").write_bytes(content)
    with pytest.raises(EdgeCTError, match="not a device key"):
        Worklist(tmp_path)


def test_device_key_stays(tmp_path: Path) -> None:
    with Worklist(tmp_path) as first, Worklist(tmp_path) as second:
        assert first.pseudonym("x") == second.pseudonym("x")
    with Worklist(tmp_path) as later, Worklist(tmp_path / "other") as other:
        assert later.pseudonym("x") == first.pseudonym("x") != other.pseudonym("x")
    assert [path.name for path in tmp_path.glob(".tmp*")] == []


def test_file_that_is_no_worklist(tmp_path: Path) -> None:
    (tmp_path / "worklist.sqlite").write_bytes(b"some text, longer than the header of a database" * 50)
    with pytest.raises(EdgeCTError, match="damaged"):
        Worklist(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(EdgeCTError, match="cannot be stored there"):
        Worklist(tmp_path / "file")


def test_worklist_of_a_newer_version(worklist: Worklist) -> None:
    raw(worklist).execute("PRAGMA user_version=99")
    with pytest.raises(EdgeCTError, match="newer version of edge-ct"):
        Worklist(worklist.folder)


def test_version_grows_with_every_change(worklist: Worklist, judged: Judged, tiny_classifier: Classifier) -> None:
    seen = [worklist.version()]
    row = worklist.add(prepare_entry(judged(1), tiny_classifier.bundle, origin="classify")).row
    seen.append(worklist.version())
    worklist.review(row.id, "Lima", "agree")
    seen.append(worklist.version())
    assert seen == [0, 1, 2]


def test_share_of_the_lungs_is_kept_and_pooled(worklist: Worklist, judged: Judged, tiny_classifier: Classifier) -> None:
    """A slice with twice the lung counts twice; the audit trail covers the share as it covers the rest."""
    ids = [DicomIds("p", "1.2.3", "1.2.4", f"1.2.5.{number}") for number in range(3)]
    for number, areas in enumerate((LesionAreas(0.06, 0.2), LesionAreas(0.0, 0.1), None)):
        one = judged(number, ids=ids[number])
        result = msgspec.structs.replace(one.result, lesion_share=areas.share if areas else None)
        judgement = replace(one, result=result, areas=areas)
        worklist.add(prepare_entry(judgement, tiny_classifier.bundle, origin="listen"))
    assert [row.lesion_share for row in worklist.rows(by="number")] == [pytest.approx(0.3), 0, None]
    group = worklist.group(1, tiny_classifier.manifest.decision_rule, tiny_classifier.bundle.seal)
    assert group is not None and group.lesion_share == pytest.approx(0.2)
    assert worklist.verify().problem is None
    with sqlite3.connect(worklist.folder / "worklist.sqlite") as connection:
        connection.execute("DROP TRIGGER answers_stay")
        connection.execute("UPDATE results SET lesion_share = NULL, lung_area = NULL WHERE id = 1")
    connection.close()
    assert "result 1 was changed" in str(worklist.verify().problem)
