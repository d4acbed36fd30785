"""The site: its navigation names every page, and its reference of the commands is made from the commands."""

import importlib.util
from pathlib import Path

import yaml

from edge_ct import cli

from .markdown_pages import ROOT


def entries(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    children = nav.values() if isinstance(nav, dict) else nav
    return [entry for child in children for entry in entries(child)]  # type: ignore[union-attr]


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = {str(path.relative_to(ROOT / "docs")) for path in Path(ROOT / "docs").rglob("*.md")}
    assert set(entries(nav)) == pages | {"reference/commands.md"}


def test_the_reference_has_every_command_and_option() -> None:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "scripts" / "docs_hooks.py")
    assert spec is not None and spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    text = hooks.command_reference()
    for name in cli.COMMANDS:
        assert f"\n## edge-ct {name}\n" in text
    assert "\n### edge-ct worklist review\n" in text
    assert "- `--max-drop FLOAT RANGE`: Largest allowed loss of sensitivity" in text
    assert "\b" not in text
