"""CSV that is safe to open, and text that comes from anywhere: whatever it is, it comes back."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_ct.classifier import Classifier, Judgement
from edge_ct.device_app.worklist.records import prepare_entry
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.system.csv_text import safe_csv_line
from edge_ct.system.files import printable

ANY_TEXT = st.text(st.characters())  # lone surrogates and NUL, too


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_csv_comes_back_and_holds_no_formula(values: list[str]) -> None:
    (read,) = csv.reader(io.StringIO(safe_csv_line(["id", *values]), newline="")) if values else [["id"]]
    for wrote, found in zip(values, read[1:], strict=True):
        assert found in (wrote, "'" + wrote)
        assert found[:1] not in ("=", "+", "-", "@", "\t", "\r")


def test_numbers_and_nothing_stay_what_they_are() -> None:
    assert safe_csv_line([-1.5, None, 3]) == "-1.5,,3\n"


@given(ANY_TEXT)
def test_printable_text_is_unicode_and_good_text_stays(text: str) -> None:
    found = printable(text)
    found.encode()
    assert printable(found) == found
    if all(not 0xD800 <= ord(c) <= 0xDFFF for c in text):
        assert found is text


@settings(max_examples=15)
@given(source=ANY_TEXT, patient=ANY_TEXT, reviewer=ANY_TEXT, note=ANY_TEXT)
def test_any_text_can_be_stored_and_verified(
    source: str,
    patient: str,
    reviewer: str,
    note: str,
    judged: Callable[..., Judgement],
    tiny_classifier: Classifier,
) -> None:
    with TemporaryDirectory() as folder, Worklist(Path(folder)) as worklist:
        judgement = judged(1, source=source or "x")
        row = worklist.add(prepare_entry(judgement, tiny_classifier.bundle, origin="serve", patient=patient)).row
        assert row.source == printable(source or "x")
        review = worklist.review(row.id, f"Dr {reviewer}", "agree", note=note)
        assert worklist.reviews(row.id) == [review]
        assert worklist.verify().problem is None
