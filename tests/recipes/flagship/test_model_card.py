"""The model card: it says what the tables say, and "not measured" where there is none."""

from pathlib import Path

import numpy as np
import pytest

from edge_ct.bundle import CARD, add_members, read_bundle
from edge_ct.recipes.flagship import evidence, model_card
from edge_ct.recipes.flagship.evidence import FoldModel, FoldPredictions

LABELS = np.array([1] * 10 + [0] * 10)


def judged(variant: str, wrong: int, fold: int) -> FoldPredictions:
    p = np.where(LABELS == 1, 0.9, 0.1)
    p[:wrong] = 0.2
    model = FoldModel(
        "grouped", fold, 5, "accurate", variant, "n", "n@1", "ptq", "passed", 10, 0.5, 0.99, 0, "slices", "f" * 64
    )
    hashes, groups = (tuple(f"{what}{fold}{i}" for i in range(20)) for what in ("s", "g"))
    return FoldPredictions(model, hashes, LABELS, groups, ("positive",) * 20, p)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    evidence.write_evidence(
        tmp_path, [judged(variant, wrong, fold) for fold in (1, 2) for variant, wrong in (("fp32", 1), ("int8", 2))]
    )
    return tmp_path


def test_without_results_nothing_is_claimed(tiny_bundle: Path, tmp_path: Path) -> None:
    card = model_card.model_card([("accurate", read_bundle(tiny_bundle))], tmp_path, "")
    assert card.count("Not measured.") == 6
    assert "Folds that were run: not measured." in card
    assert "Nobody has looked at the errors yet." in card
    assert "%]" not in card
    assert " [" not in card
    assert "Research use only" in card


def test_it_says_what_the_tables_say(tiny_bundle: Path, results: Path) -> None:
    (results / model_card.OUT_OF_DISTRIBUTION).write_text(
        "model,set,expected,n,as_expected,share,share_low,share_high,rejected_by_pixels,rejected_by_network,unreadable,left_out\n"
        "m,xray,rejected,60,59,0.98333,0.91,0.997,58,1,0,0\n"
    )
    (results / model_card.ROBUSTNESS).write_text(
        "change,amount,n,rejected_share,rejected_share_low,rejected_share_high,sensitivity,sensitivity_low,"
        "sensitivity_high,specificity,specificity_low,specificity_high,same_call\n"
        "jpeg,30,40,0.02500,0.01,0.1,0.90000,0.8,0.95,,,,0.97500\n"
    )
    card = model_card.model_card(
        [("accurate", read_bundle(tiny_bundle))], results, "Motion.\n", "right on 8 of 10 slices"
    )
    assert "2 of 5 (grouped)" in card
    # Four of 20 positives are missed by int8 and two by fp32.
    assert "| grouped | accurate int8 | 40 | 0 | 90.0 % [" in card
    assert "| grouped | accurate | 10.00 | 2, 0 | 0.5000 | 2 of 2 |" in card
    assert "| xray | 60 | rejected | 98.3 % [91.0, 99.7] | 58, 1 |" in card
    assert "| jpeg 30 | 40 | 2.5 % [1.0, 10.0] | 90.0 % [80.0, 95.0] | undefined | 97.5 % |" in card
    assert "Motion." in card
    assert "this model was right on 8 of 10 slices" in card
    assert "not measured" not in card.lower()


def test_the_card_travels_in_the_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    plain = read_bundle(tiny_bundle)
    assert plain.card == ""
    model_card.command.main(
        [f"accurate={tiny_bundle}", "--results", str(tmp_path), "--out", str(tmp_path / "card.md")],
        standalone_mode=False,
    )
    text = (tmp_path / "card.md").read_text()
    assert text.startswith("# Model card: accurate\n")
    path = tmp_path / "with.tflite"
    path.write_bytes(add_members(plain, {CARD: text.encode()}))
    carried = read_bundle(path)
    assert carried.card == text
    assert (carried.manifest, carried.model) == (plain.manifest, plain.model)
    assert {name: carried.member(name) for name in ("labels.txt", "split.csv", "golden/0.png")} == {
        name: plain.member(name) for name in ("labels.txt", "split.csv", "golden/0.png")
    }
