"""Phantom datasets on disk."""

from pathlib import Path

import numpy as np
import pytest

from edge_ct import slices
from edge_ct.dataset import load
from edge_ct.errors import EdgeCTError
from edge_ct.phantom import make_slice
from edge_ct.train.data import synthesise


def test_the_csv_names_patients_and_the_pixels_are_the_phantoms(tmp_path: Path) -> None:
    table = synthesise.write_phantom_dataset(tmp_path / "data", patients=4, slices=3, size=64, seed=3)
    dataset = load(table)
    assert len(dataset) == 12
    assert dataset.labels.sum() == 6
    assert len(set(dataset.groups)) == 4
    path = tmp_path / "data" / "COVID" / "phantom-0001-02.png"
    assert np.array_equal(slices.read(path).pixels, make_slice(1, 2, True, 64, seed=3, slices=3).image)
    assert "SYNTHETIC" in (tmp_path / "data" / "SYNTHETIC.txt").read_text()


def test_twins_differ_in_the_lesion_alone(tmp_path: Path) -> None:
    table = synthesise.write_phantom_dataset(tmp_path / "data", patients=3, slices=2, size=64, seed=3, twins=True)
    dataset = load(table)
    assert dataset.labels.tolist().count(1) == dataset.labels.tolist().count(0) == 6
    assert dataset.groups is not None
    for group in set(dataset.groups):
        assert sorted(int(dataset.labels[i]) for i, own in enumerate(dataset.groups) if own == group) == [0, 0, 1, 1]
    for name in ("phantom-0000-01.png", "phantom-0002-00.png"):
        without, lesion = (slices.read(tmp_path / "data" / label / name).pixels for label in synthesise.CLASSES)
        patient, index = int(name[8:12]), int(name[13:15])
        known = make_slice(patient, index, True, 64, seed=3, slices=2).lesion
        changed = without != lesion
        assert changed[known].mean() > 0.9
        assert changed.mean() < 0.5


def test_a_run_cut_short_leaves_nothing_that_looks_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def full_disk(path: Path, content: bytes) -> None:
        written.append(path)
        if len(written) == 5:
            raise EdgeCTError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(synthesise, "write_bytes", full_disk)
    with pytest.raises(EdgeCTError, match="No space left"):
        synthesise.write_phantom_dataset(tmp_path / "data", patients=4, slices=3, size=64, seed=3)
    assert not (tmp_path / "data").exists()


def test_an_existing_folder_is_kept_without_force(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("mine")
    with pytest.raises(EdgeCTError, match="--force"):
        synthesise.write_phantom_dataset(tmp_path / "data", patients=2, slices=1, size=64, seed=0)
    with pytest.raises(EdgeCTError, match="does not delete it"):
        synthesise.write_phantom_dataset(tmp_path / "data", patients=2, slices=1, size=64, seed=0, force=True)
    assert (tmp_path / "data" / "mine.txt").read_text() == "mine"


def test_force_replaces_what_synth_wrote(tmp_path: Path) -> None:
    synthesise.write_phantom_dataset(tmp_path / "data", patients=4, slices=1, size=64, seed=0)
    synthesise.write_phantom_dataset(tmp_path / "data", patients=2, slices=1, size=64, seed=0, force=True)
    assert len(list((tmp_path / "data").rglob("*.png"))) == 2
