"""Time every step that works in shards: one process, two, and two workers of a Dask cluster.

    python -m benchmarks.speed.shards [--films 80] [--rounds 2] [--cached 1000] [--record]

Films are made up, 1024 x 900 pixels, PNG; headers are those of benchmarks.speed.deidentify. Each
step is first done on so few that it shows how long it takes, then timed by the wall clock on so
many that one process works for SECONDS at least, since a step of a second shows the start of
processes and little else: on links to the same films, on more headers, or on a run whose tables
name each image several times. The column `films` says how many. It is timed with one worker
process, with two, and with two workers of a local Dask cluster, in turn and in every other round
backwards, each time after the same step on a few films, by which processes are started; of several
rounds the quickest counts for each. Nothing else may run on the machine. x2 is one process against
two (to reach: 1.8), dask the time of two processes against that of Dask (to reach: 0.85). `start`
is what the step costs once however many films there are: the same step on a few films with two
processes that are not yet started. Of a run's step audit, `features` are the part that works image
by image.

What two processes could reach is in the last two columns. `caller` is the part of their processor
time that the process which hands out the shards takes: with one worker it works beside it on the
second core. `at most` is what x2 would be if both cores had worked without a pause on what two
processes and their caller took; it falls where they slow each other down, by memory or by clock.

`cached` films are repeats of a few squares of 256 pixels: their orientation features, and their
lungs by the bundled 8-bit network with and without test-time changes, on two processes (to reach:
80 and 300 films a second).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import polars as pl
import psutil

from benchmarks._lib.results import machine, record
from benchmarks.speed.deidentify import write_headers
from hilum import storage
from hilum.config import Recipe
from hilum.dataset import pixel_cache
from hilum.dataset.dicom_index.folder import index_of
from hilum.dataset.pixel_cache import Cache
from hilum.imaging import describe, synthetic
from hilum.imaging.batch.each_image import unwatched
from hilum.imaging.files import image_file, raster
from hilum.imaging.radiograph import preprocess
from hilum.inference import classify_images, orientation, pretrained, segment_images
from hilum.pipeline import audit, cache, crop, found_lungs, predict, segment
from hilum.privacy.dicom import folder as privacy
from hilum.progress import Progress, quietly
from hilum.run_folder import Run
from hilum.runs import explain_images, predict_images, run_all
from hilum.runs.export import export
from hilum.scale import executor
from hilum.scale.executor import Executor, executing
from hilum.storage import integrity

HEIGHT, WIDTH, FEW, DRAWN = 1024, 900, 4, 24
SECONDS = 8.0  # of one process, at least
MOST_TIMES = 20  # films of the next try beside those of a step that was too short
# For each film, files of headers: that are de-identified, and that are indexed.
STUDIES, HEADERS = 4, 50
EXPLAINED = 10  # films for each that is explained
FORMS = ("coco", "torchxrayvision")
OF_A_RUN = ("run: crop", "run: predict", "run: cache")
RECIPE = """
[data]
folder = "{folder}"
[split]
folds = 1
train = 0.4
tune = 0.3
test = 0.3
min_per_class = 1
[segment]
model = "pretrained"
[classify]
model = "linear_probe"
[evaluate]
bootstrap = 100
"""


@dataclass(frozen=True)
class Step:
    """A step: `few` makes its processes start, `on(count)` makes ready and returns what is timed.

    `base` is how many films show how long it takes.
    """

    few: Callable[[], object]
    on: Callable[[int], Callable[[], object]]
    base: int


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
    parser.add_argument("--films", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cached", type=int, default=1000)
    parser.add_argument("--only", default="", help="the steps whose name begins so")
    parser.add_argument("--record", action="store_true")
    requested = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hilum-shards-") as place:
        root = Path(place)
        make_films(root / "films", requested.films)
        make_films(root / "few", FEW)
        write_headers(root / "few-headers", FEW)
        cached, index = cache_of_repeats(root, requested.cached)
        rows = []
        for name, step in {
            **steps_on_files(root, requested.films),
            **(steps_of_a_run(root, requested.films) if needs_run(requested.only) else {}),
            **steps_on_cached(root, cached, index),
        }.items():
            if name.startswith(requested.only):
                rows.append(measured(name, step, requested.rounds))
                print(rows[-1], flush=True)
        rates = lungs_rates(root, cached, index, requested.rounds) if not requested.only else []
        starts = {kind: started(root, one) for kind, one in executors().items()}
    text = "\n".join(
        [
            f"`python -m benchmarks.speed.shards --films {requested.films} "
            f"--rounds {requested.rounds} --cached {requested.cached}` on "
            f"{machine('onnxruntime', 'opencv-python-headless')}. Seconds of the wall clock; each "
            f"step on so many films that one process works for {SECONDS:.0f} s.",
            "",
            "| step | films | 1 process | 2 processes | Dask, 2 workers | start | x2 | dask "
            "| caller | at most |",
            "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
            *rows,
            "",
            *rates,
            "",
            f"`start`: the step on {FEW} films with two processes that are not started. The start "
            f"of one process takes {starts['1']:.1f} s, of two {starts['2']:.1f} s, of a "
            f"local Dask cluster {starts['dask']:.1f} s, once for each command. `caller`: the part "
            "of the processor time of two that the process takes which hands out the shards. "
            "`at most`: what x2 would be had both cores worked without a pause.",
        ]
    )
    print(text)
    if requested.record:
        record("Two processes against one", text)


@dataclass(frozen=True)
class Timed:
    """A step on many films, in seconds, and before it on a few with the start of processes.

    `caller` and `workers` are seconds of processors that this process and all others took.
    """

    seconds: float
    start: float
    caller: float
    workers: float


def measured(name: str, step: Step, rounds: int) -> str:
    """Return the row of a step, on so many films that one process works for `SECONDS`."""
    count, kinds = step.base, executors()
    while (alone := timed(step, count, kinds["1"])).seconds < SECONDS:
        # Part of the time is the start, so that twice the films take less than twice the time.
        count = ceil(count * min(MOST_TIMES, 1.1 * SECONDS / alone.seconds))
    found = {"1": [alone], **{kind: list[Timed]() for kind in kinds if kind != "1"}}
    for number in range(rounds):
        # Backwards every other time, so that a machine that slows down favours none.
        for kind in reversed(kinds) if number % 2 else kinds:
            if number or kind != "1":
                found[kind].append(timed(step, count, kinds[kind]))
    took = {kind: min(one.seconds for one in of_kind) for kind, of_kind in found.items()}
    start = min(one.start for one in found["2"])
    both = min(one.caller + one.workers for one in found["2"])
    caller = min(one.caller for one in found["2"]) / both
    ratios = took["1"] / took["2"], took["2"] / took["dask"]
    cells = [f"{count:,}", *(f"{seconds:.1f}" for seconds in took.values()), f"{start:.1f}"]
    cells += [*(f"{one:.2f}" for one in ratios), f"{caller:.0%}", f"{2 * took['1'] / both:.2f}"]
    return f"| {' | '.join([name, *cells])} |"


def timed(step: Step, count: int, chosen: Executor) -> Timed:
    """Time a step on so many films, and before it on a few."""
    work = step.on(count)
    with executing(chosen):
        begun = time.perf_counter()
        step.few()
        started, (caller, workers) = time.perf_counter(), processor_seconds()
        work()
        ended, (caller_then, workers_then) = time.perf_counter(), processor_seconds()
    return Timed(ended - started, started - begun, caller_then - caller, workers_then - workers)


def processor_seconds() -> tuple[float, float]:
    """Return what this process and the processes it has started have taken so far."""
    this = psutil.Process()
    taken = [one.cpu_times() for one in (this, *this.children(recursive=True))]
    caller, *workers = (one.user + one.system for one in taken)
    return caller, sum(workers)


def needs_run(only: str) -> bool:
    """Return whether a step whose name begins so is of a run, or applies one."""
    return any(name.startswith(only) for name in (*OF_A_RUN, "apply", "explain"))


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


def links(root: Path, count: int) -> Path:
    """Return a folder of so many films: the made-up ones as often as it takes, by links."""
    to = root / f"films-{count}"
    films = sorted((root / "films").rglob("*.png"))
    for number in range(0 if to.exists() else count):
        film = films[number % len(films)]
        place = to / film.parent.name / f"{film.stem}-{number // len(films)}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(film)
    return to


def files_of_headers(root: Path, count: int) -> Path:
    """Return a folder of so many DICOM files."""
    to = root / f"headers-{count}"
    if not to.exists():
        write_headers(to, count)
    return to


def steps_on_files(root: Path, films: int) -> dict[str, Step]:
    """Return the steps that read a folder of files and write one."""
    out, key = root / "out", root / "keys" / "site.key"

    def step(
        work: Callable[[Path], object],
        base: int,
        made: Callable[[Path, int], Path] = links,
        few: str = "few",
    ) -> Step:
        def cleared(data: Path) -> None:
            shutil.rmtree(out, ignore_errors=True)
            work(data)

        def on(count: int) -> Callable[[], object]:
            shutil.rmtree(out, ignore_errors=True)
            data = made(root, count)
            return lambda: cleared(data)

        return Step(lambda: cleared(root / few), on, base)

    headers = {"made": files_of_headers, "few": "few-headers"}
    return {
        "inspect": step(lambda data: describe.describe_images([data], out), films),
        "lungs": step(lambda data: segment_images.segment_images([data], out), films),
        "classify": step(
            lambda data: classify_images.classify_images([data], out, scores=True), films
        ),
        "deidentify": step(
            lambda data: privacy.deidentify(data, out, key), films * STUDIES, **headers
        ),
        "headers": step(index_of, films * HEADERS, **headers),
        **{
            f"export {form}": step(
                lambda data, form=form: export(form, data, out, {"file_names": "keep"}), films
            )
            for form in FORMS
        },
        "apply": step(
            lambda data: predict_images.predict_images(root / "run", [data], to=out), films
        ),
        "explain": step(
            lambda data: explain_images.explain_images(root / "run", [data], out),
            max(1, films // EXPLAINED),
        ),
    }


def steps_of_a_run(root: Path, films: int) -> dict[str, Step]:
    """Do a run, which `apply` and `explain` use too; return its steps that work in shards."""
    whole = Run(root / "run")
    with executing(executors()["2"]):
        do(whole, root, "films", until="predict")

    def step(make: Callable[[Run, Recipe, Progress], object], made: str) -> Step:
        def on(count: int) -> Callable[[], object]:
            run = repeated_run(root / f"{made}-{count}", whole, count)
            shutil.rmtree(run / made, ignore_errors=True)
            return lambda: make(run, run.recipe(), quietly)

        return Step(lambda: segment_images.segment_images([root / "few"]), on, films)

    made = (step(crop.make, "crop"), step(predict.make, "predict"), step(cache.make, "cache"))
    return dict(zip(OF_A_RUN, made, strict=True))


def do(run: Run, root: Path, folder: str, until: str) -> None:
    """Do the steps of a run on a folder of films."""
    place = root / f"{run.folder.name}.toml"
    place.write_text(RECIPE.format(folder=folder))
    for _ in run_all.perform(run, Recipe.read(place), unwatched, until=until):
        pass


def repeated_run(place: Path, whole: Run, count: int) -> Run:
    """Return a run on so many links to films, whose tables are those of the films themselves."""
    run = Run(place)
    if place.exists():
        return run
    do(run, place.parent, links(place.parent, count).name, until="ingest")
    shutil.copytree(
        whole.folder,
        place,
        dirs_exist_ok=True,
        ignore=lambda folder, names: [
            name
            for name in names
            if (place / os.path.relpath(folder, whole.folder) / name).is_file()
        ],
    )
    film = pl.col("path").str.replace(r"-\d+\.png$", ".png")
    names = (
        run.manifest()
        .table.select("image_id", film)
        .join(whole.manifest().table.select("path", film="image_id"), on="path")
    )
    index = next(name for name in whole.made("cache") if name.endswith(pixel_cache.INDEX))
    for step, file in {
        "cache": index,
        "audit": audit.ORIENTATION,
        "split": "split.parquet",
        "segment": segment.INDEX,
        "crop": crop.INDEX,
    }.items():
        of_films = whole.table(step, file).rename({"image_id": "film"})
        table = names.join(of_films, on="film", maintain_order="left").drop("film", "path")
        storage.write_table(run / file, table)
        run.finish(step, whole.made_from(step), whole.made(step), whole.summary(step))
    return run


def started(root: Path, chosen: Executor) -> float:
    """Return the seconds of a command on a few films, the start of what carries it included."""
    begun = time.perf_counter()
    with executing(chosen):
        describe.describe_images([root / "few"], root / "out")
    seconds = time.perf_counter() - begun
    shutil.rmtree(root / "out")
    return seconds


def cache_of_repeats(root: Path, count: int) -> tuple[Cache, pl.DataFrame]:
    """Return a cache of so many films, which are a few squares again and again, and its index."""
    size, rng = 256, np.random.default_rng(3)
    folder = root / "cache"
    folder.mkdir()
    squares = []
    for _ in range(DRAWN):
        drawn = synthetic.draw(synthetic.anatomy(rng), rng, height=HEIGHT, width=WIDTH).pixels
        raster.write_png(root / "one.png", drawn)
        film = image_file.read(root / "one.png").radiograph()
        squares.append(preprocess(film, size, "percentiles", 8))
    with open(folder / pixel_cache.IMAGES[8], "wb") as stream:
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
    return Cache(folder, size, index), index


def steps_on_cached(root: Path, cached: Cache, index: pl.DataFrame) -> dict[str, Step]:
    """Return the steps that work on cached films."""

    def step(work: Callable[[Cache, pl.DataFrame], object], base: int) -> Step:
        def on(count: int) -> Callable[[], object]:
            times = range(ceil(count / index.height))
            again = [index.with_columns(pl.col("image_id") + f"-{one}") for one in times]
            films = pl.concat(again).head(count)
            return lambda: work(Cache(cached.folder, cached.size, films), films)

        return Step(on(FEW), on, base)

    return {
        "run: segment": step(lambda *films: find_lungs(root, *films, changes=True), 200),
        "audit: features": step(orientation.describe_cache, 1000),
    }


def lungs_rates(root: Path, cached: Cache, index: pl.DataFrame, rounds: int) -> list[str]:
    """Return a table of the cached films a second whose lungs are found."""
    lines = [
        f"| lungs of {index.height:,} cached films | films/s, 1 process | films/s, 2 processes |",
        "| --- | --: | --: |",
    ]
    for changes, words in ((True, "with quality"), (False, "without test-time changes")):
        step = Step(
            lambda changes=changes: find_lungs(root, cached, index.head(200), changes=changes),
            lambda _, changes=changes: lambda: find_lungs(root, cached, index, changes=changes),
            index.height,
        )
        seconds = best_of(
            {kind: timed(step, index.height, executors()[kind]).seconds for kind in "12"}
            for _ in range(rounds)
        )
        rates = [f"{index.height / seconds[kind]:.0f}" for kind in "12"]
        lines.append(f"| {' | '.join([words, *rates])} |")
    return lines


def find_lungs(root: Path, cached: Cache, films: pl.DataFrame, *, changes: bool) -> None:
    masks = root / "lungs" / "masks.u8"
    planned = films.select("image_id", finder=pl.lit("lungs"))
    models = {"lungs": pretrained.lung_model()}
    found_lungs.find(masks, planned, models, cached, quietly, changes=changes)
    shutil.rmtree(masks.parent)


if __name__ == "__main__":
    sys.exit(main())
