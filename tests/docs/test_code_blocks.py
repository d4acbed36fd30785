"""Blocks of code in README and docs: every command and option exists, Python runs, and the tutorial runs as a whole."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import cv2
import pytest

from edge_ct import cli
from edge_ct.phantom import make_slice

from .markdown_pages import ALL_BLOCKS, ROOT, Block

RUN_COMMANDS = [
    pytest.param(words, id=f"{block.name}: {' '.join(words)[:60]}") for block in ALL_BLOCKS for words in block.commands
]
PYTHON_PAGES = ("README.md", "docs/reference/python.md", "docs/tutorial.md")


def new_context(command: click.Command) -> click.Context:
    """Return a context with the help options of `edge-ct`: click keeps those of a command's first context."""
    return click.Context(command, **cli.edge_ct.context_settings)


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that the words name, and the words after it."""
    command: click.Command = cli.edge_ct
    context = new_context(command)
    while isinstance(command, click.Group):
        if words[0] not in command.list_commands(context) and command.get_command(context, "run"):
            words = ["run", *words]  # `benchmark BUNDLE` stands for `benchmark run BUNDLE`
        _, child, words = command.resolve_command(context, words)
        assert child is not None
        command = child
    return command, words


def test_enough_commands_are_found() -> None:
    assert len(RUN_COMMANDS) > 60


@pytest.mark.parametrize("words", RUN_COMMANDS)
def test_commands_and_options_exist(words: list[str]) -> None:
    if words[0] == "..." or words[0].isupper():
        pytest.skip("stands for any command")
    command, rest = resolve(words)
    # Parses names of options and their number of values, and runs nothing: paths need not exist.
    parser = command.make_parser(new_context(command))
    parser.parse_args([word for word in rest if word != "..."])


@pytest.fixture
def slice_folder(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "slice.png"), make_slice(0, 3, True, 256).image)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PYTHON_PAGES if page != "docs/tutorial.md"])
def test_python_runs(page: str, slice_folder: Path) -> None:
    found = [block for block in ALL_BLOCKS if block.name == page and block.text.startswith(("from ", "import "))]
    assert found
    for block in found:
        subprocess.run([sys.executable, "-c", block.text], cwd=slice_folder, check=True)


def run_shell(block: Block, folder: Path) -> None:
    programs = folder / "programs"
    if not programs.exists():
        programs.mkdir()
        (programs / "edge-ct").write_text(f'#!/bin/sh\nexec {sys.executable} -m edge_ct "$@"\n', encoding="utf-8")
        (programs / "edge-ct").chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-e", "-c", block.text], cwd=folder, env=environment, check=True)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path) -> None:
    tutorial = [block for block in ALL_BLOCKS if block.name == "docs/tutorial.md"]
    assert {block.language for block in tutorial} == {"sh", "python"}
    for block in tutorial:
        if block.language == "sh":
            run_shell(block, tmp_path)
        else:
            subprocess.run([sys.executable, "-c", block.text], cwd=tmp_path, check=True)
    assert (tmp_path / "model.tflite").stat().st_size > 10_000
    assert list((tmp_path / "maps").iterdir())


@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell")
def test_quick_start_of_health_workers_runs(slice_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`classify`, one file and a folder into the worklist, as that page writes them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(slice_folder / "state"))
    monkeypatch.setenv("HOME", str(slice_folder))
    (slice_folder / "study").mkdir()
    shutil.copy(slice_folder / "slice.png", slice_folder / "study" / "1.png")
    page = ROOT / "docs" / "quick-start" / "health-worker.md"
    found = [block for block in ALL_BLOCKS if block.page == page and "classify" in block.text]
    assert len(found) == 1
    run_shell(found[0], slice_folder)
