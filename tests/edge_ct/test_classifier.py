"""The engine: against LiteRT driven by hand, and refusals of bundles that are not what they say."""

import math
import platform
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_ct import slices
from edge_ct.bundle import Bundle, pack_bundle, read_bundle, unpack_bundle
from edge_ct.classifier import Classifier, Result
from edge_ct.errors import MissingExtra, ModelRejected
from edge_ct.manifest import Golden, Manifest, Tensor
from edge_ct.phantom import make_slice
from edge_ct.preprocess import Preprocess
from edge_ct.runtime import Runtime


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier(tiny_bundle)


@pytest.fixture(scope="module")
def phantom_png(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slices") / "phantom.png"
    Image.fromarray(make_slice(11, 4, True, 120).image).save(path)
    return path


@pytest.fixture
def repacked(tiny_bundle: Path) -> Callable[..., Bundle]:
    """The tiny bundle with other fields in its manifest, or other members, sealed anew."""
    tiny = read_bundle(tiny_bundle)

    def repack(model: bytes | None = None, members: dict[str, bytes] | None = None, **changes: object) -> Bundle:
        kept = {name: tiny.member(name) for name in ("golden/0.png", "golden/1.png", "split.csv")}
        manifest = msgspec.structs.replace(tiny.manifest, **changes)
        content = pack_bundle(model or tiny.model, manifest, kept | (members or {}))
        return unpack_bundle(content, "repacked.tflite")

    return repack


def by_hand(manifest: Manifest, model: bytes, path: Path) -> tuple[list[int], float]:
    """Pillow, the preprocessing, LiteRT, dequantisation and the logistic function, one after the other."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    (given,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(given["index"], Preprocess(32)(np.asarray(Image.open(path)))[np.newaxis])
    interpreter.invoke()
    (logits,) = [detail for detail in outputs if tuple(detail["shape"]) == (1, 2)]
    stored = interpreter.get_tensor(logits["index"])[0].tolist()
    scale, zero_point = logits["quantization"]
    negative, positive = ((value - zero_point) * scale for value in stored)
    score = manifest.calibration.slope * (positive - negative) + manifest.calibration.intercept
    return stored, 1 / (1 + math.exp(-score))


def test_result_is_that_of_litert_driven_by_hand(classifier: Classifier, phantom_png: Path) -> None:
    stored, p = by_hand(classifier.manifest, classifier.bundle.model, phantom_png)
    judgement = classifier.judge(phantom_png)
    assert judgement.outputs is not None
    assert judgement.outputs.stored.tolist() == stored
    assert judgement.result.probability == pytest.approx(p, rel=1e-5)


def test_result_tells_source_decision_model_and_times(classifier: Classifier, phantom_png: Path) -> None:
    result = classifier.classify(phantom_png)
    assert isinstance(result, Result)
    assert (result.source, result.series, result.model) == (str(phantom_png), None, classifier.bundle.identity)
    assert result.probability is not None
    # The fixture's zone refers what is between 0.45 and 0.55.
    expected = "negative" if result.probability < 0.45 else "positive" if result.probability > 0.55 else "refer"
    assert result.decision == expected
    assert (result.reason is None) == (expected != "refer")
    times = (result.ms.decode, result.ms.preprocess, result.ms.inference)
    assert all(time is not None and 0 < time < 5000 for time in times)


def test_json_has_the_documented_fields(classifier: Classifier, phantom_png: Path) -> None:
    fields = msgspec.json.decode(msgspec.json.encode(classifier.classify(phantom_png)))
    assert list(fields) == ["source", "decision", "probability", "reason", "series", "model", "ms", "lesion_share"]
    assert list(fields["ms"]) == ["decode", "preprocess", "inference"]


@pytest.mark.parametrize("content", [b"", b"junk", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", bytes(128) + b"DICM"])
def test_bad_bytes_are_a_rejected_row(classifier: Classifier, content: bytes) -> None:
    judgement = classifier.judge(content, "upload.png")
    result = judgement.result
    assert (result.decision, result.probability, result.series) == ("rejected", None, None)
    assert (result.ms.decode, result.ms.preprocess, result.ms.inference) == (None, None, None)
    assert result.source == "upload.png"
    assert result.reason
    assert not result.reason.startswith("upload.png")
    assert (judgement.slice, judgement.outputs) == (None, None)


def test_missing_file_is_a_rejected_row_that_names_it_once(classifier: Classifier, tmp_path: Path) -> None:
    result = classifier.classify(tmp_path / "gone.png")
    assert (result.decision, result.reason) == ("rejected", "no such file")
    assert result.source == str(tmp_path / "gone.png")


@pytest.mark.parametrize("written", ["./gone.png", "folder/../gone.png", "folder//gone.png", "gone.png/"])
def test_reason_does_not_repeat_the_name_however_it_is_written(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = classifier.classify(written)
    assert (result.source, result.reason) == (written, "no such file")


def test_rejected_row_of_a_file_under_another_name(classifier: Classifier, tmp_path: Path) -> None:
    """The reason is of the file; the name that the caller gave is the row's."""
    result = classifier.classify(tmp_path / "gone.png", "first of three")
    assert result.source == "first of three"
    assert result.reason is not None
    assert "no such file" in result.reason


def test_name_of_a_file_read_under_another_name(classifier: Classifier, phantom_png: Path) -> None:
    assert classifier.classify(phantom_png, "first of three").source == "first of three"


def test_bytes_and_file_agree(classifier: Classifier, phantom_png: Path) -> None:
    from_file = classifier.classify(phantom_png)
    from_bytes = classifier.classify(phantom_png.read_bytes())
    assert from_bytes.source == "<bytes>"
    assert (from_bytes.probability, from_bytes.decision) == (from_file.probability, from_file.decision)


def test_judge_and_infer_agree(classifier: Classifier, phantom_png: Path) -> None:
    judgement = classifier.judge(phantom_png)
    p, outputs = classifier.infer(Preprocess(32)(np.asarray(Image.open(phantom_png))))
    assert judgement.outputs is not None
    assert judgement.result.probability == p
    assert np.array_equal(judgement.outputs.class_map, outputs.class_map)
    assert np.array_equal(judgement.outputs.embedding, outputs.embedding)


def test_judging_a_read_slice_has_no_decoding_time(classifier: Classifier, phantom_png: Path) -> None:
    judgement = classifier.judge_slice(slices.read(phantom_png))
    assert judgement.result.ms.decode is None
    assert judgement.result.probability == classifier.classify(phantom_png).probability


def test_slices_do_not_influence_each_other(classifier: Classifier, phantom_png: Path) -> None:
    first = classifier.judge(phantom_png)
    kept = [array.copy() for array in (first.outputs.logits, first.outputs.class_map)]  # type: ignore[union-attr]
    dark = BytesIO()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(dark, "PNG")
    other = classifier.classify(dark.getvalue())
    assert other.probability != first.result.probability
    assert np.array_equal(first.outputs.logits, kept[0])  # type: ignore[union-attr]
    assert np.array_equal(first.outputs.class_map, kept[1])  # type: ignore[union-attr]
    assert classifier.classify(phantom_png).probability == first.result.probability


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_do_not_change_an_int8_result(
    classifier: Classifier, tiny_bundle: Path, phantom_png: Path, threads: int
) -> None:
    assert Classifier(tiny_bundle, threads).classify(phantom_png).probability == (
        classifier.classify(phantom_png).probability
    )


def test_mean_of_the_class_map_is_the_logits(classifier: Classifier, phantom_png: Path) -> None:
    """One graph, three outputs: to within the two quantisation steps of the class map and the logits."""
    outputs = classifier.judge(phantom_png).outputs
    tensors = classifier.manifest.tensors
    assert outputs is not None
    assert outputs.class_map.shape == (*tensors.class_map.shape[1:3], 2)
    assert outputs.embedding.shape == tensors.embedding.shape[1:]
    difference = np.abs(outputs.class_map.mean((0, 1)) - outputs.logits).max()
    assert difference <= tensors.class_map.scale + tensors.logits.scale


def test_series_of_a_dicom_slice_is_kept(classifier: Classifier, write_ct: Callable[..., bytes]) -> None:
    stored = (make_slice(3, 4, True, 64).image.astype(np.int16) - 128) * 6 - 600
    judgement = classifier.judge(write_ct(stored, 1, 0), "object.dcm")
    assert judgement.result.series == "1.2.826.0.1.3680043.8.498.3"
    assert judgement.result.decision != "rejected"


def test_dicom_without_pydicom_is_an_error_and_no_row(
    classifier: Classifier, write_ct: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_ct(np.zeros((40, 40), np.int16))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingExtra, match=r"edge-ct\[dicom\]"):
        classifier.judge(data)


def test_golden_slices_pass(classifier: Classifier) -> None:
    assert len(classifier.manifest.golden) == 2
    classifier.check_golden()


def test_golden_slices_are_right_by_hand(classifier: Classifier, tmp_path: Path) -> None:
    for golden in classifier.manifest.golden:
        path = tmp_path / "golden.png"
        path.write_bytes(classifier.bundle.member(golden.input))
        stored, _ = by_hand(classifier.manifest, classifier.bundle.model, path)
        # They were made on x86-64; another processor may round one step otherwise.
        assert stored == pytest.approx(list(golden.logits), abs=0 if platform.machine() == "x86_64" else 1)


@pytest.mark.parametrize(("off", "passes"), [(0, True), (1, True), (-1, True), (2, False), (-2, False), (100, False)])
def test_golden_logits_may_be_off_by_one_step(repacked: Callable[..., Bundle], off: int, passes: bool) -> None:
    first, second = repacked().manifest.golden
    changed = Golden(second.input, (second.logits[0], second.logits[1] + off))
    judge = Classifier(repacked(golden=(first, changed)))
    if passes:
        judge.check_golden()
    else:
        with pytest.raises(ModelRejected, match=r"golden/1\.png gives .* on this machine"):
            judge.check_golden()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"junk", "golden slice"), (None, "must be 32 x 32 px")],
)
def test_damaged_golden_slice_is_refused(repacked: Callable[..., Bundle], content: bytes | None, message: str) -> None:
    if content is None:
        buffer = BytesIO()
        Image.fromarray(np.zeros((33, 33), np.uint8)).save(buffer, "PNG")
        content = buffer.getvalue()
    with pytest.raises(ModelRejected, match=message):
        Classifier(repacked(members={"golden/0.png": content})).check_golden()


def test_missing_golden_slice_is_refused(repacked: Callable[..., Bundle]) -> None:
    with pytest.raises(ModelRejected, match=r"no golden/7\.png"):
        Classifier(repacked(golden=(Golden("golden/7.png", (0.0, 0.0)),))).check_golden()


@pytest.mark.parametrize("logits", [(), (0.0,), (0.0, 0.0, 0.0)])
def test_golden_logits_of_another_number_are_refused(
    repacked: Callable[..., Bundle], logits: tuple[float, ...]
) -> None:
    with pytest.raises(ModelRejected):
        Classifier(repacked(golden=(Golden("golden/0.png", logits),))).check_golden()


@pytest.mark.parametrize("name", ["input", "logits", "class_map", "embedding"])
@pytest.mark.parametrize(
    "change",
    [{"dtype": "float32"}, {"shape": (1, 3)}, {"scale": 0.5}, {"zero_point": 3}, {"position": 1}, {"position": 9}],
)
def test_tensors_that_are_not_as_the_manifest_says_are_refused(
    repacked: Callable[..., Bundle], name: str, change: dict
) -> None:
    tensors = repacked().manifest.tensors
    stated: Tensor = getattr(tensors, name)
    if stated.position == change.get("position"):
        change = {"position": 0}
    changed = msgspec.structs.replace(tensors, **{name: msgspec.structs.replace(stated, **change)})
    with pytest.raises(ModelRejected, match=r"^repacked\.tflite: "):
        Classifier(repacked(tensors=changed))


def test_preprocessing_to_another_size_than_the_graph_takes_is_refused(repacked: Callable[..., Bundle]) -> None:
    with pytest.raises(ModelRejected):
        Classifier(repacked(preprocess=Preprocess(64)))


def test_flatbuffer_that_the_runtime_refuses_is_refused(repacked: Callable[..., Bundle]) -> None:
    good = repacked()
    for model in (good.model[:8] + bytes(2000), good.model[: len(good.model) // 2], b"\x1c\0\0\0TFL3"):
        with pytest.raises(ModelRejected, match=r"^repacked\.tflite: "):
            Classifier(repacked(model=model))


def test_runtime_names_its_source(classifier: Classifier) -> None:
    with pytest.raises(ModelRejected, match=r"^mine: the TFLite runtime cannot load it"):
        Runtime(b"\x1c\0\0\0TFL3" + bytes(100), classifier.manifest.tensors, source="mine")


def test_bundle_without_golden_slices_passes_their_check(repacked: Callable[..., Bundle]) -> None:
    Classifier(repacked(golden=())).check_golden()
