"""Measure processor time and memory of reading the table of ChestX-ray14, all of its lines and a
quarter of them.

    python -m benchmarks.speed.ingest_nih --data ../shared/data/nih-metadata

Runs `hilum ingest` (read, check, digest, write) in a process of its own for each size, and puts
what it took into benchmarks/results/speed.md. Required: at most 5 s of processor time and 1 GiB for
112,120 lines.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._lib.results import machine, record
from hilum import storage
from hilum.dataset.readers import nih14

MOST_SECONDS, MOST_MIB = 5.0, 1024


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
    arguments = parser.parse_args()
    table = next(
        (
            arguments.data / f"{name}{tail}"
            for name in nih14.ENTRIES
            for tail in ("", ".gz")
            if (arguments.data / f"{name}{tail}").is_file()
        ),
        None,
    )
    if table is None:
        sys.exit(f"no table of ChestX-ray14 at {arguments.data}")
    data = table.read_bytes()
    lines = (gzip.decompress(data) if table.suffix == ".gz" else data).splitlines(keepends=True)
    with tempfile.TemporaryDirectory() as temporary:
        measured = [
            measure(
                Path(temporary) / str(part), arguments.data, lines[: 1 + len(lines[1:]) // part]
            )
            for part in (4, 1)
        ]
    reported = describe(measured, f"python -m benchmarks.speed.ingest_nih --data {arguments.data}")
    record("Reading ChestX-ray14's table", reported)
    print(reported)


def measure(folder: Path, data: Path, lines: list[bytes]) -> dict[str, float]:
    """Read these lines, with the boxes and lists that lie beside them in `data`."""
    source = folder / "data"
    source.mkdir(parents=True)
    (source / nih14.ENTRIES[0]).write_bytes(b"".join(lines))
    for path in (*data.glob(f"{nih14.BOXES}*"), *data.glob("*_list.txt")):
        shutil.copy(path, source)
    command = [sys.executable, "-m", "hilum", "ingest", str(source), "--out", str(folder / "run")]
    begun = time.monotonic()
    child = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    wall = time.monotonic() - begun
    if status:
        sys.exit(f"{' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    manifest, labels = (
        storage.read_table(folder / "run" / f"{name}.parquet") for name in ("manifest", "labels")
    )
    if manifest.height != len(lines) - 1:
        sys.exit(f"{len(lines) - 1} lines became {manifest.height} rows")
    processor, mib = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
    return {
        "rows": manifest.height,
        "labels": labels.height,
        "wall": wall,
        "processor": processor,
        "mib": mib,
    }


def describe(measured: list[dict[str, float]], command: str) -> str:
    few, all_ = measured
    held = all_["processor"] <= MOST_SECONDS and all_["mib"] <= MOST_MIB
    a_row = (all_["mib"] - few["mib"]) * 1024 / (all_["rows"] - few["rows"])
    lines = [
        f"`{command}` on {machine('polars')}.",
        "",
        "| lines | labels | processor (s) | wall (s) | peak memory (MiB) |",
        "| --: | --: | --: | --: | --: |",
        *(
            f"| {m['rows']:,} | {m['labels']:,} | {m['processor']:.2f} | {m['wall']:.2f} |"
            f" {m['mib']:.0f} |"
            for m in measured
        ),
        "",
        (
            f"Beyond the first quarter a line of 14 labels takes {a_row:.1f} KiB at the peak. At"
            f" most {MOST_SECONDS:g} s of processor time and {MOST_MIB} MiB:"
            f" {'held' if held else 'not held'}."
        ),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
