"""Show that two source trees of Hilum give the same results to the last digit.

    python benchmarks/accuracy/same_results.py --before TREE --after TREE
        [--data FOLDER] [--images FOLDER] [--demo-images 40] [--sample 40] [--jobs 2] [--work DIR]

The trees may call verbs, options, recipe keys, model plug-ins, columns and files by other names:
`WORDS` and `KEYS` list what was renamed, and each tree is searched for the name it has;
`RENAMED` brings the files of the tree before to the names after. Both trees are driven by this
Python, each on one core, with the same commands on equal inputs:

    demo     the job of `make demo` in small, what follows on its run, and two exports
    recipe   a job with the renamed recipe keys and the models that the demo does not use
    images   the bundled models on made-up images, rotated, mirrored, inverted and spoilt ones too,
             and on those of --images: lungs, mask quality, orientation, age group, classes
    real     a quick run on a sample of the data set in --data

Every file that a command writes is compared as `result_tables` says; what is left out is printed
by name. Exit status: 0 all the same, 1 something differs or has a new name that is not listed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import tomllib
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.accuracy.result_tables import NOT_COMPARED as CELLS_NOT_COMPARED
from benchmarks.accuracy.result_tables import (
    Comparison,
    Renamings,
    compare,
    inferred,
    lines,
    paired,
    read,
)

OUT = "-o"
# What commands and recipes are made of: by where a tree has it, the new word and the one before.
WORDS = {
    "option": {OUT: "--to"},
    "verb": {
        "synthesize": "example", "classify": "read", "inspect": "show", "apply": "predict",
        "shortcuts": "probe", "explain": "look",
    },
    "module": {
        "csv_tables": "tables", "linear_probe": "probe", "feature_reconstruction": "reconstruction",
    },
    "constant": {"pretrained": "shipped"},
}  # fmt: skip
# Keys of the recipe: the new one, and the one before.
KEYS = {
    "crop.size": "region.size", "crop.margin": "region.margin", "crop.masked": "region.masked",
    "crop.area": "region.content", "crop.min_mask_quality": "region.least_quality",
    "pixels.normalisation": "pixels.window", "pixels.ocr": "pixels.text",
    "split.official": "split.given", "split.min_per_class": "split.minimum",
    "split.previous": "split.keep", "classify.other_findings": "classify.also",
    "evaluate.bootstrap": "evaluate.resamples",
}  # fmt: skip
RENAMED = Renamings(
    files=(
        (r"/findings\.parquet$", "/issues.parquet"),
        (r"/region/", "/crop/"),
        (r"/read\.csv$", "/classify.csv"),
        (r"/show\.csv$", "/inspect.csv"),
        (r"/looks?\.(csv|parquet)$", r"/explain.\1"),
        (r"/look/", "/explain/"),
        (r"/probes\.parquet$", "/shortcuts.parquet"),
        (r"/predict\.csv$", "/apply.csv"),
    ),
    columns={
        "why": "reason", "undefined": "n_undefined", "low": "ci_low", "high": "ci_high",
        "stage": "task", "doubts": "quality_flags", "account": "processing_log",
        "picture": "written_to",
        **{old: new for new, old in KEYS.items()},
    },
    values={
        "model": {
            "compact": "compact_unet", "probe": "linear_probe", "shipped": "pretrained",
            "reconstruction": "feature_reconstruction",
        },
        "doubts": {"turned": "rotated", "strange": "out_of_distribution"},
        "rule": {
            "duplicate-picture": "duplicate-processed",
            "label-against-reading": "label-contradicts-reading",
            "label-tree": "label-hierarchy",
        },
    },
)  # fmt: skip
# Files that are left out, with the reason.
NOT_COMPARED = {
    "*.html": "is a page for people", "*.md": "is a page for people",
    "*.onnx": "carries names and digests; its scores, masks and maps are compared",
    "*/finished/*": "holds digests, versions and prose", "*/private/*": "is random",
    "*/.*": "is a lock or an unfinished file", "*/root.json": "is the place of the data",
    "*/MADE-UP.txt": "is prose", "*/plan.json": "is prose; the tables that it led to are compared",
}  # fmt: skip
# What only the tree after writes: files, columns ("FILE:COLUMN"), rows ("FILE:COLUMN=VALUE").
ADDED = {
    "*/orientation.parquet": "is kept for later steps; it was computed twice before",
    "*/overlap_in_file.parquet": "holds the lungs measured in the file's own pixels, too",
    "*/metrics.parquet:grid=file": "are the same metrics in the file's own pixels",
    "*/metrics.parquet:grid": "says at which pixels the lungs were measured",
}

GIVEN = ("demo/data/CXR_png", "altered", "given")  # folders of images
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "demo": (
        ("run", "demo/data", OUT, "demo/run", "--quick"),
        ("shortcuts", "demo/run"),
        ("apply", "demo/run", *GIVEN, OUT, "demo/apply"),
        ("export", "coco", "demo/run", "demo/coco"),
        ("export", "csv_tables", "demo/run", "demo/csv_tables"),
    ),
    "recipe": (
        ("run", "recipe.toml", OUT, "recipe/run", "--quick"),
        ("explain", "recipe/run"),
        ("explain", "recipe/run", "altered", OUT, "recipe/explain"),
    ),
    "images": (
        ("lungs", *GIVEN, OUT, "images/lungs"),
        ("classify", *GIVEN, OUT, "images/classify"),
        ("inspect", *GIVEN, OUT, "images/inspect"),
    ),
    "real": (("run", "sample", OUT, "real/run", "--quick"),),
}
RECIPE = {
    "data.folder": "demo/data", "pixels.normalisation": "percentiles", "pixels.ocr": False,
    "split.official": "ignore", "split.min_per_class": 2, "split.previous": "", "split.folds": 1,
    "split.train": 0.5, "split.tune": 0.25, "split.test": 0.25, "segment.model": "pretrained",
    "crop.area": "right lung", "crop.min_mask_quality": 0.6, "crop.size": 96, "crop.margin": 0.1,
    "crop.masked": True, "classify.model": "linear_probe", "classify.other_findings": ["all"],
    "anomaly.model": "feature_reconstruction", "evaluate.bootstrap": 200,
}  # fmt: skip
RASTERS = (".png", ".jpg", ".jpeg", ".dcm", ".tif", ".tiff", ".bmp", ".gif")


@dataclass(frozen=True)
class Tree:
    """Hold a checkout, and the folder in which its commands run."""

    name: str
    root: Path
    place: Path

    @property
    def source(self) -> Path:
        return self.root / "src" / "hilum"

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
        own = {"PYTHONPATH": str(self.root / "src"), "PYTHONDONTWRITEBYTECODE": "1", **threads}
        own |= {"COLUMNS": "200", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=self.place, env=os.environ | own, text=True, capture_output=True
        )

    def hilum(self, *arguments: str) -> int:
        """Run a command, with this tree's words for the new ones; return its exit status."""
        start = time.monotonic()
        own = [self.words.get(word, word) for word in arguments]
        done = self.python("-m", "hilum", *own)
        said = (done.stderr.strip().splitlines() or [""])[-1] if done.returncode else ""
        taken = f"{time.monotonic() - start:6.1f} s"
        log(f"{self.name:6} {taken}  exit {done.returncode}  {' '.join(own)[:90]}  {said[:200]}")
        return done.returncode

    @cached_property
    def words(self) -> dict[str, str]:
        """Return map the new words to those of this tree."""
        verbs = self.python("-m", "hilum", "--help").stdout
        options = self.python("-m", "hilum", "run", "--help").stdout
        has = {
            "verb": lambda word: re.search(rf"^\W*{word} {{2,}}", verbs, re.MULTILINE),
            "option": lambda word: re.search(rf"(?<!\S){word}\b", options),
            "module": lambda word: any(self.source.rglob(f"{word}.py")),
            "constant": lambda word: any(
                f'= "{word}"' in path.read_text(encoding="utf-8")
                for path in self.source.rglob("*.py")
            ),
        }
        models = {path.name: str(path) for path in self.source.rglob("lungs*.onnx")}
        return models | {
            new: new if has[kind](new) else old
            for kind, words in WORDS.items()
            for new, old in words.items()
        }

    def check(self) -> None:
        """Refuse a tree that is not the one that Python imports."""
        found = self.python("-c", "import hilum; print(hilum.__file__)")
        if Path(found.stdout.strip()).resolve().parent != self.source.resolve():
            raise SystemExit(
                f"{self.root}: Python imports hilum from {found.stdout or found.stderr}"
            )

    def begin(self, demo_images: int) -> None:
        """Write the made-up data set, its first cache, and the recipe."""
        count = ("--images", str(demo_images), "--seed", "1")
        self.hilum("synthesize", "kaggle_masks", "demo/data", *count)
        self.hilum("cache", "demo/data", OUT, "first")
        known = tomllib.loads((self.place / "first" / "recipe.toml").read_text(encoding="utf-8"))
        lines = []
        for key, value in RECIPE.items():
            section, name = key.split(".")
            if name not in known.get(section, {}):
                section, name = KEYS[key].split(".")
            own = self.words.get(value, value) if isinstance(value, str) else value
            lines.append(f"{section}.{name} = {json.dumps(own)}\n")
        (self.place / "recipe.toml").write_text("".join(lines), encoding="utf-8")

    def drive(self, commands: Sequence[Sequence[str]], core: int) -> list[int]:
        """Run commands on one core; return each one's exit status."""
        os.sched_setaffinity(0, {core})  # of this thread, and of the processes that it starts
        return [self.hilum(*command) for command in commands]


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# ----------------------------------------------------------------------------------- inputs


def alter(cached: Path, to: Path) -> None:
    """Write images that are not as they should be, made from the first ones of a cache."""
    images = np.fromfile(cached, np.uint8).reshape(-1, 256, 256)[:2]
    noise = np.random.default_rng(0).integers(0, 256, (256, 256), np.uint8)
    to.mkdir(parents=True)
    for number, image in enumerate(images):
        changed = {f"rotated_{quarters}": np.rot90(image, quarters) for quarters in range(4)}
        changed |= {"mirrored": image[:, ::-1], "inverted": 255 - image, "faint": image // 16 + 100}
        changed |= {
            "upper_half": image[:128],
            "one_side": image[:, :128],
            "tiny": image[::16, ::16],
        }
        changed |= {"small": image[::3, ::3], "narrow": image[:, ::2], "blank": image * 0 + 7}
        changed |= {"noise": noise, "noisy": image // 2 + noise // 2}
        for name, pixels in changed.items():
            (to / f"{name}_{number}.png").write_bytes(png(pixels))


def png(pixels: np.ndarray) -> bytes:
    """Return encode a grey image, uint8 (height, width)."""
    height, width = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    encoded = b"\x89PNG\r\n\x1a\n"
    for part in (b"IHDR" + header, b"IDAT" + zlib.compress(rows), b"IEND"):
        encoded += struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
    return encoded


def sample(folder: Path, to: Path, count: int) -> None:
    """Copy a data set with the masks and texts of `count` of its images, evenly chosen by name."""
    files = {path: path.stem.removesuffix("_mask") for path in sorted(folder.rglob("*.*"))}
    names = sorted({name for path, name in files.items() if path.suffix.lower() in RASTERS})
    left_out = set(names).difference(names[:: -(-len(names) // count)])
    for path, name in files.items():
        if path.is_file() and name not in left_out:
            place = to / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)


# ---------------------------------------------------------------------------------- compare


def compared(before: Path, after: Path, section: str) -> Iterator[tuple[str, Comparison]]:
    """Compare all that the trees left for a section: the name of each file, and what was found."""
    files = [_files(place, section) for place in (before, after)]
    pairs = paired(*files, RENAMED.file)

    @cache
    def of(old: str, new: str) -> Comparison:
        table = _without_added(new, read(files[1][new]))
        return compare(read(files[0][old]), table, RENAMED)

    lone = [old for old in files[0] if old not in pairs]
    more = [new for new in files[1] if new not in pairs.values() and not _is_added(new)]
    alike = inferred(lone, more, lambda *two: of(*two).verdict == "same")
    for old, new in pairs.items():
        yield new, of(old, new)
    for old, new in alike.items():
        found = of(old, new)
        yield new, Comparison(found.before, found.after, names=(f"file {old} -> {new}",))
    for name in set(lone) - alike.keys():
        yield RENAMED.file(name), Comparison(before="1 file", faults=("only before",))
    for name in set(more) - set(alike.values()):
        yield name, Comparison(after="1 file", faults=("only after",))


def _files(place: Path, section: str) -> dict[str, Path]:
    """Return the files to compare by their names; a cache's folder is named by a digest."""
    found = {}
    for path in sorted((place / section).rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_file() and not any(fnmatch(name, pattern) for pattern in NOT_COMPARED):
            found[re.sub(r"/cache/[0-9a-f]+/", "/cache/*/", name)] = path
    return found


def _is_added(name: str) -> bool:
    return any(fnmatch(name, entry) for entry in ADDED)


def _without_added(name: str, table: pl.DataFrame) -> pl.DataFrame:
    for entry in ADDED:
        pattern, _, cells = entry.partition(":")
        column, _, value = cells.partition("=")
        if fnmatch(name, pattern) and column in table.columns:
            rows = table.filter(pl.col(column).cast(pl.String).ne_missing(value))
            table = rows if value else table.drop(column)
    return table


def _statuses(commands: Sequence[Sequence[str]], *found: list[int]) -> Comparison:
    """Compare exit statuses: 1 is right where some of the images cannot be used, else only 0."""
    faults = tuple(
        f"`{' '.join(command)}` ends with {old} -> {new}"
        for command, old, new in zip(commands, *found, strict=True)
        if old != new or old > ("altered" in command)
    )
    sizes = [f"{len(one)} commands" for one in found]
    return Comparison(*sizes, cells=len(faults), faults=faults)


# ------------------------------------------------------------------------------------- main


def arguments_of() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--before", type=Path, required=True, help="a checkout with src/")
    parser.add_argument("--after", type=Path, required=True, help="the other one")
    parser.add_argument("--data", type=Path, help="a data set, of which a sample is taken")
    parser.add_argument("--images", type=Path, help="a folder of images for the bundled models")
    parser.add_argument("--demo-images", type=int, default=40)
    parser.add_argument("--sample", type=int, default=40, help="images of --data and --images")
    parser.add_argument("--jobs", type=int, default=2, help="1: one tree after the other")
    parser.add_argument("--sections", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--work", type=Path, help="a new folder for all results, which is kept")
    return parser.parse_args()


def results(arguments: argparse.Namespace, work: Path) -> list[tuple[str, Comparison]]:
    roots = {"before": arguments.before.resolve(), "after": arguments.after.resolve()}
    trees = [Tree(name, root, work / name) for name, root in roots.items()]
    for tree in trees:
        tree.place.mkdir(parents=True)
        tree.check()
        tree.begin(arguments.demo_images)
    (cached,) = (trees[0].place / "first" / "cache").glob("*/images.u8")
    alter(cached, trees[0].place / "altered")
    for folder, name in ((arguments.images, "given"), (arguments.data, "sample")):
        if folder is not None:
            sample(folder, trees[0].place / name, arguments.sample)
            shutil.copytree(trees[0].place / name, trees[1].place / name)
    shutil.copytree(trees[0].place / "altered", trees[1].place / "altered")
    sections = [one for one in arguments.sections if one != "real" or arguments.data]
    given = {name for name in GIVEN if (trees[0].place / name).exists()}
    commands = [
        [word for word in command if word not in GIVEN or word in given]
        for section in sections
        for command in COMMANDS[section]
    ]
    cores = sorted(os.sched_getaffinity(0))
    with ThreadPoolExecutor(arguments.jobs) as pool:
        statuses = pool.map(lambda tree, core: tree.drive(commands, core), trees, cores * 2)
        found = [("exit statuses", _statuses(commands, *statuses))]
    for section in sections:
        found += compared(trees[0].place, trees[1].place, section)
    return found


def main() -> int:
    arguments = arguments_of()
    start = time.monotonic()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="same_results_"))
    try:
        found = results(arguments, work.resolve())
    finally:
        if arguments.work is None:
            shutil.rmtree(work, ignore_errors=True)
    print("\n".join(lines(found)))
    print("\nnot compared:")
    for name, reason in (NOT_COMPARED | CELLS_NOT_COMPARED | ADDED).items():
        print(f"    {name}: {reason}")
    print("" if arguments.data else "\nskipped, as no --data was given: real")
    verdicts = [one.verdict for _, one in found]
    counts = ", ".join(f"{verdicts.count(one)} {one}" for one in dict.fromkeys(verdicts))
    print(f"\n{len(found)} files: {counts}; {time.monotonic() - start:.0f} s")
    return 0 if set(verdicts) == {"same"} else 1


if __name__ == "__main__":
    sys.exit(main())
