"""Write the images of the documentation: `python -m tools.make_images [RUN]`.

RUN is a finished run on made-up data, as `make demo` leaves it in demo/run (the default). The image
shows the first screen of its report. Needs Chromium; CHROMIUM names it where it is elsewhere.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

import cv2

from hilum.reporting.context import MADE_UP
from hilum.run_folder import Run

ROOT = Path(__file__).parents[1]
REPORT = ROOT / "docs" / "images" / "report.webp"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
WIDTH, HEIGHT = 1120, 1290  # of the window, pixels: the report down to its first chapter
QUALITY = 82  # of WebP: text stays sharp, and the file is far below the limit
MOST_BYTES = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, default=ROOT / "demo" / "run")
    run = Run(parser.parse_args().run)
    # An image of a real report would show radiographs, which may not be passed on.
    if MADE_UP not in run.manifest().remarks["rule"]:
        parser.error(f"the data of {run} are not made up; give a run that `make demo` left")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        page = (run.folder / "report.html").resolve().as_uri()
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"]
        size = f"--window-size={WIDTH},{HEIGHT}"
        subprocess.run(
            [CHROMIUM, *options, f"--user-data-dir={folder}", size, f"--screenshot={shot}", page],
            check=True,
            capture_output=True,
            timeout=120,
        )
        encoded = cv2.imencode(".webp", cv2.imread(str(shot)), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    data = encoded[1].tobytes()
    if len(data) > MOST_BYTES:
        parser.error(f"{REPORT.name} has {len(data):,} bytes, expected at most {MOST_BYTES:,}")
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_bytes(data)


if __name__ == "__main__":
    main()
