"""A network with a lesion map, trained on slices of several sources."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import keras
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from edge_ct.cli import edge_ct
from edge_ct.dataset import load
from edge_ct.errors import DataRejected, EdgeCTError
from edge_ct.phantom import make_patients
from edge_ct.preprocess import Preprocess
from edge_ct.run import Run, load_run
from edge_ct.system.csv_text import to_csv
from edge_ct.train.data.augment import POLICIES
from edge_ct.train.fit import train
from edge_ct.train.fitting.batches import Batches
from edge_ct.train.fitting.lesion_slices import LesionDraws, phantom_lesion_slices
from edge_ct.train.fitting.optimise import soft_targets
from edge_ct.train.fitting.options import TrainingOptions


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of two sources, and masks of the second one's."""
    folder = tmp_path_factory.mktemp("sources")
    rows, masks = [], []
    for source, patients in (("north", 16), ("south", 12)):
        for phantom in make_patients(patients, 2, 96, seed=patients):
            name, group = f"{source}-{phantom.patient}-{phantom.index}.png", f"{source}-{phantom.patient}"
            cv2.imwrite(str(folder / name), phantom.image)
            weight = "0.5" if source == "south" else "1"
            rows.append((name, "COVID" if phantom.positive else "non-COVID", group, source, weight))
            if source == "south":
                cv2.imwrite(str(folder / f"mask-{name}"), phantom.lesion * np.uint8(255))
                masks.append((name, f"mask-{name}" if phantom.positive else "", "", group))
    (folder / "slices.csv").write_text(to_csv(("path", "label", "group", "source", "weight"), rows))
    (folder / "lesions.csv").write_text(to_csv(("path", "lesion_mask", "lung_mask", "group"), masks))
    return folder


def options_for(slices: Path, **changes: object) -> TrainingOptions:
    options: dict[str, object] = {
        "alpha": 0.35,
        "size": 64,
        "crop": "lungs",
        "split": "grouped",
        "epochs": 2,
        "batch": 12,
        "balance": "sources",
        "main_source": "north",
        "lesions": str(slices / "lesions.csv"),
        "lesion_phantoms": 4,
        "lesion_slices": 4,
        "ema": 0.9,
    }
    return TrainingOptions("mobilenetv2", **{**options, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(slices: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "lesions"
    return train(slices / "slices.csv", out, options_for(slices), resume=False, force=False)


def test_run_has_a_lesion_map_where_it_is_asked_for(run: Run) -> None:
    loader = partial(keras.saving.load_model, compile=False)
    whole, plain = run.load_model(loader, lesion_map=True), run.load_model(loader)
    image = np.zeros((1, 64, 64, 1), np.float32)
    logits, lesion_map = whole(image, training=False)
    assert tuple(lesion_map.shape) == (1, 8, 8, 1)
    assert np.allclose(plain(image, training=False), logits, atol=1e-6)
    assert run.info.preprocess == Preprocess(64, crop="lungs")
    assert run.info.network.parameters == whole.count_params() > plain.count_params()


def test_run_keeps_sources_and_weights(run: Run, slices: Path) -> None:
    dataset, loaded = run.dataset(), load(slices / "slices.csv")
    assert (dataset.sources, dataset.groups) == (loaded.sources, loaded.groups)
    assert dataset.weights is not None and loaded.weights is not None
    assert np.array_equal(dataset.weights, loaded.weights)


def test_killed_training_gives_the_same_network(
    run: Run, slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_ct.train.fitting import checkpoint

    save = checkpoint.Checkpoint._save

    def killed(self: checkpoint.Checkpoint, epoch: int, *values: object) -> None:
        save(self, epoch, *values)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoint, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        train(slices / "slices.csv", tmp_path / "run", options_for(slices), resume=False, force=False)
    monkeypatch.undo()
    resumed = train(slices / "slices.csv", tmp_path / "run", options_for(slices), resume=True, force=False)
    loader = partial(keras.saving.load_model, compile=False)
    for one, other in zip(
        run.load_model(loader, lesion_map=True).get_weights(),
        resumed.load_model(loader, lesion_map=True).get_weights(),
        strict=True,
    ):
        assert np.array_equal(one, other)


def test_training_on_every_slice(slices: Path, tmp_path: Path) -> None:
    words = ["train", "mobilenetv2", "--data", str(slices / "slices.csv"), "--out", str(tmp_path / "run")]
    words += ["--split", "none", "--alpha", "0.35", "--size", "64", "--epochs", "1", "--crop", "lungs"]
    result = CliRunner().invoke(edge_ct, [*words, "--lesion-phantoms", "4"])
    assert result.exit_code == 0, result.output
    assert set(load_run(tmp_path / "run").split().parts) == {"train"}
    assert "56 train slices" in result.output


def test_batches_hold_slices_with_masks() -> None:
    preprocess, labels = Preprocess(64), np.array([0, 1] * 10, np.int8)
    images = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 1), np.uint8)
    phantoms = phantom_lesion_slices(preprocess, 4)
    lesions = LesionDraws(phantoms.take(np.empty(0, int)), phantoms, 3, POLICIES["flips"], 0)
    weights = np.where(labels == 1, 0.5, 1).astype(np.float32)
    batches = Batches(
        images,
        labels,
        preprocess,
        6,
        POLICIES["flips"],
        targets=lambda labels, images: soft_targets(labels),
        slice_weights=weights,
        lesions=lesions,
        lesion_map=True,
    )
    assert len(batches) == 3
    inputs, (targets, masks) = batches[1]
    assert inputs.shape == (9, 64, 64, 1) and targets.shape == (9, 4) and masks.shape == (9, 8, 8, 2)
    # Six slices have a label, and count for nine: Keras divides by nine. Positives weigh half.
    assert (targets[6:] == 0).all()
    assert sorted(set(np.round(targets[:6].sum(1), 4).tolist())) == [0.75, 1.5]
    assert (masks[:6] == 0).all() and (masks[6:, :, :, 1] == 1).all()


def test_draws_follow_their_chances() -> None:
    labels, images = np.array([0, 1] * 10, np.int8), np.zeros((20, 8, 8, 1), np.uint8)
    chances = np.zeros(20)
    chances[[3, 5]] = 0.5
    batches = Batches(images, labels, Preprocess(8), 10, POLICIES["none"], chances=chances)
    assert len(batches) == 2 and (batches[0][1] == 1).all()
    assert set(batches._order.tolist()) == {3, 5}


def test_what_does_not_go_together_is_refused(slices: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeCTError, match="resnet50 has no lesion map"):
        TrainingOptions("resnet50", lesion_phantoms=3).check()
    with pytest.raises(EdgeCTError, match="leave no others in a batch"):
        TrainingOptions("mobilenetv2", lesion_phantoms=3, batch=8).check()
    with pytest.raises(DataRejected, match="no training slice is of source 'east'"):
        train(slices / "slices.csv", tmp_path / "run", options_for(slices, main_source="east"), False, False)
    for words in (["--split", "source"], ["--test-source", "north"], ["--main-source", "north"]):
        command = ["train", "mobilenetv2", "--data", str(slices / "slices.csv"), "--out", str(tmp_path / "x"), *words]
        assert CliRunner().invoke(edge_ct, command).exit_code == 2


@pytest.mark.parametrize("size", [64, 96])
def test_a_training_starts_from_the_weights_of_a_run(run: Run, slices: Path, tmp_path: Path, size: int) -> None:
    table, loader = slices / "slices.csv", partial(keras.saving.load_model, compile=False)
    options = options_for(slices, weights=str(run.folder), epochs=1, learning_rate=1e-9, ema=0.0, size=size)
    further = train(table, tmp_path / "further", options, resume=False, force=False)
    before, after = run.load_model(loader, lesion_map=True), further.load_model(loader, lesion_map=True)
    values = {variable.path: variable.numpy() for variable in before.trainable_variables}
    assert len(values) == len(after.trainable_variables)
    for variable in after.trainable_variables:
        np.testing.assert_allclose(variable.numpy(), values[variable.path], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"split_seed": 5}, "has already learned from .* that this training would be tested on"),
        ({"alpha": 0.5}, "weights do not fit"),
        ({"lesions": "", "lesion_phantoms": 0}, None),
        ({"crop": "none"}, "cropped in another way"),
        ({"network": "customcnn", "lesions": "", "lesion_phantoms": 0}, "is not a run of customcnn"),
    ],
)
def test_a_run_whose_weights_do_not_fit_is_refused(
    run: Run, slices: Path, tmp_path: Path, changes: dict[str, object], reason: str | None
) -> None:
    options = msgspec.structs.replace(options_for(slices, weights=str(run.folder), epochs=1), **changes)
    if reason is None:  # the lesion map is left away: the rest of the network fits
        assert train(slices / "slices.csv", tmp_path / "run", options, resume=False, force=False).info.finished
        return
    with pytest.raises(DataRejected, match=reason):
        train(slices / "slices.csv", tmp_path / "run", options, resume=False, force=False)
    assert not (tmp_path / "run").exists()


def test_the_mean_with_the_starting_weights_is_kept(run: Run, slices: Path, tmp_path: Path) -> None:
    table, loader = slices / "slices.csv", partial(keras.saving.load_model, compile=False)
    options = options_for(slices, weights=str(run.folder), epochs=1, learning_rate=1e-2, ema=0.0)
    trained = train(table, tmp_path / "trained", options, resume=False, force=False)
    averaging = msgspec.structs.replace(options, average_start=0.25)
    averaged = train(table, tmp_path / "averaged", averaging, resume=False, force=False)
    first, second, mean = (
        {variable.path: variable.numpy() for variable in of.load_model(loader, lesion_map=True).weights}
        for of in (run, trained, averaged)
    )
    assert max(float(np.abs(first[path] - second[path]).max()) for path in first) > 0.01
    for path, values in mean.items():
        np.testing.assert_allclose(values, 0.25 * first[path] + 0.75 * second[path], atol=2e-4, err_msg=path)


def test_averaging_needs_a_run_to_start_from(slices: Path) -> None:
    with pytest.raises(EdgeCTError, match="--average-start needs --weights RUN"):
        options_for(slices, average_start=0.5).check()
