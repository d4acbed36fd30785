"""Every page in both languages, the settings of a browser, and the pages of the model and the device."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from edge_ct.bundle import CARD, add_members, read_bundle, unpack_bundle
from edge_ct.device_app.web.services import Services

from ..conftest import Home, token_of
from .conftest import PAGES

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("language", ["en", "pt-BR"])
@pytest.mark.parametrize("path", PAGES)
def test_every_page_says_what_it_is_for(path: str, language: str, client: Home, judged: Any) -> None:
    client.set_cookie("lang", language, domain="127.0.0.1")
    answer = client.get(path)
    assert answer.status_code == 200
    if path != "/rows":
        research = {"en": "Research use only", "pt-BR": "Somente para pesquisa"}[language]
        assert research in answer.text
        assert f'lang="{language}"' in answer.text
    own = re.sub(r'<p lang="en">.*?</p>', "", answer.text)  # the bundle's own words of its use
    assert "diagnos" not in own.lower()


def test_language_and_theme_are_kept(client: Home) -> None:
    token = token_of(client.get("/").text)
    answer = client.post("/settings", data={"csrf": token, "lang": "pt-BR", "back": "/model?x=1"})
    assert answer.headers["Location"] == "/model?x=1"
    assert "Ficha do modelo" in client.get("/model").text
    client.post("/settings", data={"csrf": token, "theme": "dark"})
    assert 'data-theme="dark"' in client.get("/").text
    assert client.post("/settings", data={"csrf": token, "lang": "xx"}).status_code == 400
    for back in ("//evil.example/", "http://evil.example/", "/\\evil.example", "evil", "/a\nb"):
        answer = client.post("/settings", data={"csrf": token, "theme": "light", "back": back})
        assert answer.headers["Location"] == "/"


def test_the_browsers_language_is_heard(client: Home) -> None:
    assert 'lang="pt-BR"' in client.get("/", headers={"Accept-Language": "pt;q=0.9"}).text
    assert 'lang="en"' in client.get("/", headers={"Accept-Language": "de"}).text


def test_model_card_and_device(client: Home, csrf: dict[str, str], services: Services) -> None:
    page = client.get("/model").text
    assert services.bundle.identity in page
    assert "45.0\u00a0% – 55.0\u00a0%" in page
    assert "Passed" in client.get("/device").text
    answer = client.post("/device/self-test", headers=csrf)
    assert "Passed: the model gives" in answer.text


def test_the_card_that_a_bundle_carries_is_shown(
    client: Home, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 'id="card"' not in client.get("/model").text
    table = b"| model | positive | refer | negative |\n| - | - | - | - |\n| a | 1 | 2 | 3 |\n"
    card = b"# Card\n\n## Use\n\n<b>Not</b> for **any** diagnosis.\n\n" + table
    monkeypatch.setattr(services, "bundle", unpack_bundle(add_members(services.bundle, {CARD: card}), "carried"))
    page = client.get("/model").text
    assert "<p>&lt;b&gt;Not&lt;/b&gt; for <strong>any</strong> diagnosis.</p>" in page
    assert "<h3>Use</h3>" in page
    assert page.count('<tr><th scope="row">a</th><td>1</td><td>2</td><td>3</td></tr>') == 2  # on top, and in its place


@pytest.mark.parametrize("name", ["accurate", "fast"])
def test_the_measured_decisions_are_those_of_the_card(
    name: str, client: Home, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of a shipped model shows the figures of the card, which a test compares with the committed results."""
    card = (ROOT / "docs" / "model-card.md").read_text(encoding="utf-8")
    lines = card.partition(f"`{name}`:\n\n| cases |")[2].partition("\n\n")[0].splitlines()[2:]
    figures = [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in lines]
    assert len(figures) == 4
    monkeypatch.setattr(services, "bundle", read_bundle(name))
    page = client.get("/model").text
    table = page.partition('<section class="card measured">')[2].partition("</table>")[0]
    shown = [
        [
            re.sub(r"<[^>]+>", " ", cell).replace("\u00a0", " ").replace("  ", " ").strip()
            for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)
        ]
        for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:]
    ]
    assert shown == figures


def test_a_failed_self_test_is_shown(
    client: Home, csrf: dict[str, str], services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_ct.errors import ModelRejected

    def wrong() -> float:
        raise ModelRejected("golden slice 0 gives something else")

    monkeypatch.setattr(services.queue, "check", wrong)
    answer = client.post("/device/self-test", headers=csrf)
    assert answer.status_code == 500
    assert "do not use this device" in answer.text
