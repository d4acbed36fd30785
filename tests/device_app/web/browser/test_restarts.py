"""A server that is killed and started again under open pages: nothing sent or typed is lost."""

from __future__ import annotations

import signal
from pathlib import Path

from edge_ct.device_app.worklist.worklist import Worklist

from ..conftest import start_server, variant
from .pages import MARKS, PIN, OpenPage, playwright

pytestmark = MARKS


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
