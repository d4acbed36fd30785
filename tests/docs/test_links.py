"""Relative links of README and docs lead to files, and their anchors to headings."""

import re
from pathlib import Path

import pytest

from .markdown_pages import PAGES, ROOT

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
GENERATED = {ROOT / "docs" / "reference" / "commands.md"}


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings} | set(named)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if file in GENERATED:
            continue
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_readme_links_to_the_documentation() -> None:
    assert "docs/" in " ".join(_LINK.findall((ROOT / "README.md").read_text(encoding="utf-8")))


def test_readme_is_short_and_marks_the_block_of_results() -> None:
    """A stranger decides in two minutes; the recipe's table has a place that a program can find."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 8000
    assert text.count("<!-- results: begin.") == text.count("<!-- results: end -->") == 1
    assert "make demo" in text and "make test" in text
