"""Write the reference of the commands while MkDocs builds the site: `hooks` in mkdocs.yml names this file."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterator

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from edge_ct import cli

PAGE = "reference/commands.md"
INTRODUCTION = r"""# Commands

This page is made from the commands themselves when the site is built; `edge-ct COMMAND --help` prints the same text.
With `--json`, standard output holds JSON only; progress, tables and warnings go to standard error.

Every command takes two more options, before or after its name: `-v` (`--verbose`) prints details and the traceback of
an error on standard error, and `--quiet` prints nothing there but errors. (`listen` has a `--quiet` of its own: write
`edge-ct --quiet listen`.)

## Shell completion

The shell completes commands, options and the names of shipped bundles. Add the line of your shell to its start file and
open a new shell:

| shell | file | line |
|---|---|---|
| bash | `~/.bashrc` | `eval "$(_EDGE_CT_COMPLETE=bash_source edge-ct)"` |
| zsh | `~/.zshrc` | `eval "$(_EDGE_CT_COMPLETE=zsh_source edge-ct)"` |
| fish | `~/.config/fish/completions/edge-ct.fish` | `_EDGE_CT_COMPLETE=fish_source edge-ct \| source` |
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of the commands to the pages that MkDocs has found."""
    files.append(File.generated(config, PAGE, content=command_reference()))
    return files


def command_reference() -> str:
    """Return a Markdown page with the help of every command."""
    with click.Context(cli.edge_ct, info_name="edge-ct", **cli.edge_ct.context_settings) as context:
        sections = [text for name in cli.COMMANDS for text in _sections(cli.edge_ct, name, context, 2)]
    return "\n".join([INTRODUCTION, *sections])


def _sections(group: click.Group, name: str, parent: click.Context, level: int) -> Iterator[str]:
    command = group.get_command(parent, name)
    assert command is not None
    with click.Context(command, info_name=name, parent=parent) as context:
        usage = " ".join(command.collect_usage_pieces(context))
        parameters = [record for each in command.get_params(context) if (record := each.get_help_record(context))]
        yield f"{'#' * level} {context.command_path}\n"
        yield f"{_description(command.help or '')}\n"
        yield f"```text\n{context.command_path} {usage}\n```\n"
        if not isinstance(command, click.Group):
            yield "".join(f"- `{names}`: {_escape(text)}\n" for names, text in parameters if text)
            return
        for child in command.list_commands(context):
            yield from _sections(command, child, context, level + 1)


def _description(text: str) -> str:
    """Convert the help of a command: paragraphs after click's `\\b` keep their lines, as a block of code."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if "\b" in paragraph:
            parts.append(f"```text\n{textwrap.dedent(paragraph.replace(chr(8), '')).strip(chr(10))}\n```")
        else:
            parts.append(_escape(" ".join(paragraph.split())))
    return "\n\n".join(parts)


def _escape(text: str) -> str:
    return re.sub(r"([\\`*_\[\]])", r"\\\1", html.escape(text, quote=False))
