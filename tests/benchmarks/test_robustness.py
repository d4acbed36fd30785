"""Changes to slices one at a time, and what is made of them; what is rejected, and what is not."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ct.benchmarks import out_of_distribution, plots, robustness
from edge_ct.classifier import Classifier
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.phantom import make_slice

GENERATOR = np.random.default_rng(0)
IMAGE = make_slice(3, 4, True, 128).image[:, 4:]  # not square


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    for index in range(12):
        path = folder / ("COVID" if index % 2 else "non-COVID") / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), make_slice(index, 3 + index % 3, bool(index % 2), 160).image)
    return folder


def test_every_kind_that_was_promised_is_tried_and_no_change_leaves_its_input_changed() -> None:
    tried, before = robustness.all_changes(), IMAGE.copy()
    amounts = {kind: [one.amount for one in tried if one.kind == kind] for kind in {one.kind for one in tried}}
    assert {"jpeg", "resolution", "window", "level", "rotation", "crop", "noise", "burnt in", "inverted"} < set(amounts)
    assert (amounts["jpeg"][0], amounts["jpeg"][-1]) == ("95", "30")
    assert (amounts["resolution"][0], amounts["resolution"][-1]) == ("512", "96")
    assert {"text", "arrows"} < set(amounts["burnt in"])
    for one in tried:
        changed = one.apply(IMAGE, np.random.default_rng(1))
        assert changed.dtype == np.uint8
        assert changed.ndim == 2
        assert (before == IMAGE).all()
        same = changed.shape == IMAGE.shape and (changed == IMAGE).all()
        assert same == (one.kind == "none" or (one.kind, one.amount) == ("resolution", "128"))  # as large as it is


@pytest.mark.parametrize(
    ("kind", "amount", "check"),
    [
        ("resolution", "96", lambda out: out.shape == (96, 93)),
        ("crop", "20 %", lambda out: out.shape == (round(128 * 0.8), round(124 * 0.8))),
        ("inverted", "", lambda out: (out == 255 - IMAGE).all()),
        ("rotation", "+90", lambda out: (out == np.rot90(IMAGE)).all()),
        ("level", "+10 %", lambda out: abs(int(out[IMAGE == 100].mean()) - 125.5) <= 1),
        ("window", "+20 %", lambda out: abs(float(out[IMAGE == 100].mean()) - (127.5 - 27.5 * 1.2)) <= 1),
        ("noise", "10", lambda out: 8 < (out.astype(float) - IMAGE)[(IMAGE > 60) & (IMAGE < 190)].std() < 12),
    ],
)
def test_a_change_does_what_it_says(kind: str, amount: str, check: object) -> None:
    [one] = [one for one in robustness.all_changes() if (one.kind, one.amount) == (kind, amount)]
    assert check(one.apply(IMAGE, GENERATOR))  # type: ignore[operator]


def test_rows_are_what_the_classifier_says(tiny_bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    wanted = ("none", "inverted", "jpeg")
    tried = [one for one in robustness.all_changes() if one.kind in wanted]
    rows = robustness.measure(tiny_bundle, phantoms, changes=tried)
    assert [row["change"] for row in rows] == ["none", *["jpeg"] * 7, "inverted"]
    classifier = Classifier(tiny_bundle)
    found = [(path.parent.name, classifier.classify(path)) for path in sorted(phantoms.rglob("*.png"))]
    judged = [(name, result.probability) for name, result in found if result.probability is not None]
    right = sum((p >= 0.5) == (name == "COVID") for name, p in judged)
    assert float(str(rows[0]["accuracy"])) == pytest.approx(right / len(judged), abs=1e-5)
    assert rows[0]["rejected"] == len(found) - len(judged)
    assert (rows[0]["same_call"], rows[0]["split"]) == ("1.00000", "external")
    assert float(str(rows[-1]["rejected_share"])) > 0.5
    assert "<svg" in plots.robustness(rows)
    assert robustness.rows_csv(rows) == robustness.rows_csv(robustness.measure(tiny_bundle, phantoms, changes=tried))
    few = robustness.measure(tiny_bundle, phantoms, limit=5, changes=tried[:1])
    assert few[0]["n"] == 4  # every third
    with pytest.raises(DataRejected, match="no slice to score"):
        robustness.measure(tiny_bundle, phantoms, part="test", changes=tried[:1])


def test_what_is_no_slice_is_counted_apart(tiny_bundle: Path, phantoms: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    cv2.imwrite(str(others / "ramp.png"), np.tile(np.arange(256, dtype=np.uint8), (256, 1)))
    cv2.imwrite(str(others / "slice.png"), make_slice(3, 4, True, 160).image)
    (others / "broken.png").write_bytes(b"\x89PNG")
    passing, rejecting = out_of_distribution.measure(tiny_bundle, [phantoms], [others])
    assert (passing["expected"], passing["n"], passing["as_expected"]) == ("passed", 12, 12)
    assert (rejecting["n"], rejecting["as_expected"], rejecting["unreadable"]) == (2, 1, 1)
    assert (rejecting["rejected_by_pixels"], rejecting["share"]) == (1, "0.50000")
    (others / "ramp.png").unlink()
    (others / "slice.png").unlink()
    with pytest.raises(EdgeCTError, match="no picture to judge"):
        out_of_distribution.measure(tiny_bundle, [], [others])


def test_the_commands_write_what_they_measure(
    tiny_bundle: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "r.csv", tmp_path / "r.svg"
    words = [str(tiny_bundle), "--data", str(phantoms), "--limit", "2", "--out", str(out), "--plot", str(plot)]
    robustness.command.main(words, standalone_mode=False)
    with out.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(robustness.all_changes())
    assert plot.read_text().lstrip().startswith("<svg")
    words = [str(tiny_bundle), "--slices", str(phantoms), "--out", str(out), "--force"]
    out_of_distribution.command.main(words[:-1], standalone_mode=False)
    assert out.read_text().startswith("model,set,expected,n,as_expected,share")
