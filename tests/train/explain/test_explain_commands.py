"""The explain commands on runs and bundles: what they write, print and refuse."""

import json
import shutil
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from edge_ct import cli
from edge_ct.errors import InputRejected
from edge_ct.phantom import make_slice
from edge_ct.run import MODEL
from edge_ct.system.progress import Progress
from edge_ct.train.explain.network import accepted_slices
from edge_ct.train.explain.of_bundle import check_maps
from edge_ct.train.explain.output import find_slices


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = []
    for number in range(2):
        path = tmp_path / f"slice-{number}.png"
        assert cv2.imwrite(str(path), make_slice(number, 3, number == 1, 96, seed=9).image)
        paths.append(str(path))
    return paths


def test_commands_on_a_run(
    trained_run: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "maps"
    assert cli.run(["explain", "gradcam", str(trained_run), *files, "--out", str(out), "--html", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == ["maps.png", "maps.npz", "maps.csv", "gallery.html"]
    with np.load(out / "maps.npz") as arrays:
        assert sorted(arrays) == ["classmap", "gradcam", "gradcam++"]
        assert arrays["gradcam"].shape == (2, 6, 6)
    page = (out / "gallery.html").read_text()
    assert "data:image/png;base64," in page
    assert "://" not in page  # base64 has no colon, but may spell http
    out = tmp_path / "activations"
    assert cli.run(["explain", "activations", str(trained_run), *files, "--every", "4", "--out", str(out)]) == 0
    assert {path.name for path in out.glob("*.png")} == {"strip.png", "01-stage1_conv1.png", "02-stage3_conv1.png"}
    out = tmp_path / "attended"
    command = ["explain", "attended", str(trained_run), str(trained_run), "--limit", "4", "--out", str(out), "--json"]
    capsys.readouterr()
    assert cli.run(command) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row[1:3] for row in rows[1:]] == [["non-COVID", "4"], ["COVID", "4"], ["both", "8"]]
    assert rows[1][3] == rows[1][5]
    assert cli.run(["explain", "check", str(trained_run), "--phantoms", "10", "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)
    assert checks["scrambled_passed"] is True
    assert cli.run(["explain", "nearest", str(trained_run), files[0], "--score", "--json"]) == 0
    near = json.loads(capsys.readouterr().out)
    assert len(near["slices"][files[0]]) == 5


def test_checks_are_of_the_phantoms_of_the_seed(trained_run: Path) -> None:
    first, again, other = (check_maps(trained_run, None, None, 10, 4, seed).pointing for seed in (0, 0, 1))
    assert first == again
    assert first.lung_share != other.lung_share


def test_commands_on_a_bundle(
    tiny_bundle: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "maps"
    command = ["explain", "bundle", str(tiny_bundle), *files, "--seconds", "0.2", "--out", str(out), "--json"]
    assert cli.run(command) == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["maps.png", "maps.npz", "maps.csv"]
    with np.load(out / "maps.npz") as arrays:
        assert arrays["class_map"].shape[0] == 2
        assert arrays["RISE"].shape == (2, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["gradcam", "RUN", "SLICE", "--layer", "stage3_conv9"], 1, "similar names are stage3_conv"),
        (["gradcam", "RUN", "SLICE", "--layer", "logits"], 1, "no spatial output"),
        (["gradcam", "RUN", "BAD"], 3, "bad.png"),
        (["gradcam", "BAD", "SLICE"], 7, "not a run folder"),
        (["activations", "RUN", "SLICE", "--layer", "nothing"], 1, "there is no layer 'nothing'"),
        (["gradcam", "RUN", "BLANK"], 3, "blank.png: the slice is rejected, so there is no decision to explain: "),
        (["bundle", "BUNDLE", "BAD"], 3, "rejected"),
        (["bundle", "BUNDLE", "BLANK"], 3, "blank.png: the slice is rejected"),
        (["figures", "BAD"], 7, "not a run folder"),
        (["bundle", "BAD", "SLICE"], 4, "not a bundle"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str],
    code: int,
    message: str,
    trained_run: Path,
    tiny_bundle: Path,
    files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not a picture")
    blank = tmp_path / "blank.png"
    assert cv2.imwrite(str(blank), np.zeros((96, 96), np.uint8))
    names = {"RUN": trained_run, "SLICE": files[0], "BAD": bad, "BLANK": blank, "BUNDLE": tiny_bundle}
    out = tmp_path / "out"
    command = ["explain", *(str(names.get(word, word)) for word in arguments), "--out", str(out)]
    assert cli.run(command) == code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not out.exists()


class Said(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_of_a_long_folder_slices_are_spread_evenly(tmp_path: Path) -> None:
    for number in range(130):
        (tmp_path / f"{number:03}.png").touch()
    said = Said()
    paths = find_slices([tmp_path], said)
    assert len(paths) == len(set(paths)) == 64
    assert (paths[0].name, paths[-1].name) == ("000.png", "129.png")
    assert said.lines == [
        "130 slices were named, and one picture shows at most 64: 64 of them, spread evenly, are explained"
    ]
    assert len(find_slices(paths, said)) == 64
    assert len(said.lines) == 1


def test_rejected_slices_are_named_and_the_others_explained(files: list[str], tmp_path: Path) -> None:
    blank, bad = tmp_path / "blank.png", tmp_path / "bad.png"
    assert cv2.imwrite(str(blank), np.zeros((96, 96), np.uint8))
    bad.write_bytes(b"not a picture")
    said, good = Said(), Path(files[0])
    assert accepted_slices([blank, good, bad], said) == [good]
    begin = "the slice is rejected, so there is no decision to explain: "
    assert said.lines[0].startswith(f"{blank}: {begin}the picture is blank")
    assert said.lines[1] == f"{bad}: {begin}not a PNG, JPEG, TIFF or DICOM image"
    with pytest.raises(InputRejected, match=r"blank\.png: the slice is rejected"):
        accepted_slices([blank, bad], said)
    assert accepted_slices([good], said, lambda path: None) == [good]


def test_a_network_without_convolutions_has_no_map(
    trained_run: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "dense"
    shutil.copytree(trained_run, run)
    inputs = keras.Input((48, 48, 1))
    outputs = keras.layers.Dense(2, name="logits")(keras.layers.Flatten()(inputs))
    keras.Model(inputs, outputs).save(run / MODEL)
    out = tmp_path / "out"
    assert cli.run(["explain", "gradcam", str(run), files[0], "--out", str(out)]) == 7
    assert "the network has no convolution" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not out.exists()


def test_agreement_is_of_a_bundle_with_its_run(
    trained_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.run(["explain", "check", str(trained_run), "--run", str(trained_run)]) == 1
    assert "--run names the run that a bundle was made of" in capsys.readouterr().err
    bundle = tmp_path / "model.tflite"
    assert cli.run(["convert", str(trained_run), "--int8", "--max-drop", "100", "--out", str(bundle)]) == 0
    capsys.readouterr()
    assert cli.run(["explain", "check", str(bundle), "--run", str(tmp_path)]) == 7
    said = capsys.readouterr().err
    assert "not a run folder" in said
    assert "pointing game" not in said  # nothing is measured first
    command = ["explain", "check", str(bundle), "--run", str(trained_run), "--phantoms", "20", "--json"]
    assert cli.run(command) == 0
    found = json.loads(capsys.readouterr().out)["agreement"]
    assert found["n"] == 20
    assert found["rank_correlation"] > 0.95
    assert found["top_iou"] > 0.8
