"""The networks that are in the repository: the maps of the one that learned from phantoms mean what the README says."""

from pathlib import Path

import pytest

from edge_ct.network_analysis import receptive_field
from edge_ct.phantom import preprocessed_phantoms
from edge_ct.train.explain.bundle_maps import BundleNetwork
from edge_ct.train.explain.of_bundle import check_maps

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "examples" / "phantom-network"
SEED = 5  # of phantoms that nothing was chosen on


@pytest.mark.slow
def test_the_int8_map_points_at_lesions_and_is_the_runs_grad_cam() -> None:
    found = check_maps(FOLDER / "int8.tflite", None, FOLDER / "run", 60, 4, SEED)
    pointing, agreed = found.pointing, found.agreement
    assert pointing is not None
    assert agreed is not None
    assert pointing.n >= 50
    assert pointing.rate >= 0.88  # 0.94 of 663 phantoms; three in a hundred draws of 60 are below this
    assert pointing.hits_by_chance < 0.15 * pointing.n
    assert agreed.rank_correlation >= 0.95


@pytest.mark.slow
def test_the_map_goes_with_the_weights() -> None:
    found = check_maps(FOLDER / "run", None, None, 16, 8, SEED)
    assert found.scrambled is not None
    assert found.scrambled.passed
    assert found.pointing is not None
    assert found.pointing.hits > 3 * found.pointing.hits_by_chance


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [FOLDER / "int8.tflite", *(ROOT / "device_app" / "models" / f"{name}.tflite" for name in ("accurate", "fast"))],
    ids=lambda path: path.stem,
)
def test_a_bundle_says_where_its_cells_look(path: Path) -> None:
    network = BundleNetwork(path)
    found = receptive_field.measure_cell_centres(network.maps, preprocessed_phantoms(network.preprocess))
    if path.stem != "int8" and network.centres is None:
        # What people look at is the lesion map of these bundles; their coarse map may have no increasing centres.
        assert found is None
        return
    assert found is not None
    assert len(found) == 2 * -(-network.preprocess.size // 32)  # rows, then columns, of stride 32
    assert found == pytest.approx(network.centres, abs=0.02)
