"""OpenVINO beside LiteRT: the same outputs or a refusal, and nothing of it where nobody asks for it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from edge_ct import cli
from edge_ct.bundle import Bundle, pack_bundle, read_bundle, unpack_bundle
from edge_ct.classifier import Classifier
from edge_ct.engines import comparison, names
from edge_ct.engines.openvino_interpreter import OpenVinoInterpreter
from edge_ct.errors import MissingExtra, ModelRejected
from edge_ct.phantom import make_slice

needs_openvino = pytest.mark.skipif("openvino" not in names.installed_engines(), reason="OpenVINO is not installed")


@pytest.fixture
def regolden(tiny_bundle: Path) -> Callable[[float], Bundle]:
    """The tiny bundle whose golden logits are off by a number of stored steps, sealed anew."""
    tiny = read_bundle(tiny_bundle)

    def repack(off: float | None) -> Bundle:
        golden = (
            ()
            if off is None
            else tuple(
                msgspec.structs.replace(one, logits=tuple(value + off for value in one.logits))
                for one in tiny.manifest.golden
            )
        )
        manifest = msgspec.structs.replace(tiny.manifest, golden=golden)
        members = {name: tiny.member(name) for name in ("golden/0.png", "golden/1.png", "split.csv")}
        return unpack_bundle(pack_bundle(tiny.model, manifest, members), "repacked.tflite")

    return repack


@needs_openvino
def test_openvino_gives_all_outputs_within_a_step_on_the_golden_slices(tiny_bundle: Path) -> None:
    litert, openvino = Classifier(tiny_bundle), Classifier(tiny_bundle, engine="openvino")
    assert openvino.engine == "openvino"
    tensors = litert.manifest.tensors
    for _, image in litert._golden_slices():
        (_, expected), (_, outputs) = litert.infer(image), openvino.infer(image)
        assert outputs.stored.dtype == expected.stored.dtype
        assert np.abs(outputs.stored.astype(int) - expected.stored.astype(int)).max() <= 1
        for name in ("logits", "class_map", "embedding"):
            right, values = getattr(expected, name), getattr(outputs, name)
            assert values.shape == right.shape
            assert np.abs(values - right).max() <= 1.01 * getattr(tensors, name).scale, name


@needs_openvino
def test_bundles_on_which_openvino_differs_are_refused(regolden: Callable[..., Bundle]) -> None:
    Classifier(regolden(0), engine="openvino")
    with pytest.raises(ModelRejected, match=r"golden/0\.png gives .* with openvino; use --engine litert"):
        Classifier(regolden(2.5), engine="openvino")
    with pytest.raises(ModelRejected, match="no golden slices to check openvino with"):
        Classifier(regolden(None), engine="openvino")


@needs_openvino
@pytest.mark.parametrize("kind", ["class map", "embedding"])
def test_maps_that_differ_are_refused(kind: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if OpenVINO turned a tensor upside down: the logits are right, the values of the map are not."""
    get_tensor = OpenVinoInterpreter.get_tensor

    def confused(self: OpenVinoInterpreter, index: int) -> np.ndarray:
        value = get_tensor(self, index)
        wrong = value.shape != (1, 2) and (value.ndim == 4) == (kind == "class map")
        return 100 - value if wrong else value

    monkeypatch.setattr(OpenVinoInterpreter, "get_tensor", confused)
    with pytest.raises(ModelRejected, match=f"another {kind} than LiteRT"):
        Classifier(tiny_bundle, engine="openvino")


def test_a_missing_openvino_is_a_missing_extra(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r"edge-ct\[openvino\]"):
        Classifier(tiny_bundle, engine="openvino")
    slice_ = tmp_path / "slice.png"
    cv2.imwrite(str(slice_), make_slice(2, 4, True, 128).image)
    for count in ([slice_], [slice_, slice_]):  # in this process, and on workers
        arguments = [*map(str, count), "--model", str(tiny_bundle), "--state", str(tmp_path), "--engine", "openvino"]
        assert cli.run(["classify", *arguments]) == MissingExtra.exit_code
        assert "pip install 'edge-ct[openvino]'" in capsys.readouterr().err


@needs_openvino
def test_classify_with_openvino_on_workers(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], regolden: Callable[..., Bundle]
) -> None:
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), make_slice(number, 4, number % 2 == 0, 128).image)
    rows = {}
    for engine in names.ENGINES:
        options = ["--model", str(tiny_bundle), "--state", str(tmp_path), "--json", "--workers", "2"]
        assert cli.run(["classify", str(tmp_path), *options, "--engine", engine]) == 0
        rows[engine] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["source"] for row in rows["litert"]] == [row["source"] for row in rows["openvino"]]
    step = read_bundle(tiny_bundle).manifest.tensors.logits.scale * 1.5  # the slope of its calibration
    for first, second in zip(rows["litert"], rows["openvino"], strict=True):
        assert second["probability"] == pytest.approx(first["probability"], abs=step)


def test_openvino_is_not_imported_where_nobody_asks_for_it(tiny_bundle: Path) -> None:
    code = f"import sys\nfrom edge_ct import Classifier\nClassifier({str(tiny_bundle)!r})\n"
    code += "from edge_ct.engines import command_option\nassert 'openvino' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_openvino
def test_openvino_is_imported_without_what_sends_usage_data(tiny_bundle: Path) -> None:
    """`import openvino` alone loads `openvino.tools.ovc`, which sends an event over the network."""
    code = f"import sys\nfrom edge_ct import Classifier\nClassifier({str(tiny_bundle)!r}, engine='openvino')\n"
    code += "assert 'openvino' in sys.modules\n"
    code += "assert not [name for name in sys.modules if 'telemetry' in name or name.startswith('openvino.tools')]\n"
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_openvino
def test_engines_are_timed_against_each_other(
    tiny_bundle: Path, regolden: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    litert, openvino = comparison.compare_engines(read_bundle(tiny_bundle))
    assert (litert.engine, litert.of_litert, litert.refused) == ("litert", 1.0, None)
    assert openvino.version.startswith("openvino 20")
    assert openvino.model_only_ms is not None
    assert openvino.model_only_ms > 0
    fastest = comparison.fastest_engine((litert, openvino))
    assert fastest.engine == ("litert" if (openvino.of_litert or 0) >= 1 else "openvino")
    _, openvino = comparison.compare_engines(regolden(1.5))
    assert openvino.of_litert is None
    assert "with openvino" in (openvino.refused or "")
    assert comparison.fastest_engine((litert, openvino)) == litert
    monkeypatch.setattr(comparison, "installed_engines", lambda: ("litert",))
    assert comparison.compare_engines(read_bundle(tiny_bundle)) == ()
