"""Measure time and memory of the checks of tables, on the 112,120 rows of ChestX-ray14 and on a
made-up manifest of a million.

    python -m benchmarks.speed.audit --data ../shared/data/nih-metadata

Each table is written first; then a process of its own reads it and runs every check of the package,
without images. Facts of the files are made up: one size in four, all pixels different. Required: at
most 5 s of processor time for 112,120 rows, and 2 GiB of memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks._lib.processes import peak_gib
from benchmarks._lib.results import machine, record
from hilum import plugins, storage
from hilum.dataset.manifest import COLUMNS, LABEL_COLUMNS, REMARK_COLUMNS, SHAPE_COLUMNS, Manifest
from hilum.dataset.pixel_cache import FACTS
from hilum.pipeline import audit, ingest

MILLION, FINDINGS = 1_000_000, ("effusion", "nodule", "edema", "cardiomegaly", "pneumothorax")
MOST_SECONDS, MOST_GIB = 5.0, 2.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="the folder of Data_Entry_2017_v2020.csv, packed or not",
    )
    parser.add_argument("--rows", type=int, default=MILLION, help="of the made-up manifest")
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)  # the process that is measured
    arguments = parser.parse_args()
    if arguments.ask:
        print(json.dumps(ask(arguments.ask)))
        return
    if not arguments.data.is_dir():
        sys.exit(f"no data at {arguments.data}")
    command = f"python -m benchmarks.speed.audit --data {arguments.data}"
    with tempfile.TemporaryDirectory() as temporary:
        reported = {}
        for name, manifest in (
            ("ChestX-ray14", ingest.ingest(arguments.data)),
            ("made up", made_up(arguments.rows)),
        ):
            folder = Path(temporary) / name
            manifest.write(folder)
            storage.write_table(folder / "facts.parquet", facts_of(manifest.table))
            del manifest
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    __spec__.name,
                    "--data",
                    str(arguments.data),
                    "--ask",
                    str(folder),
                ],
                check=True,
                capture_output=True,
                text=True,
            )
            reported[name] = json.loads(done.stdout)
    text = describe(reported, command)
    record("Checks on tables", text)
    print(text)


def made_up(count: int) -> Manifest:
    """Return patients of four images each, of mixed sex, age, view and source, with five findings
    at random.
    """
    rng = np.random.default_rng(0)
    number = pl.Series(np.arange(count)).cast(pl.String).str.zfill(8)
    patient = pl.Series(np.arange(count) // 4).cast(pl.String).str.zfill(8)
    table = pl.DataFrame(
        {"image_id": "made/" + number, "patient_id": "made/" + patient, "path": number + ".png"}
    ).with_columns(
        dataset=pl.lit("made"),
        source=pl.Series(np.array(["east", "west", "north"])[rng.integers(0, 3, count)]),
        sex=pl.Series(np.array(["female", "male"])[np.arange(count) // 4 % 2]),
        view=pl.Series(np.array(["PA", "AP"])[rng.integers(0, 2, count)]),
        age_years=pl.Series((np.arange(count) // 4 % 83 + 10).astype(float)),
        follow_up=pl.Series(np.arange(count) % 4),
        study=number,
        given_part=pl.Series(np.array(["train", "tune", "test"])[np.arange(count) // 4 % 3]),
    )
    table = table.select(
        table[name].cast(kind) if name in table.columns else pl.lit(None, kind).alias(name)
        for name, kind in COLUMNS.items()
    )
    reported = pl.concat(
        [
            table.select(
                "image_id",
                concept=pl.lit(concept),
                state=pl.Series(rng.integers(0, 2, count), dtype=pl.Int8),
            )
            for concept in FINDINGS
        ]
    )
    labels = reported.with_columns(
        source=pl.lit("made up"), term=pl.col("concept"), rule=pl.lit("column")
    )
    labels = labels.select(
        labels[name] if name in labels.columns else pl.lit(None, kind).alias(name)
        for name, kind in LABEL_COLUMNS.items()
    )
    return Manifest(
        Path("/made/up"),
        table,
        labels.sort("image_id", "concept"),
        pl.DataFrame(schema=REMARK_COLUMNS),
        pl.DataFrame(schema=SHAPE_COLUMNS),
    )


def facts_of(table: pl.DataFrame) -> pl.DataFrame:
    """Return an index of a cache for these images: as `hilum.dataset.pixel_cache.FACTS`, null where
    nothing is evaluated.
    """
    number = pl.int_range(pl.len())
    known = {
        "row": number,
        "file_digest": number.cast(pl.String),
        "pixel_digest": number.cast(pl.String),
        "height": 1024 + number % 4,
        "width": pl.lit(1024),
        "bits": pl.lit(8),
        "minimum": pl.lit(0),
        "maximum": pl.lit(255),
    }
    return table.select("image_id", **known).select(
        (
            pl.col(name).cast(kind)
            if name in known or name == "image_id"
            else pl.lit(None, kind).alias(name)
        )
        for name, kind in FACTS.items()
    )


def ask(folder: Path) -> dict:
    """Return the seconds of each check, the number of issues and the largest memory, in this
    process alone.
    """
    manifest, facts = Manifest.read(folder), storage.read_table(folder / "facts.parquet")
    modules = {name: plugins.load("checks", name) for name in plugins.names("checks")}
    before, wall, begun, seconds = peak_gib(), time.monotonic(), time.process_time(), {}
    for name, module in modules.items():
        at = time.process_time()
        list(module.check(manifest, facts))
        seconds[name] = time.process_time() - at
    reported = {
        "rows": manifest.table.height,
        "processor": time.process_time() - begun,
        "wall": time.monotonic() - wall,
        "seconds": seconds,
    }
    found = audit.audit(manifest, facts)
    return {**reported, "issues": found.height, "tables_gib": before, "gib": peak_gib()}


def describe(reported: dict[str, dict], command: str) -> str:
    nih = reported["ChestX-ray14"]
    held = nih["processor"] <= MOST_SECONDS and nih["gib"] <= MOST_GIB
    return "\n".join(
        [
            f"`{command}` on {machine('polars', 'numpy')}.",
            "",
            (
                "| table | rows | processor (s) | wall (s) | peak memory (GiB) | of it the tables |"
                " issues | slowest checks (s) |"
            ),
            "| --- | --: | --: | --: | --: | --: | --: | --- |",
            *(
                f"| {name} | {one['rows']:,} | {one['processor']:.2f} | {one['wall']:.2f} |"
                f" {one['gib']:.2f} | {one['tables_gib']:.2f} | {one['issues']:,} | "
                + ", ".join(
                    f"{check} {value:.2f}"
                    for check, value in sorted(one["seconds"].items(), key=lambda it: -it[1])[:4]
                )
                + " |"
                for name, one in reported.items()
            ),
            "",
            (
                f"At most {MOST_SECONDS:g} s of processor time and {MOST_GIB:g} GiB for"
                f" ChestX-ray14: {'held' if held else 'not held'}."
            ),
        ]
    )


if __name__ == "__main__":
    main()
