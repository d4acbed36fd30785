"""`edge-ct` commands as steps that are done once, each recorded when it has finished.

Each step runs in a process of its own. A step that was killed is done again, or resumes by its own means; a finished
step is skipped as long as its files exist and have the size that was recorded.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec

from edge_ct.errors import EdgeCTError
from edge_ct.system.child_command import run_command
from edge_ct.system.files import write_bytes
from edge_ct.system.progress import Progress

RECORD_SUFFIX = ".step.json"


def is_up_to_date(path: Path, sources: Iterable[Path]) -> bool:
    """Tell whether a file exists and is at least as new as every file that it was made from."""
    return path.is_file() and all(source.stat().st_mtime_ns <= path.stat().st_mtime_ns for source in sources)


class StepRecord(msgspec.Struct, frozen=True):
    """The record of a finished step.

    Attributes:
        command: The command's words, with the names of folders in place of their paths.
        title: Title of the step.
        seconds: Duration.
        exit_code: Exit code of the command.
        files: Name of a file, relative to the record's folder -> its size in bytes.
        printed: What the command printed with `--json`, or None.
    """

    command: tuple[str, ...]
    title: str
    seconds: float
    exit_code: int
    files: dict[str, int]
    printed: Any = None


@dataclass
class ResumableSteps:
    """Runs steps below a folder.

    Attributes:
        out: Folder of the results.
        folders: Name -> folder that commands refer to; records hold the names, so that folders may move.
        progress: Where to show progress.
        kinds: Kind of every planned step, in order; the remaining time is estimated from steps of the same kind.
    """

    out: Path
    folders: dict[str, Path]
    progress: Progress
    kinds: list[str] = field(default_factory=list)
    _durations: dict[str, list[float]] = field(default_factory=dict)
    _position: int = 0

    def run(
        self,
        record: Path,
        kind: str,
        title: str,
        words: Sequence[object],
        files: Sequence[Path],
        accept: tuple[int, ...] = (),
    ) -> StepRecord:
        """Run a step, unless it is recorded as finished.

        Args:
            record: Path of the record without its suffix.
            kind: Kind of the step, for the estimate of the remaining time.
            title: Title, for progress.
            words: The command, without `edge-ct`.
            files: Files that the step may leave; at least one must exist afterwards.
            accept: Exit codes besides 0 that are a result too.

        Raises:
            CommandFailed: The command failed.
            EdgeCTError: The existing record was made by another command, or the command left no file.
        """
        self._position += 1
        path = record.with_name(record.name + RECORD_SUFFIX)
        command = [str(word) for word in words]
        if finished := self._finished(path, command):
            self._durations.setdefault(kind, []).append(finished.seconds)
            return finished
        self.progress.say(
            f"\n[{self._position}/{len(self.kinds)}] {title}{self._remaining_time()}\n  edge-ct {shlex.join(command)}"
        )
        begun = monotonic()
        output = run_command(command, accept)
        sizes = {str(file.relative_to(path.parent)): file.stat().st_size for file in files if file.is_file()}
        if not sizes:
            raise EdgeCTError(f"{title}: the command wrote none of {', '.join(str(file) for file in files)}")
        printed = json.loads(output.text) if output.exit_code == 0 and "--json" in command else None
        step = StepRecord(
            tuple(self._with_names(command)), title, monotonic() - begun, output.exit_code, sizes, printed
        )
        write_bytes(path, msgspec.json.format(msgspec.json.encode(step), indent=1) + b"\n")
        self._durations.setdefault(kind, []).append(step.seconds)
        return step

    def recorded(self, record: Path) -> StepRecord | None:
        """Return the record of a step, or None if the step has not finished or its files are missing or changed."""
        return self._read(record.with_name(record.name + RECORD_SUFFIX))

    def add_step(self, kind: str) -> None:
        """Plan one more step, to be run next."""
        self.kinds.insert(self._position, kind)

    def path(self, word: str) -> str:
        """Return a word of a recorded command with the path of its folder instead of the name."""
        name, _, rest = word.partition("/")
        return f"{self.folders[name]}/{rest}" if name in self.folders else word

    def _finished(self, path: Path, command: list[str]) -> StepRecord | None:
        step = self._read(path)
        if step is not None and list(step.command) != self._with_names(command):
            raise EdgeCTError(
                f"{path}: was made by another command, edge-ct {shlex.join(step.command)}; "
                f"delete {path.parent} to make it again, or go on with the same recipe"
            )
        return step

    def _read(self, path: Path) -> StepRecord | None:
        try:
            step = msgspec.json.decode(path.read_bytes(), type=StepRecord)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        is_whole = all(
            (path.parent / name).is_file() and (path.parent / name).stat().st_size == size
            for name, size in step.files.items()
        )
        return step if is_whole else None

    def _with_names(self, command: list[str]) -> list[str]:
        return [self._with_name(word) for word in command]

    def _with_name(self, word: str) -> str:
        for name, folder in self.folders.items():
            if word == str(folder) or word.startswith(f"{folder}/"):
                return name + word.removeprefix(str(folder))
        return word

    def _remaining_time(self) -> str:
        waiting = self.kinds[self._position - 1 :]
        known = [sum(self._durations[kind]) / len(self._durations[kind]) for kind in waiting if kind in self._durations]
        if not known:
            return ""
        minutes = round(sum(known) / 60)
        bound = "at least" if len(known) < len(waiting) else "about"
        return f"  ({bound} {minutes // 60} h {minutes % 60:02d} min left)"
