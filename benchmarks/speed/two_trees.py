"""Compare every measured row of speed between an earlier source tree and this one.

    python -m benchmarks.speed.two_trees --old OTHER/src --data ../shared/data
        [--new src] [--rows NAME ...] [--runs 8] [--work DIR] [--record]

Rows are commands, timed from the start of the process to its end, and programs of
`benchmarks.speed.tree_programs`, which time their own parts. Both trees get the same inputs,
run in turns with this Python and its packages, and use their own words for verbs and options.
Processor time counts, since other work on the machine changes wall time; a ratio is old / new of
the medians, so 1 means as quick as before. `--runs` is for rows of some seconds; long ones run
less, short ones more. What was measured is kept in `--work`: the same command goes on where it
was cut, and `--rows NAME --runs MORE` measures a row again. Rows below 0.95 are listed at the end;
measure them again before believing them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks._lib.results import machine, record
from benchmarks._lib.trees import (
    HEAD,
    REPOSITORY,
    Compared,
    Seconds,
    Timed,
    command,
    compared,
    program,
)
from benchmarks.speed import describe as describing
from benchmarks.speed import dicom as plates
from benchmarks.speed import duplicates as hashes
from hilum.annotations.lung_masks import LEFT, RIGHT
from hilum.dataset.readers import kaggle_masks
from hilum.imaging import perceptual_hash, synthetic
from hilum.storage.integrity import checksum

WANTED = 0.95
NEW_WORDS = {"classify": "read", "synthesize": "example", "-o": "--to"}  # now: before


@dataclass(frozen=True)
class Row:
    """What is timed, and how often relative to `--runs`."""

    timed: Callable[[Path], Timed]
    often: float = 1.0


@dataclass(frozen=True)
class Inputs:
    """What the rows work on, made in `work` when first needed; `data` holds real images."""

    work: Path
    data: Path

    def _made(self, name: str, images: int) -> Path:
        folder = self.work / name
        if not folder.exists():
            kaggle_masks.example(folder, images=images, seed=1)
        return folder

    @cached_property
    def set_of_300(self) -> Path:
        """A made-up data set with masks."""
        return self._made("set_of_300", 300)

    @cached_property
    def set_of_40(self) -> Path:
        """A made-up data set for a whole run."""
        return self._made("set_of_40", 40)

    @cached_property
    def image(self) -> Path:
        """A made-up image file."""
        return min((self.set_of_40 / "CXR_png").glob("*.png"))

    @cached_property
    def nih(self) -> Path:
        """The table of ChestX-ray14, 112,120 rows, and its boxes, without images."""
        return describing.rows(self.data, self.work / "nih")

    @cached_property
    def tree(self) -> Path:
        """5,000 small images in folders of patients and studies."""
        return describing.tree(self.work / "tree", patients=500)

    @cached_property
    def plates(self) -> Path:
        """A DICOM file of each lossless transfer syntax."""
        folder = self.work / "plates"
        folder.mkdir(exist_ok=True)
        for name in plates.TRIED:
            plates.written(folder, name)
        return folder

    @cached_property
    def stack(self) -> Path:
        """200 made-up radiographs of 256 x 256, as a cache keeps them."""
        path = self.work / "images.u8"
        path.write_bytes(np.concatenate([image for image, _ in _chests(200, 256)]).tobytes())
        return path

    @cached_property
    def squares(self) -> Path:
        """80 made-up radiographs of 224 x 224."""
        path = self.work / "squares_224.npy"
        np.save(path, np.stack([image for image, _ in _chests(80, 224)]))
        return path

    @cached_property
    def masked(self) -> Path:
        """The folder of 24 made-up radiographs of 256 x 256 and the labels of their lungs."""
        images, labels = zip(*_chests(24, 256), strict=True)
        np.save(self.work / "train_images.npy", np.stack(images))
        np.save(self.work / "train_masks.npy", np.stack(labels))
        return self.work

    @cached_property
    def fingerprints(self) -> Path:
        """Made-up fingerprints that crowd as real ones do, digests, and some real images."""
        folder = self.work / "fingerprints"
        folder.mkdir(exist_ok=True)
        table, squares = hashes.read(self.data / "covid-448", 200)
        keys = hashes.alike(perceptual_hash.decode(hashes.real(table)["fingerprint"]), 15_000)
        np.savez(folder / "keys.npz", hashes=keys.hashes, spectra=keys.spectra)
        sums = pl.Series("image_crc32", [checksum(one) for one in squares], pl.Int64)
        table.with_columns(sums).write_parquet(folder / "index.parquet")
        hashes.digests(200_000).write_parquet(folder / "digests.parquet")
        np.save(folder / "squares.npy", squares)
        return folder


def _chests(images: int, side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    for _ in range(images):
        chest = synthetic.draw(synthetic.anatomy(rng), rng, height=side, width=side)
        right, left = chest.right_lung > 0, chest.left_lung > 0
        yield chest.pixels, np.where(right, RIGHT, np.where(left, LEFT, 0)).astype(np.uint8)


def words_of(tree: Path, words: tuple[str, ...]) -> list[str]:
    """Return a command in the words of a tree: those from before the move where it has no `cli`."""
    moved = (tree / "hilum" / "cli" / "exit_status.py").exists()
    return [*words] if moved else [NEW_WORDS.get(word, word) for word in words]


def rows(inputs: Inputs) -> dict[str, Row]:
    """Return every row by its name."""
    numbers, out, table = count(), inputs.work / "out", " of 112,120 rows"

    def called(
        *words: str | Callable[[], Path], out_at: bool = True, often: float = 1.0, on: str = ""
    ) -> Row:
        """Return the row of a `hilum` command `on` an input, which is made before it is timed."""

        def timed(tree: Path) -> Timed:
            shutil.rmtree(out, ignore_errors=True)
            own = [one if isinstance(one, str) else str(one()) for one in words]
            place = ["-o", str(out / str(next(numbers)))] if out_at else []
            text = " ".join(one for one in words if isinstance(one, str))
            arguments = words_of(tree, (*own, *place))
            return {f"`hilum {text}`{on}": command(tree, ["-m", "hilum", *arguments])}

        return Row(timed, often)

    def worked(name: str, source: Callable[[], Path], often: float = 1.0) -> Row:
        return Row(lambda tree: program(tree, name, [source()]), often)

    return {
        "import": Row(lambda tree: {"`import hilum`": command(tree, ["-c", "import hilum"])}, 5),
        "help": called("--help", out_at=False, often=5),
        "cold_lungs": called("lungs", lambda: inputs.image, often=3, on=" of one file"),
        "cold_classify": called("classify", lambda: inputs.image, often=2, on=" of one file"),
        "ingest": called("ingest", lambda: inputs.nih, often=0.75, on=table),
        "describe_table": called("describe", lambda: inputs.nih, out_at=False, on=table),
        "describe_tree": called(
            "describe", lambda: inputs.tree, out_at=False, on=" of 5,000 images"
        ),
        "loader_and_cache": worked("loader_and_cache", lambda: inputs.set_of_300),
        "audit": worked("audit_tables", lambda: inputs.nih, 0.75),
        "duplicates": worked("duplicates", lambda: inputs.fingerprints, 0.6),
        "first_pass": worked("first_pass", lambda: inputs.data / "nih-sample"),
        "dicom": worked("dicom", lambda: inputs.plates),
        "lungs": worked("lungs", lambda: inputs.image),
        "classify": worked("classify", lambda: inputs.image),
        "batches": worked("batches", lambda: inputs.stack),
        "patchcore": worked("patchcore", lambda: inputs.squares, 0.6),
        "segmenter": worked("segmenter", lambda: inputs.masked, 0.6),
        "run": called("run", lambda: inputs.set_of_40, "--quick", often=0.4, on=" of 40 images"),
    }


def described(found: list[Compared]) -> str:
    """Return the table, and the rows that are slower than `WANTED`."""
    head = [f"| {' | '.join(HEAD)} |", f"| --- | {' | '.join(['--:'] * (len(HEAD) - 1))} |"]
    lines = [f"| {' | '.join(row.cells())} |" for row in found]
    slow = [row.what for row in found if row.ratio < WANTED]
    verdict = f"Slower than {WANTED} of before: {', '.join(slow) or 'none'}."
    about = "`python -m benchmarks.speed.two_trees --old OTHER/src --data ../shared/data` on"
    made = machine("numpy", "polars", "onnxruntime", "torch", "imagecodecs")
    note = "Runs in turns; ratio of medians, old / new: 1 means as quick as before."
    return "\n".join([f"{about} {made}.", "", note, "", *head, *lines, "", verdict])


def arguments_of() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--old", type=Path, required=True, help="the src folder of the other tree")
    parser.add_argument("--new", type=Path, default=REPOSITORY / "src")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", help="names of rows; default: all that are not kept")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--work", type=Path, help="a folder that keeps inputs and runs")
    parser.add_argument("--record", action="store_true", help="write benchmarks/results/speed.md")
    return parser.parse_args()


def measured(row: Row, arguments: argparse.Namespace, kept: Path) -> list[Compared]:
    """Time a row and keep its runs in a file, so that a comparison which was cut goes on."""
    runs = max(3, round(arguments.runs * row.often))
    found = compared(arguments.old, arguments.new, runs, row.timed)
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps([asdict(one) for one in found]))
    return found


def read(kept: Path) -> list[Compared]:
    """Return what `measured` kept, or nothing."""
    stored = json.loads(kept.read_text()) if kept.exists() else []

    def runs_of(runs: list[dict[str, float]]) -> list[Seconds]:
        return [Seconds(**run) for run in runs]

    return [Compared(one["what"], runs_of(one["old"]), runs_of(one["new"])) for one in stored]


def main() -> None:
    arguments = arguments_of()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        known, found = rows(Inputs(work, arguments.data)), []
        if unknown := set(arguments.rows or ()) - known.keys():
            sys.exit(f"no row {', '.join(unknown)}; there are {', '.join(known)}")
        for name, row in known.items():
            kept = work / "rows" / f"{name}.json"
            some = [] if name in (arguments.rows or ()) else read(kept)
            if not some and name in (arguments.rows or known):
                some = measured(row, arguments, kept)
                print("\n".join(f"| {' | '.join(one.cells())} |" for one in some), flush=True)
            found += some
    text = described(found)
    print(f"\n{text}")
    if arguments.record:
        record("Before and after the move", text)


if __name__ == "__main__":
    main()
