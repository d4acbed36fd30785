"""Words on the page: `strings.json` holds each in every language; reasons of the engine are translated by shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib import resources

import msgspec

LANGUAGES = {"en": "English", "pt-BR": "Português"}
DEFAULT = "en"

_HOLE = re.compile(r"\{(\w+)\}")


class Catalogue(msgspec.Struct, frozen=True):
    """words: key -> language -> text. reasons: English and Portuguese shapes of what the engine says, with {holes}."""

    words: dict[str, dict[str, str]]
    reasons: list[dict[str, str]]


@cache
def catalogue() -> Catalogue:
    """The catalogue, read once."""
    content = resources.files(__package__).joinpath("strings.json").read_bytes()
    return msgspec.json.decode(content, type=Catalogue)


@cache
def _shapes() -> list[tuple[re.Pattern[str], dict[str, str]]]:
    """English shapes as patterns, each hole as short as it can be."""
    shapes = []
    for reason in catalogue().reasons:
        parts = _HOLE.split(reason["en"])
        # Every second part is a hole's name.
        pattern = "".join(f"(?P<{part}>.+?)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
        shapes.append((re.compile(pattern, re.DOTALL), reason))
    return shapes


class Words:
    """One language's words: `words("nav.add")`, `words("add.count", n=3)`."""

    def __init__(self, language: str) -> None:
        self.language = language if language in LANGUAGES else DEFAULT

    def __call__(self, key: str, **values: object) -> str:
        """The text of `key` with its {holes} filled; of `key.one` where n is 1 and there is one."""
        words = catalogue().words
        if values.get("n") == 1 and f"{key}.one" in words:
            key = f"{key}.one"
        text = words[key][self.language]
        return text.format_map(values) if values else text

    def script(self) -> Mapping[str, str]:
        """What the page's scripts say themselves: the keys below `js.`, without that."""
        return {
            key.removeprefix("js."): texts[self.language]
            for key, texts in catalogue().words.items()
            if key.startswith("js.")
        }

    def reason(self, text: str | None) -> str | None:
        """A reason of the engine in this language; in English where the catalogue has no shape for it."""
        if text is None or self.language == DEFAULT:
            return text
        for pattern, reason in _shapes():
            if match := pattern.fullmatch(text):
                return reason[self.language].format_map(match.groupdict())
        return text

    def number(self, value: float, digits: int = 1) -> str:
        """A number with the language's decimal sign."""
        return self._decimal(f"{value:.{digits}f}")

    def percent(self, value: float | None, digits: int = 0) -> str:
        """A share as per cent; a dash where there is none."""
        return "–" if value is None else self._decimal(f"{100 * value:.{digits}f}\u00a0%")

    def time(self, moment: datetime) -> str:
        """A moment in the machine's own time zone."""
        return f"{moment.astimezone():{'%d/%m/%Y %H:%M' if self.language == 'pt-BR' else '%Y-%m-%d %H:%M'}}"

    def _decimal(self, text: str) -> str:
        return text.replace(".", ",") if self.language == "pt-BR" else text


def preferred(accept: str) -> str | None:
    """The first language of an Accept-Language header that there is; `pt` in any form counts as Portuguese."""
    for part in accept.split(","):
        tag = part.split(";")[0].strip().lower()
        if tag.startswith("pt"):
            return "pt-BR"
        if tag.startswith("en"):
            return "en"
    return None
