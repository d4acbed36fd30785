"""The `edge-ct` command: a table of commands. The module of a command is imported only when that command runs."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
import warnings
from typing import TYPE_CHECKING, NoReturn

import click

from . import __version__
from .errors import EdgeCTError, MissingExtra
from .system import progress

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# name -> (module:function, help, the extra that it needs), those of the base installation first
COMMANDS = {
    "classify": ("edge_ct.device_app.classify.commands:classify", "Judge CT slices without a network.", ""),
    "watch": ("edge_ct.device_app.watch.commands:watch", "Judge slices as they arrive in a folder.", ""),
    "worklist": (
        "edge_ct.device_app.worklist.commands:worklist",
        "List, review, export and verify stored results.",
        "",
    ),
    "bundle": ("edge_ct.device_app.bundles.commands:bundle", "Inspect, verify, sign or export a bundle.", ""),
    "doctor": ("edge_ct.device_app.maintenance.commands:doctor", "Check model, machine and worklist of a device.", ""),
    "device": ("edge_ct.device_app.maintenance.commands:device", "Install edge-ct as services of a device.", ""),
    "serve": ("edge_ct.device_app.web.commands:serve", "Serve the worklist as a local web page.", "web"),
    "listen": (
        "edge_ct.device_app.dicom.commands:listen",
        "Receive CT series over DICOM, judge them, send results back.",
        "dicom",
    ),
    "send": (
        "edge_ct.device_app.dicom.commands:send",
        "Send DICOM objects, or those that wait in the outbox.",
        "dicom",
    ),
    "export": ("edge_ct.device_app.dicom.commands:export", "De-identify CT objects for research.", "dicom"),
    "data": ("edge_ct.train.data.commands:data", "Make, check, group and preview slices.", "train"),
    "models": ("edge_ct.train.commands:models", "List the networks that can be trained.", "train"),
    "train": ("edge_ct.train.commands:train", "Train a network on labelled slices.", "train"),
    "ensemble": ("edge_ct.train.score.commands:ensemble", "Combine trained runs into one.", "train"),
    "evaluate": (
        "edge_ct.train.score.commands:evaluate",
        "Score a run or a bundle on unseen slices.",
        "train",
    ),
    "explain": ("edge_ct.train.explain.commands:explain", "See what a network looks at.", "train"),
    "convert": ("edge_ct.convert.commands:convert", "Turn a run into a verified TFLite bundle.", "convert"),
    "benchmark": (
        "edge_ct.benchmarks.commands:benchmark",
        "Measure bundles and runs, compare measurements, write reports.",
        "bench",
    ),
    "demo": ("edge_ct.recipes.commands:demo", "Run the whole product on synthetic slices, in a few minutes.", "all"),
}
_SECTIONS = {
    "": "Commands",
    "web": "Commands that need edge-ct[web]",
    "dicom": "Commands that need edge-ct[dicom]",
    "train": "Commands that need edge-ct[train]",
    "convert": "Commands that need edge-ct[convert]",
    "bench": "Commands that need edge-ct[bench]",
    "all": "Commands that need edge-ct[all]",
}
# The environment variable by which a shell asks for completions; its name follows from that of the program.
_COMPLETE = "_EDGE_CT_COMPLETE"


def _set_verbosity(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        progress.set_verbosity("verbose" if parameter.name == "verbose" else "quiet")


def _verbosity_options(hidden: bool) -> list[click.Option]:
    """Return the options --verbose and --quiet, which every command takes; hidden ones are not in its help."""
    return [
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            expose_value=False,
            callback=_set_verbosity,
            hidden=hidden,
            help="Also print details on standard error, and the traceback of an error.",
        ),
        click.Option(
            ["--quiet"],
            is_flag=True,
            expose_value=False,
            callback=_set_verbosity,
            hidden=hidden,
            help="Print no progress and no remarks on standard error, only errors.",
        ),
    ]


def _add_verbosity_options(command: click.Command) -> None:
    """Let a command and its subcommands take --verbose and --quiet, unless these names are taken."""
    if isinstance(command, click.Group):
        for subcommand in command.commands.values():
            _add_verbosity_options(subcommand)
        return
    names = {name for parameter in command.params for name in parameter.opts}
    command.params += [option for option in _verbosity_options(hidden=True) if names.isdisjoint(option.opts)]


class _LazyGroup(click.Group):
    """Lists commands from the table and imports only the one that runs."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, function = COMMANDS[name][0].partition(":")
        if COMMANDS[name][2] in ("train", "convert", "all"):  # before the libraries that train start threads
            from .system import malloc

            malloc.keep_freed_memory()
        # Imports create objects that stay alive: collecting garbage among them takes a tenth of a cold `classify`.
        gc.disable()
        try:
            command = getattr(importlib.import_module(module), function)
        finally:
            gc.enable()
        assert isinstance(command, click.Command)
        _add_verbosity_options(command)
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for an unknown name, suggest the nearest one."""
        name = arguments[0]
        if name not in COMMANDS and not name.startswith("-"):
            import difflib

            nearest = difflib.get_close_matches(name, COMMANDS, 1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else "edge-ct --help lists the commands"
            context.fail(f"no such command: {name!r}; {hint}")
        return super().resolve_command(context, arguments)

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command from the table: importing all commands would take seconds."""
        from click.shell_completion import CompletionItem

        matches = [CompletionItem(name, help=row[1]) for name, row in COMMANDS.items() if name.startswith(incomplete)]
        return matches or click.Command.shell_complete(self, context, incomplete)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for extra, heading in _SECTIONS.items():
            rows = [(name, text) for name, (_, text, needed) in COMMANDS.items() if needed == extra]
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=20)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-ct")
def edge_ct() -> None:
    """Train CT-slice classifiers, shrink them, measure what the shrinking cost, and run them offline.

    Research use only: not a medical device. -v and --quiet may also be written after a command.

    \b
    Start with:  edge-ct classify SLICE.png
    """


edge_ct.params += _verbosity_options(hidden=False)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit with its code. Every error except wrong usage is one line on standard error."""
    code: int
    if instruction := os.environ.get(_COMPLETE):
        from click.shell_completion import shell_complete

        code = shell_complete(edge_ct, {}, "edge-ct", _COMPLETE, instruction)
    else:
        # The warnings of pydicom quote values of objects, among them names of patients.
        warnings.filterwarnings("ignore", module="pydicom")
        code = run(sys.argv[1:] if arguments is None else arguments)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # All files are closed here. An orderly shutdown of the interpreter and the runtime would take a sixth of a cold
    # `classify`.
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code."""
    progress.set_verbosity("normal")
    try:
        # `edge_ct.main` would turn a closed pipe into SystemExit(1), whatever standalone_mode is.
        with edge_ct.make_context("edge-ct", list(arguments)) as context:
            edge_ct.invoke(context)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("edge-ct: interrupted", err=True)
        return 130
    except BrokenPipeError:
        # The reader (a pager, head) has closed the pipe; the interpreter must not report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except EdgeCTError as error:
        _show_traceback()
        click.echo(f"edge-ct: {_one_line(error)}", err=True)
        return error.exit_code
    except ModuleNotFoundError as error:
        _show_traceback()
        command = next((word for word in arguments if word in COMMANDS), "edge-ct")
        extra = COMMANDS.get(command, ("", "", ""))[2]
        install = f"pip install 'edge-ct[{extra}]'" if extra else "the installation is incomplete: pip install edge-ct"
        click.echo(f"edge-ct: {command} needs {error.name}: {install}", err=True)
        return MissingExtra.exit_code
    except Exception as error:
        _show_traceback()
        click.echo(f"edge-ct: {_describe_unforeseen(error)}", err=True)
        return 1


def run_program(command: click.Command) -> None:
    """Run a program that is not a command of `edge-ct`, with the arguments of this process, and exit.

    An `EdgeCTError` becomes one line on standard error and its exit code, as for the commands.

    Args:
        command: The click command of the program.
    """
    try:
        command()
    except EdgeCTError as error:
        click.echo(f"edge-ct: {_one_line(error)}", err=True)
        sys.exit(error.exit_code)


def _show_traceback() -> None:
    """Print the traceback of the current exception with -v; with EDGE_CT_DEBUG=1, raise it again."""
    if os.environ.get("EDGE_CT_DEBUG") == "1":
        raise
    if progress.is_verbose():
        import traceback

        traceback.print_exc()


def _describe_unforeseen(error: Exception) -> str:
    """Return in plain words what went wrong, for an exception that no command foresaw."""
    if isinstance(error, MemoryError):
        return "not enough memory; close other programs, or do less at a time (--workers, --batch)"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return f"internal error ({type(error).__name__}); please report it with what -v prints"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
