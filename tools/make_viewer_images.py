"""Write the documentation's images of results in OHIF: `python -m tools.make_viewer_images`.

A made-up film and its results are stored in an Orthanc of its own, and `hilum node viewer` shows
them: the lungs (SEG), their outlines (SR) and the summary (SC). Needs Orthanc with its DICOMweb
plug-in, Chromium, Playwright's package, and OHIF's package, which is fetched where it is missing.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Page, sync_playwright
from pydicom import dcmread

import hilum
from benchmarks._lib.orthanc import Orthanc
from hilum.imaging.files import dicom
from hilum.node import viewer, viewer_package
from hilum.node.http_client import Peer
from hilum.pipeline import ingest
from hilum.safety.web import Login
from tests.browsers import CHROMIUM, OPTIONS
from tools.make_images import IMAGES

WINDOW = (1280, 780)
WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
SERIES = {
    "viewer-lungs": "AI lungs",
    "viewer-regions": "AI regions",
    "viewer-summary": "AI summary",
}
SHOWS = {"viewer-lungs": "Left lung", "viewer-regions": "Area:", "viewer-summary": "AI summary"}
DRAWN_MS = 4000  # until what a series shows is painted
SHOWN = (1024, 624)  # width and height of the images
QUALITY, MOST_BYTES = 78, 120_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, help="the npm package @ohif/app as a file")
    files = viewer_package.files(parser.parse_args().package)
    with tempfile.TemporaryDirectory() as folder:
        archive = Orthanc(Path(folder) / "orthanc").start()
        try:
            study = stored(Path(folder), archive)
            root = f"{archive.url}/dicom-web"
            with viewer.serving(files, root, lambda: Peer(root, Login(), 30.0), 0) as port:
                shots = dict(shown(f"http://127.0.0.1:{port}/viewer?StudyInstanceUIDs={study}"))
        finally:
            archive.stop(kill=True)
    for name, shot in shots.items():
        image = cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR)
        small = cv2.resize(image, SHOWN, interpolation=cv2.INTER_AREA)
        data = cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes()
        if len(data) > MOST_BYTES:
            parser.error(f"{name} has {len(data):,} bytes, expected at most {MOST_BYTES:,}")
        (IMAGES / f"{name}.webp").write_bytes(data)


def stored(folder: Path, archive: Orthanc) -> str:
    """Store a made-up film and its results; return its Study Instance UID."""
    ingest.example("unidata", folder / "data", images=4, seed=4)
    path = next(one for one in sorted((folder / "data").rglob("*")) if dicom.is_one(one))
    results = hilum.classify(path).to_dicom(folder / "results", viewer_compat=True)
    for one in (path, *results):
        archive.post("instances", one.read_bytes())
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def shown(address: str) -> Iterator[tuple[str, bytes]]:
    """Yield screens of the viewer by name, as PNG."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*OPTIONS, *WEBGL])
        page = chromium.new_page(viewport=dict(zip(("width", "height"), WINDOW, strict=True)))
        opened(page, address)
        for name, series in SERIES.items():
            page.get_by_text(series).first.dblclick()
            page.get_by_text(SHOWS[name]).first.wait_for()
            page.wait_for_timeout(DRAWN_MS)
            page.mouse.move(5, 5)
            yield name, page.screenshot()
        chromium.close()


def opened(page: Page, address: str) -> None:
    """Open a study, past the viewer's greetings."""
    page.set_default_timeout(90_000)
    page.goto(address)
    for button in ("Skip all", "Confirm and hide"):
        page.get_by_text(button).click()
    page.locator('[data-cy="viewport-overlay-bottom-left"]').get_by_text("W:").wait_for()
    page.locator('[data-cy="panelSegmentation-btn"]').click()


if __name__ == "__main__":
    main()
