"""examples/cpp/classify.cpp, compiled, decides 20 phantoms as Python does, in the same kernels to the last digit.

Builds of TensorFlow Lite round a cell of a lesion map now and then by a step more or less. Version 2.14 and LiteRT 2.3
without XNNPACK give 38 of 40 probabilities of the shipped models alike, and two that are apart by a step of one cell.

The C API of TensorFlow Lite is not in LiteRT's wheel. Where it lies outside the compiler's paths, CXXFLAGS and LDFLAGS
name it, as for any other program.
"""

import json
import math
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edge_ct import runtime
from edge_ct.bundle import read_bundle, write_bundle
from edge_ct.classifier import Classifier
from edge_ct.decision import decide
from edge_ct.lesions import STRONGEST
from edge_ct.phantom import make_slice

PROGRAM = Path(__file__).resolve().parents[2] / "examples" / "cpp" / "classify.cpp"
LIBRARIES = ("-ltensorflowlite_c", "-ltensorflow-lite")
WARNINGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    built = tmp_path_factory.mktemp("cpp") / "classify"
    before, after = (shlex.split(os.environ.get(name, "")) for name in ("CXXFLAGS", "LDFLAGS"))
    for library in LIBRARIES:
        words = [compiler, *WARNINGS, *before, str(PROGRAM), "-o", str(built), *after, library]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return built
        if "tensorflow/lite/c/c_api.h" not in done.stderr and "cannot find" not in done.stderr:
            pytest.fail(done.stderr)
    pytest.skip("the C API of TensorFlow Lite is not installed")


def without_xnnpack() -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return lambda: partial(Interpreter, experimental_op_resolver_type=plain)


def phantom(number: int) -> np.ndarray:
    """Sides above, below and at the size of the network, odd ones too."""
    image = make_slice(number, 3, number % 2 == 0, (200, 256, 512, 333)[number % 4]).image
    return np.ascontiguousarray(image[: len(image) - number])


def is_alike(answers: list[tuple[str, float]], expected: list[tuple[str, float]], step: float) -> bool:
    """Equal decisions; equal probabilities but for one in ten, which is apart by a step of one cell at most."""
    near = all(
        decision == other and abs(p - q) <= (1e-6 + 1.01 * step * q * (1 - q) if step else 0.0)
        for (decision, p), (other, q) in zip(answers, expected, strict=True)
    )
    return near and sum(one == other for one, other in zip(answers, expected, strict=True)) >= 18


def answer(program: Path, model: Path, manifest: Path, picture: Path, box: tuple[int, ...]) -> dict[str, object]:
    words = [program, model, manifest, picture, *box]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.fixture
def recent_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The tiny bundle without the zone of earlier versions: its operating point decides."""
    bundle = read_bundle(tiny_bundle)
    manifest = msgspec.structs.replace(bundle.manifest, zone=None)
    golden = {golden.input: bundle.member(golden.input) for golden in manifest.golden}
    write_bundle(tmp_path / "recent.tflite", bundle.model, manifest, golden)
    return tmp_path / "recent.tflite"


@pytest.mark.parametrize("model", ["recent", "accurate", "fast"])
def test_decisions_equal_those_of_python(
    program: Path, model: str, recent_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = Classifier(recent_bundle if model == "recent" else model)
    if classifier.manifest.rule is None and classifier.manifest.zone is not None:
        pytest.skip("the shipped model is of an earlier version, which the program refuses")
    monkeypatch.setattr(runtime, "interpreter_class", without_xnnpack())
    plain = Classifier(classifier.bundle)
    file, manifest, picture = Path(classifier.bundle.source), tmp_path / "manifest.json", tmp_path / "slice.pgm"
    manifest.write_bytes(classifier.bundle.member("manifest.json"))
    lesion_map, slope = classifier.manifest.tensors.lesion_map, classifier.manifest.calibration.lesion_slope
    # By how much one step of one cell of the lesion map changes the logit.
    step = (
        slope * lesion_map.scale / max(1, round(STRONGEST * math.prod(lesion_map.shape)))
        if lesion_map and slope
        else 0.0
    )
    answers, with_delegate, without_delegate = [], [], []
    for number in range(20):
        pixels = phantom(number)
        assert cv2.imwrite(str(picture), pixels)
        region = classifier.manifest.preprocess.region(pixels)
        found = answer(program, file, manifest, picture, region)
        answers.append((found["decision"], found["probability"]))
        for engine, results in ((classifier, with_delegate), (plain, without_delegate)):
            p, _ = engine.infer(engine.manifest.preprocess.resized(pixels, region))
            results.append((decide(p, engine.manifest.decision_rule).decision, round(p, 6)))
    # Which kernels a build of TensorFlow Lite uses is its own affair: it must agree with Python in one of the two.
    assert any(is_alike(answers, expected, step) for expected in (with_delegate, without_delegate))


def test_refusals(program: Path, tiny_bundle: Path, recent_bundle: Path, tmp_path: Path) -> None:
    manifest, picture = tmp_path / "manifest.json", tmp_path / "slice.pgm"

    def message(model: Path, *box: int) -> str:
        manifest.write_bytes(read_bundle(model).member("manifest.json"))
        words = [program, model, manifest, picture, *box]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        return done.stderr

    picture.write_bytes(b"P5 10 10 255\nshort")
    assert message(recent_bundle) == "classify: the slice is cut short\n"
    assert message(recent_bundle, 0, 11, 0, 10) == "classify: the part lies outside the slice\n"
    assert cv2.imwrite(str(picture), phantom(0))
    assert message(tiny_bundle) == "classify: a bundle of an earlier version: convert its run again\n"
