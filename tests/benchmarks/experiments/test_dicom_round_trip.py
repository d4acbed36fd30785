"""The way from a series to its report, measured once on a small one; how long it took is not judged here."""

from pathlib import Path

import pytest

pytest.importorskip("pynetdicom")
pytest.importorskip("highdicom")


@pytest.mark.slow
def test_a_small_series(tiny_bundle: Path) -> None:
    from edge_ct.benchmarks.experiments import dicom_round_trip

    found = dicom_round_trip.measure(tiny_bundle, 10)
    assert (found["slices"], found["with_lung"]) == (10, 7)
    assert found["last_byte_to_report_ms"] > 0
    assert found["bare_model_ms"] > 0
    assert found["ratio"] == pytest.approx(found["last_byte_to_report_ms"] / found["bare_model_ms"], rel=0.05)
