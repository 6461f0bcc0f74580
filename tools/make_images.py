"""Write the images of the documentation: `python -m tools.make_images [RUN]`.

RUN is a finished run on made-up data, as `make demo` leaves it in demo/run (the default). The
images show the first screen of its report, and the desk at three widths, on a copy of the run.
Needs Chromium and Playwright's package.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Browser

from hilum.reporting.context import MADE_UP
from hilum.run_folder import Run
from tests.browsers import launched, served

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
REPORT = (1120, 1290)  # width and height of the window: the report down to its first chapter
DESK = {  # file: width and height of the window, and the page
    "desk": (1400, 900, "images/0"),
    "desk-1024": (1024, 700, "?mask=missing"),
    "desk-390": (390, 844, "images/0"),
}
DRAWN_MS = 3000  # until images and overlays have arrived
QUALITY = 82  # of WebP: text stays sharp, and the file is far below the limit
MOST_BYTES = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, default=ROOT / "demo" / "run")
    run = Run(parser.parse_args().run)
    # An image of a real report would show radiographs, which may not be passed on.
    if MADE_UP not in run.manifest().remarks["rule"]:
        parser.error(f"the data of {run} are not made up; give a run that `make demo` left")
    with launched() as chromium:
        shots = {"report": report(run, chromium), **desk(run, chromium)}
    IMAGES.mkdir(exist_ok=True)
    for name, shot in shots.items():
        shown = cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR)
        data = cv2.imencode(".webp", shown, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes()
        if len(data) > MOST_BYTES:
            parser.error(f"{name} has {len(data):,} bytes, expected at most {MOST_BYTES:,}")
        (IMAGES / f"{name}.webp").write_bytes(data)


def report(run: Run, chromium: Browser) -> bytes:
    """Return the first screen of a run's report, as PNG."""
    page = chromium.new_page(viewport=dict(zip(("width", "height"), REPORT, strict=True)))
    page.goto((run.folder / "report.html").resolve().as_uri())
    return page.screenshot()


def desk(run: Run, chromium: Browser) -> dict[str, bytes]:
    """Return screens of the desk by name, as PNG."""
    shots = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(run.folder, Path(folder) / "run")
        with served(copy, chromium) as open_desk, open_desk.reader("Ann Reader") as reader:
            for name, (width, height, page) in DESK.items():
                reader.page.set_viewport_size({"width": width, "height": height})
                reader.page.goto(f"{open_desk.base}/{page}")
                reader.page.wait_for_timeout(DRAWN_MS)
                shots[name] = reader.page.screenshot()
    return shots


if __name__ == "__main__":
    main()
