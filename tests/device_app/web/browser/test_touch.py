"""The page on a telephone: a PIN, photos, and the viewer by touch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_ct.phantom import make_slice

from ..conftest import Served
from .pages import MARKS, PHONE, PIN, OpenPage, check_levels, playwright, shoot

pytestmark = MARKS


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
