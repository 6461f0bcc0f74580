"""How well wrong pictures are found, and how often right ones are doubted: on real radiographs by patient and on copies made wrong.

    python -m benchmarks.accuracy.orientation --data FOLDER
    python -m benchmarks.accuracy.orientation --data FOLDER --model /tmp/without.onnx --all montgomery shenzhen     a model that has not learnt from these

FOLDER as in posture_pictures.py. Only the test part is asked, by patient; of NIH ChestX-ray14 all, and of the sets named with --all.
False alarms are counted on the pictures as they are and on copies that were varied harmlessly (posture_pictures.vary).
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
    Pictures,
    cached,
    phantoms,
    read,
    vary,
)
from tools.build_models.other_images import FAMILIES

SEED = 1000  # other phantoms and variations than were learnt from
VARIED = 4000  # varied copies of each set
PLAIN_FAULTS = (
    orientation.INVERTED,
    orientation.ROTATED,
    orientation.MIRRORED,
    orientation.OUT_OF_DISTRIBUTION,
)
STRANGERS = 300  # of each family
TIMED = 2000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="another model than the one that is shipped")
    parser.add_argument(
        "--all", nargs="*", default=[], help="sets that the model has not learnt from"
    )
    arguments = parser.parse_args()
    if arguments.model:
        other = OnnxModel(arguments.model)
        orientation._network = lambda: other  # the one place where a network comes from
    sets = asked(arguments.data, ["nih", *arguments.all])
    rng = np.random.default_rng(SEED)
    told = [
        f"Command: `python bench/posture.py --data FOLDER{f' --model {arguments.model.name} --all ' + ' '.join(arguments.all) if arguments.model else ''}`",
        f"Machine: {machine('onnxruntime', 'opencv-python-headless')}. Limits: {orientation._network().metadata['limits']}",
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
    print("\n".join(told))
    record(
        f"Wrong pictures{f', model {arguments.model.stem}' if arguments.model else ''}",
        "\n".join(told),
    )


def asked(data: Path, whole: list[str]) -> dict[str, Pictures]:
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
        "phantoms": Pictures(
            np.stack([image for image, _ in made]),
            np.array([size for _, size in made]),
            names,
            names,
        ),
    }


def faults(pictures: list[tuple[np.ndarray, tuple[int, int]]]) -> list[set[str]]:
    """The faults doubted of cached pictures and their sizes."""
    looks = orientation.describe_orientation(
        np.stack([image for image, _ in pictures]), [size for _, size in pictures]
    )
    return [{doubt.fault for doubt in doubts} for doubts in orientation.quality_flags(looks)]


def plain(one: Pictures) -> list[tuple[np.ndarray, tuple[int, int]]]:
    return [
        (image, tuple(size)) for image, size in zip(one.images, one.sizes.tolist(), strict=True)
    ]


def alarms(sets: dict[str, Pictures], rng: np.random.Generator) -> Iterator[str]:
    yield "False alarms on right pictures, % (count):"
    yield ""
    yield f"| set | pictures | {' | '.join(PLAIN_FAULTS)} | any |"
    yield "| --- | --: | --: | --: | --: | --: | --: |"
    for name, one in sets.items():
        bare = one.bare()
        varied = [cached(vary(bare[number % len(bare)], rng)) for number in range(VARIED)]
        for words, some in ((name, plain(one)), (f"{name}, varied", varied)):
            doubted = faults(some)
            cells = [sum(fault in each for each in doubted) for fault in PLAIN_FAULTS] + [
                sum(map(bool, doubted))
            ]
            yield (
                f"| {words} | {len(some)} | "
                + " | ".join(f"{100 * count / len(some):.2f} ({count})" for count in cells)
                + " |"
            )


def found(sets: dict[str, Pictures]) -> Iterator[str]:
    yield "Copies made wrong, share of which the fault is named (in brackets: doubted at all), %:"
    yield ""
    yield f"| set | {' | '.join(FAULTS)} |"
    yield "| --- |" + " --: |" * len(FAULTS)
    for name, one in sets.items():
        cells = []
        for fault, spoil in FAULTS.items():
            doubted = faults([cached(spoil(image)) for image in one.bare()])
            expected = {word for word in PLAIN_FAULTS if word in fault}
            cells.append(
                f"{100 * np.mean([expected <= each for each in doubted]):.2f} ({100 * np.mean(list(map(bool, doubted))):.2f})"
            )
        yield f"| {name} | " + " | ".join(cells) + " |"


def refused(sets: dict[str, Pictures], data: Path, rng: np.random.Generator) -> Iterator[str]:
    chests = [image for name, one in sets.items() if name != "phantoms" for image in one.bare()]
    yield "No frontal chest, share that is named so (in brackets: doubted at all), %:"
    yield ""
    for name, family in FAMILIES.items():
        made = [
            cached(np.ascontiguousarray(family(chests[rng.integers(len(chests))], rng)))
            for _ in range(STRANGERS)
        ]
        doubted = faults(made)
        named = 100 * np.mean([orientation.OUT_OF_DISTRIBUTION in each for each in doubted])
        yield f"- {name}: {named:.1f} ({100 * np.mean(list(map(bool, doubted))):.1f})"
    yield ""
    yield "Real files of the DICOM folder: " + "; ".join(real(data))


def real(data: Path) -> Iterator[str]:
    for path in sorted((data / "dicom").glob("*.dcm")):
        try:
            radiograph = image_file.read(path).radiograph()
        except BadData:
            continue
        (doubted,) = orientation.quality_flags(
            orientation.describe_orientation(
                preprocess(radiograph, SIZE, "percentiles")[None], [radiograph.size]
            )
        )
        yield f"{path.name} {', '.join(doubt.words for doubt in doubted) or 'not doubted'}"


def worst(sets: dict[str, Pictures]) -> Iterator[str]:
    """The right pictures nearest to a false alarm, or over it."""
    yield "Most doubted right pictures (value, limit):"
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
    return f"{len(images) / wall:,.0f} pictures/s; 100,000 pictures need {used / len(images) * 1e5:.0f} s of one core"


if __name__ == "__main__":
    main()
