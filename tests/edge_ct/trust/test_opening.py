"""Bundles are programs: they are tried in a process of their own, and every failure is `ModelRejected`."""

import os
import resource
import shutil
import time
import zipfile
from pathlib import Path

import msgspec
import pytest

from edge_ct import cli
from edge_ct.bundle import Bundle, read_bundle, unpack_bundle
from edge_ct.classifier import Classifier
from edge_ct.errors import ModelRejected
from edge_ct.shipped_models import shipped_models
from edge_ct.trust import opening, trial
from edge_ct.trust.opening import TRIALS, open_bundle, try_once

from ... import hostile_bundles

LONG = bool(os.environ.get("EDGE_CT_LONG_TESTS"))
MIB = 1 << 20


@pytest.fixture(scope="module")
def tiny(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The bundles that are tried, without trying them."""
    tried: list[str] = []
    monkeypatch.setattr(trial, "try_bundle", lambda bundle: tried.append(bundle.seal))
    return tried


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_shipped_bundle_is_not_tried_wherever_it_lies(trials: list[str], tmp_path: Path) -> None:
    for name, path in shipped_models().items():
        copy = tmp_path / f"{name}-copy.tflite"
        shutil.copyfile(path, copy)
        assert open_bundle(name).seal == open_bundle(copy).seal
    assert trials == []


def test_another_bundle_is_tried_once(tiny_bundle: Path, tiny: Bundle, trials: list[str], tmp_path: Path) -> None:
    for _ in range(3):
        assert open_bundle(tiny_bundle, memory=tmp_path / "state").seal == tiny.seal
    assert trials == [tiny.seal]
    assert (tmp_path / "state" / TRIALS).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    open_bundle(tiny_bundle)
    open_bundle(tiny_bundle, memory=tmp_path / "elsewhere")
    assert len(trials) == 3


def test_a_remembered_trial_counts_only_if_nobody_else_could_have_written_it(
    tiny: Bundle, trials: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not try_once(tiny, tmp_path)
    assert try_once(tiny, tmp_path)
    path = tmp_path / TRIALS
    content = path.read_bytes()
    path.chmod(0o666)
    assert not try_once(tiny, tmp_path)
    assert try_once(tiny, tmp_path)  # replaced by our own
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    assert not try_once(tiny, tmp_path)
    tmp_path.chmod(0o777)
    assert not try_once(tiny, tmp_path)
    tmp_path.chmod(0o700)
    for damaged in (
        b"",
        b"\xff{",
        b"[]",
        content.replace(tiny.seal[:8].encode(), b"00000000"),
        b" " * 20_000 + content,
    ):
        path.write_bytes(damaged)
        assert not try_once(tiny, tmp_path)
    assert try_once(tiny, tmp_path)
    assert not try_once(tiny, tmp_path, again=True)
    monkeypatch.setattr(opening, "describe_runtime", lambda: "another runtime")
    assert not try_once(tiny, tmp_path)


def test_trials_of_many_bundles_are_remembered_and_not_of_any_number(
    tiny: Bundle, trials: list[str], tmp_path: Path
) -> None:
    passed = tuple(f"{number:064x}" for number in range(64))
    text = msgspec.json.encode(opening.Trials(opening.describe_runtime(), passed))
    (tmp_path / TRIALS).write_bytes(text)
    assert not try_once(tiny, tmp_path)
    assert try_once(tiny, tmp_path)
    kept = msgspec.json.decode((tmp_path / TRIALS).read_bytes(), type=opening.Trials).passed
    assert kept == (*passed[1:], tiny.seal)


def test_a_bundle_that_answers_differently_fails_its_trial(tiny: Bundle, tmp_path: Path) -> None:
    def change(manifest: dict) -> None:
        manifest["golden"][0]["logits"][0] += 5

    path = tmp_path / "wrong.tflite"
    path.write_bytes(hostile_bundles.with_manifest(tiny, change))
    for _ in range(2):
        with pytest.raises(ModelRejected, match="golden slice"):
            open_bundle(path, memory=tmp_path / "state")


def test_a_graph_that_ends_its_process_is_rejected(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands for a damaged graph: a sound one in a process that is killed, or whose time is over."""
    monkeypatch.setattr(trial, "_SECONDS", 0.0)
    monkeypatch.setattr(trial, "_SECONDS_A_MIB", 0.0)
    monkeypatch.setattr(trial.sys, "executable", str(_program(tmp_path, "kill -SEGV $$")))
    with pytest.raises(ModelRejected, match="the runtime ended over this bundle"):
        trial.try_bundle(tiny)
    monkeypatch.setattr(trial.sys, "executable", str(_program(tmp_path, "kill -PROF $$")))
    with pytest.raises(ModelRejected, match="takes longer than"):
        trial.try_bundle(tiny)


def _program(folder: Path, command: str) -> Path:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\ncat > /dev/null\n{command}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda tiny: hostile_bundles.inflating(tiny),
        lambda tiny: hostile_bundles.inflating(tiny, "split.csv"),
        lambda tiny: hostile_bundles.understated(tiny),
        lambda tiny: hostile_bundles.many_members(tiny),
        lambda tiny: hostile_bundles.by_method(tiny, zipfile.ZIP_BZIP2),
        lambda tiny: hostile_bundles.by_method(tiny, zipfile.ZIP_LZMA),
    ],
    ids=["manifest of 1 GiB", "member of 1 GiB", "stated size is wrong", "60,000 members", "bzip2", "lzma"],
)
def test_a_zip_that_inflates_without_end_is_refused_before_it_does(tiny: Bundle, make) -> None:
    content = make(tiny)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ModelRejected):
        unpack_bundle(content, "bomb.tflite")
    assert time.process_time() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(name="good\nnegative  0.1%"), "cannot be printed"),
        (lambda manifest: manifest["tensors"]["embedding"].update(shape=[1, 2]), "shapes|differs"),
        (lambda manifest: manifest["golden"][0].update(input="manifest.json"), "golden slice"),
        (lambda manifest: manifest["golden"][0].update(logits=[]), "golden slice"),
        (lambda manifest: manifest.update(outliers=_outliers("labels.txt", 0)), "description in the manifest"),
        (lambda manifest: manifest.update(outliers=_outliers("labels.txt", 2**62)), "made.tflite"),
        (lambda manifest: manifest["preprocess"].update(size=4096), "does not take slices"),
    ],
)
def test_a_manifest_that_does_not_fit_is_rejected(tiny: Bundle, change, message: str) -> None:
    with pytest.raises(ModelRejected, match=message):
        trial.run_trial(unpack_bundle(hostile_bundles.with_manifest(tiny, change), "made.tflite"))


def _outliers(member: str, channels: int) -> dict:
    return {
        "member": member,
        "channels": channels,
        "components": 1,
        "threshold": 1.0,
        "rate": 0.1,
        "split": "test",
        "cases": 3,
    }


def processor_seconds() -> float:
    """Seconds of this process and of its ended children: on a busy machine the clock tells nothing."""
    return sum(os.times()[:4])


@pytest.mark.parametrize("part", range(20 if LONG else 1))
def test_resealed_mutations_end_no_parent(tiny: Bundle, part: int) -> None:
    """Each takes less than 10 s and 300 MiB, and is usable or rejected. 5,000 of them with EDGE_CT_LONG_TESTS=1.

    The 5,000 come in parts that the processes of a test run share: each trial starts a Python, for 0.2 s.
    """
    usable = rejected = 0
    trial.try_bundle(tiny)  # what a trial of a sound bundle takes
    idle, own = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, resident()
    for number, content in enumerate(hostile_bundles.mutations(tiny, 250 if LONG else 60, part)):
        start = processor_seconds()
        try:
            bundle = unpack_bundle(content, f"{number}.tflite")
            trial.try_bundle(bundle)
        except ModelRejected as error:
            assert "\n" not in str(error)
            rejected += 1
        else:
            Classifier(bundle).check_golden()  # whatever passes its trial can be used in this process
            usable += 1
        assert processor_seconds() - start < 10
    assert rejected > usable
    assert usable > 0  # weights may change by a little
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - idle < 300 * 1024
    assert resident() - own < 300 * MIB


def test_every_command_rejects_a_bundle_that_ends_its_process(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, state = tmp_path / "other.tflite", ["--state", str(tmp_path / "state")]
    path.write_bytes(hostile_bundles.with_manifest(tiny, lambda manifest: manifest.update(name="other")))
    monkeypatch.setattr(trial.sys, "executable", str(_program(tmp_path, "kill -SEGV $$")))
    model = ["--model", str(path)]
    for words in (
        ["classify", "x.png", *model, *state],
        ["watch", str(tmp_path), "--once", *model, *state],
        ["serve", *model, *state],
        ["listen", *model, *state],
        ["bundle", "verify", str(path)],
        ["device", "install", "--dry-run", *model],
    ):
        assert cli.run(words) == 4, words
        assert "the runtime ended over this bundle" in capsys.readouterr().err
    assert cli.run(["doctor", *model, *state]) == 10
    assert "the runtime ended over this bundle" in capsys.readouterr().out


def test_a_bundle_without_golden_slices_is_not_good(
    tiny: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.tflite"
    path.write_bytes(hostile_bundles.with_manifest(tiny, lambda manifest: manifest.update(golden=[])))
    assert cli.run(["bundle", "verify", str(path)]) == 4
    assert "it has no golden slices" in capsys.readouterr().err
    assert cli.run(["doctor", "--model", str(path), "--state", str(tmp_path / "state")]) == 10
    assert "the bundle has no golden slices" in capsys.readouterr().out


@pytest.fixture
def signed(tiny: Bundle, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A signed bundle, the public key, and the public key of somebody else."""
    pytest.importorskip("cryptography")
    from edge_ct.trust import signature

    for name in ("maker", "other"):
        signature.generate_keys(tmp_path / f"{name}.key", tmp_path / f"{name}.pub")
    path = tmp_path / "signed.tflite"
    path.write_bytes(signature.sign_bundle(tiny, tmp_path / "maker.key"))
    return path, tmp_path / "maker.pub", tmp_path / "other.pub"


def test_a_bundle_without_the_demanded_signature_is_rejected(
    signed: tuple[Path, Path, Path], tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, key, other = signed
    (tmp_path / "empty").mkdir()
    state = ["--state", str(tmp_path / "state")]
    for model, demanded, message in (
        (str(tiny_bundle), key, "it is not signed"),
        ("fast", key, "it is not signed"),
        (str(path), other, "not signed with key"),
    ):
        options = ["--model", model, "--key", str(demanded), *state]
        for words in (
            ["classify", "x.png", *options],
            ["watch", str(tmp_path / "empty"), "--once", *options],
            ["serve", *options],
            ["listen", *options],
            ["doctor", *options],
        ):
            assert cli.run(words) == 4, words
            shown = capsys.readouterr()
            assert message in shown.err + shown.out
    options = ["--model", str(path), "--key", str(key), *state]
    assert cli.run(["watch", str(tmp_path / "empty"), "--once", *options]) == 0
    assert "signed with key" in _doctor(options, capsys)


def _doctor(options: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.run(["doctor", *options]) in (0, 10)
    return capsys.readouterr().out


def test_a_pinned_key_is_demanded_without_being_named(
    signed: tuple[Path, Path, Path],
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, key, other = signed
    root = tmp_path / "root"
    assert cli.run(["device", "install", "--model", str(tiny_bundle), "--key", str(key), "--root", str(root)]) == 4
    assert not root.exists()
    assert cli.run(["device", "install", "--model", str(path), "--key", str(key), "--root", str(root)]) == 0
    pinned = root / "etc/edge-ct/bundle-key.pub"
    assert pinned.read_bytes() == key.read_bytes()
    monkeypatch.setattr(opening, "PINNED_KEY", pinned)
    assert open_bundle(path).source == str(path)
    with pytest.raises(ModelRejected, match="states which key is demanded"):
        open_bundle(tiny_bundle)
    with pytest.raises(ModelRejected, match="states which key is demanded"):
        open_bundle("fast")
    with pytest.raises(ModelRejected, match="not signed with key"):
        open_bundle(path, other)
    assert open_bundle(path, key).source == str(path)
    capsys.readouterr()
