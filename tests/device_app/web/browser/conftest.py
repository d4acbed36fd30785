"""Chromium, a server, and a study of phantoms for the tests in a browser.

Tests are skipped where there is no Chromium or no Playwright. One browser serves all tests of a worker.
EDGE_CT_SHOTS=FOLDER keeps pictures of the pages, made of phantom slices; EDGE_CT_MODEL=BUNDLE serves another model than
the untrained one, for pictures to be shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_ct.bundle import CARD, add_members, read_bundle
from edge_ct.phantom import make_slice
from edge_ct.shipped_models import find_bundle

from ..conftest import Served
from .pages import CHROMIUM, PATIENTS, SCREEN, SLICES, OpenPage, playwright

MODEL = os.environ.get("EDGE_CT_MODEL")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="package")
def model(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The untrained bundle with the card of the shipped models, as the page of the model shows all of a card."""
    if MODEL:
        return Path(MODEL)
    card = read_bundle(find_bundle("accurate")).member(CARD)
    path = tmp_path_factory.mktemp("model") / "with-card.tflite"
    path.write_bytes(add_members(read_bundle(tiny_bundle), {CARD: card}))
    return path


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
    # The console calls refused PINs, deleted results and a stopped server errors, too; a killed one cuts responses off.
    usual = ("status of 4", "ERR_CONNECTION", "ERR_INCOMPLETE", "ERR_EMPTY_RESPONSE", "ERR_SOCKET", "LENGTH_MISMATCH")
    assert [one for one in complaints if not any(part in one for part in usual) and not one.startswith("blob:")] == []


@pytest.fixture(scope="package")
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
