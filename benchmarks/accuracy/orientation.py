"""Measure how many wrong images the orientation detector flags, and how many right ones: on real
radiographs by patient and on copies made wrong.

    python -m benchmarks.accuracy.orientation --data FOLDER
    python -m benchmarks.accuracy.orientation --data FOLDER --model /tmp/without.onnx --all
    montgomery shenzhen     a model that was not trained on these

FOLDER as in orientation_images.py. Only the test part is evaluated, by patient; of NIH ChestX-ray14
all, and of the sets named with --all. False alarms are counted on the images as they are and on
copies that were varied harmlessly (orientation_images.vary).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks._lib.results import machine, record
from hilum.errors import BadData
from hilum.imaging.files import image_file
from hilum.imaging.radiograph import preprocess
from hilum.inference import orientation
from hilum.inference.onnx_model import OnnxModel
from tools.build_models.orientation_images import (
    FAULTS,
    SETS,
    SIZE,
    Images,
    cached,
    phantoms,
    read,
    vary,
)
from tools.build_models.other_images import FAMILIES

SEED = 1000  # other phantoms and variations than were trained on
VARIED = 4000  # varied copies of each set
PLAIN_FAULTS = (
    orientation.INVERTED,
    orientation.ROTATED,
    orientation.MIRRORED,
    orientation.OUT_OF_DISTRIBUTION,
)
FOREIGN = 300  # of each family
TIMED = 2000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="another model than the one that is shipped")
    parser.add_argument(
        "--all", nargs="*", default=[], help="sets that the model was not trained on"
    )
    arguments = parser.parse_args()
    if arguments.model:
        other = OnnxModel(arguments.model)
        orientation._network = lambda: other  # the one place where a network comes from
    sets = requested(arguments.data, ["nih", *arguments.all])
    rng = np.random.default_rng(SEED)
    options = ""
    if arguments.model:
        options = f" --model {arguments.model.name} --all {' '.join(arguments.all)}"
    reported = [
        (f"Command: `python -m benchmarks.accuracy.orientation --data FOLDER{options}`"),
        (
            f"Machine: {machine('onnxruntime', 'opencv-python-headless')}. Limits:"
            f" {orientation._network().metadata['limits']}"
        ),
        "",
        *alarms(sets, rng),
        "",
        *found(sets),
        "",
        *refused(sets, arguments.data, rng),
        "",
        *worst(sets),
        "",
        speed(),
    ]
    print("\n".join(reported))
    record(
        f"Wrong images{f', model {arguments.model.stem}' if arguments.model else ''}",
        "\n".join(reported),
    )


def requested(data: Path, whole: list[str]) -> dict[str, Images]:
    sets = {name: read(data, name) for name in SETS}
    sets = {
        name: one if name in whole else one.of("test")
        for name, one in sets.items()
        if len(one.images)
    }
    made = [cached(image) for image in phantoms(600, SEED)]
    names = np.array([f"phantom {number}" for number in range(len(made))])
    return {
        **sets,
        "phantoms": Images(
            np.stack([image for image, _ in made]),
            np.array([size for _, size in made]),
            names,
            names,
        ),
    }


def faults(radiographs: list[tuple[np.ndarray, tuple[int, int]]]) -> list[set[str]]:
    """Return the faults flagged of cached images and their sizes."""
    features = orientation.describe_orientation(
        np.stack([image for image, _ in radiographs]), [size for _, size in radiographs]
    )
    return [{flag.fault for flag in flags} for flags in orientation.quality_flags(features)]


def plain(one: Images) -> list[tuple[np.ndarray, tuple[int, int]]]:
    return [
        (image, tuple(size)) for image, size in zip(one.images, one.sizes.tolist(), strict=True)
    ]


def alarms(sets: dict[str, Images], rng: np.random.Generator) -> Iterator[str]:
    yield "False alarms on right images, % (count):"
    yield ""
    yield f"| set | images | {' | '.join(PLAIN_FAULTS)} | any |"
    yield "| --- | --: | --: | --: | --: | --: | --: |"
    for name, one in sets.items():
        bare = one.bare()
        varied = [cached(vary(bare[number % len(bare)], rng)) for number in range(VARIED)]
        for words, some in ((name, plain(one)), (f"{name}, varied", varied)):
            flagged = faults(some)
            cells = [sum(fault in each for each in flagged) for fault in PLAIN_FAULTS] + [
                sum(map(bool, flagged))
            ]
            yield (
                f"| {words} | {len(some)} | "
                + " | ".join(f"{100 * count / len(some):.2f} ({count})" for count in cells)
                + " |"
            )


def found(sets: dict[str, Images]) -> Iterator[str]:
    yield (
        "Copies made wrong, fraction of which the fault is named (in brackets: flagged at all), %:"
    )
    yield ""
    yield f"| set | {' | '.join(FAULTS)} |"
    yield "| --- |" + " --: |" * len(FAULTS)
    for name, one in sets.items():
        cells = []
        for fault, spoil in FAULTS.items():
            flagged = faults([cached(spoil(image)) for image in one.bare()])
            expected = {word for word in PLAIN_FAULTS if word in fault}
            cells.append(
                f"{100 * np.mean([expected <= each for each in flagged]):.2f}"
                f" ({100 * np.mean(list(map(bool, flagged))):.2f})"
            )
        yield f"| {name} | " + " | ".join(cells) + " |"


def refused(sets: dict[str, Images], data: Path, rng: np.random.Generator) -> Iterator[str]:
    chests = [image for name, one in sets.items() if name != "phantoms" for image in one.bare()]
    yield "No frontal chest, share that is named so (in brackets: flagged at all), %:"
    yield ""
    for name, family in FAMILIES.items():
        made = [
            cached(np.ascontiguousarray(family(chests[rng.integers(len(chests))], rng)))
            for _ in range(FOREIGN)
        ]
        flagged = faults(made)
        named = 100 * np.mean([orientation.OUT_OF_DISTRIBUTION in each for each in flagged])
        yield f"- {name}: {named:.1f} ({100 * np.mean(list(map(bool, flagged))):.1f})"
    yield ""
    yield "Real files of the DICOM folder: " + "; ".join(real(data))


def real(data: Path) -> Iterator[str]:
    for path in sorted((data / "dicom").glob("*.dcm")):
        try:
            radiograph = image_file.read(path).radiograph()
        except BadData:
            continue
        (flagged,) = orientation.quality_flags(
            orientation.describe_orientation(
                preprocess(radiograph, SIZE, "percentiles")[None], [radiograph.size]
            )
        )
        yield f"{path.name} {', '.join(flag.words for flag in flagged) or 'not flagged'}"


def worst(sets: dict[str, Images]) -> Iterator[str]:
    """Yield the right images nearest to a false alarm, or over it."""
    yield "Most flagged right images (value, limit):"
    yield ""
    limits = orientation._network().metadata["limits"]
    for fault, limit in limits.items():
        tables = [
            orientation.describe_orientation(one.images, one.sizes.tolist()).with_columns(
                name=pl.Series(one.names)
            )
            for name, one in sets.items()
            if name != "phantoms"
        ]
        top = pl.concat(tables).sort(fault, descending=True).head(4)
        yield f"- {fault} ({limit}): " + ", ".join(
            f"{name} {value:.2f}" for name, value in top.select("name", fault).iter_rows()
        )


def speed() -> str:
    images = np.stack([cached(image)[0] for image in phantoms(50, SEED)] * (TIMED // 50))
    orientation.describe_orientation(images[:64], [(SIZE, SIZE)] * 64)
    begun, used = time.perf_counter(), time.process_time()
    orientation.describe_orientation(images, [(SIZE, SIZE)] * len(images))
    wall, used = time.perf_counter() - begun, time.process_time() - used
    return (
        f"{len(images) / wall:,.0f} images/s; 100,000 images need {used / len(images) * 1e5:.0f} s"
        " of one core"
    )


if __name__ == "__main__":
    main()
