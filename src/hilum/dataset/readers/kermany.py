"""Chest X-ray images of children with and without pneumonia, Guangzhou (Kermany et al.), as on Kaggle or at Mendeley Data.

    train/NORMAL/IM-0115-0001.jpeg                     also NORMAL2-IM-0115-0001.jpeg
    train/PNEUMONIA/person1000_bacteria_2931.jpeg      person, cause, running number; virus alike
    val/ …  test/ …                                    val is 16 pictures, the tune part here
    train/PNEUMONIA/BACTERIA-1008087-0001.jpeg         later versions at Mendeley: disease, patient, picture of the patient
    chest_xray/train/ …                                all of it one folder down, as in the archive, which holds a second copy below that

The folder says normal or pneumonia; the name says bacteria or virus, and of these the other one is taken to be absent. Nothing is said
of the cause of no pneumonia. Pictures may also be .jpg or .png. Ages (1 to 5 years) and sexes are not given.

Whose pictures they are. 170 person numbers stand both in train and in test, as do 94 numbers of normal pictures. The files do not say
whether such a number is one child. `PATIENTS` offers both readings:

"by cause", the default: each cause has a numbering of its own, as have the two series of normal pictures (IM, NORMAL2-IM). What speaks
for it, measured on the release: (1) none of the 170 stands in two parts under one cause; (2) within a cause person and running number
rise together through all parts, and the numbers in test are blocks (bacteria 78 to 175; virus 1 to 79 and 1608 to 1685) that train but for
one leaves out, so each cause was numbered as a whole, then divided; (3) two pictures of one number and cause are more alike than those
of two numbers (by 16 standard deviations of a permutation for bacteria), two of one number and different causes are not (-0.6; 979
numbers). For the normal series only (1) and (3) speak, the latter weakly. So the given split holds, and keeps its name.

"by number", the careful one: a number is one child whatever the cause. The given split then tears 170 and 94 patients and is refused,
and a new one is made. Choose it where a child in two parts would be worse than figures nobody else's compare with.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from hilum import storage
from hilum.annotations.vocabulary import State
from hilum.dataset.manifest import DROPPED, Label, Remark, Row
from hilum.errors import NotFound
from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.plugins import Card
from hilum.safety import path_names

CARD = Card(
    title="Chest X-ray images (pneumonia) of children, Guangzhou (Kermany)",
    licence="CC BY 4.0",
    source="Mendeley Data, doi:10.17632/rscbjbr9sj; Kaggle: paultimothymooney/chest-xray-pneumonia",
    citation="Kermany et al. 2018, Identifying medical diagnoses and treatable diseases by image-based deep learning, Cell 172(5):1122-1131",
    counts="5,856 pictures (5,863 are stated as well): train 1,341 normal and 3,875 pneumonia, val 8 and 8, test 234 and 390",
    caveats="Children of one to five years at one hospital, so a model of these is not one of adults. 170 person numbers and 94 numbers of "
    "normal pictures stand in train and in test; they are taken to count within their cause, which the files suggest and do not say. The val "
    "part is 16 pictures, too few to choose a threshold on: Hilum makes a better one from train, by patient, unless [split] official = 'use'. The share of "
    "pneumonia differs between train (74 %) and test (62 %). Pictures are of many sizes and shapes, which a model may learn in place of lungs.",
)
NAMES_ARE_PUBLISHED = True
LACKS = frozenset({"masks"})  # no masks of the lungs
TERMS = {"PNEUMONIA": "pneumonia", "bacteria": "bacterial_pneumonia", "virus": "viral_pneumonia"}
PATIENTS = {
    "by cause": "a number is a child within its cause (bacteria, virus) or series (IM, NORMAL2-IM)",
    "by number": "a number is one child whatever the cause",
}
PARTS = {"train": "train", "val": "tune", "test": "test"}
CLASSES = {"NORMAL": State.ABSENT, "PNEUMONIA": State.PRESENT}
CAUSES = ("bacteria", "virus")
INNER = "chest_xray"
DEEPEST = 3  # folders of this name within one another: the archive's own, and its second copy
SHOWN = 3  # examples in a remark that counts many
_ILL = re.compile(r"person(?P<number>\d+)_(?P<cause>bacteria|virus)_\d+(?:_\d+)?")
_NORMAL = re.compile(r"(?P<series>(?:NORMAL2-)?IM)-(?P<number>\d+)-\d+(?:-\d+)?")
_MENDELEY = re.compile(r"(?P<disease>NORMAL|BACTERIA|VIRUS)-(?P<number>\d+)-\d+")


@dataclass(frozen=True)
class _Named:
    """What a file's name says: the cause, None for a normal picture, and the patient's name in each of `PATIENTS`."""

    cause: str | None
    patient: dict[str, str]


def _named(stem: str) -> _Named | None:
    if found := _ILL.fullmatch(stem):
        number, cause = found["number"], found["cause"]
        return _Named(
            cause, {"by cause": f"person{number}_{cause}", "by number": f"person{number}"}
        )
    if found := _NORMAL.fullmatch(stem):
        return _Named(
            None,
            {
                "by cause": f"{found['series']}-{found['number']}",
                "by number": f"IM-{found['number']}",
            },
        )
    if found := _MENDELEY.fullmatch(stem):
        disease = found["disease"].lower()
        return _Named(
            disease if disease in CAUSES else None, dict.fromkeys(PATIENTS, found["number"])
        )
    return None


@dataclass(frozen=True)
class _Picture:
    place: str  # below the root
    part: str  # the folder's name
    label: str  # the folder's name
    named: _Named

    @property
    def name(self) -> str:
        return f"{self.part}/{self.label}/{Path(self.place).stem}"


def detect(root: Path) -> bool:
    folders = [
        root / inner / part / label for inner in ("", INNER) for part in PARTS for label in CLASSES
    ]
    return any(
        _named(Path(name).stem)
        for folder in folders
        if folder.is_dir()
        for name in os.listdir(folder)
    )


def rows(root: Path, *, patients: str = "by cause") -> Iterator[Row | Remark]:
    """`patients` is one of `PATIENTS`. Raises `NotFound` for another."""
    if patients not in PATIENTS:
        raise NotFound.named("reading of the patients", patients, PATIENTS)
    pictures = []
    for item in _found(root):
        if isinstance(item, Remark):
            yield item
            continue
        pictures.append(item)
        if (item.named.cause is None) == (item.label == "PNEUMONIA"):
            says = item.named.cause or "normal"
            yield Remark(
                item.place,
                "warning",
                "label-conflict",
                f"lies in {item.label}, but its name says {says}: the folder is taken, no cause is",
            )
    yield from _unsure(pictures, patients)
    for item in pictures:
        labels = _labels(item.part, item.label, item.named.cause)
        yield Row(
            item.place,
            item.name,
            item.named.patient[patients],
            labels=labels,
            given_part=PARTS[item.part],
            view="AP",
        )


@cache
def _labels(part: str, label: str, cause: str | None) -> tuple[Label, ...]:
    labels = [Label("PNEUMONIA", CLASSES[label], f"folder {part}/{label}", rule="folder")]
    if cause and label == "PNEUMONIA":
        labels += [
            Label(word, State(word == cause), f"file name says {cause}", rule="file name")
            for word in CAUSES
        ]
    return tuple(labels)


def _unsure(pictures: list[_Picture], patients: str) -> Iterator[Remark]:
    """One remark on numbers that stand in several parts of the split."""
    torn = {}
    for reading in PATIENTS:
        parts = defaultdict(set)
        for item in pictures:
            parts[item.named.patient[reading]].add(item.part)
        torn[reading] = sorted(
            (name for name, where in parts.items() if len(where) > 1),
            key=lambda name: (len(name), name),
        )
    if not torn["by number"]:
        return
    persons = [name for name in torn["by number"] if name.startswith("person")]
    others = [name for name in torn["by number"] if not name.startswith("person")]
    counted = " and ".join(
        f"{len(names)} {what} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"
        for names, what in ((persons, "person numbers"), (others, "numbers of normal pictures"))
        if names
    )
    other = next(reading for reading in PATIENTS if reading != patients)
    message = (
        f"{counted} stand in several parts of the given split, {len(torn['by cause'])} of them under one cause or series; the files do not say "
        f"whether such a number is one child. Taken here '{patients}': {PATIENTS[patients]}, so the given split tears {len(torn[patients])} "
        f"patients. The other reading is '{other}': {PATIENTS[other]}, which makes it {len(torn[other])}"
    )
    yield Remark(".", "warning", "patients-unsure", message)


def _found(root: Path) -> Iterator[_Picture | Remark]:
    """Every picture once, and a remark on all else."""
    above: dict[str, Path] = {}
    for depth in range(DEEPEST):
        folder, here = root.joinpath(*[INNER] * depth), {}
        again: Counter[bool] = Counter()
        for path in _shown(folder):
            if path.name == INNER and path.is_dir() and depth < DEEPEST - 1:
                continue
            for item in (
                _in_part(root, path)
                if path.name in PARTS and path.is_dir()
                else _not_of_it(root, path)
            ):
                if isinstance(item, _Picture) and item.name in above:
                    again[
                        os.path.getsize(root / item.place) == os.path.getsize(above[item.name])
                    ] += 1
                    continue
                if isinstance(item, _Picture):
                    here[item.name] = root / item.place
                yield item
        for same, count in sorted(again.items()):
            kind = (
                "as large; they are left out as copies"
                if same
                else "of another size; they are left out: see which of the two you want"
            )
            place = folder.relative_to(root).as_posix()
            yield Remark(
                place,
                "info" if same else "warning",
                DROPPED,
                f"holds {count} pictures that lie further up under the same names, {kind}",
            )
        above |= here


def _in_part(root: Path, part: Path) -> Iterator[_Picture | Remark]:
    for folder in _shown(part):
        if folder.name not in CLASSES or not folder.is_dir():
            yield from _not_of_it(root, folder)
            continue
        for path in _shown(folder):
            place = path_names.below(root, path)
            named = _named(path.stem)
            if path.suffix.lower() not in raster.ENDINGS or not path.is_file():
                yield from _not_of_it(root, path)
            elif named is None:
                yield Remark(
                    place,
                    "warning",
                    DROPPED,
                    "its name is not of the form person1_bacteria_2, IM-0115-0001 or BACTERIA-1008087-0001",
                )
            else:
                yield _Picture(place, part.name, folder.name, named)


def _shown(folder: Path) -> list[Path]:
    return (
        sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        if folder.is_dir()
        else []
    )


def _not_of_it(root: Path, path: Path) -> Iterator[Remark]:
    count = sum(len(files) for _, _, files in os.walk(path))
    what = f"a folder of {count} files that is" if path.is_dir() else "a file that is"
    yield Remark(
        path_names.below(root, path), "info", DROPPED, f"{what} no part of the release's layout"
    )


_FIRST = {  # the numbers before the first one of each kind in a part, as in the release
    ("train", "bacteria"): 0,
    ("train", "virus"): 79,
    ("train", "normal"): 114,
    ("val", "bacteria"): 1945,
    ("val", "normal"): 1426,
    ("test", "virus"): 0,
    ("test", "bacteria"): 77,
    ("test", "normal"): 0,
}


def example(root: Path, *, images: int = 16, seed: int = 0) -> None:
    """A quarter for the test, two for val; persons with several pictures, and person 1 in train (bacteria) and in test (virus)."""
    from imagecodecs import jpeg_encode

    rng = np.random.default_rng(seed)
    parts = {"test": max(3, images // 4), "val": 2}
    running: Counter[str] = Counter()
    for part, count in {**parts, "train": images - sum(parts.values())}.items():
        number = {cause: first for (of, cause), first in _FIRST.items() if of == part}
        body, pictures = {}, Counter()
        for index in range(count):
            cause = (
                "normal",
                "virus" if part == "test" else "bacteria",
                "bacteria" if part == "test" else "virus",
            )[index % 3]
            running[cause] += 1
            if pictures[cause] != 1 and (
                not pictures[cause] or rng.uniform() < 0.6
            ):  # the first of each kind has two pictures
                number[cause] += 1
                body[cause], pictures[cause] = synthetic.anatomy(rng, child=True), 0
            pictures[cause] += 1
            height, width = int(rng.integers(150, 200)), int(rng.integers(200, 280))
            picture = synthetic.draw(
                body[cause],
                rng,
                height=height,
                width=width,
                disease=None if cause == "normal" else "pneumonia",
            )
            if cause == "normal":
                series = "IM" if number[cause] % 2 else "NORMAL2-IM"
                place = f"NORMAL/{series}-{number[cause]:04d}-0001{f'-{pictures[cause] - 1:04d}' if pictures[cause] > 1 else ''}.jpeg"
            else:
                place = f"PNEUMONIA/person{number[cause]}_{cause}_{running[cause]}.jpeg"
            storage.write_bytes(root / INNER / part / place, jpeg_encode(picture.pixels, level=90))
