"""The Python API: what `from edge_ct import ...` gives, and what it costs."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge_ct
from edge_ct.phantom import make_slice


@pytest.fixture
def phantom() -> np.ndarray:
    return make_slice(2, 4, True, 256).image


def test_the_api_is_what_all_lists() -> None:
    from edge_ct.bundle import Bundle
    from edge_ct.classifier import Classifier, Result
    from edge_ct.preprocess import Preprocess

    names = {"Bundle": Bundle, "Classifier": Classifier, "Preprocess": Preprocess, "Result": Result}
    assert {name: getattr(edge_ct, name) for name in edge_ct.__all__ if name != "__version__"} == names
    assert set(edge_ct.__all__) <= set(dir(edge_ct))
    with pytest.raises(AttributeError, match="Classifer"):
        edge_ct.Classifer  # noqa: B018


def test_importing_the_package_imports_nothing_of_it() -> None:
    code = (
        "import edge_ct, sys; print(*[m for m in sys.modules if m.startswith(('edge_ct.', 'numpy', 'cv2', 'msgspec'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() in ([], ["edge_ct._version"])


def test_a_path_bytes_an_array_and_a_dataset_give_the_same_answer(
    phantom: np.ndarray, tmp_path: Path, tiny_bundle: Path
) -> None:
    classifier = edge_ct.Classifier(tiny_bundle)
    path = tmp_path / "slice.png"
    cv2.imwrite(str(path), phantom)
    results = [classifier.classify(source) for source in (path, str(path), path.read_bytes(), phantom, phantom[:, ::1])]
    assert {(result.decision, result.probability) for result in results} == {
        (results[0].decision, results[0].probability)
    }
    assert [result.source for result in results[:4]] == [str(path), str(path), "<bytes>", "<ndarray>"]


def test_a_dataset_is_judged_as_its_file(phantom: np.ndarray, tiny_bundle: Path, write_ct: object) -> None:
    pydicom = pytest.importorskip("pydicom")
    from io import BytesIO

    stored = (phantom.astype(np.int32) * 1500 // 255 - 1350 + 1024).astype(np.uint16)
    data = write_ct(stored)  # type: ignore[operator]
    classifier = edge_ct.Classifier(tiny_bundle)
    of_file, of_dataset = classifier.classify(data, "a"), classifier.classify(pydicom.dcmread(BytesIO(data)), "a")
    assert (of_file.decision, of_file.probability, of_file.series) == (
        of_dataset.decision,
        of_dataset.probability,
        of_dataset.series,
    )
    assert of_file.probability is not None


def test_what_is_no_slice_is_a_type_error_and_a_small_array_is_rejected(phantom: np.ndarray, tiny_bundle: Path) -> None:
    classifier = edge_ct.Classifier(tiny_bundle)
    with pytest.raises(TypeError, match=r"uint8 \[height, width\], not float64"):
        classifier.classify(phantom / 255)
    with pytest.raises(TypeError, match="a path, bytes, an array"):
        classifier.classify(17)  # type: ignore[arg-type]
    assert classifier.classify(phantom[:2, :2]).decision == "rejected"
