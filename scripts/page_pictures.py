"""Take pictures of the web page in Chromium: synthetic slices, judged by the shipped model.

Without --every it makes the pictures that the documentation shows. With --every it makes each page at each size, light
and dark, in each language, for somebody who wants to look at all of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import sync_playwright
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from edge_ct.dicom import LUNG_CENTRE_HU, LUNG_WIDTH_HU
from edge_ct.phantom import make_slice

SIZES = {"screen": (800, 480), "phone": (390, 844), "desk": (1440, 900)}
LANGUAGES = {"en": "en-GB", "pt": "pt-BR"}
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
PIN = "271828"
FIRST_PATIENT, PATIENTS, SLICES, SIDE = 7000, 18, 6, 512
# Name of the picture in docs/, page, size, colour scheme, language, whether the whole length of the page is shown.
SHOWN = (
    ("serve-list", "list", "screen", "light", "en", False),
    ("serve-list-phone", "list", "phone", "light", "en", False),
    ("serve-list-desk-dark-pt", "list", "desk", "dark", "pt", False),
    ("serve-series", "series", "screen", "light", "en", False),
    ("serve-slice", "slice", "screen", "light", "en", False),
    ("serve-slice-dark", "slice", "screen", "dark", "en", False),
    ("serve-slice-desk", "slice", "desk", "light", "en", False),
    ("serve-slice-phone-dark-pt", "slice", "phone", "dark", "pt", False),
    ("serve-sheet", "series-sheet", "screen", "light", "en", True),
    ("serve-add-phone", "add", "phone", "light", "en", False),
    ("serve-model-pt", "model", "desk", "light", "pt", False),
    ("serve-device-pt", "device", "screen", "light", "pt", False),
)


def main() -> int:
    """Write the pictures that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="Folder that the pictures are written to.")
    parser.add_argument("--model", default="accurate", help="Bundle that judges the slices.")
    parser.add_argument("--every", action="store_true", help="Take every page in every look.")
    parser.add_argument("--only", default="", help="Take only pictures whose name contains this text.")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, serve(options.model, Path(name) / "state") as url:
        study = Path(name) / "study"
        write_study(study)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            try:
                pages = fill(browser, url, study)
                for name, page, size, scheme, language, whole in every_picture(pages) if options.every else SHOWN:
                    if options.only in name:
                        shoot(browser, url + pages[page], options.out / f"{name}.png", size, scheme, language, whole)
            finally:
                browser.close()
    return 0


@contextmanager
def serve(model: str, state: Path) -> Iterator[str]:
    """Run `edge-ct serve` behind a PIN, and yield its address."""
    words = ("serve", "--model", model, "--state", state, "--port", 0, "--lan", "--pin", PIN, "--json")
    process = subprocess.Popen([sys.executable, "-m", "edge_ct", *map(str, words)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield json.loads(process.stdout.readline())["urls"][0]
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def write_study(folder: Path) -> None:
    """Write DICOM series of synthetic patients, a folder of pictures, and a drawing that is no slice."""
    folder.mkdir()
    for patient in range(PATIENTS):
        series = generate_uid()
        for index in range(SLICES):
            pixels = make_slice(FIRST_PATIENT + patient, 1 + index, patient % 2 == 1, SIDE).image
            if patient:
                write_dicom(folder / f"IM{patient:02d}{index:02d}", pixels, f"phantom-{patient}", series, index)
            else:
                (folder / "loose").mkdir(exist_ok=True)
                cv2.imwrite(str(folder / "loose" / f"phantom-of-a-long-file-name-{index:03d}.png"), pixels)
    across = np.linspace(0, 255, 640, dtype=np.uint8)
    cv2.imwrite(str(folder / "loose" / "holiday.png"), cv2.applyColorMap(np.tile(across, (480, 1)), cv2.COLORMAP_JET))


def write_dicom(path: Path, pixels: np.ndarray, patient: str, series: str, index: int) -> None:
    """Write one slice whose lung window is `pixels`, uint8 [h, w]."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = series
    dataset.PatientID, dataset.Modality, dataset.ImageType = patient, "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber, dataset.ImagePositionPatient = index + 1, [0, 0, -10 * index]
    dataset.ImageOrientationPatient, dataset.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.7, 0.7]
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    hounsfield = pixels.astype(np.float32) * LUNG_WIDTH_HU / 255 + LUNG_CENTRE_HU - LUNG_WIDTH_HU / 2
    dataset.PixelData = np.rint(hounsfield).astype(np.int16).tobytes()
    dataset.save_as(path, enforce_file_format=True)


def fill(browser: Any, url: str, study: Path) -> dict[str, str]:
    """Upload the study, review a series, and return the path of each page."""
    page = open_page(browser, url, "screen", "light", "en")
    page.goto(url + "add")
    page.set_input_files("#folder", study)
    page.wait_for_selector("#after:not([hidden])", timeout=600_000)
    page.goto(url + "?show=positive")
    series = page.locator(".row a").first.get_attribute("href")
    page.goto(url)
    reviewed = page.locator(".row a[href^='/series']").last.get_attribute("href")
    page.goto(url + reviewed.lstrip("/"))
    page.fill("input[name=reviewer]", "Dr Lima")
    page.click("button[value=negative]")
    page.wait_for_selector("#review", state="detached")
    page.goto(url + series.lstrip("/"))
    slice_ = page.locator(".grid .key a").get_attribute("href")
    page.goto(url + "?q=loose")
    loose = page.locator(".row a").first.get_attribute("href")
    page.goto(url + loose.lstrip("/"))
    rejected = page.locator(".grid li.rejected a").first.get_attribute("href")
    page.context.close()
    paths = {
        "list": "/",
        "series": series,
        "reviewed": reviewed,
        "loose": loose,
        "slice": slice_,
        "rejected": rejected,
        "slice-sheet": f"{slice_}/print",
        "series-sheet": f"{series}/print",
        "add": "/add",
        "model": "/model",
        "device": "/device",
        "nothing": "/?q=nothing",
        "deleted": "/slices/99999",
    }
    return {name: path.lstrip("/") for name, path in paths.items()}


def every_picture(pages: dict[str, str]) -> Iterator[tuple[str, str, str, str, str, bool]]:
    """Yield each page in each look; documents are shown in their whole length."""
    for page, size, scheme, language in product(pages, SIZES, ("light", "dark"), LANGUAGES):
        whole = page in ("series-sheet", "slice-sheet", "model", "device")
        yield f"{page}-{size}-{scheme}-{language}", page, size, scheme, language, whole


def open_page(browser: Any, url: str, size: str, scheme: str, language: str) -> Any:
    """Return a page of a new browser profile that has given the PIN."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        locale=LANGUAGES[language],
        **({"has_touch": True, "is_mobile": True} if size == "phone" else {}),
    )
    page = context.new_page()
    page.goto(url)
    page.fill("input[name=pin]", PIN)
    page.click("main button")
    page.wait_for_selector(".tabs")
    return page


def shoot(browser: Any, address: str, path: Path, size: str, scheme: str, language: str, whole: bool) -> None:
    """Take one picture, once all parts of the page are there."""
    page = open_page(browser, address, size, scheme, language)
    page.goto(address, wait_until="load")
    page.wait_for_function("[...document.images].every(image => image.loading === 'lazy' || image.complete)")
    page.wait_for_timeout(400)
    page.screenshot(path=path, full_page=whole)
    page.context.close()


if __name__ == "__main__":
    sys.exit(main())
