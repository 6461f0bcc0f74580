"""Measure what a table of a million images costs, step by step, without a pixel.

    python -m benchmarks.speed.million_rows --rows 1000000 --record

A table like that of ChestX-ray14 is made up (four images a patient, 14 findings, an official
split) and goes through ingest, split and the checks of tables; then scores of the 14 findings for
the tune and test parts are made up, evaluated with intervals, and put into the chapters of the
report that grow with them, with the table of scores. Each step is a process of its own, which reads
what the one before wrote. Required: 2 GiB in each step, 12 s for the first three together, 15 MB of
report.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks._lib.processes import peak_gib
from benchmarks._lib.results import machine, record
from hilum import storage
from hilum.config import Evaluate, Split
from hilum.dataset.manifest import Manifest

# What one step alone needs is imported by it, as its command does.

MOST_SECONDS, MOST_GIB, MOST_MB = 12.0, 2.0, 15.0
RATE, SHIFT = 0.06, 1.0  # fraction of images with a finding, and how far its scores lie above
PARTS = ("train", "train", "train", "train", "train", "train", "tune", "test", "test", "test")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--resamples", type=int, default=Evaluate().bootstrap)
    parser.add_argument("--steps", nargs="*", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--folder", type=Path, help="keeps the tables here, and uses those in it")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the process that is measured
    arguments = parser.parse_args()
    if arguments.one:
        found = STEPS[arguments.one](arguments.folder, arguments.resamples)
        print(json.dumps({**found, "gib": peak_gib()}))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "data").is_dir():
            write_release(folder / "data", arguments.rows)
        kept = folder / "measured.json"  # so that steps can be measured one after another
        measured = storage.read_json(kept) if kept.is_file() else {}
        for step in arguments.steps:
            if step == "evaluate":
                write_scores(folder)
            measured[step] = measure(step, folder, arguments.resamples)
            print(step, measured[step], flush=True)
            storage.write_json(kept, measured)
    command = f"python -m benchmarks.speed.million_rows --rows {arguments.rows}"
    if arguments.resamples != Evaluate().bootstrap:
        command += f" --resamples {arguments.resamples}"
    text = describe(measured, command, arguments.rows, arguments.resamples)
    if arguments.record:
        record("A million rows", text)
    print(text)


def write_release(folder: Path, count: int) -> None:
    """Write a table and lists as of ChestX-ray14: patients of four images, findings at random."""
    from hilum.dataset.readers import nih14

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    number = np.arange(count)
    findings = list(nih14.FINDINGS)
    # A few thousand different sets of findings, as a real table has.
    kinds = rng.random((3000, len(findings))) < RATE
    words = ["|".join(findings[at] for at in np.flatnonzero(row)) or "No Finding" for row in kinds]
    table = pl.DataFrame(
        {
            "Image Index": [f"{one // 4 + 1:08d}_{one % 4:03d}.png" for one in number],
            "Finding Labels": pl.Series(words).gather(rng.integers(0, len(words), count)),
            "Follow-up #": number % 4,
            "Patient ID": number // 4 + 1,
            "Patient Age": number // 4 % 83 + 10,
            "Patient Gender": np.array(["F", "M"])[number // 4 % 2],
            "View Position": np.array(["PA", "AP"])[rng.integers(0, 2, count)],
            "OriginalImage[Width": 2000 + number % 5,
            "Height]": 2048 + number % 3,
            "OriginalImagePixelSpacing[x": 0.143,
            "y]": 0.143,
        }
    )
    table.write_csv(folder / nih14.ENTRIES[0])
    tested = np.isin(
        number // 4 % len(PARTS), [at for at, one in enumerate(PARTS) if one == "test"]
    )
    for name, rows in (("train_val_list.txt", ~tested), ("test_list.txt", tested)):
        table.filter(rows).select("Image Index").write_csv(folder / name, include_header=False)


def write_scores(folder: Path) -> None:
    """Write scores of every finding for the images of tune and test."""
    from hilum.dataset.readers import nih14
    from hilum.pipeline import predict

    rng = np.random.default_rng(1)
    images = storage.read_table(folder / "split.parquet").filter(pl.col("part") != "train")
    labels = pl.scan_parquet(folder / "run" / "labels.parquet")
    made = []
    for concept in sorted(set(nih14.TERMS.values())):
        state = images.select("image_id").join(
            labels.filter(pl.col("concept") == concept).select("image_id", "state").collect(),
            on="image_id",
            how="left",
            maintain_order="left",
        )["state"]
        if not state.count():
            continue
        raw = rng.normal(size=images.height) + SHIFT * state.fill_null(0).to_numpy() - 2.7
        made.append(
            images.select(
                "image_id",
                "part",
                task=pl.lit("finding"),
                concept=pl.lit(concept),
                score=pl.Series(1 / (1 + np.exp(-raw))),
                quality_flags=pl.lit(""),
                percentile=pl.Series(rng.random(images.height) * 100),
                no_call=pl.Series(
                    np.where(rng.random(images.height) < 0.02, "outside its domain", "")
                ),
            )
        )
    storage.write_table(folder / "scores.parquet", pl.concat(made).select(list(predict.COLUMNS)))


def _ingest(folder: Path, resamples: int) -> dict:
    from hilum.pipeline import ingest

    manifest = ingest.ingest(folder / "data")
    manifest.write(folder / "run")
    labels = manifest.query_labels(lambda labels: labels.select(pl.len())).item()
    return {"of": f"{manifest.table.height:,} images, {labels:,} labels"}


def _split(folder: Path, resamples: int) -> dict:
    from hilum.pipeline import split

    table, decided = split.divide(Manifest.read(folder / "run"), Split())
    storage.write_table(folder / "split.parquet", table)
    return {"of": f"{table['patient_id'].n_unique():,} patients, {decided.mode}"}


def _checks(folder: Path, resamples: int) -> dict:
    from hilum.audit import checks
    from hilum.pipeline import audit

    manifest = Manifest.read(folder / "run")
    issues = audit.audit(manifest, facts_of(manifest.table))
    return {"of": f"{len(checks.modules())} checks, {issues.height:,} issues"}


def facts_of(table: pl.DataFrame) -> pl.DataFrame:
    """Return an index of a cache for these images, all pixels different."""
    from hilum.dataset.pixel_cache import FACTS

    number = pl.int_range(pl.len())
    known = {
        "row": number,
        "file_digest": number.cast(pl.String),
        "pixel_digest": number.cast(pl.String),
        "height": pl.lit(1024),
        "width": pl.lit(1024),
        "bits": pl.lit(8),
        "minimum": pl.lit(0),
        "maximum": pl.lit(255),
    }
    return table.select(
        "image_id",
        **{
            name: known.get(name, pl.lit(None)).cast(kind)
            for name, kind in FACTS.items()
            if name != "image_id"
        },
    ).select(list(FACTS))


def _evaluate(folder: Path, resamples: int) -> dict:
    from hilum.pipeline import evaluate, truth
    from hilum.pipeline.evaluation import classification, run_tables
    from hilum.storage.stored_table import StoredTable

    manifest, table = Manifest.read(folder / "run"), storage.read_table(folder / "split.parquet")
    scores = StoredTable.read(folder / "scores.parquet").scan()
    images, concepts = (
        scores.select(one).unique().collect()[one] for one in ("image_id", "concept")
    )
    people = run_tables.people(manifest, table, images)
    states = truth.by_image(manifest, concepts, images)
    # The labels of all images are no longer needed, nor is the split.
    del manifest, table
    found, fitted = classification.figures(scores, people, states, Evaluate(bootstrap=resamples))
    metrics = evaluate.as_table(found)
    storage.write_table(folder / "metrics.parquet", metrics)
    storage.write_json(folder / "calibration.json", fitted)
    return {
        "of": f"{scores.select(pl.len()).collect().item():,} scores, {metrics.height:,} figures"
    }


def _report(folder: Path, resamples: int) -> dict:
    from hilum.pipeline import split
    from hilum.pipeline.division import Division
    from hilum.pipeline.evaluation.transferred_scores import TransferredScores
    from hilum.reporting import report, score_table, small_sets
    from hilum.reporting.context import LungCrops
    from hilum.reporting.sections import _scored_task, finding
    from hilum.safety import spreadsheet_cells
    from hilum.storage.stored_table import StoredTable

    table, metrics = (storage.read_table(folder / f"{one}.parquet") for one in ("split", "metrics"))
    manifest, fitted = Manifest.read(folder / "run"), storage.read_json(folder / "calibration.json")
    concept = split.target(manifest)
    stored = StoredTable.read(folder / "scores.parquet").scan()
    scored = TransferredScores(stored, {None: fitted})
    rows = _scored_task.known(scored, table, "finding", concept)
    chapter = finding.Finding(
        division=small_sets.division(Division(finding=concept), table, Split()),
        crops=LungCrops(0, 0, False, False),
        task=_scored_task.describe(
            "finding", rows, metrics, fitted["finding"][concept], concept, Evaluate()
        ),
        galleries=[],
        saliency=None,
        shortcuts=None,
    )
    listed = score_table.table(scored, table, manifest)
    link = score_table.table_link(spreadsheet_cells.of_table(listed), listed.height)
    page = report.chapter_html(finding, chapter) + link.address
    storage.write_text(folder / "report.html", page)
    size = (folder / "report.html").stat().st_size / 1e6
    return {"of": f"{listed.height:,} test images, page of {size:.2f} MB", "mb": size}


STEPS: dict[str, Callable[[Path, int], dict]] = {
    "ingest": _ingest,
    "split": _split,
    "checks": _checks,
    "evaluate": _evaluate,
    "report": _report,
}


def measure(step: str, folder: Path, resamples: int) -> dict:
    """Do one step in a process of its own; return its seconds, memory and what it was of."""
    command = [sys.executable, "-m", __spec__.name, "--one", step, "--folder", str(folder)]
    begun = time.monotonic()
    child = subprocess.Popen(
        [*command, "--resamples", str(resamples)], stdout=subprocess.PIPE, text=True
    )
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{step} ended with status {os.waitstatus_to_exitcode(status)}")
    wall = time.monotonic() - begun
    return {
        **json.loads(said.splitlines()[-1]),
        "wall": wall,
        "processor": usage.ru_utime + usage.ru_stime,
    }


def describe(measured: dict[str, dict], command: str, rows: int, resamples: int) -> str:
    """Return the section of the page."""
    lines = [
        f"`{command}` on {machine('polars', 'numpy')}. {rows:,} rows, {resamples} resamples.",
        "",
        "| step | of | wall (s) | processor (s) | peak memory (GiB) |",
        "| --- | --- | --: | --: | --: |",
        *(
            f"| {step} | {one['of']} | {one['wall']:.1f} | {one['processor']:.1f} |"
            f" {one['gib']:.2f} |"
            for step, one in measured.items()
        ),
    ]
    tables = [
        measured[one]["processor"] for one in ("ingest", "split", "checks") if one in measured
    ]
    most = max(one["gib"] for one in measured.values())
    page = max((one.get("mb", 0.0) for one in measured.values()), default=0.0)
    lines += [
        "",
        f"Ingest, split and checks together {sum(tables):.1f} s of processor time (at most "
        f"{MOST_SECONDS:g}); "
        f"{most:.2f} GiB in the largest step (at most {MOST_GIB:g}); "
        f"page {page:.2f} MB (at most {MOST_MB:g}).",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
