"""What the device's tests share: a classifier, judgements of phantoms, a worklist, and no network."""

import importlib.util
import os
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_ct.classifier import Classifier, Judgement, Milliseconds, Result
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.dicom import DicomIds
from edge_ct.phantom import make_slice
from edge_ct.slices import Slice

NO_NETWORK = Path(__file__).with_name("no_network")


@pytest.fixture(scope="session")
def tiny_classifier(tiny_bundle: Path) -> Classifier:
    return Classifier(tiny_bundle)


@pytest.fixture
def worklist(tmp_path: Path) -> Iterator[Worklist]:
    with Worklist(tmp_path / "state") as opened:
        yield opened


@pytest.fixture(scope="session")
def judged(tiny_classifier: Classifier) -> Callable[..., Judgement]:
    """A judgement of a phantom by its number, with another decision and probability than the untrained network's."""

    def make(
        number: int,
        decision: str = "positive",
        probability: float | None = 0.9,
        source: str | None = None,
        ids: DicomIds | None = None,
        pixels: np.ndarray | None = None,
    ) -> Judgement:
        image = make_slice(number, 3, number % 2 == 0, 64).image if pixels is None else pixels
        real = tiny_classifier.judge_slice(Slice(image, source or f"{number}.png", ids), 1.0)
        series = ids.series if ids else None
        reason = "why" if decision in ("refer", "rejected") else None
        result = Result(
            source or f"{number}.png",
            decision,  # type: ignore[arg-type]
            probability,
            reason,
            series,
            tiny_classifier.identity,
            Milliseconds(1.0, 2.0, 3.0),
        )
        return Judgement(result, real.slice, real.outputs)

    return make


@pytest.fixture(scope="session")
def unreadable(tiny_classifier: Classifier) -> Callable[..., Judgement]:
    def make(source: str = "bad.png", reason: str = "truncated") -> Judgement:
        return Judgement(Result(source, "rejected", None, reason, None, tiny_classifier.identity, Milliseconds()))

    return make


@pytest.fixture(scope="session")
def network_guard() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("no_network", NO_NETWORK / "sitecustomize.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def no_network(network_guard: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In every test of the device, and in every Python that one starts, what would leave the machine fails."""
    monkeypatch.setenv("EDGE_CT_NO_NETWORK", "1")
    monkeypatch.setenv("PYTHONPATH", str(NO_NETWORK), prepend=os.pathsep)
    network_guard.active = True
    yield
    network_guard.active = False
