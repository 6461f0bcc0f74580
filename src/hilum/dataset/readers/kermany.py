"""Chest X-ray images of children with and without pneumonia, Guangzhou (Kermany et al.).

    train/NORMAL/IM-0115-0001.jpeg                     also NORMAL2-IM-0115-0001.jpeg
    train/PNEUMONIA/person1000_bacteria_2931.jpeg      person, cause, running number; virus alike
    val/ …  test/ …                                    val is 16 images, the tuning part here
    train/PNEUMONIA/BACTERIA-1008087-0001.jpeg         later versions at Mendeley Data: disease,
                                                       patient, image of the patient
    chest_xray/train/ …                                all of it one folder down, as in Kaggle's
                                                       archive, with a second copy below

The folder states normal or pneumonia; the name states bacteria or virus, and of these the other
one is taken to be absent. Normal images have no label of the cause. Images may also be .jpg or
.png. Ages (1 to 5 years) and sexes are not given.

Patients. 170 person numbers are both in train and in test, as are 94 numbers of normal images. The
files do not say whether such a number is one child. `PATIENTS` offers both interpretations:

"by cause", the default: each cause has a numbering of its own, as have the two series of normal
images (IM, NORMAL2-IM). Evidence, measured on the release: (1) none of the 170 is in two parts
under one cause; (2) within a cause person and running number rise together through all parts, and
the numbers in test are blocks (bacteria 78 to 175; virus 1 to 79 and 1608 to 1685) that train
leaves out except for one, so each cause was numbered as a whole, then divided; (3) two images of
one number and cause are more similar than those of two numbers (by 16 standard deviations of a
permutation for bacteria), two of one number and different causes are not (-0.6; 979 numbers). For
the normal series only (1) and (3) hold, the latter weakly. So the official split has no patient in
two parts, and its parts keep their names.

"by number", the conservative one: a number is one child whatever the cause. The official split
then has 170 and 94 patients in several parts and is refused, and a new one is made. Choose it
where a child in two parts would be worse than figures that cannot be compared with anybody else's.
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
from hilum.dataset.readers._reading_log import first_of
from hilum.errors import NotFound
from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.plugins import Card
from hilum.safety import path_names

CARD = Card(
    title="Chest X-ray images (pneumonia) of children, Guangzhou (Kermany)",
    licence="CC BY 4.0",
    source="Mendeley Data, doi:10.17632/rscbjbr9sj; Kaggle: paultimothymooney/chest-xray-pneumonia",
    citation="Kermany et al. 2018, Identifying medical diagnoses and treatable diseases by "
    "image-based deep learning, Cell 172(5):1122-1131",
    counts="5,856 images (5,863 are stated as well): train 1,341 normal and 3,875 pneumonia, "
    "val 8 and 8, test 234 and 390",
    caveats="Children of one to five years at one hospital, so a model of these is not one of "
    "adults. 170 person numbers and 94 numbers of normal images are in train and in test; they "
    "are taken to count within their cause, which the files suggest and do not state. The val "
    "part is 16 images, too few to choose a threshold on: Hilum makes a better one from train, "
    "by patient, unless [split] official = 'use'. The prevalence of pneumonia differs between "
    "train (74 %) and test (62 %). Images have many sizes and aspect ratios, which a model may "
    "use in place of the lungs.",
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
DEEPEST = 3  # levels to search: the folder, the archive's own one, and its second copy
_ILL = re.compile(r"person(?P<number>\d+)_(?P<cause>bacteria|virus)_\d+(?:_\d+)?")
_NORMAL = re.compile(r"(?P<series>(?:NORMAL2-)?IM)-(?P<number>\d+)-\d+(?:-\d+)?")
_MENDELEY = re.compile(r"(?P<disease>NORMAL|BACTERIA|VIRUS)-(?P<number>\d+)-\d+")


@dataclass(frozen=True)
class _Named:
    """What a file's name states."""

    cause: str | None  # None for a normal image
    patient: dict[str, str]  # the patient's name by interpretation, a key of PATIENTS


@dataclass(frozen=True)
class _Image:
    place: str  # path relative to the root
    part: str  # the folder's name
    label: str  # the folder's name
    named: _Named

    @property
    def name(self) -> str:
        """Return the name that is unique in the data set."""
        return f"{self.part}/{self.label}/{Path(self.place).stem}"


def detect(root: Path) -> bool:
    """Return whether a folder has a part and class with an image named as in the release."""
    parts = [root / inner / part for inner in ("", INNER) for part in PARTS]
    folders = [part / label for part in parts for label in CLASSES if (part / label).is_dir()]
    return any(_named(Path(name).stem) for folder in folders for name in os.listdir(folder))


def rows(root: Path, *, patients: str = "by cause") -> Iterator[Row | Remark]:
    """Yield the images and remarks; `patients` is a key of `PATIENTS`, else `NotFound`."""
    if patients not in PATIENTS:
        raise NotFound.named("reading of the patients", patients, PATIENTS)
    images = []
    for item in _found(root):
        if isinstance(item, Remark):
            yield item
            continue
        images.append(item)
        if (item.named.cause is None) == (item.label == "PNEUMONIA"):
            stated = item.named.cause or "normal"
            message = (
                f"is in {item.label}, but its name says {stated}: "
                "the folder is used, the cause is not"
            )
            yield Remark(item.place, "warning", "label-conflict", message)
    yield from _unsure(images, patients)
    for item in images:
        yield Row(
            item.place,
            item.name,
            item.named.patient[patients],
            labels=_labels(item.part, item.label, item.named.cause),
            given_part=PARTS[item.part],
            view="AP",
        )


def _named(stem: str) -> _Named | None:
    """Parse the name of a file; None where it has none of the release's forms."""
    if found := _ILL.fullmatch(stem):
        person, cause = f"person{found['number']}", found["cause"]
        return _Named(cause, {"by cause": f"{person}_{cause}", "by number": person})
    if found := _NORMAL.fullmatch(stem):
        series, number = found["series"], found["number"]
        return _Named(None, {"by cause": f"{series}-{number}", "by number": f"IM-{number}"})
    if found := _MENDELEY.fullmatch(stem):
        disease = found["disease"].lower()
        cause = disease if disease in CAUSES else None
        return _Named(cause, dict.fromkeys(PATIENTS, found["number"]))
    return None


@cache  # one tuple for all images alike
def _labels(part: str, label: str, cause: str | None) -> tuple[Label, ...]:
    labels = [Label("PNEUMONIA", CLASSES[label], f"folder {part}/{label}", rule="folder")]
    if cause and label == "PNEUMONIA":
        labels += [
            Label(word, State(word == cause), f"file name says {cause}", rule="file name")
            for word in CAUSES
        ]
    return tuple(labels)


def _unsure(images: list[_Image], patients: str) -> Iterator[Remark]:
    """Yield one remark on the numbers that are in several parts of the official split, if any."""
    in_several = {choice: _in_several_parts(images, choice) for choice in PATIENTS}
    numbers = in_several["by number"]
    if not numbers:
        return
    persons = [name for name in numbers if name.startswith("person")]
    others = [name for name in numbers if not name.startswith("person")]
    listed = " and ".join(
        f"{len(names)} {what} ({first_of(names)})"
        for names, what in ((persons, "person numbers"), (others, "numbers of normal images"))
        if names
    )
    other = next(choice for choice in PATIENTS if choice != patients)
    message = (
        f"{listed} are in several parts of the official split, "
        f"{len(in_several['by cause'])} of them under one cause or series; "
        "the files do not say whether such a number is one child. "
        f"Interpreted here '{patients}': {PATIENTS[patients]}, so "
        f"{len(in_several[patients])} patients are in several parts. "
        f"The alternative is '{other}': {PATIENTS[other]}, which makes it "
        f"{len(in_several[other])}"
    )
    yield Remark(".", "warning", "patients-unsure", message)


def _in_several_parts(images: list[_Image], choice: str) -> list[str]:
    parts = defaultdict(set)
    for item in images:
        parts[item.named.patient[choice]].add(item.part)
    names = (name for name, where in parts.items() if len(where) > 1)
    return sorted(names, key=lambda name: (len(name), name))


def _found(root: Path) -> Iterator[_Image | Remark]:
    """Yield every image once, the one furthest up, and a remark on all else."""
    above: dict[str, Path] = {}
    for depth in range(DEEPEST):
        folder, here = root.joinpath(*[INNER] * depth), {}
        again: Counter[bool] = Counter()  # number of copies, by whether they have the same size
        for path in _visible(folder):
            if path.name == INNER and path.is_dir() and depth < DEEPEST - 1:
                continue
            for item in _at(root, path):
                if isinstance(item, Remark):
                    yield item
                elif item.name in above:
                    again[_same_size(root / item.place, above[item.name])] += 1
                else:
                    here[item.name] = root / item.place
                    yield item
        yield from _copies(folder.relative_to(root).as_posix(), again)
        above |= here


def _at(root: Path, path: Path) -> Iterator[_Image | Remark]:
    """Yield what a file or folder beside the parts, or a part, has."""
    if path.name in PARTS and path.is_dir():
        yield from _in_part(root, path)
    else:
        yield _not_of_it(root, path)


def _same_size(path: Path, other: Path) -> bool:
    return os.path.getsize(path) == os.path.getsize(other)


def _copies(place: str, again: Counter[bool]) -> Iterator[Remark]:
    for same, count in sorted(again.items()):
        kind = "of another size; they are left out: check which of the two you want"
        if same:
            kind = "as large; they are left out as copies"
        message = f"holds {count} images that are further up under the same names, {kind}"
        yield Remark(place, "info" if same else "warning", DROPPED, message)


def _in_part(root: Path, part: Path) -> Iterator[_Image | Remark]:
    for folder in _visible(part):
        if folder.name not in CLASSES or not folder.is_dir():
            yield _not_of_it(root, folder)
            continue
        for path in _visible(folder):
            place = path_names.below(root, path)
            named = _named(path.stem)
            if path.suffix.lower() not in raster.ENDINGS or not path.is_file():
                yield _not_of_it(root, path)
            elif named is None:
                message = (
                    "its name is not of the form person1_bacteria_2, IM-0115-0001 or "
                    "BACTERIA-1008087-0001"
                )
                yield Remark(place, "warning", DROPPED, message)
            else:
                yield _Image(place, part.name, folder.name, named)


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _not_of_it(root: Path, path: Path) -> Remark:
    count = sum(len(files) for _, _, files in os.walk(path))
    what = f"a folder of {count} files that is" if path.is_dir() else "a file that is"
    message = f"{what} not part of the release's layout"
    return Remark(path_names.below(root, path), "info", DROPPED, message)


# ----------------------------------------------------------------------------------- made-up copies


_FIRST = {  # the number before the first one of each kind in a part, as in the release
    ("train", "bacteria"): 0,
    ("train", "virus"): 79,
    ("train", "normal"): 114,
    ("val", "bacteria"): 1945,
    ("val", "normal"): 1426,
    ("test", "virus"): 0,
    ("test", "bacteria"): 77,
    ("test", "normal"): 0,
}


@dataclass
class _Series:
    """The patient whose images of one cause are being written."""

    number: int
    body: synthetic.Anatomy | None = None
    images: int = 0


def example(root: Path, *, images: int = 16, seed: int = 0, size: int | None = None) -> None:
    """Write a made-up copy: a quarter of the images in test, two in val.

    Some persons have several images, and person 1 is in train (bacteria) and in test (virus).
    """
    from imagecodecs import jpeg_encode

    rng = np.random.default_rng(seed)
    parts = {"test": max(3, images // 4), "val": 2}
    running: Counter[str] = Counter()
    for part, count in {**parts, "train": images - sum(parts.values())}.items():
        series = {cause: _Series(first) for (of, cause), first in _FIRST.items() if of == part}
        ill = ("virus", "bacteria") if part == "test" else ("bacteria", "virus")
        causes = ("normal", *ill)
        for index in range(count):
            cause = causes[index % 3]
            running[cause] += 1
            body = _next_body(series.setdefault(cause, _Series(0)), rng)
            height, width = synthetic.frame(
                int(rng.integers(150, 200)), int(rng.integers(200, 280)), size
            )
            disease = None if cause == "normal" else "pneumonia"
            phantom = synthetic.draw(body, rng, height=height, width=width, disease=disease)
            place = _place(cause, series[cause], running[cause])
            encoded = jpeg_encode(phantom.pixels, level=90)
            storage.add_bytes(root / INNER / part / place, bytes(encoded))


def _next_body(series: _Series, rng: np.random.Generator) -> synthetic.Anatomy:
    """Return the patient of the next image; the first patient of each series has two images."""
    body = series.body
    if body is None or (series.images != 1 and rng.uniform() < 0.6):
        body = synthetic.anatomy(rng, child=True)
        series.number, series.body, series.images = series.number + 1, body, 0
    series.images += 1
    return body


def _place(cause: str, series: _Series, running: int) -> str:
    if cause != "normal":
        return f"PNEUMONIA/person{series.number}_{cause}_{running}.jpeg"
    name = "IM" if series.number % 2 else "NORMAL2-IM"
    again = f"-{series.images - 1:04d}" if series.images > 1 else ""
    return f"NORMAL/{name}-{series.number:04d}-0001{again}.jpeg"
