"""Every page in every look: no violation that axe-core knows, and targets large enough to touch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_ct.device_app.worklist.worklist import Worklist

from ..conftest import Served
from .pages import DESK, MARKS, PHONE, SCREEN, OpenPage, rows_in_sight, upload

pytestmark = MARKS


SMALL = """() => [...document.querySelectorAll('a, button, summary, select, input:not([type=hidden]), textarea')]
    .filter(one => !one.matches('.skip, .pick input, .presets input, p a') && one.getClientRects().length)
    .filter(one => { const box = one.getBoundingClientRect(); return box.height < 43.5 || box.width < 43.5; })
    .map(one => one.outerHTML.slice(0, 120))"""


@pytest.fixture
def filled(model: Path, open_page: OpenPage, study: Path, serve: Callable[..., Served]) -> Served:
    """A server with the study in its worklist."""
    served = serve(model=model)
    upload(open_page(served), served, study)
    return served


def test_accessible_and_large_enough_to_touch(filled: Served, open_page: OpenPage) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed").Axe()
    with Worklist(filled.state) as worklist:
        judged = worklist.rows(decision="positive", limit=1) or worklist.rows(decision="negative", limit=1)
        numbers = (judged[0].id, worklist.rows(decision="rejected", limit=1)[0].id)
    paths = ["", "add", f"series/{numbers[0]}", *(f"slices/{n}" for n in numbers), f"slices/{numbers[0]}/print"]
    paths += [f"series/{numbers[0]}/print", "model", "device", "slices/9999", "?q=nothing"]
    looks = [(SCREEN, "dark", "en-GB"), (PHONE, "light", "pt-BR"), (DESK, "light", "en-GB"), (DESK, "dark", "pt-BR")]
    for size, scheme, locale in looks:
        page = open_page(filled, viewport=size, color_scheme=scheme, locale=locale)
        for path in paths:
            page.goto(filled.url + path)
            page.wait_for_selector("html.scripted")
            where = f"{path} {size['width']} {scheme} {locale}"
            violations = axe.run(page).response["violations"]
            seen = [(one["id"], [node["html"][:150] for node in one["nodes"][:3]]) for one in violations]
            assert seen == [], where
            assert page.evaluate(SMALL) == [], where
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), where
        if size == DESK:
            page.goto(filled.url)
            assert rows_in_sight(page) >= 16
        if scheme == "dark":
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 21, 27)"
