"""What is and is not a lung CT slice, from pixels alone: phantoms and their exports, drawn and real pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from edge_ct import slices
from edge_ct.classifier import Classifier
from edge_ct.imaging.slice_check import DOUBT, REJECT, check_slice, colour_share
from edge_ct.phantom import make_slice

GRADIENT = np.add.outer(np.arange(200), np.arange(200)).astype(np.float32) / 400 * 255
GRADIENT = GRADIENT.astype(np.uint8)


def encoded(image: np.ndarray, kind: str = ".png") -> bytes:
    return cv2.imencode(kind, image)[1].tobytes()


@pytest.mark.parametrize("size", [96, 224, 512])
def test_phantoms_are_slices(size: int) -> None:
    reasons = [check_slice(make_slice(i, i % 8, i % 2 == 0, size, seed=77).image).reason for i in range(40)]
    assert reasons == [None] * 40


@pytest.mark.parametrize(
    "export",
    [
        lambda own: cv2.copyMakeBorder(own, 0, 0, 90, 90, cv2.BORDER_CONSTANT, value=0),
        lambda own: cv2.copyMakeBorder(own, 40, 60, 10, 50, cv2.BORDER_CONSTANT, value=255),
        lambda own: own[40:-40, 25:-25],
        lambda own: np.fliplr(own),
        lambda own: cv2.imdecode(np.frombuffer(encoded(own, ".jpg"), np.uint8), cv2.IMREAD_GRAYSCALE),
        lambda own: cv2.putText(own.copy(), "R  kV 120 Im 42", (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1),
        lambda own: cv2.arrowedLine(own.copy(), (30, 30), (90, 100), 255, 3),
        lambda own: cv2.convertScaleAbs(own, alpha=0.7, beta=40),
        lambda own: cv2.resize(own, (300, 190), interpolation=cv2.INTER_AREA),
    ],
    ids=["black bars", "white margins", "cropped", "mirrored", "jpeg", "text", "arrow", "soft window", "squeezed"],
)
def test_an_export_of_a_phantom_is_still_a_slice(export: object) -> None:
    refused = [export(make_slice(i, 3 + i % 3, i % 2 == 0, 256, seed=5).image) for i in range(10)]  # type: ignore[operator]
    assert sum(check_slice(np.ascontiguousarray(own)).reason is not None for own in refused) <= 1


def test_blank_and_nearly_blank_pictures_are_named_so() -> None:
    noise = np.random.default_rng(0).normal(90, 1.2, (200, 200)).astype(np.uint8)
    black = np.zeros((300, 300), np.uint8)
    titled = cv2.putText(black.copy(), "no image", (10, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
    for own in (black, black + 255, noise, titled):
        assert "blank" in str(check_slice(own).reason)


def test_an_inverted_phantom_is_told_to_be_inverted() -> None:
    reasons = [str(check_slice(255 - make_slice(i, 4, False, 256, seed=9).image).reason) for i in range(10)]
    assert sum("inverted" in own for own in reasons) >= 8


@pytest.mark.parametrize(
    "drawn",
    [
        GRADIENT,
        np.random.default_rng(1).integers(0, 256, (240, 320), np.uint8),
        np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((32, 32))).astype(np.uint8) * 255,
    ],
    ids=["ramp", "noise", "chessboard"],
)
def test_drawn_pictures_are_no_slices(drawn: np.ndarray) -> None:
    assert check_slice(drawn).reason


def test_colour_is_what_grey_does_not_explain() -> None:
    grey = make_slice(3, 4, True, 256).image
    tinted = np.clip(grey[:, :, np.newaxis] * [0.6, 0.8, 1.0], 0, 255).astype(np.uint8)
    assert colour_share(cv2.merge([grey, grey, grey])) == 0
    assert colour_share(tinted) < 0.01
    painted = cv2.merge([grey, np.roll(grey, 60, 1), 255 - grey])
    assert colour_share(painted) > 0.5
    assert "colour" in str(check_slice(grey, colour_share(painted)).reason)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA"])
def test_a_grey_slice_saved_in_a_colour_mode_has_no_colour(mode: str, tmp_path: Path) -> None:
    Image.fromarray(make_slice(11, 4, True, 256).image).convert(mode).save(tmp_path / "slice.png")
    assert slices.read(tmp_path / "slice.png").colour == 0


def test_a_few_coloured_marks_do_not_make_a_colour_picture() -> None:
    marked = cv2.cvtColor(make_slice(11, 4, True, 512).image, cv2.COLOR_GRAY2BGR)
    cv2.arrowedLine(marked, (60, 60), (180, 190), (0, 0, 255), 5)
    cv2.putText(marked, "45 mm", (300, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 255, 255), 2)
    for kind in (".png", ".jpg"):
        one = slices.decode(encoded(marked, kind), "marked")
        assert 0 < one.colour < 0.1
        assert check_slice(one.pixels, one.colour).reason is None


def test_a_picture_that_is_higher_than_wide_is_no_axial_slice() -> None:
    own = make_slice(11, 4, True, 256).image
    upright = check_slice(np.rot90(own))
    assert "higher than wide" in str(upright.reason)
    assert upright.total < REJECT
    barred = cv2.copyMakeBorder(own, 150, 150, 0, 0, cv2.BORDER_CONSTANT, value=0)  # a screenshot of a telephone
    assert check_slice(barred).reason is None


def test_what_passes_for_being_small_is_in_doubt() -> None:
    large = make_slice(11, 4, True, 256).image
    assert not check_slice(large).doubtful
    small = cv2.resize(large, (64, 48), interpolation=cv2.INTER_AREA)
    seen = check_slice(small)
    assert seen.allowed == pytest.approx(6 * np.log2(128 / 48))
    assert seen.reason is None
    assert seen.doubtful == (seen.total - seen.allowed < DOUBT)


@given(
    arrays.arrays(np.uint8, st.tuples(st.integers(32, 300), st.integers(32, 300)), fill=st.integers(0, 255)),
    st.floats(0, 1),
)
def test_any_picture_gets_an_answer(pixels: np.ndarray, colour: float) -> None:
    seen = check_slice(pixels, colour)
    assert (seen.reason is None) == (seen.total >= REJECT)


def test_the_classifier_rejects_before_it_judges(tiny_bundle: Path) -> None:
    classifier = Classifier(tiny_bundle)
    photograph = np.dstack([GRADIENT, np.fliplr(GRADIENT), 255 - GRADIENT])
    for content, word in ((encoded(photograph, ".jpg"), "colour"), (encoded(GRADIENT), "lung CT slice")):
        judgement = classifier.judge(content, "upload")
        assert (judgement.result.decision, judgement.result.probability) == ("rejected", None)
        assert word in str(judgement.result.reason)
        assert judgement.slice is not None
        assert judgement.outputs is None
        assert judgement.result.ms.inference is None


@pytest.mark.real
def test_real_slices_are_accepted(real_data: Path) -> None:
    """Every eighth of the public set: one of all was rejected when the weights were fitted."""
    found = slices.find(real_data / "sars-cov-2-ct")[::8]
    rejected = [path for path in found if check_slice(slices.read(path).pixels).reason]
    assert len(rejected) <= 0.01 * len(found)


@pytest.mark.real
def test_a_real_series_is_accepted_in_every_lung_window(real_data: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    for path in slices.find(real_data / "dicom"):
        one = pydicom.dcmread(path)
        density = one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)
        for centre, width in ((-600, 1500), (-500, 1200), (-700, 1000), (-400, 2000)):
            grey = np.clip((density - centre + width / 2) / width * 255, 0, 255).astype(np.uint8)
            assert check_slice(grey).reason is None, (path.name, centre, width)
        soft = np.clip((density - 40 + 200) / 400 * 255, 0, 255).astype(np.uint8)
        assert check_slice(soft).reason, path.name


@pytest.mark.real
@pytest.mark.parametrize(("kind", "most"), [("xray", 2), ("natural", 1)])
def test_pictures_that_the_weights_were_not_fitted_to_are_rejected(real_data: Path, kind: str, most: int) -> None:
    """The odd ones of each folder; the even ones were fitted to."""
    kept = []
    for path in slices.find(real_data / "ood" / kind)[1::2]:
        one = slices.read(path)
        if check_slice(one.pixels, one.colour).reason is None:
            kept.append(path.name)
    assert len(kept) <= most
