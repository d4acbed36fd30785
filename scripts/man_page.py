"""The manual page of `edge-ct`, made from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator

import click

from edge_ct import cli


def walk() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command with its words after `edge-ct` and its context, groups before their commands."""
    with click.Context(cli.edge_ct, info_name="edge-ct", **cli.edge_ct.context_settings) as context:
        for name in cli.COMMANDS:
            yield from _walk(cli.edge_ct, name, "", context)


def _walk(
    group: click.Group, name: str, before: str, parent: click.Context
) -> Iterator[tuple[str, click.Command, click.Context]]:
    command = group.get_command(parent, name)
    assert command is not None
    with click.Context(command, info_name=name, parent=parent) as context:
        words = f"{before} {name}".strip()
        yield words, command, context
        if isinstance(command, click.Group):
            for child in command.list_commands(context):
                yield from _walk(command, child, words, context)


def man_page(version: str) -> str:
    """Return the manual page of `edge-ct` (section 1) in roff."""
    parts = [
        f'.TH EDGE-CT 1 "" "edge-ct {_roff(version)}" "User Commands"',
        ".SH NAME\nedge\\-ct \\- CT\\-slice classifiers from training to a device without a network",
        ".SH SYNOPSIS\n.B edge\\-ct\n.I COMMAND\n[\\fIOPTIONS\\fR]",
        f".SH DESCRIPTION\n{_text(cli.edge_ct.help or '')}",
        ".SH COMMANDS",
    ]
    for words, command, context in walk():
        parts.append(f".SS edge\\-ct {_roff(words)} {_roff(' '.join(command.collect_usage_pieces(context)))}")
        parts.append(_text(command.help or ""))
        for parameter in command.get_params(context):
            if (record := parameter.get_help_record(context)) and record[1]:
                parts.append(f".TP\n.B {_roff(record[0])}\n{_roff(record[1])}")
    codes = (
        "0 done, 2 wrong usage, 3 unreadable file, 4 bundle not trusted, 5 gate failed, 6 missing extra, "
        "7 unusable data, 8 storage full, 9 worklist changed, 10 doctor found a failure."
    )
    parts.append(f".SH EXIT STATUS\n{codes}")
    parts.append(".SH NOTES\nResearch use only. Not a medical device.")
    return "\n".join(parts) + "\n"


def _text(text: str) -> str:
    lines: list[str] = []
    verbatim = False
    for line in text.splitlines():
        if "\b" in line:
            verbatim = True
            lines += [".PP", ".nf"]
        elif not line.strip():
            lines += [".fi"] if verbatim else []
            lines.append(".PP")
            verbatim = False
        else:
            lines.append(_roff(line if verbatim else line.strip()))
    return "\n".join([*lines, *([".fi"] if verbatim else [])])


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text
