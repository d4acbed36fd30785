"""The distance from what was seen, against NumPy by another route; and damaged members of a bundle."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_ct.bundle import Bundle, pack_bundle, read_bundle, unpack_bundle
from edge_ct.errors import ModelRejected
from edge_ct.manifest import Outliers
from edge_ct.network_analysis.outliers import MEMBER, fit_outlier_detector, read_outlier_detector, threshold_by_source


def embeddings(n: int, seed: int, e: int = 40) -> np.ndarray:
    """Of two varying patterns and a little noise, none below 0."""
    generator = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).uniform(0, 3, (2, e))
    mixed = generator.uniform(0.5, 1.5, (n, 2)) @ patterns + generator.normal(0, 0.05, (n, e))
    return np.maximum(mixed, 0).astype(np.float32)


def by_projection(training: np.ndarray, one: np.ndarray, components: int) -> float:
    """Length of what a least-squares fit of the first principal components leaves, squared."""

    def shape(own: np.ndarray) -> np.ndarray:
        roots = np.sqrt(own.astype(np.float64))
        return roots / np.linalg.norm(roots, axis=-1, keepdims=True)

    centre = shape(training).mean(0)
    basis = np.linalg.svd(shape(training) - centre)[2][:components].T
    beyond = shape(one) - centre
    return float(np.sum((beyond - basis @ np.linalg.lstsq(basis, beyond, rcond=None)[0]) ** 2))


def test_distance_is_what_the_principal_components_leave() -> None:
    training, others = embeddings(100, 1), np.random.default_rng(3).uniform(0, 3, (5, 40)).astype(np.float32)
    seen, kept = fit_outlier_detector(training, embeddings(50, 2), "validation")
    for own in others:
        assert seen.distance(own) == pytest.approx(by_projection(training, own, kept.components), abs=2e-3)


def test_threshold_lets_all_but_the_stated_share_of_calibration_slices_in() -> None:
    calibration = embeddings(1000, 2)
    seen, kept = fit_outlier_detector(embeddings(200, 1), calibration, "validation")
    assert sum(seen.is_outlier(own) for own in calibration) == 49  # of 1000, the 951st of 950.95 is let in
    assert (kept.rate, kept.cases, kept.split) == (0.05, 1000, "validation")
    few, rate = fit_outlier_detector(embeddings(200, 1), calibration[:10], "validation")
    assert rate.rate == pytest.approx(1 / 11)
    assert not any(few.is_outlier(own) for own in calibration[:10])


def test_threshold_keeps_every_source() -> None:
    """99 % of 400 near slices, and all of 30 far ones, which are 7 % of the whole."""
    near, far = np.linspace(0.1, 0.3, 400), np.linspace(0.3, 0.4, 30)
    threshold, rate = threshold_by_source(np.concatenate([near, far]), ["large"] * 400 + ["small"] * 30)
    assert (threshold, rate) == (pytest.approx(0.4), 0)
    alone, rate = threshold_by_source(near, ["large"] * 400)
    assert alone == np.sort(near)[396] and rate == 3 / 400  # ceil(0.99 x 401) = 397


def test_another_pattern_is_strange_and_its_strength_does_not_count() -> None:
    seen, _ = fit_outlier_detector(embeddings(200, 1), embeddings(300, 2), "validation")
    assert seen.is_outlier(np.random.default_rng(5).uniform(0, 3, 40).astype(np.float32))
    own = embeddings(1, 7)[0]
    assert seen.distance(own * 5) == pytest.approx(seen.distance(own), abs=1e-6)
    assert seen.is_outlier(np.full(40, np.nan, np.float32))


@pytest.mark.parametrize("n", [0, 5, 19])
def test_too_few_slices_are_not_fitted_to(n: int) -> None:
    assert fit_outlier_detector(embeddings(n, 1), embeddings(30, 2), "validation") is None
    assert fit_outlier_detector(np.ones((50, 40), np.float32), np.ones((50, 40), np.float32), "validation") is None


def with_outliers(tiny: Bundle, content: bytes, kept: Outliers) -> Bundle:
    manifest = msgspec.structs.replace(tiny.manifest, outliers=kept)
    return unpack_bundle(pack_bundle(tiny.model, manifest, {MEMBER: content}), "some.tflite")


def test_what_is_packed_is_read(tiny_bundle: Path) -> None:
    tiny = read_bundle(tiny_bundle)
    width = tiny.manifest.tensors.embedding.shape[-1]
    seen, kept = fit_outlier_detector(embeddings(60, 1, width), embeddings(60, 2, width), "validation")
    again = read_outlier_detector(with_outliers(tiny, seen.pack(), kept))
    assert again is not None
    for own in embeddings(5, 4, width):
        assert again.distance(own) == pytest.approx(seen.distance(own), abs=1e-8)
    assert read_outlier_detector(tiny) is None


@given(st.binary(max_size=300), st.integers(0, 70), st.integers(0, 9))
def test_a_member_that_is_not_as_the_manifest_says_is_refused(
    tiny_bundle: Path, content: bytes, channels: int, components: int
) -> None:
    kept = Outliers(MEMBER, channels, components, 0.1, 0.005, "validation", 9)
    bundle = with_outliers(read_bundle(tiny_bundle), content, kept)
    if len(content) != 4 * channels + components * (4 + channels):
        with pytest.raises(ModelRejected, match="does not fit its description in the manifest"):
            read_outlier_detector(bundle)


def test_a_channel_that_the_network_does_not_have_is_refused(tiny_bundle: Path) -> None:
    content = np.array([60_000], "<u2").tobytes() + bytes(2 + 4 + 1)
    bundle = with_outliers(read_bundle(tiny_bundle), content, Outliers(MEMBER, 1, 1, 0.1, 0.005, "x", 9))
    with pytest.raises(ModelRejected, match="channel 60000 of"):
        read_outlier_detector(bundle)
