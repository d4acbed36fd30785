"""The Markdown pages of the repository that people read, and the blocks of code in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("CONTRIBUTING.md")))
_FENCED = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^\n|\A)((?: {4}[^\n]*\n)+)", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code: its page, its language ("" where none is named) and its text."""

    page: Path
    language: str
    text: str

    @property
    def name(self) -> str:
        return str(self.page.relative_to(ROOT))

    @property
    def commands(self) -> list[list[str]]:
        """The words of each line that runs `edge-ct`, without prompt, sudo, comment and redirection."""
        lines = self.text.replace("\\\n", " ").splitlines()
        found = []
        for line in lines:
            for part in re.split(r"&&|\|", line):
                match = re.match(r"\s*(?:sudo (?:-u \S+ )?)?(?:\S*/)?edge-ct (.+)", part)
                if match:
                    found.append(shlex.split(re.sub(r"\s>.*", "", match[1]), comments=True))
        return found


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    fenced = [Block(page, match[2], match[3]) for match in _FENCED.finditer(text)]
    rest = _FENCED.sub("", text)
    return fenced + [Block(page, "", re.sub(r"(?m)^ {4}", "", match[1])) for match in _INDENTED.finditer(rest)]


ALL_BLOCKS = [block for page in PAGES for block in blocks(page)]
