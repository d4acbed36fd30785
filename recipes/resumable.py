"""Commands of `edge-ct` as steps that are done once: each in a process of its own, and noted when it has finished.

A step that was killed is done again, or gone on with by its own means; a finished one is skipped as long as its files
are there, of the size that they had.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from edge_ct.errors import EdgeCTError
from edge_ct.system.files import write_bytes
from edge_ct.system.progress import Progress

NOTE = ".step.json"


class Failed(EdgeCTError):
    """A step failed; its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Done(msgspec.Struct, frozen=True):
    """What is noted of a step. files: name, relative to the note's folder -> bytes. printed: what it said as JSON."""

    command: tuple[str, ...]
    title: str
    seconds: float
    exit_code: int
    files: dict[str, int]
    printed: Any = None


@dataclass
class Steps:
    """Does steps below a folder.

    places: name -> a folder that commands name by its path; what is noted has the name, so that folders may move.
    total: how many steps there are, of which so many have the same kind, for an estimate of what is left.
    """

    out: Path
    places: dict[str, Path]
    progress: Progress
    kinds: list[str] = field(default_factory=list)
    _took: dict[str, list[float]] = field(default_factory=dict)
    _at: int = 0

    def do(
        self,
        note: Path,
        kind: str,
        title: str,
        words: Sequence[object],
        files: Sequence[Path],
        accept: tuple[int, ...] = (),
    ) -> Done:
        """Do a step unless it is done. note: where that is noted, without its ending.

        files: which it leaves; of those that are missing afterwards none is noted, but one at least must be there.
        accept: exit codes, besides 0, that are a result too. Raises `Failed`, and `EdgeCTError` where what is there was
        made by another command.
        """
        self._at += 1
        path = note.with_name(note.name + NOTE)
        command = [str(word) for word in words]
        if found := self._noted(path, command):
            self._took.setdefault(kind, []).append(found.seconds)
            return found
        self.progress.say(f"\n[{self._at}/{len(self.kinds)}] {title}{self._left()}\n  edge-ct {shlex.join(command)}")
        begun = monotonic()
        code, text = self._run(command)
        if code not in (0, *accept):
            raise Failed(f"{title}: exit code {code} from: edge-ct {shlex.join(command)}", code)
        there = {str(file.relative_to(path.parent)): file.stat().st_size for file in files if file.is_file()}
        if not there:
            raise EdgeCTError(f"{title}: left none of {', '.join(str(file) for file in files)}")
        printed = json.loads(text) if code == 0 and "--json" in command else None
        done = Done(tuple(self._named(command)), title, monotonic() - begun, code, there, printed)
        write_bytes(path, msgspec.json.format(msgspec.json.encode(done), indent=1) + b"\n")
        self._took.setdefault(kind, []).append(done.seconds)
        return done

    def noted(self, note: Path) -> Done | None:
        """What was noted of a step; None where it was not done, or what it left is not there."""
        return self._read(note.with_name(note.name + NOTE))

    def one_more(self, kind: str) -> None:
        """Another step comes next than was planned."""
        self.kinds.insert(self._at, kind)

    def path(self, word: str) -> str:
        """What stands in a command, from what is noted of it."""
        name, _, rest = word.partition("/")
        return f"{self.places[name]}/{rest}" if name in self.places else word

    def _noted(self, path: Path, command: list[str]) -> Done | None:
        done = self._read(path)
        if done is not None and list(done.command) != self._named(command):
            raise EdgeCTError(
                f"{path}: was made by another command, edge-ct {shlex.join(done.command)}; "
                f"delete {path.parent} to make it anew, or go on with the same recipe"
            )
        return done

    def _read(self, path: Path) -> Done | None:
        try:
            done = msgspec.json.decode(path.read_bytes(), type=Done)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        whole = all(
            (path.parent / name).is_file() and (path.parent / name).stat().st_size == size
            for name, size in done.files.items()
        )
        return done if whole else None

    def _named(self, command: list[str]) -> list[str]:
        return [self._name(word) for word in command]

    def _name(self, word: str) -> str:
        for name, folder in self.places.items():
            if word == str(folder) or word.startswith(f"{folder}/"):
                return name + word.removeprefix(str(folder))
        return word

    def _left(self) -> str:
        waiting = self.kinds[self._at - 1 :]
        known = [sum(self._took[kind]) / len(self._took[kind]) for kind in waiting if kind in self._took]
        if not known:
            return ""
        minutes = round(sum(known) / 60)
        least = "at least" if len(known) < len(waiting) else "about"
        return f"  ({least} {minutes // 60} h {minutes % 60:02d} min left)"

    def _run(self, command: list[str]) -> tuple[int, str]:
        """Exit code and standard output."""
        program = [sys.executable, "-m", "edge_ct.system.child_command", *command]
        with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None  # its standard input stays open until the end of the block
            try:
                text = process.stdout.read()
                return process.wait(), text
            except BaseException:
                process.terminate()
                raise
