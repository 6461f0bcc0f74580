"""Time `hilum classify` of one image on one core, part by part, and weigh the bundled models.

    python -m benchmarks.speed.classify
    python -m benchmarks.speed.classify --data ../shared/data

Films are read once, before; then each part is timed on each film, the least of several repeats, and
the mean over films is given in milliseconds of processor time. The parts are called as the chain
calls them: the square, the orientation, the lungs with their quality, the age group by the image,
the search for copies in the lists of all models, and for each model its crop, its network and its
domain. The chain is `classify_images.classify_file`, once for calls, where a model that is known
not to call is not applied, and once with the scores of all models. Not counted are reading a file
and writing overlays.

The made-up films are `hilum.imaging.synthetic`'s; with --data also real ones of `SETS`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from benchmarks._lib.results import machine, record
from hilum.annotations import lung_masks
from hilum.imaging import synthetic
from hilum.imaging.files import dicom, image_file, raster
from hilum.imaging.radiograph import preprocess
from hilum.inference import (
    age_group,
    classify_images,
    lung_finder,
    model_answers,
    orientation,
    pretrained,
    segment_images,
)

SEED, MADE_UP, FILMS, REPEATS = 3, 8, 12, 5
SIZE = (1200, 1000)  # of the made-up films: height, width
SETS = {  # below --data: where films are
    "nih-sample": "*.png",
    "montgomery/CXR_png": "*.png",
    "nih-448": "*.jpg",
    "kermany-448/images": "*",
    "covid-448/images": "*",
}
PAGE = "Classify one image on one core"
MOST_MS, MOST_MB = 25, 12


class Film(NamedTuple):
    """A file that was read, and where it lies."""

    path: Path
    file: raster.Raster | dicom.Dicom


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of real films")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--no-record", action="store_true", help="print only")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before a session starts its threads
    columns: dict[str, dict[str, float]] = {}
    with TemporaryDirectory() as temporary:
        columns["made up"] = timed(made_up(Path(temporary)), arguments.repeats)
    for folder, pattern in SETS.items() if arguments.data else ():
        if films := some(arguments.data / folder, pattern):
            columns[folder.partition("/")[0]] = timed(films, arguments.repeats)
    if arguments.data and len(columns) == 1:
        sys.exit(f"none of {', '.join(SETS)} is below {arguments.data}")
    data = f" --data {arguments.data}" if arguments.data else ""
    text = "\n".join(
        [
            f"`python -m benchmarks.speed.classify{data}` on "
            f"{machine('numpy', 'opencv-python-headless', 'onnxruntime')}.",
            "Milliseconds of processor time an image, mean over films of the least of "
            f"{arguments.repeats}; reading the file and writing overlays not counted.",
            "",
            *table(columns),
            "",
            *weights(),
        ]
    )
    print(text)
    if not arguments.no_record:
        record(PAGE, text)


def made_up(folder: Path) -> list[Film]:
    """Write and read films that are made up."""
    rng, films = np.random.default_rng(SEED), []
    height, width = SIZE
    for number in range(MADE_UP):
        path = folder / f"{number}.png"
        body = synthetic.anatomy(rng)
        raster.write_png(path, synthetic.draw(body, rng, height=height, width=width).pixels)
        films.append(Film(path, image_file.read(path)))
    return films


def some(folder: Path, pattern: str) -> list[Film]:
    """Read films evenly out of a folder and the folders in it."""
    paths = sorted(path for path in folder.rglob(pattern) if path.suffix != ".csv")
    return [Film(path, image_file.read(path)) for path in paths[:: max(1, len(paths) // FILMS)]]


def timed(films: Sequence[Film], repeats: int) -> dict[str, float]:
    """Return the milliseconds an image of each part, mean over films."""
    each: dict[str, list[float]] = {}
    for film in films:
        for name, part in parts(film).items():
            each.setdefault(name, []).append(least(part, repeats))
    return {name: 1000 * float(np.mean(values)) for name, values in each.items()}


def least(part: Callable[[], object], repeats: int) -> float:
    """Return the least seconds of processor time of several calls, after one that is not timed."""
    part()
    taken = []
    for _ in range(repeats):
        begun = time.process_time()
        part()
        taken.append(time.process_time() - begun)
    return min(taken)


def parts(film: Film) -> dict[str, Callable[[], object]]:
    """Return the parts of the chain for one film, ready to be called again and again."""
    finder, models = segment_images.load_lung_model(), pretrained.pretrained_models()
    contract, radiograph = finder.contract, film.file.radiograph()
    lungs = segment_images.segment_image(finder, film.file, film.path)
    image, size = lungs.image, radiograph.size

    def fresh() -> segment_images.LungResult:
        """Return the lungs without what was computed of them before."""
        return segment_images.LungResult(
            film.file, radiograph, lungs.examination, lungs.quality, lungs.stated, lungs.protocol
        )

    def copies() -> list[str]:
        """Search the lists of all models."""
        found = fresh()
        return [model_answers.warned(model, found, "") for model in models]

    def whole(scores: bool) -> Callable[[], object]:
        """Return the chain."""
        return lambda: classify_images.classify_file(
            models, finder, film.file, film.path, "film", scores=scores
        )

    return {
        "square of 256 x 256": lambda: preprocess(
            radiograph, contract.size, contract.normalisation
        ),
        "orientation, no chest": lambda: orientation.flags_of_image(image, size),
        "lungs: network once": lambda: finder.many(
            image[None], (finder.lung_output(lung_masks.AIR),)
        ),
        "lungs: with augmentation and quality": lambda: lung_finder.segment_lungs(
            finder, image, size
        ),
        "age group": lambda: age_group.classify(image),
        "copies of training images": copies,
        **{
            f"{model.name}: crop, network, domain": lambda model=model: model_answers.ask(
                model, fresh(), finder
            )
            for model in models
        },
        "the whole chain: calls": whole(False),
        "the whole chain: scores of all models": whole(True),
    }


def table(columns: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yield the rows of the table, a column for each set."""
    yield f"| part | {' | '.join(columns)} |"
    yield f"| --- |{' --: |' * len(columns)}"
    for name in next(iter(columns.values())):
        yield f"| {name} | {' | '.join(f'{of[name]:.1f}' for of in columns.values())} |"
    longest = max(of["the whole chain: calls"] for of in columns.values())
    held = "held" if longest <= MOST_MS else "missed"
    yield ""
    yield f"At most {MOST_MS} ms for the calls of one image: {held} ({longest:.1f})."


def weights() -> Iterator[str]:
    """Yield the bytes of what is shipped to read images."""
    models = sorted(pretrained.folder().glob("*.onnx"))
    yield "| bundled model | MB |"
    yield "| --- | --: |"
    for path in models:
        yield f"| {path.name} | {path.stat().st_size / 1e6:.2f} |"
    total = sum(path.stat().st_size for path in models)
    every = sum(path.stat().st_size for path in pretrained.folder().rglob("*") if path.is_file())
    held = "held" if every <= MOST_MB * 1e6 else "missed"
    yield f"| all models | {total / 1e6:.2f} |"
    yield f"| all models, tables and templates | {every / 1e6:.2f} |"
    yield ""
    yield f"At most {MOST_MB} MB in all: {held}."


if __name__ == "__main__":
    main()
