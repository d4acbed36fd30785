"""`edge-ct explain`: maps against hand calculation and against what is known, and what a user is told."""

import dataclasses
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from scipy.stats import spearmanr

from edge_ct.network_analysis.occlusion import occlusion_map
from edge_ct.phantom import make_slice
from edge_ct.run import load_run
from edge_ct.train.explain import activations, attended, grad_cam, map_comparison, nearest, network, rise, sanity_checks
from edge_ct.train.zoo.builder import build


@pytest.fixture(scope="module")
def opened(trained_run: Path) -> network.RunNetwork:
    return network.load_network(trained_run)


@pytest.fixture(scope="module")
def images(opened: network.RunNetwork) -> np.ndarray:
    return np.stack([opened.preprocess(make_slice(i, 3, i % 2 == 1, 96, seed=5).image) for i in range(8)])


def bright_spot(images: np.ndarray) -> np.ndarray:
    """Log-odds that are the mean of one known square."""
    return images[:, 8:16, 32:40, 0].astype(float).mean((1, 2)) - 120


def test_grad_cam_of_the_last_layer_is_the_class_map(opened: network.RunNetwork, images: np.ndarray) -> None:
    free = grad_cam.compute_maps(opened, images, "classmap", signed=True)
    assert free.mean((1, 2)) == pytest.approx(opened.log_odds(images), rel=1e-4, abs=1e-5)
    by_gradients = grad_cam.compute_maps(opened, images, "gradcam", signed=True)
    _, bias = opened.model.get_layer("class_map").get_weights()
    cells = free.shape[1] * free.shape[2]
    assert by_gradients * cells == pytest.approx(free - (bias[1] - bias[0]), rel=1e-3, abs=1e-4)
    assert grad_cam.compute_maps(opened, images, "gradcam").min() == 0


def test_grad_cam_weights_are_slopes_of_the_log_odds(opened: network.RunNetwork, images: np.ndarray) -> None:
    """Against finite differences: a channel of an inner layer raised everywhere by a little."""
    name = "stage3_conv1_relu"
    inner = opened.layer(name)
    front = keras.Model(opened.model.inputs, inner.output)
    entry = keras.Input(inner.output.shape[1:])
    behind, started = entry, False
    for layer in opened.model.layers:
        if started:
            behind = layer(behind)
        started = started or layer is inner
    back = keras.Model(entry, behind)
    values = front.predict_on_batch(opened.preprocess.normalise(images[:1]))

    def log_odds(activations: np.ndarray) -> float:
        return float(np.diff(back.predict_on_batch(activations))[0, 0])

    step, slopes = 0.02, []
    for channel in range(values.shape[-1]):
        sides = []
        for sign in (1, -1):
            moved = values.copy()
            moved[..., channel] += sign * step
            sides.append(log_odds(moved))
        slopes.append((sides[0] - sides[1]) / (2 * step) / (values.shape[1] * values.shape[2]))
    expected = np.einsum("hwc,c->hw", values[0], np.array(slopes))
    found = grad_cam.compute_maps(opened, images[:1], "gradcam", name, signed=True)[0]
    assert map_comparison.rank_correlation(found, expected) > 0.99
    assert found == pytest.approx(expected, abs=0.05 * np.abs(expected).max())


def test_grad_cam_plus_plus_by_hand() -> None:
    values = np.array([[[[1.0], [2.0]]]])
    slopes = np.array([[[[0.5], [-1.0]]]])
    # g^2 / (2 g^2 + sum(A) g^3): .25 / (.5 + 3 * .125) = 2/7, times relu(.5) = 1/7; the other's relu is 0
    assert grad_cam._grad_cam_plus_plus_weights(values, slopes) == pytest.approx(np.array([[1 / 7]]))


def test_a_modified_network_has_maps_by_gradients_alone(tmp_path: Path, trained_run: Path, images: np.ndarray) -> None:
    keras.utils.set_random_seed(1)
    info = load_run(trained_run)
    found = network.wrap_model(info, build(keras, "modified-densenet121", 48))
    assert grad_cam.compute_maps(found, images[:2], "gradcam++").shape[1:] == (1, 1)
    assert grad_cam.compute_maps(found, images[:2], "gradcam", "pool2_relu").shape == (2, 12, 12)
    with pytest.raises(Exception, match="has no class map"):
        grad_cam.compute_maps(found, images[:2], "classmap")


def test_regions_by_hand() -> None:
    heat = np.array([[0.0, 0.0, 0.0, 4.0]])  # mean 1, standard deviation 1.73
    assert map_comparison.attended_mask(heat).tolist() == [[False, False, False, True]]
    assert map_comparison.strongest_mask(np.array([[3.0, 1.0], [2.0, 2.0]]), 0.5).tolist() == [
        [True, False],
        [True, False],
    ]
    assert map_comparison.iou(np.array([True, True, False]), np.array([False, True, True])) == pytest.approx(1 / 3)
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 5, (2, 6, 6))
    assert map_comparison.rank_correlation(first, second) == pytest.approx(
        spearmanr(first, second, axis=None).statistic
    )
    assert map_comparison.rank_correlation(first, np.ones((6, 6))) == 0


def test_maps_without_gradients_find_the_place() -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 60, (56, 56, 1)).astype(np.uint8)
    image[8:16, 32:40] = 250
    hidden = occlusion_map(bright_spot, image, seconds=60)
    assert hidden.shape == (16, 16)
    row, column = np.unravel_index(hidden.argmax(), hidden.shape)
    assert 8 <= row * 3.5 + 1.75 < 16
    assert 32 <= column * 3.5 + 1.75 < 40
    seen, used = rise.rise_map(bright_spot, image, seconds=60, masks=600)
    assert used == 600
    row, column = np.unravel_index(seen.argmax(), seen.shape)
    assert abs(row - 12) < 8
    assert abs(column - 36) < 8
    again, _ = rise.rise_map(bright_spot, image, seconds=60, masks=600)
    assert np.array_equal(seen, again)


def test_the_time_budget_gives_a_coarser_map() -> None:
    image = np.zeros((56, 56, 1), np.uint8)
    assert occlusion_map(bright_spot, image, seconds=0).shape == (4, 4)
    assert rise.rise_map(bright_spot, image, seconds=0)[1] == 32


def test_deletion_and_insertion_tell_a_true_map_from_a_false_one() -> None:
    generator = np.random.default_rng(1)
    images = generator.integers(0, 30, (4, 56, 56, 1)).astype(np.uint8)
    images[:, 8:16, 32:40] = 250
    true = np.zeros((4, 14, 14), np.float32)
    true[:, 2:4, 8:10] = 1
    found = sanity_checks.measure_deletion_insertion(bright_spot, true, images)
    assert found.deletion < found.deletion_random
    assert found.insertion > found.insertion_random
    wrong = sanity_checks.measure_deletion_insertion(bright_spot, np.roll(true, 7, axis=1), images)
    assert wrong.deletion > found.deletion
    assert wrong.insertion < found.insertion


def test_scrambled_weights_change_true_maps_and_not_an_edge_detector(
    opened: network.RunNetwork, images: np.ndarray
) -> None:
    def true(net: network.RunNetwork, views: np.ndarray) -> np.ndarray:
        return grad_cam.compute_maps(net, views, signed=True)

    def edges(net: network.RunNetwork, views: np.ndarray) -> np.ndarray:
        return np.stack([cv2.Laplacian(view[:, :, 0], cv2.CV_32F) for view in views])

    before = opened.model.get_weights()
    passed = sanity_checks.scramble_weights(opened, true, images)
    assert passed.share[-1] == 1
    assert passed.passed
    failed = sanity_checks.scramble_weights(opened, edges, images)
    assert failed.correlation[-1] == pytest.approx(1)
    assert not failed.passed
    for own, kept in zip(opened.model.get_weights(), before, strict=True):
        assert np.array_equal(own, kept)


def test_the_pointing_game_on_known_lesions() -> None:
    shown = sanity_checks.make_positive_phantoms(6, 128)
    assert all(one.lesion.any() for one in shown)
    images = np.stack([one.image[:, :, np.newaxis] for one in shown])

    def certain(views: np.ndarray) -> np.ndarray:
        return np.ones(len(views))

    y, x = np.mgrid[-4:5, -4:5]
    disc = (x * x + y * y <= 16).astype(np.uint8)  # 3 % of 128 px is 4 px
    right = sanity_checks.play_pointing_game(
        certain, lambda views: np.stack([one.lesion.astype(np.float32) for one in shown]), images, shown
    )
    assert (right.n, right.hits, right.rate) == (6, 6, 1.0)
    assert right.lung_share == pytest.approx(1)
    assert right.best_hits == 6
    assert right.hits_by_chance == pytest.approx(
        sum(float((cv2.dilate(one.lesion.astype(np.uint8), disc) > 0).mean()) for one in shown), rel=0.02
    )
    corner = np.zeros((6, 128, 128), np.float32)
    corner[:, 0, 0] = 1
    wrong = sanity_checks.play_pointing_game(certain, lambda views: corner, images, shown)
    assert (wrong.hits, wrong.lung_share) == (0, 0)
    assert sanity_checks.play_pointing_game(lambda views: -certain(views), lambda views: corner, images, shown).n == 0


def test_the_strongest_point_is_where_a_cell_looks() -> None:
    """Where a cell at the border is the strongest, a map enlarged bilinearly is as strong all the way to the frame."""
    (one,) = sanity_checks.make_positive_phantoms(1, 128)
    lesion = np.zeros((128, 128), bool)
    lesion[28:36, 28:36] = True
    one = dataclasses.replace(one, lesion=lesion)
    heat = np.zeros((1, 2, 2), np.float32)
    heat[0, 0, 0] = 1
    image = one.image[np.newaxis, :, :, np.newaxis]
    found = sanity_checks.play_pointing_game(lambda views: np.ones(len(views)), lambda views: heat, image, [one])
    assert (found.hits, found.best_hits, found.cells) == (1, 1, 2)
    lesion[:] = False
    lesion[:6, 60:70] = True  # in both upper cells, far from their middles
    found = sanity_checks.play_pointing_game(lambda views: np.ones(len(views)), lambda views: heat, image, [one])
    assert (found.hits, found.best_hits, found.cell_hits, found.cell_hits_by_chance) == (0, 0, 1, 0.5)
    lesion[:] = False
    lesion[60:70, 60:70] = True  # where the first cell looks, if that is not the middle of its quarter
    for at, hits in ((None, 0), ((0.5, 0.9), 1)):
        found = sanity_checks.play_pointing_game(
            lambda views: np.ones(len(views)), lambda views: heat, image, [one], at
        )
        assert found.hits == hits


def test_the_paired_tests_are_scipys() -> None:
    from scipy.stats import ttest_rel, wilcoxon

    base, modified = np.array([10.0, 12.0, 9.0, 14.0, 11.0]), np.array([12.0, 13.5, 9.5, 18.0, 10.0])
    found = attended.summarise_pair("a / b", "both", base, modified)
    assert (found.n, found.base, found.modified) == (5, pytest.approx(11.2), pytest.approx(12.6))
    assert found.t_p == pytest.approx(ttest_rel(base, modified).pvalue)
    assert found.wilcoxon_p == pytest.approx(wilcoxon(base, modified).pvalue)
    assert attended.summarise_pair("a / b", "both", base, base).t_p is None


def test_responses_are_those_of_the_layers(opened: network.RunNetwork, images: np.ndarray) -> None:
    layers = activations.choose_layers(opened)
    assert [layer.name for layer in layers[:2]] == ["stage1_conv1", "stage1_conv2"]
    (found,) = activations.measure_responses(opened, images, [opened.layer("stage2_conv1")], 3)
    assert found.maps.shape == (8, 3, 24, 24)
    spread = found.maps.var((2, 3)).mean(0)
    assert (np.diff(spread) <= 0).all()


def test_squeezed_layers_are_no_pictures(opened: network.RunNetwork) -> None:
    own = network.wrap_model(opened.run, build(keras, "efficientnetb0", 64))
    assert own.layer("block2a_se_reduce").output.shape[1:3] == (1, 1)
    for layers in (activations.layers_along_depth(own, 6), activations.choose_layers(own, every=1)):
        assert layers[0].name == "stem_conv"
        assert layers[-1].name == "top_conv"
        assert not any("_se_" in layer.name for layer in layers)


def test_a_training_slice_is_nearest_to_its_own_group(opened: network.RunNetwork) -> None:
    prototypes = nearest.build_prototypes(opened)
    table = opened.run.split()
    train = table.where("train")
    assert set(prototypes.groups) == {table.groups[i] for i in train}
    assert np.linalg.norm(prototypes.vectors, axis=1) == pytest.approx(np.ones(len(prototypes.groups)), abs=1e-5)
    alone = next(at for at, size in enumerate(prototypes.sizes) if size >= 1)
    (found,) = nearest.find_nearest(prototypes, prototypes.vectors[alone : alone + 1], opened.run.info.classes, 3)
    assert found[0].group == prototypes.groups[alone]
    assert found[0].similarity == pytest.approx(1, abs=1e-5)
    assert nearest.score_prototypes(opened, prototypes).auc.value > 0.6
