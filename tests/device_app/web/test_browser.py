"""The page in a real Chromium: what a health worker does, from files to a signed-off summary.

Skipped where there is no Chromium or no Playwright. EDGE_CT_SHOTS=FOLDER keeps pictures of the pages, made of phantom
slices; EDGE_CT_MODEL=BUNDLE serves another model than the untrained one, for pictures to be shown.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_ct.phantom import make_slice

from .conftest import Served

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SHOTS = os.environ.get("EDGE_CT_SHOTS")
MODEL = os.environ.get("EDGE_CT_MODEL")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SCREEN, PHONE = {"width": 800, "height": 480}, {"width": 390, "height": 844}
PIN = "493817"
URGENCY = ["positive", "refer", "rejected", "negative"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """A page of a new browser profile; whatever it complains of, or asks of elsewhere, fails the test."""
    contexts, complaints = [], []

    def opened(served: Served, **options: Any) -> Any:
        context = chromium.new_context(**{"viewport": SCREEN, "locale": "en-GB", **options})
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"error {error}"))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith(served.url) else None)
        return page

    yield opened
    for context in contexts:
        context.close()
    # A refused PIN is an answer of 403 or 429, which the console calls an error.
    assert [one for one in complaints if "status of 4" not in one and not one.startswith("blob:")] == []


@pytest.fixture
def study(tmp_path: Path) -> list[Path]:
    """Phantom slices of four patients, a picture in colour that is no CT slice, and half a file."""
    folder = tmp_path / "study"
    folder.mkdir()
    for patient in range(4):
        for index in (2, 3, 4):
            image = make_slice(7090 + patient, index, patient % 2 == 1, 384).image
            cv2.imwrite(str(folder / f"phantom{patient}-slice{index}.png"), image)
    cv2.imwrite(str(folder / "holiday.png"), landscape())
    whole = (folder / "phantom0-slice2.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    return sorted(folder.iterdir())


def landscape() -> np.ndarray:
    """A synthetic photograph: sky, sun, hills and grass in colour, BGR uint8 [h, w, 3]."""
    height, width = 480, 640
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    picture = np.stack([230 - y * 0.1, 180 - y * 0.15, 120 + y * 0.2], axis=2)
    picture[np.hypot(x - 480, y - 110) < 46] = (90, 220, 255)
    ridge = 250 + 40 * np.sin(x / 70) + 20 * np.sin(x / 23)
    picture[y > ridge] = (60, 110, 70)
    picture[y > 340 + 12 * np.sin(x / 31)] = (40, 150, 60)
    picture += rng.normal(0, 9, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def shoot(page: Any, name: str, **options: Any) -> None:
    if SHOTS:
        page.wait_for_timeout(400)
        page.screenshot(path=Path(SHOTS) / f"{name}.png", **options)


def start(serve: Callable[..., Served], *arguments: object) -> Served:
    return serve(*arguments, model=Path(MODEL) if MODEL else None)


def upload(page: Any, served: Served, study: list[Path]) -> None:
    page.goto(served.url + "add")
    page.set_input_files("#files", [str(path) for path in study])
    page.wait_for_selector("#after:not([hidden])")


def test_from_files_to_a_signed_summary(
    serve: Callable[..., Served], open_page: Callable[..., Any], study: list[Path]
) -> None:
    served = start(serve)
    page, beside = open_page(served), open_page(served)
    page.goto(served.url)
    assert "The worklist is empty" in page.inner_text("main")
    beside.goto(served.url)

    # Upload and progress.
    page.goto(served.url + "add")
    page.set_input_files("#files", [str(path) for path in study])
    page.wait_for_selector("#results li a")
    page.wait_for_selector("#after:not([hidden])")
    assert f"{len(study)} of {len(study)} slices judged. Finished." in page.inner_text("#progress")
    assert page.locator("#results li a").count() == len(study)
    assert page.inner_text("#live") == page.inner_text("#progress span")
    shoot(page, "serve-add")

    # The page that stood open learns of it by itself; the most urgent come first.
    playwright.expect(beside.locator(".row")).to_have_count(len(study), timeout=60_000)
    page.click("#after a")
    page.wait_for_selector(".row")
    shown = page.eval_on_selector_all(".row", "rows => rows.map(row => row.classList[1])")
    assert shown == sorted(shown, key=URGENCY.index)
    assert "truncated" in page.inner_text(".row.rejected:has-text('half.png')")
    shoot(page, "serve-list")

    # Keys lead through the list and into a slice.
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('.row') === document.querySelectorAll('.row')[1]")
    page.locator(".row:has-text('phantom1-slice3.png') a").press("Enter")
    page.wait_for_selector("#canvas:not([hidden])")

    # The heat map's slider, by key and by value.
    layer = page.locator("#layer")
    assert layer.evaluate("image => image.complete && image.naturalWidth > 0")
    page.locator("#opacity").fill("30")
    assert layer.evaluate("image => image.style.opacity") == "0.3"
    page.locator("#opacity").evaluate("slider => slider.blur()")
    page.keyboard.press("h")
    assert layer.evaluate("image => image.style.opacity") == "0"
    page.keyboard.press("h")
    assert page.inner_text("#opacity-value") == "30 %"
    page.locator("#opacity").fill("65")
    page.locator("#opacity").evaluate("slider => slider.blur()")
    shoot(page, "serve-slice")

    # Grey levels: what is drawn is what the window says of the picture's own bytes.
    grey = cv2.imread(str(next(path for path in study if path.name == "phantom1-slice3.png")), cv2.IMREAD_GRAYSCALE)
    for key, name, low, high in (
        ("1", "as_is", 0, 255),
        ("2", "lung", 0, 128),
        ("3", "dense", 112, 255),
        ("4", "inverted", 255, 0),
    ):
        page.keyboard.press(key)
        assert page.locator("#canvas").get_attribute("data-window") == name
        drawn = page.evaluate(
            "() => { const c = document.getElementById('canvas');"
            " return [...c.getContext('2d').getImageData(0, 200, c.width, 1).data].filter((_, i) => i % 4 === 0); }"
        )
        expected = np.clip(np.rint((grey[200].astype(float) - low) * 255 / (high - low)), 0, 255)
        assert np.abs(np.array(drawn) - expected).max() <= 1
    page.keyboard.press("1")

    # The strip and the arrow keys lead on.
    here = page.url
    page.locator("#opacity").evaluate("slider => slider.blur()")  # whose own the arrows are
    page.keyboard.press("ArrowRight")
    page.wait_for_url(lambda url: url != here)
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(here)

    # Review.
    page.fill("input[name=reviewer]", "Dr Lima")
    page.fill("textarea[name=note]", "motion artefact")
    other = "positive" if page.locator(".verdict.negative").count() else "negative"
    page.click(f"button[value={other}]")
    page.wait_for_selector(".reviews")
    assert f"Dr Lima reads {other}" in page.inner_text(".reviews")
    assert "motion artefact" in page.inner_text(".reviews")
    assert page.input_value("input[name=reviewer]") == "Dr Lima"

    # Print: one page, without the page's own furniture.
    page.click("#to-print")
    page.wait_for_selector(".paper")
    assert "Dr Lima" in page.inner_text(".paper")
    shoot(page, "serve-summary", full_page=True)
    assert page.pdf().count(b"/Type /Page\n") == 1
    page.emulate_media(media="print")
    assert not page.is_visible(".top")
    assert page.is_visible(".paper >> text=Research use only")
    page.emulate_media(media="screen")

    # The other language, and a page that stays in it.
    page.goto(served.url)
    page.click(".menu summary")
    page.click("button[lang='pt-BR']")
    page.wait_for_selector("html[lang='pt-BR']")
    assert "Somente para pesquisa" in page.inner_text(".top")
    page.locator(".row.rejected:has-text('half.png') a").click()
    assert "arquivo truncado" in page.inner_text(".verdict")
    for name in ("model", "device"):
        page.goto(served.url + name)
        shoot(page, f"serve-{name}-pt", full_page=True)


@pytest.mark.skipif(
    importlib.util.find_spec("edge_ct.imaging.slice_check") is None,
    reason="pictures are not looked at before they are judged",
)
def test_a_photograph_is_not_judged(
    serve: Callable[..., Served], open_page: Callable[..., Any], study: list[Path]
) -> None:
    served = start(serve)
    page = open_page(served)
    upload(page, served, [path for path in study if path.name == "holiday.png"])
    assert "Not judged" in page.inner_text("#results")
    page.click("#results a")
    page.wait_for_selector(".verdict.rejected")
    assert "Send this slice again as an axial chest CT slice" in page.inner_text(".verdict")
    assert page.locator("#layer").count() == 0
    shoot(page, "serve-photograph")


def test_a_phone_behind_a_pin(serve: Callable[..., Served], open_page: Callable[..., Any], study: list[Path]) -> None:
    served = start(serve, "--lan", "--pin", PIN)
    page = open_page(served, viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    page.goto(served.url)
    page.wait_for_selector("input[name=pin]")
    assert page.locator(".tabs").count() == 0
    page.fill("input[name=pin]", "111111")
    page.click("main button")
    assert "This PIN is wrong" in page.inner_text("[role=alert]")
    shoot(page, "serve-pin-phone")
    page.fill("input[name=pin]", PIN)
    page.click("main button")
    page.wait_for_selector(".tabs")
    upload(page, served, study)
    page.click("#after a")
    page.wait_for_selector(".row")
    shoot(page, "serve-list-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator(".row:has-text('phantom1-slice3.png') a").tap()
    page.wait_for_selector("#canvas:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shoot(page, "serve-slice-phone")


def test_dark_and_large_enough_to_touch(
    serve: Callable[..., Served], open_page: Callable[..., Any], study: list[Path]
) -> None:
    served = start(serve)
    page = open_page(served, color_scheme="dark")
    upload(page, served, study)
    small = """() => [...document.querySelectorAll('a, button, summary, input:not([type=hidden]), textarea')]
        .filter(one => !one.matches('.skip, .pick input, .presets input') && one.getClientRects().length)
        .filter(one => { const box = one.getBoundingClientRect(); return box.height < 43.5 || box.width < 43.5; })
        .map(one => one.outerHTML.slice(0, 120))"""
    nameless = """() => [...document.querySelectorAll('a, button, summary, input:not([type=hidden]), textarea, img')]
        .filter(one => !(one.textContent.trim() || one.ariaLabel || one.hasAttribute('alt') || one.labels?.length))
        .map(one => one.outerHTML.slice(0, 120))"""
    numbers = page.eval_on_selector_all("#results a", "links => links.map(link => link.getAttribute('href').slice(1))")
    for path in ("", "add", numbers[0], "model", "device"):
        page.goto(served.url + path)
        assert page.evaluate(small) == [], path
        assert page.evaluate(nameless) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == "rgb(13, 21, 27)"
    page.goto(served.url + numbers[-1])
    page.wait_for_selector("main")
    shoot(page, "serve-slice-dark")


def test_a_stick_is_read_and_watched(
    serve: Callable[..., Served], open_page: Callable[..., Any], study: list[Path]
) -> None:
    served = start(serve, "--folder", study[0].parent)
    page = open_page(served)
    page.goto(served.url + "add")
    page.click(".folders a")
    page.click(f"text=Judge all slices in “{study[0].parent.name}”")
    playwright.expect(page.locator("#reading .told")).to_contain_text(f"{len(study)} of {len(study)}", timeout=60_000)
    page.goto(served.url)
    assert page.locator(".row").count() == len(study)
