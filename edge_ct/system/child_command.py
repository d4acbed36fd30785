"""Running `edge-ct` commands from a program, and keeping what they print.

    python -m edge_ct.system.child_command COMMAND [...]

runs a command that ends as soon as its standard input does. `run_command` starts commands this way: it holds the other
end of that pipe, and the operating system closes the pipe of a killed process, so a training never goes on in a folder
that the next attempt has begun to use.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import EdgeCTError


class CommandFailed(EdgeCTError):
    """A command ended with an exit code that the caller does not accept; the exit code is handed on."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class CommandOutput:
    """What a command returned.

    Attributes:
        exit_code: Zero, or one of the accepted codes.
        text: What the command wrote to standard output.
    """

    exit_code: int
    text: str


def run_command(
    words: Sequence[object],
    accept: Sequence[int] = (),
    show_progress: bool = True,
    same_process: bool = False,
) -> CommandOutput:
    """Run an `edge-ct` command and return what it wrote to standard output.

    Args:
        words: The command and its arguments, without `edge-ct`.
        accept: Exit codes besides 0 that are a result too.
        show_progress: Whether the command's standard error is shown; otherwise its last line is the error message.
        same_process: Run the command in this process, which saves importing a framework again for each command.

    Raises:
        CommandFailed: The exit code is neither 0 nor accepted.
    """
    arguments = [str(word) for word in words]
    run = _run_here if same_process else _run_child
    code, text, errors = run(arguments, show_progress)
    if code not in (0, *accept):
        lines = errors.strip().splitlines() or [f"exit code {code} from: edge-ct {shlex.join(arguments)}"]
        raise CommandFailed(lines[-1].removeprefix("edge-ct: "), code)
    return CommandOutput(code, text)


def _run_here(arguments: list[str], show_progress: bool) -> tuple[int, str, str]:
    from .. import cli

    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(printed))
        if not show_progress:
            stack.enter_context(contextlib.redirect_stderr(errors))
        code = cli.run(arguments)
    return code, printed.getvalue(), errors.getvalue()


def _run_child(arguments: list[str], show_progress: bool) -> tuple[int, str, str]:
    program = [sys.executable, "-m", "edge_ct.system.child_command", *arguments]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            program,
            stdin=subprocess.PIPE,  # stays open until the block ends: the command ends when it is closed
            stdout=subprocess.PIPE,
            stderr=None if show_progress else errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            text = process.stdout.read()
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
        errors.seek(0)
        return code, text, errors.read().decode(errors="replace")


def _exit_when_input_closes() -> None:
    while os.read(0, 4096):
        pass
    os._exit(143)


if __name__ == "__main__":
    from .. import cli
    from . import malloc

    malloc.keep_freed_memory()  # before the thread starts, which would otherwise get an arena of its own
    threading.Thread(target=_exit_when_input_closes, daemon=True).start()
    cli.main(sys.argv[1:])
