"""The catalogue: nothing missing, nothing left over, in either language; and what the engine says, translated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from edge_ct.bundle import read_bundle
from edge_ct.device_app.web import translations
from edge_ct.device_app.web.presenters import outcome_table, shorten_intervals
from edge_ct.device_app.web.translations import LANGUAGES, Words, catalogue
from edge_ct.reporting.markdown import render_markdown, texts_of
from edge_ct.shipped_models import find_bundle

WEB = Path(translations.__file__).parent
HOLE = re.compile(r"\{(\w+)\}")
WORDS = catalogue().words
# Keys that templates put together, by what comes before the part that varies.
MADE = (
    "nav.", "menu.", "decision.", "advice.", "short.", "filter.", "keys.", "window.", "review.agree.",
    "review.override.", "review.overridden.", "metric.", "split.", "part.", "device.", "js.",
    "slice.prev", "slice.next", "read.", "list.read.",
    "group_advice.", "origin.", "sort.", "model.limit.", "series.rule.", "tool.", "heat.",
)  # fmt: skip


@pytest.mark.parametrize("key", WORDS)
def test_every_word_is_there_in_every_language(key: str) -> None:
    texts = WORDS[key]
    assert set(texts) == set(LANGUAGES)
    assert all(text.strip() for text in texts.values())
    holes = {language: sorted(HOLE.findall(text)) for language, text in texts.items()}
    assert holes["pt-BR"] == holes["en"]


def test_keys_that_the_page_uses_are_in_the_catalogue_and_the_others_are_not() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in [*WEB.glob("templates/*"), *WEB.glob("*.py")])
    scripts = "".join(path.read_text(encoding="utf-8") for path in WEB.glob("static/*.js"))
    named = {
        key
        for key in re.findall(r"""["']([a-z_0-9]+(?:\.[a-z_0-9]+)+)["']""", source)
        if key.split(".")[0] in {own.split(".")[0] for own in WORDS}
    }
    named -= {key for key in named if key.endswith((".html", ".js", ".css", ".json", ".svg"))}
    assert named <= WORDS.keys()
    said = {f"js.{key}" for key in re.findall(r'edge\.say\((?:\w+ \? )?"(\w+)"', scripts)}
    said |= {f"js.{key}" for key in re.findall(r'edge\.say\(\w+ \? "\w+" : "(\w+)"', scripts)}
    assert said <= WORDS.keys()
    unused = {key for key in WORDS if key not in named and key not in said and not key.endswith(".one")}
    assert {key for key in unused if not key.startswith(MADE)} == set()
    assert {key for key in WORDS if key.startswith("js.")} - said == set()


def test_no_page_speaks_of_a_diagnosis() -> None:
    for key, texts in WORDS.items():
        for text in texts.values():
            assert "diagn" not in text.lower(), key


def test_counting() -> None:
    english, portuguese = Words("en"), Words("pt-BR")
    assert english("add.count", n=1) == "1 file"
    assert english("add.count", n=0) == "0 files"
    assert portuguese("add.count", n=2) == "2 arquivos"


def test_numbers_and_times_are_written_as_the_language_writes_them() -> None:
    from datetime import datetime, timezone

    moment = datetime(2026, 3, 9, 12, 30, tzinfo=timezone.utc).astimezone()
    assert Words("en").percent(0.935, 1) == "93.5\u00a0%"
    assert Words("pt-BR").percent(0.935, 1) == "93,5\u00a0%"
    assert Words("en").percent(None) == "–"
    assert Words("en").time(moment) == f"{moment:%Y-%m-%d %H:%M}"
    assert Words("pt-BR").time(moment) == f"{moment:%d/%m/%Y %H:%M}"


@pytest.mark.parametrize(
    ("said", "translated"),
    [
        ("68.1 % [65.6, 70.4]", "68,1 % [65,6; 70,4]"),
        ("0.842 [0.824, 0.857]", "0,842 [0,824; 0,857]"),
        ("3,750 slices (fingerprint 90b491fd.1).", "3.750 cortes (impressão digital 90b491fd.1)."),
        ("v5_z053.jpg", "v5_z053.jpg"),
        (
            "`fast`: mobilenetv2, alpha 0.35, int8, 192 px, 2,327,011 parameters, model file of 0.66 MB. "
            "Negative below P = 0.097, positive from 0.602.",
            "`fast`: mobilenetv2, alpha 0,35, int8, 192 px, 2.327.011 parâmetros, arquivo de 0,66 MB. "
            "Negativo abaixo de P = 0,097, positivo a partir de 0,602.",
        ),
        (
            "CC BY-NC-ND 3.0 and CC BY-NC-SA 4.0, as the sets it learned from: research use, not commercial",
            "CC BY-NC-ND 3.0 e CC BY-NC-SA 4.0, como os conjuntos com que aprendeu: uso em pesquisa, não comercial",
        ),
        ("`--size 128 --lr 0.35`, without `--ema`", "`--size 128 --lr 0.35`, sem `--ema`"),
        ("`--size 128`, without `--ema` and `--balance`", "`--size 128`, sem `--ema` e `--balance`"),
    ],
)
def test_numbers_of_a_model_card_are_written_as_the_language_writes_them(said: str, translated: str) -> None:
    assert Words("pt-BR").of_card(said) == translated
    assert Words("en").of_card(said) == said


@pytest.mark.parametrize("name", ["accurate", "fast"])
def test_no_decimal_point_is_left_in_the_translated_card(name: str) -> None:
    """Outside code, and but for the versions in the names of licences."""
    html = render_markdown(read_bundle(find_bundle(name)).card, "Card", translate=Words("pt-BR").of_card)
    text = re.sub(r"<code>.*?</code>|Apache-2\.0|CC BY\S* \d\.\d", "", html)
    assert re.findall(r"\d+\.\d+(?!\d*\.?\d{3})", re.sub(r"\d{1,3}(\.\d{3})+(?!\d)", "", text)) == []


def test_an_unknown_language_is_english() -> None:
    assert Words("xx").language == "en"
    headers = ("pt", "pt-BR,en;q=0.8", "de, en-GB;q=0.7", "de", "")
    assert [translations.preferred_language(accept) for accept in headers] == [
        "pt-BR",
        "pt-BR",
        "en",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("said", "translated"),
    [
        (
            "uncertain at the 95% level: have it read, or test",
            "indeterminado no nível de 95%: solicite a leitura ou um exame",
        ),
        (
            "20 x 20 px; too small for a CT slice (at least 32)",
            "20 x 20 px; pequeno demais para um corte de TC (no mínimo 32)",
        ),
        ("something that nobody foresaw", "something that nobody foresaw"),
    ],
)
def test_reasons_are_translated_by_their_shape(said: str, translated: str) -> None:
    assert Words("pt-BR").reason(said) == translated
    assert Words("en").reason(said) == said
    assert Words("en").reason(None) is None


def test_the_engine_gives_reasons_that_the_catalogue_knows() -> None:
    """Asked of the engine itself, so that a reworded reason is found here."""
    import numpy as np

    from edge_ct import slices
    from edge_ct.decision import REFERRED
    from edge_ct.errors import InputRejected

    said: list[str] = [REFERRED]
    small = np.zeros((16, 16), np.uint8)
    import cv2

    whole = cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1].tobytes()
    for content in (
        b"",
        b"GIF89a",
        whole[:-5],
        cv2.imencode(".png", small)[1].tobytes(),
        whole[:40] + b"x" + whole[41:],
    ):
        with pytest.raises(InputRejected) as caught:
            slices.decode(content, "x")
        said.append(str(caught.value).removeprefix("x: "))
    for reason in said:
        assert Words("pt-BR").reason(reason) != reason, reason


def test_reasons_of_dicom_frames_are_in_the_catalogue() -> None:
    """Asked of the rules themselves, so that a reworded reason is found here."""
    import msgspec

    from edge_ct.device_app.judging.dicom_frames import FrameAttributes, reason_to_skip

    chest = FrameAttributes(
        sop_class="", instance="", frame=0, study="", series="", patient="", modality="CT", image_type=(),
        body_part="CHEST", number=None, position=None, orientation=None, thickness=None, spacing=None, lossy=False,
        photometric="MONOCHROME2", expected=None,
    )  # fmt: skip
    assert reason_to_skip(chest) is None
    for change in (
        {"modality": "MR"},
        {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")},
        {"image_type": ("DERIVED", "SECONDARY")},
        {"orientation": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)},
        {"body_part": "HEAD"},
    ):
        changes: dict[str, Any] = change
        reason = reason_to_skip(msgspec.structs.replace(chest, **changes))
        assert reason is not None
        assert Words("pt-BR").reason(reason) != reason, reason


def test_scripts_and_templates_hold_no_address_of_elsewhere_and_no_inline_code() -> None:
    for path in [*WEB.glob("templates/*"), *WEB.glob("static/*")]:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, path
        assert "https:" not in text, path
        assert not re.search(r"\son\w+=|style=|<style|javascript:", text.replace("data-", "")), path
        assert not re.search(r"<script(?![^>]*(src=|application/json))", text), path


@pytest.mark.parametrize("name", ["accurate", "fast"])
def test_the_cards_of_the_shipped_models_are_translated(name: str) -> None:
    """All but file names: a new sentence in the card's template needs a line in `strings.json`."""
    card = read_bundle(find_bundle(name)).card
    texts = [text for text in texts_of(card) if not re.search(r"\.(png|jpe?g)$", text)]
    assert len(texts) > 100
    assert [text for text in texts if Words("pt-BR").of_card(text) is None] == []
    assert [text for text in texts if Words("en").of_card(text) != text] == []


def test_what_the_catalogue_does_not_know_of_a_card_is_marked_as_english() -> None:
    html = render_markdown("## Limits\n\nSomebody else's words.\n", "Card", translate=Words("pt-BR").of_card)
    assert html == '<h2>Limites</h2>\n<p lang="en">Somebody else&#x27;s words.</p>'


def test_the_outcomes_are_those_of_the_model_that_is_served() -> None:
    """A card of two models holds a table of each; the bundle is one of them."""
    table = "| cases | called positive | called refer | called negative |\n| - | - | - | - |\n| a | {n} | 0 | 0 |"
    card = (
        "- `large`: net, 2,000 parameters.\n- `small`: net, 500 parameters.\n\n"
        "`large`:\n\n| patient | Dice |\n| - | - |\n\n"
        f"`large`:\n\n{table.format(n=1)}\n\n`small`:\n\n{table.format(n=2)}\n"
    )
    assert outcome_table(card, 2000) == table.format(n=1)
    assert outcome_table(card, 500) == table.format(n=2)
    assert outcome_table(card, 501) is None
    assert outcome_table(table.format(n=3), 501) == table.format(n=3)
    assert outcome_table("# Card", 501) is None


def test_intervals_stand_below_their_values() -> None:
    html = render_markdown("| a | b [c] |\n| - | - |\n| x | 5.3 % [4.2, 6.6] |", "Table")
    assert shorten_intervals(html) == html.replace(" % [4.2, 6.6]", '\u00a0%<span class="small">[4.2, 6.6]</span>')
    assert shorten_intervals(html) != html
