"""The page in a real Chromium: what a health worker does, from files to a signed-off summary.

Skipped where there is no Chromium or no Playwright. One server and one browser serve all tests but those that restart
the server or need a PIN. EDGE_CT_SHOTS=FOLDER keeps pictures of the pages, made of phantom slices; EDGE_CT_MODEL=BUNDLE
serves another model than the untrained one, for pictures to be shown.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_ct.device_app.worklist.worklist import Worklist
from edge_ct.phantom import make_slice

from .conftest import Served, start_server, variant

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SHOTS = os.environ.get("EDGE_CT_SHOTS")
MODEL = os.environ.get("EDGE_CT_MODEL")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SCREEN, PHONE, DESK = {"width": 800, "height": 480}, {"width": 390, "height": 844}, {"width": 1440, "height": 900}
PIN = "493817"
URGENCY = ["positive", "refer", "rejected", "negative"]
PATIENTS, SLICES = 4, 3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]

OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> Path:
    return Path(MODEL) if MODEL else tiny_bundle


@pytest.fixture(scope="module")
def shared(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server of most tests, which goes on from one to the next."""
    served = start_server(model, tmp_path_factory.mktemp("shared") / "state")
    yield served
    served.stop(signal.SIGKILL)
    served.close()


@pytest.fixture
def open_page(chromium: Any, serve: Callable[..., Served]) -> Iterator[OpenPage]:
    """A page of a new browser profile; whatever it complains of, or asks of elsewhere, fails the test.

    It uses `serve` so that it is closed before the test's server is: pictures may still be on their way.
    """
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
    # The console calls refused PINs, deleted results and a stopped server errors, too.
    usual = ("status of 4", "ERR_CONNECTION", "ERR_INCOMPLETE", "ERR_EMPTY_RESPONSE", "ERR_SOCKET")
    assert [one for one in complaints if not any(part in one for part in usual) and not one.startswith("blob:")] == []


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of four patients; beside them a colour picture, half a file, a text, a slice without suffix.

    Returns:
        The folder: 15 slice files, of which 2 cannot be judged, and one file that is no slice.
    """
    folder = tmp_path_factory.mktemp("files") / "study"
    for patient in range(PATIENTS):
        (folder / f"phantom{patient}").mkdir(parents=True)
        for index in range(SLICES):
            image = make_slice(7090 + patient, 2 + index, patient % 2 == 1, 384).image
            cv2.imwrite(str(folder / f"phantom{patient}" / f"slice{index}.png"), image)
    (folder / "more").mkdir()
    cv2.imwrite(str(folder / "more" / "holiday.png"), landscape())
    whole = (folder / "phantom0" / "slice2.png").read_bytes()
    (folder / "more" / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "more" / "IM0001").write_bytes(cv2.imencode(".png", make_slice(7099, 3, False, 384).image)[1].tobytes())
    (folder / "more" / "README").write_text("no slice")
    return folder


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


def upload(page: Any, served: Served, study: Path) -> None:
    page.goto(served.url + "add")
    page.set_input_files("#folder", study)
    page.wait_for_selector("#after:not([hidden])")


@pytest.fixture
def filled(shared: Served, open_page: OpenPage, study: Path) -> Served:
    """The shared server with the study in its worklist."""
    with Worklist(shared.state) as worklist:
        empty = not worklist.rows(limit=1)
    if empty:
        upload(open_page(shared), shared, study)
    return shared


def test_from_files_to_a_signed_summary(shared: Served, open_page: OpenPage, study: Path) -> None:
    served = shared
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


def rows_in_sight(page: Any) -> int:
    """How many lines of the list fit below its head, if there are as many."""
    page.wait_for_selector(".row")
    # Measured at once: the page may replace its lines at any moment.
    box = "name => document.querySelector(name).getBoundingClientRect()"
    top, height = page.evaluate(f"() => {{ const box = {box}; return [box('.rows').top, box('.row').height]; }}")
    return int((page.viewport_size["height"] - top + 1) // height)


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


def drag(page: Any, x: float, y: float, dx: float, dy: float) -> None:
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx / 2, y + dy / 2)
    page.mouse.move(x + dx, y + dy)
    page.mouse.up()


def check_levels(page: Any, grey: np.ndarray, low: float, high: float) -> None:
    """What is drawn is what the window makes of the picture's own bytes."""
    drawn = page.evaluate(
        "() => { const c = document.getElementById('canvas');"
        " return [...c.getContext('2d').getImageData(0, 200, c.width, 1).data].filter((_, i) => i % 4 === 0); }"
    )
    expected = np.clip(np.rint((grey[200].astype(float) - low) * 255 / (high - low)), 0, 255)
    assert np.abs(np.array(drawn) - expected).max() <= 1


def test_a_phone_behind_a_pin(
    model: Path, tmp_path: Path, open_page: OpenPage, study: Path, serve: Callable[..., Served]
) -> None:
    served = serve("--lan", "--pin", PIN, model=model)
    page = open_page(served, viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    page.goto(served.url)
    page.wait_for_selector("input[name=pin]")
    assert page.locator(".tabs").count() == 0
    assert "edge-ct serve --lan --pin NEWPIN" in page.inner_text("main")
    page.fill("input[name=pin]", "111111")
    page.click("main button")
    assert "This PIN is wrong" in page.inner_text("[role=alert]")
    shoot(page, "serve-pin-phone")
    page.fill("input[name=pin]", PIN)
    page.click("main button")
    page.wait_for_selector(".tabs")

    # A phone is asked for the photos it has; nothing can be dropped on it.
    page.goto(served.url + "add")
    assert "Choose photos" in page.inner_text("#drop")
    assert "Drop" not in page.inner_text("#drop")
    page.set_input_files("#photos", sorted(str(path) for path in study.glob("*/*.png")))
    page.wait_for_selector("#after:not([hidden])")
    page.click("#after a")
    page.wait_for_selector(".row")
    assert page.locator(".row").count() == 1
    assert "Upload" in page.inner_text(".row")
    shoot(page, "serve-list-phone")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.tap(".row a")
    page.locator(".grid a").nth(3).tap()
    page.wait_for_selector("#canvas:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shoot(page, "serve-slice-phone")


def test_window_of_a_dicom_slice_by_touch(
    model: Path, tmp_path: Path, open_page: OpenPage, serve: Callable[..., Served], write_ct: Callable[..., bytes]
) -> None:
    served = serve(model=model)
    grey = [make_slice(7001, 2 + index, True, 512).image for index in range(2)]
    for index, image in enumerate(grey):
        stored = np.rint(image * 1500.0 / 255 - 1350).astype(np.int16)
        content = write_ct(stored, 1, 0, SOPInstanceUID=f"1.2.{index + 3}", InstanceNumber=index + 1)
        (tmp_path / f"IM{index}").write_bytes(content)
    page = open_page(served, viewport=PHONE, has_touch=True, is_mobile=True)
    page.goto(served.url + "add")
    page.set_input_files("#files", [tmp_path / "IM0", tmp_path / "IM1"])
    page.wait_for_selector("#after:not([hidden])")
    page.goto(served.url)
    page.tap(".row a")
    page.locator(".grid a").first.tap()
    page.wait_for_selector("#canvas:not([hidden])")
    assert page.inner_text("#values") == "L -600 W 1500 HU"

    # Two fingers zoom, one finger pans, two taps return; nothing of it scrolls or zooms the page itself.
    box = page.locator(".pane.over").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    sheet, touch = page.locator(".pane.over .sheet"), Touch(page)
    touch([[(x - step, y), (x + step, y)] for step in (40, 50, 60, 80)])
    assert page.inner_text("#values") == "L -600 W 1500 HU · 200 %"
    place = "sheet => [...sheet.style.transform.matchAll(/-?[\\d.]+/g)].map(Number)"
    before = sheet.evaluate(place)
    touch([[(x, y)], [(x + 10, y + 10)], [(x + 30, y + 20)]])
    assert sheet.evaluate(place) == pytest.approx([before[0] + 30, before[1] + 20, 2], abs=0.01)
    page.wait_for_timeout(400)
    page.touchscreen.tap(x, y)
    page.touchscreen.tap(x, y)
    assert sheet.evaluate("sheet => sheet.style.transform") == "translate(0px, 0px) scale(1)"
    assert page.evaluate("[scrollY, visualViewport.scale]") == [0, 1]

    # A swipe turns to the next slice; with the contrast tool the same drag changes window and level.
    touch([[(x + 60, y)], [(x, y)], [(x - 60, y)]])
    playwright.expect(page.locator("#way h1")).to_contain_text("2 of 2")
    page.tap("#contrast")
    page.wait_for_selector("#contrast[aria-pressed=true]")
    touch([[(x, y)], [(x - 25, y - 14)], [(x - 55, y - 28)]])
    # 127.5 - 28 / 2 and 255 - 55 of 255 grey levels, each of 1500 / 255 HU, from -1350 HU.
    assert page.inner_text("#values") == "L -682 W 1176 HU"
    playwright.expect(page.locator("#way h1")).to_contain_text("2 of 2")
    check_levels(page, grey[1], 13.5, 213.5)


class Touch:
    """Fingers on a page, through the protocol of Chromium's developer tools."""

    def __init__(self, page: Any) -> None:
        self._session = page.context.new_cdp_session(page)

    def __call__(self, places: list[list[tuple[float, float]]]) -> None:
        """Put fingers down at the first places, move them through the others, and lift them."""
        for kind, fingers in (("Start", places[0]), *(("Move", moved) for moved in places[1:]), ("End", [])):
            points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(fingers)]
            self._session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})


def test_a_restart_asks_for_the_pin_over_the_open_page(tiny_bundle: Path, tmp_path: Path, open_page: OpenPage) -> None:
    options, state = ("--lan", "--pin", PIN), tmp_path / "state"
    served = start_server(tiny_bundle, state, *options)
    (tmp_path / "few").mkdir()
    for i in range(3):
        (tmp_path / "few" / f"{i}.png").write_bytes(variant(i))
    page = open_page(served)
    page.goto(served.url + "add")
    page.fill("input[name=pin]", PIN)
    page.click("main button")
    page.wait_for_url("**/add")  # The PIN leads to the page that was asked for.
    page.set_input_files("#folder", tmp_path / "few")
    page.wait_for_selector("#after:not([hidden])")
    turning = page.context.new_page()
    page.goto(served.url + "slices/1")
    page.fill("input[name=reviewer]", "Dr Lima")
    page.fill("input[name=note]", "typed before the restart")
    turning.goto(served.url + "series/1")
    turning.locator(".grid a").first.click()
    turning.wait_for_selector("#canvas:not([hidden])")

    served.stop(signal.SIGKILL)
    served.close()
    again = start_server(tiny_bundle, state, *options, port=served.address[1])
    try:
        page.bring_to_front()
        page.click("button[value=unusable]")
        page.wait_for_selector("#sign-in[open]")
        # A wrong PIN counts once, so that the right one is taken after it.
        page.fill("#sign-in input[name=pin]", "000000")
        page.click("#sign-in button")
        playwright.expect(page.locator("#sign-in [role=alert]")).to_contain_text("This PIN is wrong")
        page.fill("#sign-in input[name=pin]", "111111")
        page.click("#sign-in button")
        playwright.expect(page.locator("#sign-in input[name=pin]")).to_have_value("")
        page.fill("#sign-in input[name=pin]", PIN)
        page.click("#sign-in button")
        page.wait_for_selector(".reviews")
        assert "typed before the restart" in page.inner_text(".reviews")
        page.context.clear_cookies()
        turning.bring_to_front()
        turning.keyboard.press("ArrowRight")
        turning.wait_for_selector("#sign-in[open]")
        turning.fill("#sign-in input[name=pin]", PIN)
        turning.click("#sign-in button")
        playwright.expect(turning.locator("#way h1")).to_contain_text("2 of 3", timeout=30_000)
    finally:
        again.stop()
        again.close()


SMALL = """() => [...document.querySelectorAll('a, button, summary, select, input:not([type=hidden]), textarea')]
    .filter(one => !one.matches('.skip, .pick input, .presets input, p a') && one.getClientRects().length)
    .filter(one => { const box = one.getBoundingClientRect(); return box.height < 43.5 || box.width < 43.5; })
    .map(one => one.outerHTML.slice(0, 120))"""


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


def test_a_restart_loses_neither_uploads_nor_a_typed_review(
    tiny_bundle: Path, tmp_path: Path, open_page: OpenPage
) -> None:
    folder, state = tmp_path / "many", tmp_path / "state"
    folder.mkdir()
    for i in range(200):
        (folder / f"{i}.png").write_bytes(variant(i))
    served = start_server(tiny_bundle, state)
    page, reviewing, kiosk = (open_page(served) for _ in range(3))
    page.goto(served.url + "add")
    page.set_input_files("#folder", folder)
    page.wait_for_selector("#results li:nth-child(40)")
    kiosk.goto(served.url)
    reviewing.goto(served.url + "slices/1")
    reviewing.fill("input[name=reviewer]", "Dr Lima")
    reviewing.fill("input[name=note]", "typed before the restart")

    served.stop(signal.SIGKILL)
    served.close()
    for open_one in (page, reviewing, kiosk):
        playwright.expect(open_one.locator("#offline")).to_contain_text("Not connected since", timeout=5000)
    reviewing.click("button[value=unusable]")
    playwright.expect(reviewing.locator("#review .told")).to_contain_text("Your review is kept here")
    kiosk.click(".tabs a >> nth=2")  # A link waits, too: an error page would be the end of a kiosk.
    kiosk.wait_for_timeout(1500)
    assert kiosk.url == served.url

    again = start_server(tiny_bundle, state, port=served.address[1])
    try:
        kiosk.wait_for_url("**/model", timeout=30_000)
        reviewing.wait_for_selector(".reviews", timeout=30_000)
        assert "typed before the restart" in reviewing.inner_text(".reviews")
        page.wait_for_selector("#after:not([hidden])")
        assert not page.locator("#results .bad").count()
        with Worklist(state, clock=lambda: "2099-01-01T00:00:00.000Z") as worklist:
            assert len(worklist.rows()) == 200
            assert worklist.verify().problem is None
            assert worklist.prune(1, unreviewed=True, trust_clock=True).deleted == 200
        reviewing.wait_for_selector("#gone:not([hidden])", timeout=10_000)
        assert "has been deleted" in reviewing.inner_text("#gone")
    finally:
        again.stop()
        again.close()
