"""A process that keeps what it frees is not given the same pages again and again."""

import ctypes
import platform
import subprocess
import sys

import pytest

from edge_ct import cli
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
