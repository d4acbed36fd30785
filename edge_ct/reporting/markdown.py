"""The part of Markdown that model cards use, and its HTML: headings, paragraphs, lists, tables, bold, code.

All text is escaped. Links are shown as their text, because the device has no network to follow them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from html import escape

_ITEM = re.compile(r"(?:[-*]|\d+\.)\s+")
_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_RULE = re.compile(r"\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?")
_ROW = ' scope="row"'
# Returns a text in another language; None if it has no translation.
Translate = Callable[[str], str | None]
_INLINE = re.compile(r"`([^`]+)`|\*\*(.+?)\*\*|\*(.+?)\*|!?\[([^\]]*)\]\([^)]*\)")


def render_markdown(text: str, label: str, top: int = 2, translate: Translate = str) -> str:
    """Return the HTML of a text.

    Args:
        text: Markdown.
        label: Accessible name of its tables, which scroll by themselves; a number tells several tables apart.
        top: Level of the highest heading; a heading of the first level, the title, is left out.
        translate: Translates each heading, paragraph, item and cell. One without a translation is marked as English.
    """
    blocks = list(_blocks(text))
    tables = [place for place, lines in enumerate(blocks) if _is_table(lines)]
    labels = {place: f"{label} {number}" for number, place in enumerate(tables, 1)} if len(tables) > 1 else {}
    return "\n".join(_block(lines, labels.get(place, label), top, translate) for place, lines in enumerate(blocks))


def texts_of(text: str) -> list[str]:
    """Return the headings, paragraphs, items and cells of a text, as `render_markdown` translates them."""
    texts: list[str] = []

    def note(part: str) -> str:
        texts.append(part)
        return part

    render_markdown(text, "", translate=note)
    return texts


def find_table(text: str, words: Sequence[str]) -> str | None:
    """Return the first table, as Markdown, whose header has a column for each of the words; None if there is none."""
    for lines in _blocks(text):
        if _is_table(lines) and all(any(word in cell.casefold() for cell in _cells(lines[0])) for word in words):
            return "\n".join(lines)
    return None


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))


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


def _block(lines: list[str], label: str, top: int, translate: Translate) -> str:
    if heading := _HEADING.match(lines[0]):
        level = min(6, len(heading[1]) + top - 2)
        return _element(f"h{level}", heading[2], translate) if len(heading[1]) > 1 else ""
    if _is_list(lines):
        kind = "ol" if lines[0][0].isdigit() else "ul"
        items = "".join(_element("li", " ".join(item), translate) for item in _items(lines))
        return f"<{kind}>{items}</{kind}>"
    if _is_table(lines):
        return _table(lines, label, translate)
    return _element("p", " ".join(lines), translate)


def _element(name: str, text: str, translate: Translate, attributes: str = "") -> str:
    translated = translate(text)
    if translated is None:
        return f'<{name}{attributes} lang="en">{_inline(text)}</{name}>'
    return f"<{name}{attributes}>{_inline(translated)}</{name}>"


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


def _table(lines: list[str], label: str, translate: Translate) -> str:
    # A heading without text is no heading: screen readers would announce it for each cell of its column.
    head = "".join(
        _element("th", cell, translate, ' scope="col"') if cell else "<td></td>" for cell in _cells(lines[0])
    )
    body = ""
    for line in lines[2:]:
        first, *others = _cells(line)
        cells = "".join(_element("td", cell, translate) for cell in others)
        body += f"<tr>{_element('th', first, translate, _ROW)}{cells}</tr>"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}">{table}</div>'


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _is_list(lines: Sequence[str]) -> bool:
    return bool(_ITEM.match(lines[0]))


def _is_table(lines: Sequence[str]) -> bool:
    return len(lines) > 1 and "|" in lines[0] and "|" in lines[1] and bool(_RULE.fullmatch(lines[1]))


def _inline(text: str) -> str:
    html, place = "", 0
    for match in _INLINE.finditer(text):
        html += escape(text[place : match.start()])
        code, bold, italic, link = match.groups()
        if code is not None:
            html += f"<code>{escape(code)}</code>"
        elif bold is not None:
            html += f"<strong>{_inline(bold)}</strong>"
        elif italic is not None:
            html += f"<em>{_inline(italic)}</em>"
        else:
            html += _inline(link)
        place = match.end()
    return html + escape(text[place:])
