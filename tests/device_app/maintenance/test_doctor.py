"""`edge-ct doctor`: each thing that can be wrong with a device is said, and the exit code tells monitoring."""

import json
import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_ct import cli
from edge_ct.bundle import read_bundle, write_bundle
from edge_ct.classifier import Classifier
from edge_ct.device_app.maintenance import doctor, health
from edge_ct.device_app.maintenance.doctor import Check
from edge_ct.device_app.worklist.records import prepare_entry
from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.engines.comparison import EngineTime
from edge_ct.trust import opening, trial

NOW = datetime(2026, 7, 1, tzinfo=timezone.utc)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What a Raspberry Pi 5 in good health tells of itself."""
    (tmp_path / "root/proc").mkdir(parents=True)
    (tmp_path / "root/proc/meminfo").write_text("MemTotal:  4137164 kB\nMemAvailable:  3000000 kB\n")
    for number, value in enumerate(("48200", "51900")):
        zone = tmp_path / f"root/sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(value + "\n")
    return tmp_path / "root"


@pytest.fixture(autouse=True)
def only_litert(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed_engines", lambda: ("litert",))


def examine(model: Path, state: Path, root: Path, **options: Any) -> dict[str, Check]:
    return {check.name: check for check in doctor.examine(model, state, root=root, **{"moment": NOW, **options})}


def statuses(checks: dict[str, Check]) -> dict[str, str]:
    return {name: check.status for name, check in checks.items() if check.status != "good"}


def test_device_in_good_health(tiny_bundle: Path, tmp_path: Path, root: Path) -> None:
    checks = examine(tiny_bundle, tmp_path / "state", root)
    assert statuses(checks) == {}
    names = ["bundle", "golden", "runtime", "memory", "temperature", "worklist", "clock", "disk"]
    assert list(checks) == names
    assert checks["temperature"].value == 51.9
    assert checks["memory"].value == 3_000_000 * 1024
    assert "XNNPACK" in checks["runtime"].detail


def test_golden_slices_are_run_once_for_each_installation(
    tiny_bundle: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    monkeypatch.setattr(trial, "try_bundle", lambda bundle: runs.append(bundle.identity))
    for again, expected in ((False, 1), (False, 1), (True, 2)):
        checks = examine(tiny_bundle, tmp_path / "state", root, again=again)
        assert (checks["golden"].status, len(runs)) == ("good", expected)
    monkeypatch.setattr(opening, "describe_runtime", lambda: "ai-edge-litert 99")  # an update
    examine(tiny_bundle, tmp_path / "state", root)
    assert len(runs) == 3


def test_bundle_that_answers_differently_here(tiny_bundle: Path, tmp_path: Path, root: Path) -> None:
    tiny = read_bundle(tiny_bundle)
    golden = tuple(
        msgspec.structs.replace(own, logits=tuple(value + 5 for value in own.logits)) for own in tiny.manifest.golden
    )
    members = {own.input: tiny.member(own.input) for own in golden}
    wrong = tmp_path / "wrong.tflite"
    write_bundle(wrong, tiny.model, msgspec.structs.replace(tiny.manifest, golden=golden), members)
    checks = examine(wrong, tmp_path / "state", root)
    assert statuses(checks) == {"golden": "failure"}
    assert statuses(examine(wrong, tmp_path / "state", root)) == {"golden": "failure"}  # and is not remembered as good


def test_damaged_bundle(tiny_bundle: Path, tmp_path: Path, root: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(tiny_bundle.read_bytes()[:-1])
    for path in (damaged, tmp_path / "none.tflite"):
        checks = examine(path, tmp_path / "state", root)
        assert statuses(checks) == {"bundle": "failure"}
        assert "golden" not in checks


def test_damaged_memory_of_golden_runs(tiny_bundle: Path, tmp_path: Path, root: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / opening.TRIALS).write_bytes(b"\xff{")
    assert statuses(examine(tiny_bundle, tmp_path / "state", root)) == {}


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("proc/meminfo", "MemAvailable: 150000 kB\n", {"memory": "warning"}),
        ("proc/meminfo", "MemAvailable: 50000 kB\n", {"memory": "failure"}),
        ("proc/meminfo", "rubbish", {"memory": "warning"}),
        ("sys/class/thermal/thermal_zone1/temp", "79000", {"temperature": "warning"}),
        ("sys/class/thermal/thermal_zone0/temp", "85000", {"temperature": "failure"}),
        ("sys/class/thermal/thermal_zone0/temp", "rubbish", {}),
        ("sys/class/thermal/thermal_zone0/temp", "-274000", {}),
    ],
)
def test_machine_in_trouble(
    tiny_bundle: Path, tmp_path: Path, root: Path, file: str, text: str, expected: dict[str, str]
) -> None:
    (root / file).write_text(text)
    assert statuses(examine(tiny_bundle, tmp_path / "state", root)) == expected


def test_machine_that_tells_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    assert statuses(examine(tiny_bundle, tmp_path / "state", tmp_path / "nowhere")) == {"memory": "warning"}


def test_worklist_and_clock(
    tiny_bundle: Path, worklist: Worklist, judged: Any, tiny_classifier: Classifier, root: Path
) -> None:
    worklist.add(prepare_entry(judged(1), tiny_classifier.bundle, origin="classify"))
    now = datetime.now(timezone.utc)
    checks = examine(tiny_bundle, worklist.folder, root, moment=now)
    assert statuses(checks) == {}
    assert checks["worklist"].detail == "1 result, 1 open, 1 entry"
    assert "device key" in checks
    # A Pi without a battery, after a night without power: before the last entry, or before the bundle was made.
    assert statuses(examine(tiny_bundle, worklist.folder, root, moment=now - timedelta(hours=1))) == {
        "clock": "failure",
        "retention": "warning",
    }
    early = examine(tiny_bundle, worklist.folder / "none", root, moment=datetime(1970, 1, 1, tzinfo=timezone.utc))
    assert statuses(early) == {"clock": "failure"}
    assert "the bundle was made at 2026-01-01" in early["clock"].detail
    late = examine(tiny_bundle, worklist.folder, root, moment=now + timedelta(days=4000))
    assert statuses(late) == {"clock": "warning", "retention": "warning"}
    assert "more than 8 days ahead of the worklist's latest entry" in late["retention"].detail
    week = examine(tiny_bundle, worklist.folder, root, moment=now + timedelta(days=7))
    assert (week["retention"].status, week["clock"].status) == ("good", "good")


def test_tampered_worklist_and_open_key(
    tiny_bundle: Path, worklist: Worklist, judged: Any, tiny_classifier: Classifier, root: Path
) -> None:
    worklist.add(prepare_entry(judged(1), tiny_classifier.bundle, origin="classify"))
    (worklist.folder / "device.key").chmod(0o644)
    connection = sqlite3.connect(worklist.folder / "worklist.sqlite", isolation_level=None)
    connection.execute("DROP TRIGGER answers_stay")
    connection.execute("UPDATE results SET decision = 'negative'")
    connection.close()
    checks = examine(tiny_bundle, worklist.folder, root, moment=datetime.now(timezone.utc))
    assert statuses(checks) == {"worklist": "failure", "device key": "warning"}
    assert "result 1 was changed" in checks["worklist"].detail


def test_nearly_full_disk(tiny_bundle: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, status in ((3 << 28, "warning"), (1 << 27, "failure")):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place, free=free: type("Usage", (), {"free": free}))
        assert statuses(examine(tiny_bundle, tmp_path / "state", root)) == {"disk": status}


@pytest.mark.parametrize(
    ("temperature", "available_mib", "free_mib", "year", "expected"),
    [
        (51, 3000, 9000, 2026, {}),
        (77, 193, 1025, 2035, {}),
        (79, 191, 1023, 2040, {"temperature": "warning", "memory": "warning", "disk": "warning", "clock": "warning"}),
        (86, 63, 255, 2020, {"temperature": "failure", "memory": "failure", "disk": "failure", "clock": "failure"}),
    ],
)
def test_doctor_and_page_judge_a_state_alike(
    tiny_bundle: Path,
    worklist: Worklist,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    temperature: int,
    available_mib: int,
    free_mib: int,
    year: int,
    expected: dict[str, str],
) -> None:
    """The page judges each measurement as the doctor does."""
    (root / "proc/meminfo").write_text(f"MemAvailable: {available_mib * 1024} kB\n")
    (root / "sys/class/thermal/thermal_zone1/temp").write_text(f"{temperature}000")
    usage = type("Usage", (), {"free": free_mib << 20, "total": 1 << 40})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage)
    now = datetime(year, 7, 1, tzinfo=timezone.utc)
    checks = examine(tiny_bundle, worklist.folder, root, moment=now)
    assert {name: status for name, status in statuses(checks).items() if name != "runtime"} == expected
    page = health.read_health(worklist, read_bundle(tiny_bundle).manifest, root, now)
    judged = {name: status for name, status in page.statuses().items() if status != "good" and name != "load"}
    assert judged == expected


def test_command(tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["doctor", "--model", str(tiny_bundle), "--state", str(tmp_path / "state")]
    assert cli.run([*arguments, "--json"]) == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert found["status"] in ("good", "warning")
    assert {check["name"] for check in found["checks"]} >= {"bundle", "golden", "clock", "disk"}
    assert err == ""
    assert cli.run(arguments) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("good     bundle")
    warnings = sum(line.startswith("warning") for line in lines)
    assert lines[-1].startswith(f"{len(lines) - 1 - warnings} good, {warnings} warning")
    assert ", 0 failures: this device " in lines[-1]
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(b"TFL3")
    assert cli.run(["doctor", "--model", str(damaged), "--state", str(tmp_path / "state")]) == 10


def test_strict(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr(doctor, "examine", lambda *arguments, **options: [Check("memory", "warning", "little")])
    assert cli.run(["doctor", "--model", str(tiny_bundle), "--state", str(tmp_path)]) == 0
    assert cli.run(["doctor", "--model", str(tiny_bundle), "--state", str(tmp_path), "--strict"]) == 10
    capfd.readouterr()


def test_openvino_is_suggested_where_bytes_are_multiplied_slowly(
    tiny_bundle: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = root / "proc/cpuinfo"
    for flags, suggested in (("fpu avx2", True), ("fpu avx2 avx512_vnni", False), ("fpu avx2 avx_vnni", False)):
        info.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
        assert ("engine" in examine(tiny_bundle, tmp_path / "state", root)) is suggested
    info.write_text("Features\t: fp asimd asimddp\n")  # Arm, for which there is no such extra
    assert "engine" not in examine(tiny_bundle, tmp_path / "state", root)
    info.write_text("flags: avx2\n")
    check = examine(tiny_bundle, tmp_path / "state", root)["engine"]
    assert (check.status, "pip install 'edge-ct[openvino]'" in check.detail) == ("good", True)


@pytest.mark.parametrize(
    ("openvino", "expected"),
    [
        (
            EngineTime("openvino", "openvino 9", 2.0, 0.66),
            "openvino 9 takes 0.66 times LiteRT's time: use --engine openvino",
        ),
        (
            EngineTime("openvino", "openvino 9", 4.0, 1.33),
            "LiteRT is the fastest engine that can be used: openvino 9 takes 1.33 times its time",
        ),
        (
            EngineTime("openvino", "openvino 9", None, None, "b: differs"),
            "LiteRT is the fastest engine that can be used: b: differs",
        ),
    ],
)
def test_engines_that_are_installed_are_measured(
    openvino: EngineTime, expected: str, tiny_bundle: Path, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "installed_engines", lambda: ("litert", "openvino"))
    times = (EngineTime("litert", "ai-edge-litert 2", 3.0, 1.0), openvino)
    monkeypatch.setattr(doctor, "compare_engines", lambda bundle: times)
    check = examine(tiny_bundle, tmp_path / "state", root)["engine"]
    assert (check.status, check.detail) == ("good", expected)
