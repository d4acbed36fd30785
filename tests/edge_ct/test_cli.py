"""The command line: exit codes, one line for every error, and help for every command."""

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from edge_ct import __version__, cli
from edge_ct.errors import (
    DataRejected,
    EdgeCTError,
    GateFailed,
    InputRejected,
    MissingExtra,
    ModelRejected,
    StorageFull,
    WorklistDamaged,
)

from .error_lines import one_error_line

Install = Callable[[Callable[[], object]], None]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a function into the table as the command `boom`."""

    def install(function: Callable[[], object]) -> None:
        module = types.ModuleType("boom_commands")
        module.boom = click.command()(function)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "boom_commands", module)
        monkeypatch.setitem(cli.COMMANDS, "boom", ("boom_commands:boom", "Boom.", ""))

    return install


def subcommands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    context = click.Context(cli.edge_ct, **cli.edge_ct.context_settings)
    for name in cli.COMMANDS:
        own = cli.edge_ct.get_command(context, name)
        inner = tuple((name, sub) for sub in own.commands) if isinstance(own, click.Group) else ((name,),)
        found.extend(inner)
    return found


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["classify"],
        ["classify", "--no-such-option", "x"],
        ["classify", "x.png", "--threads", "0"],
        ["train", "no-such-network", "--data", "x", "--out", "y"],
        ["train", "customcnn"],
        ["data"],
        ["data", "no-such-subcommand"],
        ["data", "group", "."],
        ["bundle", "inspect"],
        ["convert", "run"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: edge-ct ")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["classify", "x.png", "--model", "none.tflite"], 4, "none.tflite: no such bundle"),
        (["classify", "x.png", "--model", "."], 4, "cannot be read"),
        (["classify", "x.png", "--model", "empty.tflite"], 4, "not a bundle"),
        (["bundle", "inspect", "none.tflite"], 4, "no such bundle"),
        (["bundle", "verify", "text.tflite"], 4, "not a bundle"),
        (["data", "check", "."], 7, "two sub-folders with slices are needed"),
        (["data", "check", "none"], 7, "no such folder or CSV"),
        (["data", "check", ".", "--sheet", "pairs.gif"], 1, "a contact sheet is a PNG"),
        (["data", "group", ".", "--out", "groups.csv"], 7, "two sub-folders with slices are needed"),
        (["data", "group", ".", "--out", "full"], 1, "already exists"),
        (["data", "check", "text.tflite"], 7, "columns path,label"),
        (["evaluate", "none.tflite", "--data", "."], 4, "no such bundle"),
        (["evaluate", "accurate", "--data", "none"], 7, "none: no such folder or CSV"),
        (["evaluate", "slow", "--data", "."], 4, "slow: no such bundle; shipped models are: accurate, fast"),
        (["benchmark", "slow"], 4, "slow: no such bundle; shipped models are: accurate, fast"),
        (["bundle", "verify", "slow"], 4, "slow: no such bundle; shipped models are: accurate, fast"),
        (["data", "synth", "full", "--patients", "2", "--slices", "1"], 1, "already exists"),
    ],
)
def test_every_error_is_one_line_and_its_code(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.tflite").touch()
    (tmp_path / "text.tflite").write_text("some text\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert cli.run(arguments) == code
    assert message in one_error_line(capsys)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EdgeCTError("what"), 1),
        (InputRejected("what"), 3),
        (ModelRejected("what"), 4),
        (GateFailed("what"), 5),
        (MissingExtra("what"), 6),
        (DataRejected("what"), 7),
        (StorageFull("what"), 8),
        (WorklistDamaged("what"), 9),
    ],
)
def test_each_class_of_error_has_its_code(
    command: Install, capsys: pytest.CaptureFixture[str], error: EdgeCTError, code: int
) -> None:
    def boom() -> None:
        raise error

    command(boom)
    assert cli.run(["boom"]) == code
    assert one_error_line(capsys) == "edge-ct: what"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("two\nlines"), "internal error (ValueError); please report it with what -v prints"),
        (KeyError("name"), "internal error (KeyError); please report it with what -v prints"),
        (AttributeError("'FileDataset' object has no attribute 'Rows'"), "internal error (AttributeError); please"),
        (MemoryError(), "not enough memory; close other programs, or do less at a time (--workers, --batch)"),
        (OSError(28, "No space left on device", "a.csv"), "a.csv: No space left on device"),
        (OSError(5, "bad"), "bad"),
    ],
)
def test_unknown_exception_is_one_line_in_plain_words_and_exit_1(
    command: Install, capsys: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    def boom() -> None:
        raise error

    command(boom)
    assert cli.run(["boom"]) == 1
    assert one_error_line(capsys).startswith(f"edge-ct: {words}")


def test_long_message_is_cut(command: Install, capsys: pytest.CaptureFixture[str]) -> None:
    def boom() -> None:
        raise EdgeCTError("word\n" * 10_000)

    command(boom)
    assert cli.run(["boom"]) == 1
    assert len(one_error_line(capsys)) < 600


@pytest.mark.parametrize("error", [ValueError("mine"), DataRejected("mine")])
def test_debug_shows_where(command: Install, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def boom() -> None:
        raise error

    command(boom)
    monkeypatch.setenv("EDGE_CT_DEBUG", "1")
    with pytest.raises(type(error), match="mine"):
        cli.run(["boom"])
    monkeypatch.setenv("EDGE_CT_DEBUG", "0")
    assert cli.run(["boom"]) in (1, 7)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interruption_exits_with_130(
    command: Install, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    def boom() -> None:
        raise error

    command(boom)
    assert cli.run(["boom"]) == 130
    out, err = capsys.readouterr()
    assert (out, err.strip()) == ("", "edge-ct: interrupted")


def test_success_exits_with_0(command: Install, capsys: pytest.CaptureFixture[str]) -> None:
    command(lambda: click.echo("done"))
    assert cli.run(["boom"]) == 0
    assert capsys.readouterr() == ("done\n", "")


def test_main_exits_with_the_code(command: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def boom() -> None:
        raise DataRejected("mine")

    def leave(code: int) -> None:
        raise SystemExit(code)

    command(boom)
    monkeypatch.setattr(cli.os, "_exit", leave)  # which would end the tests, too
    monkeypatch.setattr(sys, "argv", ["edge-ct", "boom"])
    for arguments in (None, ["boom"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 7


def test_reader_that_has_gone_is_no_error(tiny_bundle: Path) -> None:
    """`edge-ct ... | head`: exit 141 as the shell has it for SIGPIPE, and nothing on standard error."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "edge_ct", "bundle", "inspect", str(tiny_bundle), "--json"]
    try:
        ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_version_and_the_list_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
    assert cli.run(["--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "not a medical device" in out
    for name, (_, text, _) in cli.COMMANDS.items():
        assert f"{name} {text}" in out


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("clasify", "no such command: 'clasify'; did you mean 'classify'?"),
        ("benchmarks", "no such command: 'benchmarks'; did you mean 'benchmark'?"),
        ("xyz", "no such command: 'xyz'; edge-ct --help lists the commands"),
    ],
)
def test_an_unknown_command_gets_a_suggestion(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([word]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"Error: {hint}"


def test_the_list_of_commands_begins_with_those_of_the_base_installation(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    commands = capsys.readouterr().out.split("Commands:")[1]
    base, *others = commands.split("Commands that need ")
    assert base.split()[0] == "classify"
    assert all(cli.COMMANDS[line.split()[0]][2] == "" for line in base.strip().splitlines())
    assert [part.split(":")[0] for part in others] == [
        f"edge-ct[{extra}]" for extra in ("web", "dicom", "train", "convert", "bench", "all")
    ]


def completions(words: str, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(cli.os, "_exit", leave)
    for name, value in {"_EDGE_CT_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(number)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_a_shell_completes_commands_options_and_shipped_bundles(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completions("edge-ct cl", 1, monkeypatch, capsys).split() == ["plain,classify"]
    assert completions("edge-ct ", 1, monkeypatch, capsys).split() == [f"plain,{name}" for name in cli.COMMANDS]
    assert "plain,--worklist" in completions("edge-ct classify --w", 2, monkeypatch, capsys).split()
    assert completions("edge-ct worklist ver", 2, monkeypatch, capsys).split() == ["plain,verify"]
    assert "plain,fast" in completions("edge-ct classify --model fa", 3, monkeypatch, capsys).split()
    assert "plain,accurate" in completions("edge-ct bundle inspect acc", 3, monkeypatch, capsys).split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_that_a_shell_evaluates_is_printed(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.os, "_exit", lambda code: None)
    monkeypatch.setenv("_EDGE_CT_COMPLETE", f"{shell}_source")
    cli.main([])
    assert f"_EDGE_CT_COMPLETE={shell}_complete" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--quiet", "classify"], ["classify", "--quiet"]])
def test_quiet_prints_results_and_no_remarks(
    words: list[str], slices_folder: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*words, str(slices_folder / "a-good.png"), "--model", str(tiny_bundle)]) == 0
    out, err = capfd.readouterr()
    assert "a-good.png" in out
    assert err == ""


@pytest.mark.parametrize("words", [["-v", "bundle", "verify"], ["bundle", "verify", "--verbose"]])
def test_verbose_shows_where_an_error_comes_from_and_keeps_its_code(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.tflite").touch()
    assert cli.run([*words, str(tmp_path / "x.tflite")]) == 4
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("edge-ct: ")
    assert cli.run(["bundle", "verify", str(tmp_path / "x.tflite")]) == 4  # the next command is not verbose
    assert "Traceback" not in capsys.readouterr().err


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) in (0, 2)
    assert "Usage: edge-ct" in "".join(capsys.readouterr())


@pytest.mark.parametrize("path", subcommands(), ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_of_every_command_has_an_example(
    path: tuple[str, ...], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*path, option]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"Usage: edge-ct {' '.join(path)}")
    assert "Example:" in out
    assert f"edge-ct {' '.join(path)}" in out.split("Example:")[1]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_table_says_what_the_command_says(name: str) -> None:
    found = cli.edge_ct.get_command(click.Context(cli.edge_ct, **cli.edge_ct.context_settings), name)
    assert found is not None
    assert found.name == name
    assert found.short_help == cli.COMMANDS[name][1]
    if isinstance(found, click.Group):
        assert all(sub.short_help for sub in found.commands.values())


@pytest.mark.parametrize("path", subcommands(), ids=" ".join)
def test_every_option_of_every_command_has_a_help(path: tuple[str, ...]) -> None:
    found: click.Command | None = cli.edge_ct
    for name in path:
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found, **cli.edge_ct.context_settings), name)
    assert found is not None
    for option in found.params:
        if isinstance(option, click.Option):
            assert len((option.help or "").split()) >= 4, (option.name, option.help)


@pytest.mark.parametrize("path", subcommands(), ids=" ".join)
def test_options_mean_the_same_in_every_command(path: tuple[str, ...]) -> None:
    """Design, section 7."""
    found: click.Command | None = cli.edge_ct
    for name in path:
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found, **cli.edge_ct.context_settings), name)
    assert found is not None
    options = {name: option for option in found.params if isinstance(option, click.Option) for name in option.opts}
    for name in options.keys() & {"--force", "--json"}:
        assert options[name].is_flag
    for name in options.keys() & {"--seed", "--size", "--threads"}:
        assert options[name].type.name.startswith("integer")


def test_a_cold_classify_of_one_file_loads_no_module_that_it_does_not_use(
    slices_folder: Path, tiny_bundle: Path
) -> None:
    """Its memory is measured against a bare script (`make bench-cold`)."""
    spared = "hashlib edge_ct.imaging.code_streams edge_ct.device_app.judging.pool sqlite3 pydicom concurrent.futures"
    code = (
        "import sys; from edge_ct import cli; code = cli.run(sys.argv[2:]);"
        "print([name for name in sys.argv[1].split() if name in sys.modules]); sys.exit(code)"
    )
    arguments = ["classify", str(slices_folder / "a-good.png"), "--model", str(tiny_bundle)]
    ended = subprocess.run(
        [sys.executable, "-c", code, spared, *arguments], stdout=subprocess.PIPE, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "[]")
