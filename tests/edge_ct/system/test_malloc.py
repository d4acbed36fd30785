"""A process that keeps what it frees is not given the same pages again and again."""

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from edge_ct import cli
from edge_ct.phantom import make_slice
from edge_ct.system import malloc

ROUNDS, BYTES = 20, 48 << 20
# Page faults of so many blocks, each written to and freed.
FAULTS = f"""
import ctypes, resource
from edge_ct.system import malloc

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes, libc.memset.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
if {{keep}}:
    assert malloc.keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({ROUNDS}):
    block = libc.malloc({BYTES})
    libc.memset(block, 1, {BYTES})
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


# Page faults of 20 further slices after the first two.
SLICE_FAULTS = """
import resource, sys
from edge_ct.classifier import Classifier

classifier = Classifier(sys.argv[1])
content = open(sys.argv[2], "rb").read()
for turn in range(22):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    classifier.classify(content)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do as they like")
def test_further_slices_are_decoded_into_the_memory_of_the_first(tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "slice.png"
    file.write_bytes(cv2.imencode(".png", make_slice(0, 2, True, 512, seed=11).image)[1].tobytes())
    command = [sys.executable, "-c", SLICE_FAULTS, str(tiny_bundle), str(file)]
    assert int(subprocess.run(command, capture_output=True, check=True).stdout) < 20 * 16


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_what_is_freed_is_kept() -> None:
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, check=True).stdout)
        for keep in (True, False)
    )
    assert kept < given_back / (ROUNDS / 2)


def test_a_c_library_without_the_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert malloc.keep_freed_memory() is False


@pytest.mark.parametrize(("command", "told"), [("train", 1), ("convert", 1), ("demo", 1), ("classify", 0)])
def test_what_trains_keeps_it_before_its_libraries_are_imported(
    command: str, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    monkeypatch.setattr(malloc, "keep_freed_memory", lambda: happened.append("told"))
    monkeypatch.setattr(cli.importlib, "import_module", lambda _: happened.append("imported"))
    with pytest.raises(AttributeError):
        cli.edge_ct.get_command(cli.click.Context(cli.edge_ct, **cli.edge_ct.context_settings), command)
    assert happened == ["told"] * told + ["imported"]
