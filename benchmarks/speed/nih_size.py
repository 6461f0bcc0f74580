"""Do a whole job of the size of ChestX-ray14: from a folder of files to the report.

    python -m benchmarks.speed.nih_size --work DIR [--images 112120] [--record]

Writes made-up radiographs in the layout of the release once (about 30 KB each; kept in the
folder). Five of the 14 findings are drawn in them; the others are added to the table at random, as
often as the release has them, so that all 14 are trained and evaluated. Then it does what
`hilum run` does by the recipe below: table, cache, audit, split, lungs by the model that comes with
Hilum, crops, a linear probe of the labels, evaluation, report. The official split is taken where no
two films of its parts agree as copies do. The table holds the wall time of each step. Memory is of
all processes together (proportional set size), sampled each second; the report is opened in
Chromium where that is installed. Required on two cores, for 112,120 images: 60 minutes, 3 GiB, a
report of at most 15 MB that opens in 2 s.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks._lib.processes import family, proportional_bytes
from benchmarks._lib.results import machine, record
from hilum.dataset.readers import nih14

NIH = 112_120  # images of the release
# Of its images, those with each finding (Wang et al. 2017, table of the release).
OFTEN = {
    "Atelectasis": 11_559,
    "Cardiomegaly": 2_776,
    "Edema": 2_303,
    "Emphysema": 2_516,
    "Fibrosis": 1_686,
    "Hernia": 227,
    "Mass": 5_782,
    "Pleural_Thickening": 3_385,
    "Pneumothorax": 5_302,
}
RECIPE = """
[data]
folder = "data"
[split]
official = "auto"
[segment]
model = "pretrained"
[classify]
model = "linear_probe"
finding = "pneumonia"
other_findings = ["all"]
"""


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--work", type=Path, required=True, help="a folder for data and run")
    parser.add_argument("--images", type=int, default=NIH)
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/speed.md")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    making = _make_data(work / "data", arguments.images)
    _add_findings(work / "data" / nih14.ENTRIES[0])
    (work / "nih.toml").write_text(RECIPE)
    shutil.rmtree(work / "run", ignore_errors=True)
    script = ["benchmarks.speed.full_job", "--data", work / "nih.toml", "--out", work / "run"]
    found, memory = _watched([*script, "--json", work / "nih.json"], work / "nih.json")
    report = work / "run" / "report.html"
    text = described(arguments, making, found, memory, report.stat().st_size, _opens_in(report))
    print(text)
    if arguments.record:
        record(f"A whole job of {arguments.images:,} images", text)


def _make_data(folder: Path, images: int) -> float | None:
    """Write the made-up radiographs where they are missing; return the seconds that took."""
    if folder.exists():
        return None
    begun = time.monotonic()
    words = ["synthesize", "nih14", folder, "--images", str(images), "--size", "256"]
    subprocess.run([sys.executable, "-m", "hilum", *words], check=True)
    return time.monotonic() - begun


def _add_findings(table: Path) -> None:
    """Add the findings of `OFTEN` to lines of the table at random, unless they are there."""
    lines = pl.read_csv(table, infer_schema=False)
    words = lines["Finding Labels"]
    if words.str.contains("|".join(OFTEN)).any():
        return
    rng, added = np.random.default_rng(0), pl.Series([""] * len(words))
    for finding, images in OFTEN.items():
        drawn = pl.Series(rng.random(len(words)) < images / NIH)
        added += drawn.replace_strict({True: f"|{finding}", False: ""}, return_dtype=pl.String)
    whole = (words + added).str.replace(r"^No Finding\|", "")
    lines.with_columns(whole.alias("Finding Labels")).write_csv(table)


def _watched(script: list[object], result: Path) -> tuple[dict, float]:
    """Run a script; return what it wrote, and the most memory of it and its children, in GiB."""
    job = subprocess.Popen([sys.executable, "-m", *map(str, script)], stdout=sys.stderr)
    most, ended = [0.0], threading.Event()

    def sample() -> None:
        """Keep the largest sum."""
        while not ended.wait(1):
            most[0] = max(most[0], sum(map(proportional_bytes, family(job.pid))) / 2**30)

    sampling = threading.Thread(target=sample, daemon=True)
    sampling.start()
    status = job.wait()
    ended.set()
    sampling.join()
    if status:
        raise SystemExit(f"the job ended with {status}")
    return json.loads(result.read_text()), most[0]


def _opens_in(report: Path) -> float | None:
    """Return the seconds until Chromium has laid out the report; None without it."""
    program = shutil.which("chromium")
    if program is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        begun = time.monotonic()
        page.goto(report.as_uri(), wait_until="load")
        page.evaluate("document.body.getBoundingClientRect().height")
        spent = time.monotonic() - begun
        browser.close()
    return spent


def described(
    arguments: argparse.Namespace,
    making: float | None,
    found: dict,
    memory: float,
    size: int,
    opens: float | None,
) -> str:
    """Return the text of the section."""
    wall = sum(part["wall"] for part in found["spent"].values())
    seconds = [f"| {name} | {part['wall']:.1f} |" for name, part in found["spent"].items()]
    made = f" Making the files took {making / 60:.1f} minutes." if making else ""
    return "\n".join(
        [
            f"`python -m benchmarks.speed.nih_size --work DIR --images {arguments.images}`"
            f" on {machine('polars', 'onnxruntime')}; {os.cpu_count()} processes.{made}",
            "",
            f"| the whole job | figure | at most, for {NIH:,} |",
            "| --- | --: | --: |",
            f"| minutes | {wall / 60:.1f} | 60 |",
            f"| memory of all processes (GiB) | {memory:.2f} | 3 |",
            f"| report (MB) | {size / 1e6:.1f} | 15 |",
            f"| report opens (s) | {'-' if opens is None else f'{opens:.1f}'} | 2 |",
            "",
            "| step | wall s |",
            "| --- | --: |",
            *seconds,
        ]
    )


if __name__ == "__main__":
    main()
