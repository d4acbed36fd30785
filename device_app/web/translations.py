"""Texts of the page: `strings.json` holds each in every language; reasons of the classifier are matched by pattern."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Literal

import msgspec

LANGUAGES = {"en": "English", "pt-BR": "Português"}
DEFAULT = "en"

# What consists of numbers and signs alone needs no translation.
_WORD = re.compile(r"[^\W\d_]{2}")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# A number with thousands or decimals in an English text, and the two ends of an interval in brackets.
_NUMBER = re.compile(r"(?<![\w.,])-?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+)(?!\w|[.,]\d)")
_INTERVAL = re.compile(r"(?<=\[)([^\[\],]+), ([^\[\],]+)(?=\])")
_SEPARATORS = str.maketrans(",.", ".,")
# Placeholders whose text stays as it is: a number in it is part of a name, such as the version of a licence.
_NAMES = ("licence", "other_licence", "recipe", "fingerprint", "name", "other_name", "third_name")


class Catalogue(msgspec.Struct, frozen=True):
    """The content of `strings.json`.

    Attributes:
        words: Text by key and language.
        reasons: Patterns of the classifier's reasons by language; each `{name}` stands for any text.
        card: Such patterns of what the model cards of `recipes` say.
    """

    words: dict[str, dict[str, str]]
    reasons: list[dict[str, str]]
    card: list[dict[str, str]]


@cache
def catalogue() -> Catalogue:
    """Return the catalogue, which is read once."""
    content = resources.files(__package__).joinpath("strings.json").read_bytes()
    return msgspec.json.decode(content, type=Catalogue)


@cache
def _patterns(part: Literal["reasons", "card"]) -> list[tuple[re.Pattern[str], dict[str, str]]]:
    """Return the English texts as regular expressions, in which a placeholder matches as little as possible."""
    patterns = []
    for texts in getattr(catalogue(), part):
        parts = _PLACEHOLDER.split(texts["en"])
        # Every second part is the name of a placeholder.
        pattern = "".join(f"(?P<{part}>.+?)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
        patterns.append((re.compile(pattern, re.DOTALL), texts))
    return patterns


class Words:
    """The texts of one language: `words("nav.add")`, `words("add.count", n=3)`."""

    def __init__(self, language: str) -> None:
        """Choose a language; an unknown one is English."""
        self.language = language if language in LANGUAGES else DEFAULT

    def __call__(self, key: str, **values: object) -> str:
        """Return the text of a key with its {placeholders} filled; if n is 1, that of `key.one` if it exists."""
        words = catalogue().words
        if values.get("n") == 1 and f"{key}.one" in words:
            key = f"{key}.one"
        text = words[key][self.language]
        return text.format_map(values) if values else text

    def script(self) -> Mapping[str, str]:
        """Return the texts that the scripts of the page use, by key without the prefix `js.`."""
        return {
            key.removeprefix("js."): texts[self.language]
            for key, texts in catalogue().words.items()
            if key.startswith("js.")
        }

    def reason(self, text: str | None) -> str | None:
        """Translate a reason of the classifier; one that the catalogue does not know stays in English."""
        if text is None or self.language == DEFAULT:
            return text
        return self._translate("reasons", text) or text

    def of_card(self, text: str) -> str | None:
        """Translate a heading, paragraph, item or cell of a model card; None if the catalogue does not know it.

        What has no space is taken for a name, if it is not in the catalogue.
        """
        if self.language == DEFAULT:
            return text
        if not _WORD.search(text):
            return self._with_numbers_of_language(text)
        return self._translate("card", text) or (None if " " in text else text)

    def _translate(self, part: Literal["reasons", "card"], text: str) -> str | None:
        for pattern, texts in _patterns(part):
            if match := pattern.fullmatch(text):
                values = match.groupdict()
                for name in values.keys() - set(_NAMES):
                    values[name] = self._with_numbers_of_language(values[name])
                return texts[self.language].format_map(values)
        return None

    def _with_numbers_of_language(self, text: str) -> str:
        """Return a text with its English numbers written as the language writes them: `3,750` becomes `3.750`."""
        if self.language != "pt-BR":
            return text
        text = _INTERVAL.sub(r"\1; \2", text)
        return _NUMBER.sub(lambda match: match[0].translate(_SEPARATORS), text)

    def number(self, value: float, digits: int = 1) -> str:
        """Return a number with the decimal separator of the language."""
        return self._with_decimal_separator(f"{value:.{digits}f}")

    def integer(self, value: int) -> str:
        """Return a whole number with the thousands separator of the language."""
        return f"{value:,}".replace(",", "." if self.language == "pt-BR" else ",")

    def percent(self, value: float | None, digits: int = 0) -> str:
        """Return a fraction as a percentage; a dash for None."""
        return "–" if value is None else self._with_decimal_separator(f"{100 * value:.{digits}f}\u00a0%")

    def score(self, probability: float | None) -> str:
        """Return a model score as a percentage that never reads as certainty: `> 99 %`, `< 1 %`; a dash for None."""
        if probability is None:
            return "–"
        if probability > 0.99:
            return ">\u00a099\u00a0%"
        return "<\u00a01\u00a0%" if probability < 0.01 else self.percent(probability)

    def time(self, moment: datetime) -> str:
        """Return a time in the time zone of the device."""
        return f"{moment.astimezone():{'%d/%m/%Y %H:%M' if self.language == 'pt-BR' else '%Y-%m-%d %H:%M'}}"

    def short_time(self, moment: datetime) -> str:
        """Return the hour of a moment of today, else its date; in the time zone of the device."""
        local = moment.astimezone()
        if local.date() == datetime.now().astimezone().date():
            return f"{local:%H:%M}"
        return self.time(moment).split(" ")[0]

    def _with_decimal_separator(self, text: str) -> str:
        return text.replace(".", ",") if self.language == "pt-BR" else text


def preferred_language(accept: str) -> str | None:
    """Return the first supported language of an Accept-Language header; every form of `pt` counts as Portuguese."""
    for part in accept.split(","):
        tag = part.split(";")[0].strip().lower()
        if tag.startswith("pt"):
            return "pt-BR"
        if tag.startswith("en"):
            return "en"
    return None
