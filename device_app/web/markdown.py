"""The part of Markdown that model cards use, as HTML: headings, paragraphs, lists, tables, bold, code.

All text is escaped. Links are shown as their text, because the device has no network to follow them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from markupsafe import Markup, escape

_ITEM = re.compile(r"(?:[-*]|\d+\.)\s+")
_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_RULE = re.compile(r"\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?")
_INLINE = re.compile(r"`([^`]+)`|\*\*(.+?)\*\*|\*(.+?)\*|!?\[([^\]]*)\]\([^)]*\)")


def render_markdown(text: str, label: str, top: int = 2) -> Markup:
    """Return the HTML of a text.

    Args:
        text: Markdown.
        label: Accessible name of its tables, which scroll by themselves.
        top: Level of the highest heading; a heading of the first level, the title, is left out.
    """
    return Markup("\n").join(_block(lines, label, top) for lines in _blocks(text))


def find_table(text: str, words: Sequence[str]) -> str | None:
    """Return the first table, as Markdown, whose header has a column for each of the words; None if there is none."""
    for lines in _blocks(text):
        if _is_table(lines) and all(any(word in cell.casefold() for cell in _cells(lines[0])) for word in words):
            return "\n".join(lines)
    return None


def _blocks(text: str) -> Iterator[list[str]]:
    """Yield the lines of each paragraph, heading, list and table."""
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        stripped = line.strip()
        starts = bool(_HEADING.match(stripped)) or (bool(_ITEM.match(stripped)) and not (block and _is_list(block)))
        if block and (not stripped or starts or bool(_HEADING.match(block[0]))):
            yield block
            block = []
        if stripped:
            block.append(stripped)


def _block(lines: list[str], label: str, top: int) -> Markup:
    if heading := _HEADING.match(lines[0]):
        level = len(heading[1])
        if level == 1:
            return Markup("")
        tag = f"h{min(6, level + top - 2)}"
        return Markup("<{0}>{1}</{0}>").format(Markup(tag), _inline(heading[2]))
    if _is_list(lines):
        items = [" ".join(item) for item in _items(lines)]
        listed = Markup("").join(Markup("<li>{}</li>").format(_inline(item)) for item in items)
        return Markup("<ol>{}</ol>" if lines[0][0].isdigit() else "<ul>{}</ul>").format(listed)
    if _is_table(lines):
        return _table(lines, label)
    return Markup("<p>{}</p>").format(_inline(" ".join(lines)))


def _items(lines: list[str]) -> Iterator[list[str]]:
    item: list[str] = []
    for line in lines:
        if match := _ITEM.match(line):
            if item:
                yield item
            item = [line[match.end() :]]
        else:
            item.append(line)
    yield item


def _table(lines: list[str], label: str) -> Markup:
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(_inline(cell)) for cell in _cells(lines[0]))
    body = Markup("")
    for line in lines[2:]:
        first, *others = _cells(line) or [""]
        cells = Markup("").join(Markup("<td>{}</td>").format(_inline(cell)) for cell in others)
        body += Markup('<tr><th scope="row">{}</th>{}</tr>').format(_inline(first), cells)
    table = Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, body)
    return Markup('<div class="wide" tabindex="0" role="region" aria-label="{}">{}</div>').format(label, table)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _is_list(lines: Sequence[str]) -> bool:
    return bool(_ITEM.match(lines[0]))


def _is_table(lines: Sequence[str]) -> bool:
    return len(lines) > 1 and "|" in lines[0] and "|" in lines[1] and bool(_RULE.fullmatch(lines[1]))


def _inline(text: str) -> Markup:
    html, place = Markup(""), 0
    for match in _INLINE.finditer(text):
        html += escape(text[place : match.start()])
        code, bold, italic, link = match.groups()
        if code is not None:
            html += Markup("<code>{}</code>").format(code)
        elif bold is not None:
            html += Markup("<strong>{}</strong>").format(_inline(bold))
        elif italic is not None:
            html += Markup("<em>{}</em>").format(_inline(italic))
        else:
            html += _inline(link)
        place = match.end()
    return html + escape(text[place:])
