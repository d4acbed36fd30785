"""What the tests in a browser share: screens, pictures of pages, uploads and drags."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..conftest import Served

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SHOTS = os.environ.get("EDGE_CT_SHOTS")
SCREEN, PHONE, DESK = {"width": 800, "height": 480}, {"width": 390, "height": 844}, {"width": 1440, "height": 900}
PIN = "493817"
PATIENTS, SLICES = 4, 3
MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]
OpenPage = Callable[..., Any]


def shoot(page: Any, name: str, **options: Any) -> None:
    if SHOTS:
        page.wait_for_timeout(400)
        page.screenshot(path=Path(SHOTS) / f"{name}.png", **options)


def upload(page: Any, served: Served, study: Path) -> None:
    page.goto(served.url + "add")
    page.set_input_files("#folder", study)
    page.wait_for_selector("#after:not([hidden])")


def rows_in_sight(page: Any) -> int:
    """How many lines of the list fit below its head, if there are as many."""
    page.wait_for_selector(".row")
    # Measured at once: the page may replace its lines at any moment.
    box = "name => document.querySelector(name).getBoundingClientRect()"
    top, height = page.evaluate(f"() => {{ const box = {box}; return [box('.rows').top, box('.row').height]; }}")
    return int((page.viewport_size["height"] - top + 1) // height)


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
