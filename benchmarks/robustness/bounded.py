"""Measure how time and memory grow with what an untrusted file may hold: at n, 4 n and 16 n.

    python -m benchmarks.robustness.bounded
    python -m benchmarks.robustness.bounded --only polygon

Each case is the worst found for its place: outlines of long edges, sentences without an end,
patterns that make a backtracking engine hang, wide tables, deep folders. Where the work is linear,
the last ratio is about 4; n log n is a little more. Each size runs in a process of its own.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks._lib.results import machine, record
from hilum import errors
from hilum.annotations import mask_codecs, polygon_crossings, polygons, report_parser, shapes
from hilum.dataset import _unpack, tables
from hilum.dataset.plan import patterns, settings
from hilum.errors import HilumError
from hilum.imaging.files import find_images
from hilum.pipeline import ingest
from hilum.progress import quietly

Work = Callable[[], object]


def comb(corners: int) -> polygons.Ring:
    """Return an outline of long edges that do not meet."""
    teeth = [(float(n % 2 * 299), n * 300 / corners) for n in range(corners)]
    return (*teeth, (400.0, 300.0), (400.0, 0.0))


def star(corners: int) -> polygons.Ring:
    """Return an outline whose long edges nearly all cross one another."""
    return tuple((float(n % 2 * 299), n * 7919 % 300 + n * 1e-4) for n in range(corners))


def diagonals(corners: int) -> polygons.Ring:
    """Return an outline whose edges pass within rounding of the centres of pixels."""
    return tuple((0.5 + n % 2 * 300, 0.5 + n / 300 + 1e-9 + n % 2 * 300) for n in range(corners))


def crossing(ring: polygons.Ring) -> Work:
    return lambda: polygon_crossings.meeting(polygons.corners(ring))


def filling(ring: polygons.Ring) -> Work:
    return lambda: shapes.Polygon(ring).to_mask((400, 400))


def holes(count: int) -> Work:
    square = ((0, 0), (0, 2000), (2000, 2000), (2000, 0))
    inner = tuple(
        ((y, x), (y, x + 1), (y + 1, x + 1)) for y in range(1, 1999, 2) for x in range(1, 1999, 2)
    )[:count]
    return lambda: shapes.faults(shapes.Polygon(square, inner), (2000, 2000))


def checkers(pixels: int) -> Work:
    side = math.isqrt(pixels)
    mask = np.indices((side, side)).sum(axis=0) % 2 == 0
    return lambda: shapes.polygons_of(mask)


def run_lengths(characters: int) -> Work:
    return lambda: mask_codecs.rle_decode("o" * characters)


def reading(unit: str) -> Callable[[int], Work]:
    def case(characters: int) -> Work:
        text = unit * (characters // len(unit))
        return lambda: report_parser.read(text)

    return case


def names(count: int) -> Work:
    texts = ["NORMAL/" + "a" * 40 + f"{n}.png" for n in range(count)]
    return lambda: patterns.patients("^NORMAL/(?P<patient>(a+)+)X$", texts)


def long_name(characters: int) -> Work:
    known = ["ab" * (characters // 2) + "c" for _ in range(20)]
    return lambda: errors.unknown("column", "ba" * (characters // 2), known)


def toml(lines: int) -> Work:
    folder = Path(tempfile.mkdtemp())
    text = "\n".join(f"column{n} = 'x'" for n in range(lines))
    (folder / settings.FILE).write_text(text)
    return lambda: settings.read(folder)


def table(rows: int, columns: int) -> Work:
    path = Path(tempfile.mkdtemp()) / "a.csv"
    head = ",".join(["image", *(f"c{n}" for n in range(columns - 1))])
    row = ",".join(["{}.png", *(["1"] * (columns - 1))])
    path.write_text("\n".join([head, *(row.replace("{}", str(n)) for n in range(rows))]))
    return lambda: tables.read(path)


def records(count: int) -> Work:
    path = Path(tempfile.mkdtemp()) / "a.json"
    path.write_text(json.dumps([{"image": f"{n}.png", "a": {"b": {"c": n}}} for n in range(count)]))
    return lambda: tables.read(path)


def joined(count: int) -> Work:
    """Fill a folder with files and a table whose names differ from theirs."""
    folder = Path(tempfile.mkdtemp())
    for n in range(count):
        (folder / f"scan_{n:06d}_PA.png").write_bytes(PNG)
    lines = [
        "image,finding",
        *(f"SCAN-{n:06d},{'TB' if n % 2 else 'normal'}" for n in range(count)),
    ]
    (folder / "labels.csv").write_text("\n".join(lines))
    return lambda: ingest.describe_folder(folder)


def starred(depth: int) -> Work:
    """Search folders in folders by a pattern of many stars."""
    folder = Path(tempfile.mkdtemp())
    (folder / "/".join("d" * depth)).mkdir(parents=True)
    pattern = folder / ("**/d/" * 6 + "**/x.png")
    return lambda: find_images.collect([pattern])


def archive(members: int) -> Work:
    folder = Path(tempfile.mkdtemp())
    with tarfile.open(folder / "a.tar", "w") as made:
        for n in range(members):
            member = tarfile.TarInfo(f"{n}.txt")
            member.size = 1000
            made.addfile(member, io.BytesIO(bytes(1000)))
    return lambda: _unpack.unpack(folder / "a.tar", folder / "out", quietly)


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c63680000008200815a0e3d0b0000000049454e44ae426082"
)
CASES: dict[str, tuple[int, Callable[[int], Work]]] = {
    "polygon: crossings, none of long edges": (6_000, lambda n: crossing(comb(n))),
    "polygon: crossings, everywhere": (12_000, lambda n: crossing(star(n))),
    "polygon: filling": (3_000, lambda n: filling(star(n))),
    "polygon: filling through centres": (3_000, lambda n: filling(diagonals(n))),
    "polygon: holes": (4_000, holes),
    "polygons of a mask, one a pixel": (10_000, checkers),
    "run lengths, compressed": (100_000, run_lengths),
    "reading: question marks": (15_000, reading("? ")),
    "reading: negations": (15_000, reading("no effusion ")),
    "reading: sides": (15_000, reading("left right ")),
    "reading: lines to write on": (100_000, reading("_")),
    "reading: one word": (100_000, reading("a")),
    "pattern for patients": (20_000, names),
    "unknown name, its guess": (20_000, long_name),
    "hilum.toml: unknown keys": (2_000, toml),
    "CSV: columns": (2_000, lambda n: table(20, n)),
    "CSV: rows": (20_000, lambda n: table(n, 5)),
    "JSON: nested records": (10_000, records),
    "files and a table of other names": (250, joined),
    "patterns of many stars: depth of folders": (20, starred),
    "archive: members": (250, archive),
}


def measured(name: str, size: int) -> tuple[float, int]:
    """Return seconds of processor time and KiB by which the resident memory grew."""
    work = CASES[name][1](size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    try:
        work()
    except HilumError as refused:
        print(str(refused)[:120], file=sys.stderr)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return time.process_time() - begun, used


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(arguments.one[0], int(arguments.one[1]))))
        return
    rows = []
    for name, (size, _) in CASES.items():
        if arguments.only not in name:
            continue
        found = [alone(name, size * times) for times in (1, 4, 16)]
        seconds = " | ".join(f"{one[0]:.2f}" for one in found)
        ratio = found[2][0] / max(found[1][0], 0.01)
        rows.append(f"| {name} | {size:,} | {seconds} | {ratio:.1f} | {found[2][1] >> 10} |")
        print(rows[-1], flush=True)
    if not arguments.only:
        head = [
            "Command: `python -m benchmarks.robustness.bounded`",
            f"Machine: {machine('polars', 'numpy')}",
            "",
            "Processor time at n, 4 n and 16 n; the ratio of the last two; memory at 16 n.",
            "",
            "| place | n | s at n | at 4 n | at 16 n | ratio | MiB |",
            "| --- | --: | --: | --: | --: | --: | --: |",
        ]
        record("Bounded work", "\n".join([*head, *rows]))


def alone(name: str, size: int) -> tuple[float, int]:
    command = [sys.executable, "-m", __spec__.name, "--one", name, str(size)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, used = json.loads(said.splitlines()[-1])
    return seconds, used


if __name__ == "__main__":
    main()
