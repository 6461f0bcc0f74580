"""Time every step that works in shards: one process, two, and two workers of a Dask cluster.

    python -m benchmarks.speed.shards [--films 200] [--rounds 2] [--cached 10000] [--record]

Films are made up, 1024 x 900 pixels, PNG; headers are those of benchmarks.speed.deidentify.
Each step is first done on a few films, so that processes are started and models read, then timed
by the wall clock on all: with one worker process, with two, and with two workers of a local Dask
cluster, in turn, and of several rounds the quickest counts for each. Nothing else may run on the
machine. x2 is one process against two (to reach: 1.8), dask the time of two processes against that
of Dask (to reach: 0.85). Of a run's step audit, `features` are the part that works image by image.
The start is the time from nothing to the end of `inspect` of a few films.

`cached` films are repeats of a few squares of 256 pixels: their orientation features, and their
lungs by the bundled 8-bit network with and without test-time changes, on two processes (to reach:
80 and 300 films a second).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks._lib.results import machine, record
from benchmarks.speed.deidentify import write_headers
from hilum.config import Recipe
from hilum.dataset import pixel_cache
from hilum.dataset.dicom_index.folder import index_of
from hilum.dataset.pixel_cache import Cache
from hilum.imaging import describe, synthetic
from hilum.imaging.batch.each_image import unwatched
from hilum.imaging.files import image_file, raster
from hilum.imaging.radiograph import preprocess
from hilum.inference import classify_images, orientation, pretrained, segment_images
from hilum.pipeline import found_lungs
from hilum.privacy.dicom import folder as privacy
from hilum.progress import quietly
from hilum.run_folder import Run
from hilum.runs import explain_images, predict_images, run_all
from hilum.runs.export import export
from hilum.scale import executor
from hilum.scale.executor import Executor, executing
from hilum.storage import integrity

HEIGHT, WIDTH, FEW, DRAWN = 1024, 900, 8, 24
# For each film: those of quick steps, and files of headers; and films for each that is explained.
MANY, HEADERS, EXPLAINED = 4, 50, 10
FORMS = ("coco", "torchxrayvision")
FEW_OF = {"films": "few", "many": "few", "headers": "few-headers", "studies": "few-headers"}
WANTED = ("cache", "audit", "segment", "crop", "predict")  # of the steps of a run
RECIPE = """
[data]
folder = "films"
[segment]
model = "pretrained"
[classify]
model = "linear_probe"
[evaluate]
bootstrap = 100
"""
Step = Callable[[Path, Path], object]  # takes a folder of films and one to write into


def executors() -> dict[str, Executor]:
    return {
        "1": _OneProcess(executor.PROCESSES, 1, patience_seconds=0),
        "2": Executor(executor.PROCESSES, 2, patience_seconds=0),
        "dask": Executor(executor.DASK, 2, "local", patience_seconds=0),
    }


class _OneProcess(Executor):
    """One worker process, as the two are, so that the start and the pipe are compared alike."""

    @property
    def is_remote(self) -> bool:
        return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cached", type=int, default=10_000)
    parser.add_argument("--only", default="", help="the steps whose name begins so")
    parser.add_argument("--record", action="store_true")
    requested = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hilum-shards-") as place:
        root = Path(place)
        for folder, films in (
            ("films", requested.films),
            ("many", requested.films * MANY),
            ("explained", requested.films // EXPLAINED),
            ("few", FEW),
        ):
            make_films(root / folder, films)
        for folder, headers in (
            ("headers", requested.films * HEADERS),
            ("studies", requested.films * MANY),
            ("few-headers", FEW),
        ):
            write_headers(root / folder, headers)
        rows = []
        for name, (step, data) in steps(root).items():
            if name.startswith(requested.only):
                seconds = best_of(
                    {kind: timed(step, root, data, one) for kind, one in executors().items()}
                    for _ in range(requested.rounds)
                )
                rows.append(row(name, seconds))
                print(rows[-1], flush=True)
        if not requested.only:
            runs = [run_steps(root / f"round-{one}", root) for one in range(requested.rounds)]
            for name in runs[0]:
                rows.append(row(name, best_of(one[name] for one in runs)))
                print(rows[-1], flush=True)
        rates = cached_rates(root, requested.cached, requested.rounds)
        starts = {kind: started(root, one) for kind, one in executors().items()}
    text = "\n".join(
        [
            f"`python -m benchmarks.speed.shards --films {requested.films} "
            f"--rounds {requested.rounds} --cached {requested.cached}` on "
            f"{machine('onnxruntime', 'opencv-python-headless')}. Seconds of the wall clock.",
            "",
            "| step | 1 process | 2 processes | Dask, 2 workers | x2 | dask |",
            "| --- | --: | --: | --: | --: | --: |",
            *rows,
            *rates,
            "",
            f"The start of one process takes {starts['1']:.1f} s, of two {starts['2']:.1f} s, of a "
            f"local Dask cluster {starts['dask']:.1f} s, once for each command.",
        ]
    )
    print(text)
    if requested.record:
        record("Two processes against one", text)


def best_of(rounds: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the quickest of each kind."""
    found = list(rounds)
    return {kind: min(one[kind] for one in found) for kind in found[0]}


def make_films(to: Path, count: int) -> None:
    """Write films: a few that are drawn, each with other noise in every file."""
    rng = np.random.default_rng(7)
    drawn = [
        synthetic.draw(synthetic.anatomy(rng), rng, height=HEIGHT, width=WIDTH).pixels
        for _ in range(min(DRAWN, count))
    ]
    for number in range(count):
        noise = rng.integers(0, 4, (HEIGHT, WIDTH), dtype=np.uint8)
        kind = ("normal", "tuberculosis")[number % 2]
        path = to / kind / f"film-{number:05}.png"
        raster.write_png(path, np.clip(drawn[number % len(drawn)], 0, 251) + noise)


def steps(root: Path) -> dict[str, tuple[Step, str]]:
    return {
        "inspect": (lambda films, to: describe.describe_images([films], to), "many"),
        "lungs": (lambda films, to: segment_images.segment_images([films], to), "films"),
        "classify": (
            lambda films, to: classify_images.classify_images([films], to, scores=True),
            "films",
        ),
        "deidentify": (
            lambda films, to: privacy.deidentify(films, to, root / "keys" / "site.key"),
            "studies",
        ),
        "headers": (lambda headers, _: index_of(headers), "headers"),
        **{
            f"export {form}": (
                lambda films, to, form=form: export(form, films, to, {"file_names": "keep"}),
                "many",
            )
            for form in FORMS
        },
    }


def timed(step: Step, root: Path, data: str, chosen: Executor) -> float:
    """Return the seconds of a step on all films, after a few that start the processes."""
    with executing(chosen):
        step(root / FEW_OF[data], root / "warm")
        begun = time.perf_counter()
        step(root / data, root / "out")
        seconds = time.perf_counter() - begun
    for made in ("warm", "out"):
        shutil.rmtree(root / made, ignore_errors=True)
    return seconds


def started(root: Path, chosen: Executor) -> float:
    """Return the seconds of a command on a few films, the start of what carries it included."""
    begun = time.perf_counter()
    with executing(chosen):
        describe.describe_images([root / "few"], root / "out")
    seconds = time.perf_counter() - begun
    shutil.rmtree(root / "out")
    return seconds


def run_steps(folder: Path, root: Path) -> dict[str, dict[str, float]]:
    """Return the seconds of the steps of a run, and of scoring and explaining films with it."""
    (root / "recipe.toml").write_text(RECIPE)
    recipe = Recipe.read(root / "recipe.toml")
    found: dict[str, dict[str, float]] = {}
    for kind, chosen in executors().items():
        run = Run(folder / f"run-{kind}")
        with executing(chosen):
            segment_images.segment_images([root / "few"])  # starts the processes
            for done in run_all.perform(run, recipe, unwatched, until="predict"):
                if isinstance(done, run_all.Done) and done.step in WANTED:
                    found.setdefault(f"run: {done.step}", {})[kind] = done.seconds
            for name, films in (("apply", "films"), ("explain", "explained")):
                applied(name, run.folder, root / "few", root / "warm")
                begun = time.perf_counter()
                applied(name, run.folder, root / films, root / "out")
                found.setdefault(name, {})[kind] = time.perf_counter() - begun
                shutil.rmtree(root / "out")
                shutil.rmtree(root / "warm")
    return found


def applied(name: str, run: Path, films: Path, to: Path) -> None:
    if name == "apply":
        predict_images.predict_images(run, [films], to=to)
    else:
        explain_images.explain_images(run, [films], to)


def row(name: str, seconds: dict[str, float]) -> str:
    ratios = seconds["1"] / seconds["2"], seconds["2"] / seconds["dask"]
    cells = [f"{seconds[kind]:.1f}" for kind in ("1", "2", "dask")]
    return f"| {' | '.join([name, *cells, *(f'{one:.2f}' for one in ratios)])} |"


def cached_rates(root: Path, count: int, rounds: int) -> list[str]:
    """Return the row of cached films' orientation, and a table of the films a second of lungs."""
    size, rng = 256, np.random.default_rng(3)
    cache = root / "cache"
    cache.mkdir()
    squares = []
    for _ in range(DRAWN):
        drawn = synthetic.draw(synthetic.anatomy(rng), rng, height=HEIGHT, width=WIDTH).pixels
        raster.write_png(root / "one.png", drawn)
        film = image_file.read(root / "one.png").radiograph()
        squares.append(preprocess(film, size, "percentiles", 8))
    with open(cache / pixel_cache.IMAGES[8], "wb") as stream:
        stream.writelines(squares[number % DRAWN].tobytes() for number in range(count))
    facts = {
        name: pl.Series([None] * count, dtype=kind) for name, kind in pixel_cache.FACTS.items()
    }
    sums = [integrity.checksum(square) for square in squares]
    index = pl.DataFrame(facts).with_columns(
        image_id=pl.Series([f"film-{number}" for number in range(count)]),
        row=pl.int_range(count, dtype=pl.Int64),
        height=pl.lit(HEIGHT, pl.Int64),
        width=pl.lit(WIDTH, pl.Int64),
        image_crc32=pl.Series([sums[number % DRAWN] for number in range(count)], dtype=pl.Int64),
    )
    cached = Cache(cache, size, index)
    described = best_of(
        {kind: features_seconds(cached, index, one) for kind, one in executors().items()}
        for _ in range(rounds)
    )
    lines = [
        f"{row('audit: features', described)}\n",
        f"| lungs of {count:,} cached films | films/s, 1 process | films/s, 2 processes |",
        "| --- | --: | --: |",
    ]
    planned = index.select("image_id", finder=pl.lit("lungs"))
    for changes, words in ((True, "with quality"), (False, "without test-time changes")):
        seconds = best_of(
            {
                kind: lungs_seconds(root, cached, planned, executors()[kind], changes)
                for kind in "12"
            }
            for _ in range(rounds)
        )
        rates = [f"{count / seconds[kind]:.0f}" for kind in "12"]
        lines.append(f"| {' | '.join([words, *rates])} |")
    return lines


def features_seconds(cached: Cache, index: pl.DataFrame, chosen: Executor) -> float:
    with executing(chosen):
        orientation.describe_cache(cached, index.head(200))
        begun = time.perf_counter()
        orientation.describe_cache(cached, index)
        return time.perf_counter() - begun


def lungs_seconds(
    root: Path, cached: Cache, planned: pl.DataFrame, chosen: Executor, changes: bool
) -> float:
    models = {"lungs": pretrained.lung_model()}
    with executing(chosen):
        for films in (planned.head(200), planned):
            begun = time.perf_counter()
            masks = root / "lungs" / "masks.u8"
            found_lungs.find(masks, films, models, cached, quietly, changes=changes)
            seconds = time.perf_counter() - begun
            shutil.rmtree(masks.parent)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
