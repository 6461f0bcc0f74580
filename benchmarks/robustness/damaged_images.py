"""Damage thousands of PNG, JPEG, TIFF, BMP, GIF and DICOM files: each is read or refused by name,
and what is read is what the file holds.

    python -m benchmarks.robustness.damaged_images
    python -m benchmarks.robustness.damaged_images --files 300 --seed 1 --keep damaged

The files are made up here: small images of every kind, bits flipped, pieces cut, inserted and
doubled, numbers replaced by extreme ones, checksums of PNG mended half of the time so that the
damage gets past them. File `n` of seed `s` is always the same. They are read in a process of its
own with 1.5 GiB more address space than it began with. A fault is any error but `BadData` naming
the file, a file that takes over 5 s of processor time or more memory, other pixels when it is read
again after memory was filled with other bytes, and the end of the process; it is reported with its
number, and `--keep` puts such files into a folder.

Files that are read are also given to other decoders (`independent.py`): how many agree, refuse or
differ is counted, and each that differs is listed. Those that are no dependencies are used where
they can be imported:

    python -m venv other && other/bin/pip install pillow pylibjpeg pylibjpeg-libjpeg
    pylibjpeg-openjpeg pylibjpeg-rle
    PYTHONPATH=other/lib/python3.11/site-packages python -m benchmarks.robustness.damaged_images
    --files 20000
"""

from __future__ import annotations

import argparse
import json
import resource
import struct
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks._lib import guarded
from benchmarks._lib.independent import compared
from benchmarks._lib.results import machine, record
from benchmarks._lib.sound_files import chunk, sound
from hilum.errors import BadData
from hilum.imaging.files import image_file
from hilum.imaging.files.dicom import Dicom
from hilum.imaging.files.raster import Raster

MOST_SECONDS, MOST_BYTES = 5.0, 3 << 29
MOST_DIRTY = 8 << 20  # bytes of a block
EXTREME = (
    0,
    1,
    2,
    3,
    8,
    12,
    16,
    32,
    255,
    256,
    4096,
    32767,
    65500,
    65535,
    60000,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)

# --------------------------------------------------------------------------------------- the damage


def damaged(number: int, seed: int) -> tuple[str, bytes]:
    """Return name and bytes of one damaged file."""
    rng, files = np.random.default_rng([seed, number]), sound()
    name = list(files)[number % len(files)]
    data = bytearray(files[name])
    if name.endswith(".png") and rng.random() < 0.4:
        return f"{number:05d}_{name}", within(bytes(data), rng)
    hurt(data, rng)
    if name.endswith(".png") and rng.random() < 0.5:
        mend(data)
    return f"{number:05d}_{name}", bytes(data)


def hurt(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 5))):
        if data:
            WAYS[int(rng.integers(len(WAYS)))](data, rng)


def somewhere(data: bytearray, rng: np.random.Generator) -> int:
    """Return a random position, half of the time in the first quarter, where headers are."""
    return int(rng.integers(max(1, len(data) // 4 if rng.random() < 0.5 else len(data))))


def flip(data: bytearray, rng: np.random.Generator) -> None:
    data[somewhere(data, rng)] ^= 1 << int(rng.integers(8))


def overwrite(data: bytearray, rng: np.random.Generator) -> None:
    data[somewhere(data, rng)] = int(rng.integers(256))


def extreme(data: bytearray, rng: np.random.Generator) -> None:
    """Replace a number of two or four bytes in either order, where numbers stand."""
    size, order = int(rng.choice([2, 4])), "little" if rng.random() < 0.5 else "big"
    at = somewhere(data, rng) & ~1
    data[at : at + size] = (int(rng.choice(EXTREME)) & ((1 << 8 * size) - 1)).to_bytes(size, order)


def cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[max(somewhere(data, rng), 1) :]


def take_out(data: bytearray, rng: np.random.Generator) -> None:
    at = somewhere(data, rng) + 1
    del data[at : at + int(rng.integers(1, 64))]


def insert(data: bytearray, rng: np.random.Generator) -> None:
    at = somewhere(data, rng)
    data[at:at] = rng.bytes(int(rng.integers(1, 64)))


def double(data: bytearray, rng: np.random.Generator) -> None:
    at = somewhere(data, rng)
    data[at:at] = data[at : at + int(rng.integers(1, 512))]


WAYS: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    flip,
    overwrite,
    extreme,
    extreme,
    cut,
    take_out,
    insert,
    double,
)


def mend(data: bytearray) -> None:
    """Put the right checksums behind all chunks that can be found."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4


def within(png: bytes, rng: np.random.Generator) -> bytes:
    """Return a PNG with its rows hurt before they were compressed, and now and then a byte of its
    header: all checksums are right.
    """
    start = png.index(b"IDAT") - 4
    stream, at = b"", start
    while png[at + 4 : at + 8] == b"IDAT":
        length = int.from_bytes(png[at : at + 4])
        stream, at = stream + png[at + 8 : at + 8 + length], at + 12 + length
    rows, head = bytearray(zlib.decompress(stream)), bytearray(png[:start])
    if rng.random() < 0.7:
        hurt(rows, rng)
    if rng.random() < 0.5:
        head[int(rng.integers(16, 29))] = int(rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 56, 255]))
    data = head + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b"")
    mend(data)
    return bytes(data)


# -------------------------------------------------------------------------------------- the reading


def verdict(path: Path) -> tuple[str, Raster | Dicom | None]:
    """Return "read", "refused", or what is wrong; and what was read."""
    try:
        file = image_file.read(path)
    except BadData as refusal:
        if isinstance(refusal.__cause__, MemoryError):
            return f"more than {MOST_BYTES >> 20} MiB wanted", None
        return (
            "refused"
            if path.name in str(refusal)
            else f"refused without the file's name: {refusal}"
        ), None
    except BaseException as error:  # noqa: BLE001 - any other error is what is searched for
        return f"{type(error).__name__}: {error}", None
    if file.values.ndim != 2 or file.values.dtype not in (np.uint8, np.uint16):
        return f"read as {file.values.dtype} {file.values.shape}", None
    return "read", file


def dirty(size: int, byte: int) -> None:
    """Leave `byte` in memory that is free, in blocks such as an image of `size` pixels and what it
    is read from need.
    """
    large = [
        np.full(min(size * fraction, MOST_DIRTY), byte, np.uint8)
        for fraction in (1, 2, 3, 4)
        for _ in range(6)
    ]
    small = [
        np.full(length, byte, np.uint8)
        for length in (56, 112, 256, 512, 1024, 4096)
        for _ in range(40)
    ]
    del large, small


def again(path: Path, file: Raster | Dicom) -> str:
    """Return "read" where the pixels are the same when memory holds other bytes."""
    for byte in (0x5A, 0xC3):
        dirty(file.values.size, byte)
        reported, other = verdict(path)
        if other is None:
            return f"read once, then {reported}"
        if not np.array_equal(file.values, other.values):
            return (
                f"{np.count_nonzero(file.values != other.values)} pixels differ when it is read"
                " again"
            )
    return "read"


def work(start: int, stop: int, seed: int, *, compare: bool) -> None:
    """Print, in a process of its own, a line when a file is begun, one with what became of it, and
    one with what others make of it.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, data in sound().items():  # once, so that what is loaded only once is not counted
            (Path(folder) / name).write_bytes(data)
            verdict(Path(folder) / name)
        limit = (
            int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            + MOST_BYTES
        )
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for number in range(start, stop):
            name, data = damaged(number, seed)
            path = Path(folder) / name
            path.write_bytes(data)
            say("begun", number, name)
            begun = time.process_time()
            reported, file = verdict(path)
            spent = time.process_time() - begun
            if file is not None:
                reported = again(path, file)
            say(reported, spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            if file is not None and compare:
                for decoder, outcome in compared(file, data):
                    say("compared", decoder, outcome)
            path.unlink()


def say(*words: object) -> None:
    print(json.dumps(words), flush=True)


Comparison = tuple[str, str, str]  # name of the file and of the decoder, and the outcome


def outcomes(
    count: int, seed: int, comparisons: list[Comparison] | None
) -> Iterator[guarded.Outcome]:
    """Return the outcome of each file. With a list, other decoders are evaluated too, and their
    outcomes put into it.
    """

    def command(start: int) -> list[str]:
        compare = [] if comparisons is None else ["--compare"]
        return ["-m", __spec__.name, "--work", str(start), str(count), str(seed), *compare]

    return guarded.outcomes(
        command, count, also={"compared": lambda *said: comparisons.append(said)}
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="put the files with faults into this folder")
    parser.add_argument(
        "--json", action="store_true", help="print counts and faults as JSON and record nothing"
    )
    parser.add_argument("--compare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--no-record", action="store_true", help="print only")
    parser.add_argument(
        "--work", nargs=3, type=int, metavar=("START", "STOP", "SEED"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    if arguments.work:
        return work(*arguments.work, compare=arguments.compare)
    counts, faults, slowest, most = Counter(), [], 0.0, 0
    comparisons: list[Comparison] | None = None if arguments.json else []
    for number, name, reported, seconds, resident in outcomes(
        arguments.files, arguments.seed, comparisons
    ):
        slowest, most = max(slowest, seconds), max(most, resident)
        fine = reported in ("read", "refused") and seconds <= MOST_SECONDS
        counts[name.rpartition(".")[2], reported if fine else "fault"] += 1
        if not fine:
            faults.append(f"{name}: {reported} ({seconds:.1f} s)")
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                (arguments.keep / name).write_bytes(damaged(number, arguments.seed)[1])
    if arguments.json:
        print(
            json.dumps(
                {
                    "counts": {" ".join(key): value for key, value in counts.items()},
                    "faults": faults,
                    "slowest": slowest,
                    "most": most,
                }
            )
        )
    else:
        reported = page(arguments, counts, faults, slowest, most, comparisons)
        if not arguments.no_record:
            record("Damaged files", reported)
        print(reported)
    return None


def page(
    arguments: argparse.Namespace,
    counts: Counter,
    faults: list[str],
    slowest: float,
    most: int,
    comparisons: list[Comparison],
) -> str:
    kinds = sorted({kind for kind, _ in counts})
    return "\n".join(
        [
            (
                "Command: `python -m benchmarks.robustness.damaged_images --files"
                f" {arguments.files} --seed {arguments.seed}`"
            ),
            f"Machine: {machine('imagecodecs', 'pydicom', 'numpy')}",
            "",
            (
                f"{arguments.files:,} files; the slowest took {slowest:.2f} s of processor time,"
                f" the reading process held at most {most / 2**20:.2f} GiB."
            ),
            "",
            "| kind | read | refused by name | faults |",
            "| --- | --: | --: | --: |",
            *(
                f"| {kind} | {counts[kind, 'read']} | {counts[kind, 'refused']} |"
                f" {counts[kind, 'fault']} |"
                for kind in kinds
            ),
            *(f"\n- {fault}" for fault in faults[:50]),
            "",
            *table_of(comparisons),
        ]
    )


def table_of(comparisons: list[Comparison]) -> list[str]:
    """Return what other decoders made of the files that were read."""
    counts = Counter(
        (name.partition("_")[2], decoder, outcome if outcome in ("equal", "refused") else "other")
        for name, decoder, outcome in comparisons
    )
    rows = sorted({(name, decoder) for name, decoder, _ in counts})
    others = [entry for entry in comparisons if entry[2] not in ("equal", "refused")]
    return [
        "| damaged file | decoder | equal | refused there alone | other pixels or form |",
        "| --- | --- | --: | --: | --: |",
        *(
            f"| {name} | {decoder} | {counts[name, decoder, 'equal']} |"
            f" {counts[name, decoder, 'refused']} | {counts[name, decoder, 'other']} |"
            for name, decoder in rows
        ),
        *(f"\n- {name}, {decoder}: {outcome}" for name, decoder, outcome in others[:60]),
    ]


if __name__ == "__main__":
    main()
