"""What a health worker does in a browser: from files over the list and the viewer to a signed-off summary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from ..conftest import Served
from .pages import (
    DESK,
    MARKS,
    PATIENTS,
    SCREEN,
    SLICES,
    OpenPage,
    check_levels,
    drag,
    playwright,
    rows_in_sight,
    shoot,
)

pytestmark = MARKS

URGENCY = ["positive", "refer", "rejected", "negative"]


def test_from_files_to_a_signed_summary(
    model: Path, open_page: OpenPage, study: Path, serve: Callable[..., Served]
) -> None:
    served = serve(model=model)
    page, beside = open_page(served), open_page(served)
    page.goto(served.url)
    assert "The worklist is empty" in page.inner_text("main")
    beside.goto(served.url)

    # A folder is uploaded: slices by name or content; each that was not judged says why on its line.
    page.goto(served.url + "add")
    high = page.locator("#drop").bounding_box()["height"]
    page.set_input_files("#folder", study)
    page.wait_for_selector("#after:not([hidden])")
    assert page.inner_text("#progress span").startswith("13 judged, 2 not;")
    assert "1 other files of the folder are not slices" in page.inner_text("#progress span")
    assert page.locator("#results li a").count() == 15
    assert "truncated" in page.inner_text("#results li:has-text('half.png')")
    assert "colour picture" in page.inner_text("#results li:has-text('holiday.png')")
    assert page.inner_text("#live") == page.inner_text("#progress span")
    assert page.locator("#drop").bounding_box()["height"] < high
    shoot(page, "serve-add")

    # The page that stood open learns of it by itself: a line a folder, the most urgent on top.
    playwright.expect(beside.locator(".row")).to_have_count(PATIENTS + 1, timeout=60_000)
    page.click("#after a")
    page.wait_for_selector(".row")
    shown = page.eval_on_selector_all(".row", "rows => rows.map(row => row.classList[1])")
    assert shown == sorted(shown, key=URGENCY.index)
    assert "of 3 suspicious" in page.inner_text(".row:has-text('phantom1')")
    assert "2 not judged" in page.inner_text(".row:has-text('more')")
    assert rows_in_sight(page) >= 8

    # Search, order and filter are in the address, so that Back and the link to the worklist return to them.
    page.fill("#find input", "phantom1")
    playwright.expect(page.locator(".row")).to_have_count(1)
    page.select_option("#find select", "newest")
    page.wait_for_url("**/?q=phantom1&sort=newest")

    # Keys lead through the list into the series, and on to its slices; the list keeps the focus while it refreshes.
    page.locator(".row a").first.focus()
    page.evaluate("async () => { while (busy) await new Promise(later => setTimeout(later, 50)); await refresh(); }")
    playwright.expect(page.locator(".row a").first).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_selector(".grid")
    assert page.locator(".grid li").count() == SLICES
    page.go_back()
    playwright.expect(page.locator(".row")).to_have_count(1)
    page.go_forward()
    page.wait_for_selector(".grid")
    page.click("a[rel=up]")
    page.wait_for_url("**/?q=phantom1&sort=newest")
    page.click(".row a")
    page.locator(".grid a").nth(1).click()
    page.wait_for_selector("#canvas:not([hidden])")
    assert "2 of 3" in page.inner_text("#way h1")
    number = int(page.url.rsplit("/", 1)[1])

    # The review is in sight, and the picture as large as the screen allows.
    for name in ("#agree", ".verdict .word", "button[value=unusable]"):
        box = page.locator(name).bounding_box()
        assert box["y"] + box["height"] <= 480, name
    assert page.locator("#stage").bounding_box()["height"] > 400

    check_viewer(page, study)

    # Review: the reader's answer is the headline, that of the model stands below it.
    page.fill("input[name=reviewer]", "Dr Lima")
    page.fill("input[name=note]", "motion artefact")
    other = "positive" if page.locator(".verdict.negative").count() else "negative"
    words = {"positive": "COVID-19 pneumonia", "negative": "no sign of COVID-19 pneumonia"}[other]
    page.click(f"button[value={other}]")
    page.wait_for_selector(".reviews")
    assert page.inner_text(".verdict .word") == f"Read as {words}"
    assert page.inner_text(".verdict .model").startswith("Model: ")
    assert f"Dr Lima reads {words}" in page.inner_text(".reviews")
    assert "motion artefact" in page.inner_text(".reviews")
    assert page.input_value("input[name=reviewer]") == "Dr Lima"
    assert page.input_value("input[name=note]") == ""
    page.click("#to-print")
    page.wait_for_selector(".paper")
    assert f"Read as {words}" in page.inner_text(".paper .result")
    assert "Dr Lima" in page.inner_text(".paper")

    # One sheet a series, on one page, without the page's own furniture.
    page.click("text=Sheet of the whole series")
    page.wait_for_selector(".contact")
    assert page.locator(".contact li").count() == SLICES
    shoot(page, "serve-sheet", full_page=True)
    assert page.pdf(prefer_css_page_size=True).count(b"/Type /Page\n") == 1
    page.emulate_media(media="print")
    assert not page.is_visible(".top")
    assert page.is_visible(".paper >> text=Research use only")
    page.emulate_media(media="screen")

    # "Next open" leads through what is open: it never returns to what has been read.
    page.goto(f"{served.url}slices/{number}")
    page.keyboard.press("n")
    page.wait_for_url(lambda url: not url.endswith(f"/slices/{number}"))
    page.goto(f"{served.url}series/{number}")
    page.click("button[value=negative]")
    page.wait_for_selector("#review", state="detached")
    assert page.locator(".grid .tick").count() == SLICES
    page.goto(served.url + "?show=reviewed")
    assert "phantom1" in page.inner_text(".row")

    # A slice that was not judged offers what fits it.
    page.goto(served.url + "?q=half")
    page.click(".row a")
    page.click(".grid li:has-text('half.png') a")
    page.wait_for_selector(".verdict.rejected")
    assert "truncated" in page.inner_text(".verdict")
    assert "Send it again" in page.inner_text(".verdict")
    assert page.locator("button[value=agree]").inner_text() == "Agree: unusable"
    assert page.locator("button[value=unusable]").count() == 0
    page.goto(served.url + "?q=holiday")
    page.click(".row a")
    page.click(".grid li:has-text('holiday.png') a")
    page.wait_for_selector("#stage")
    assert page.locator("#layer").count() == 0

    # The other language, and a page that stays in it.
    page.click(".menu summary")
    page.click("button[lang='pt-BR']")
    page.wait_for_selector("html[lang='pt-BR']")
    assert "Somente para pesquisa" in page.inner_text(".top")
    assert "imagem colorida" in page.inner_text(".verdict")


def check_viewer(page: Any, study: Path) -> None:
    """Zoom, pan, window, heat map and the way through the series, on the page of the second slice of `phantom1`."""
    layer, sheet = page.locator("#layer"), page.locator(".pane.over .sheet")
    assert layer.evaluate("image => image.complete && image.naturalWidth > 0")
    assert layer.evaluate("image => getComputedStyle(image).opacity") == "0.3"
    assert page.locator("#outline").evaluate("image => image.complete && image.naturalWidth > 0")
    page.keyboard.press("h")
    assert layer.evaluate("image => image.style.opacity") == "0"
    assert not page.is_visible("#outline")
    page.keyboard.press("h")
    assert page.inner_text("#opacity-value") == "30 %"

    # Zoom by key and wheel, pan by drag, and back.
    page.keyboard.press("+")
    assert "scale(1.5)" in sheet.evaluate("sheet => sheet.style.transform")
    assert "150 %" in page.inner_text("#values")
    box = page.locator("#stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    drag(page, x, y, 30, 20)
    assert sheet.evaluate("sheet => sheet.style.transform") == "translate(30px, 20px) scale(1.5)"
    page.keyboard.press("0")
    assert sheet.evaluate("sheet => sheet.style.transform") == "translate(0px, 0px) scale(1)"
    page.mouse.move(x, y)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    page.wait_for_selector("#stage.zoomed")
    page.keyboard.press("0")

    # Window and level by a drag: a drag to the right widens the window, one upwards lowers its level.
    assert page.inner_text("#values") == "L 128 W 255, grey levels"
    page.keyboard.press("c")
    drag(page, x, y, -55, -28)
    assert page.inner_text("#values") == "L 114 W 200, grey levels"
    page.keyboard.press("c")
    grey = cv2.imread(str(study / "phantom1" / "slice1.png"), cv2.IMREAD_GRAYSCALE)
    check_levels(page, grey, 13.5, 213.5)
    for key, low, high in (("1", 0, 255), ("2", 0, 128), ("3", 112, 255), ("4", 255, 0)):
        page.keyboard.press(key)
        check_levels(page, grey, low, high)
    page.keyboard.press("1")
    shoot(page, "serve-slice")

    # The wheel, the keys and a swipe scroll through the series, without a reload.
    page.evaluate("window.stays = true")
    page.mouse.wheel(0, 120)
    playwright.expect(page.locator("#way h1")).to_contain_text("3 of 3")
    page.keyboard.press("ArrowLeft")
    playwright.expect(page.locator("#way h1")).to_contain_text("2 of 3")
    drag(page, x, y, 90, 5)
    playwright.expect(page.locator("#way h1")).to_contain_text("1 of 3")
    check_levels(page, cv2.imread(str(study / "phantom1" / "slice0.png"), cv2.IMREAD_GRAYSCALE), 0, 255)
    page.keyboard.press("ArrowRight")
    playwright.expect(page.locator("#way h1")).to_contain_text("2 of 3")

    # The focus stays on its control, or a keyboard user would begin again at the top of the page with each slice.
    page.keyboard.press("g")
    page.keyboard.press("ArrowRight")
    playwright.expect(page.locator("#way h1")).to_contain_text("3 of 3")
    playwright.expect(page.locator("#agree")).to_be_focused()
    page.locator("#way a[rel=prev]").focus()
    for shown in ("2 of 3", "1 of 3"):
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#way h1")).to_contain_text(shown)
    playwright.expect(page.locator("#way a[rel=up]")).to_be_focused()
    assert page.inner_text("#live") == f"{' '.join(page.inner_text('#way h1').split())}: {page.inner_text('.word')}"
    page.set_viewport_size(DESK)
    page.locator("#strip a").nth(0).focus()
    page.locator("#strip a").nth(1).click()
    playwright.expect(page.locator("#way h1")).to_contain_text("2 of 3")
    playwright.expect(page.locator("#strip [aria-current]")).to_be_focused()
    page.set_viewport_size(SCREEN)
    assert page.evaluate("window.stays")
    page.keyboard.press("f")
    page.wait_for_selector("#stage:fullscreen")
    page.keyboard.press("f")
    page.wait_for_selector("#stage:not(:fullscreen)")


def test_a_stick_is_read_and_watched(open_page: OpenPage, study: Path, serve: Callable[..., Served]) -> None:
    served = serve("--folder", study.parent)
    page = open_page(served)
    page.goto(served.url + "add")
    page.click(".folders a")
    page.click(f"text={study.name}")
    page.click(f"text=Judge all slices in “{study.name}”")
    playwright.expect(page.locator("#reading .told")).to_contain_text("15 of 15", timeout=60_000)
    page.goto(served.url)
    assert page.locator(".row").count() == PATIENTS + 1
