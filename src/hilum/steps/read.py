"""Read: what the models that come with Hilum say of pictures of one's own, without a run and without PyTorch.

    OUT/overlay/NAME.jpg           the picture as it was read with its lungs, as `hilum lungs` draws it; a red frame: nothing was read, or their
                                   mask is doubtful
    OUT/CONCEPT/NAME.jpg           the same size, under the map of a model that gives one: brightest where its score comes from (Zhou et al. 2016,
                                   class activation), or, where CONCEPT is anomaly, where the picture is least like those that the model knows;
                                   each on a scale of its own
    OUT/read.csv                   a row a picture, model and concept, see COLUMNS; of a picture that is refused one row that says why

NAME is as in `hilum.steps.lungs`, which finds pictures and lungs here too. A picture is refused, and no score given, where it breaks what every
model's contract asks for: it cannot be read, looks like no upright frontal chest with bright bones, is told to be a lateral, or its lungs'
quality is below `LEAST`, so that what is cut out is not where the lungs are. It is read with a warning where a model has learnt from other
people: by the age that a DICOM header tells, and else by the outlines of the lungs (`hilum.age`). A model of small children warns unless the
lungs look like theirs, for most people are none; any other warns where they do.

A call is the score beside the threshold that the model carries from its own tune part, a probability is calibrated there. Elsewhere, with
other prevalence and machines, neither need hold.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hilum import age, calibration, looking, shipped, store
from hilum.drawing.pictures import heat
from hilum.errors import BadData, Mismatch, NotFound
from hilum.exported import Exported
from hilum.files import dicom, picture
from hilum.radiograph import prepare, resize, to_uint8
from hilum.recipe import Region
from hilum.shipped import Reader
from hilum.steps import lungs, quietly, region
from hilum.vocabulary import name_of

LEAST = Region.least_quality  # of the lungs: below it regions are not cut along them
TABLE = "read.csv"
COLUMNS = ("image", "name", "refused", "doubts", "lung_quality", "age_years", "model", "concept", "score", "probability", "threshold", "call", "warning")
LATERAL = "LATERAL"
PRESENT, ABSENT = "present", "absent"


@dataclass(frozen=True)
class Said:
    """One model's word on one concept. None: there is no such number, or no threshold to call by."""

    model: str
    concept: str
    score: float
    probability: float | None
    threshold: float | None
    call: str | None
    warning: str


@dataclass(frozen=True)
class Read:
    """One picture. `refused` says why nothing is said of it; "" where something is."""

    image: str
    name: str
    refused: str
    doubts: str
    lung_quality: float
    age_years: float | None  # as the file tells
    said: list[Said] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read(
    images: Sequence[str | Path], to: Path | None = None, *, models: Sequence[Reader] | None = None, watch: lungs.Watch = lambda step: nullcontext(quietly)
) -> tuple[list[Read], list[str]]:
    """What `models`, all that come with Hilum unless they are given, say of each picture; and what is wrong with those that cannot be read.

    `images` as in `lungs.find`. Raises `NotFound` where no model comes with this installation, `BadData` for a picture below `to`.
    """
    asked = shipped.readers() if models is None else models
    if not asked:
        raise NotFound(
            f"no model that reads pictures comes with this installation (looked in {shipped.folder()}): install a release of Hilum, "
            f"train them with bench/train_findings.py, or train your own with `hilum run` and ask it with `hilum predict RUN IMAGE`"
        )
    finder, (named, faults) = lungs.chosen(), lungs.names(images, to)
    found = []
    with watch("read") as progress:
        for done, (path, name) in enumerate(named, start=1):
            try:
                one, seen, maps = _one(asked, finder, path, name)
            except BadData as fault:
                faults.append(str(fault))
            else:
                found.append(one)
                if to:
                    _write(to, one, seen, maps)
            progress(done, len(named))
    if to and found:
        store.write_text(to / TABLE, table(found))
    return found, faults


def _one(models: Sequence[Reader], finder: Exported, path: Path, name: str) -> tuple[Read, lungs.Seen, dict[str, np.ndarray]]:
    """What is said of a file, its lungs, and by concept the maps as the picture stands, float32 (height, width). Raises `BadData`."""
    file = picture.read(path)
    seen = lungs.look(finder, file, path)
    header = file.header if isinstance(file, dicom.Dicom) else None
    years, why = header.age_years if header else None, refused(seen, header.view if header else None)
    said, maps = [], {}
    for model in [] if why else models:
        cut = cut_for(model, seen, finder)
        outputs, warning = model.model(cut.image), warned(model, years, seen.labels, file.pixel_digest)
        said += [_said(model, concept, score, warning) for concept, score in zip(model.concepts, np.atleast_1d(outputs["score"]).tolist(), strict=True)]
        if looking.MAP in outputs:
            found = outputs[looking.MAP]
            for concept, own in zip(model.concepts, found.reshape(-1, *found.shape[-2:]), strict=True):
                maps[concept] = cut.to_file(seen.radiograph.size).back(looking.grown(own, model.contract.size))
    doubts = ", ".join(doubt.fault for doubt in seen.doubts)
    return Read(str(path), name, why, doubts, round(seen.quality, 4), years, said), seen, maps


def refused(seen: lungs.Seen, view: str | None) -> str:
    """Why nothing may be said of a picture; "" where something may."""
    told = [f"it looks {doubt.words}" for doubt in seen.doubts]
    if view == LATERAL:
        told.append("the file says that it is a lateral view")
    if not told and not seen.own.any():
        told.append("no lungs were found")
    elif not told and seen.quality < LEAST:
        told.append(f"the lungs found in it cannot be believed: quality {seen.quality:.2f}, below {LEAST}")
    return "; ".join(told)


def cut_for(model: Reader, seen: lungs.Seen, finder: Exported) -> region.Cut:
    """What the model wants to see of a picture. Raises `Mismatch` where it wants lungs found in another square than the finder's."""
    contract, size = model.contract, seen.radiograph.size
    if contract.content != "region":
        shown = prepare(seen.radiograph, contract.size, contract.window)
        return region.cut(shown, np.zeros_like(shown), Region(size=contract.size), size=size)
    if (model.pixels, contract.window) != (finder.contract.size, finder.contract.window):
        raise Mismatch(
            f"{model.place} wants lungs found in pictures of {model.pixels} pixels ({contract.window}), and the lung model finds them in "
            f"{finder.contract.size} ({finder.contract.window}): make it with the lung model of this installation, by bench/train_findings.py"
        )
    return region.cut(seen.shown, seen.labels, model.region, quality=seen.quality, typical=model.typical, size=size)


def warned(model: Reader, years: float | None, labels: np.ndarray, pixel_digest: str) -> str:
    """Why a model's word on a picture may mean little; "" where nothing speaks against it."""
    (youngest, oldest), told = model.ages, []
    range_ = f"{youngest:g} to {oldest:g} years old"
    if years is not None:
        if not youngest <= years < oldest + 1:  # a person of `oldest` years is that until the next birthday
            told.append(f"the patient is {years:g} years old, and {model.name} has learnt from {model.people}, {range_}")
    elif oldest < age.OLDEST:
        looks = age.looks(labels)
        if looks != age.SMALL_CHILD:
            seems = "it looks like an adult's film" if looks == age.GROWN else "nothing says that it is a small child's film"
            told.append(f"{seems} (lungs' outlines; the file tells no age), and {model.name} has learnt from {model.people}, {range_}")
    elif youngest >= age.OLDEST and age.looks(labels) == age.SMALL_CHILD:
        told.append(f"it looks like a small child's film (lungs' outlines; the file tells no age), and {model.name} has learnt from {model.people}, {range_}")
    if model.knows(pixel_digest):
        told.append(f"{model.name} knows this very picture, from which it learnt or on which it was tuned, so what it says of it shows nothing")
    return "; ".join(told)


def _said(model: Reader, concept: str, score: float, warning: str) -> Said:
    known = model.calibration[concept]
    threshold, fits = known["threshold"], calibration.of_json(known)
    call = None if threshold is None else PRESENT if score >= threshold else ABSENT
    probability = float(fits["temperature"](score)) if "temperature" in fits else None
    return Said(model.name, concept, score, probability, threshold, call, warning)


# -------------------------------------------------------------------------------------------------------------------- what is told


def lines(found: Sequence[Read], to: Path | None) -> str:
    """For a person: a line a picture, a line a finding below it."""
    told = [line for one in found for line in _lines(one)]
    where = [f"overlays and table: {to.resolve()}"] if to and found else []
    return "\n".join([*told, *where, "For research only; no diagnosis may stand on it."] if found else ["nothing was read: no picture could be opened"])


def _lines(one: Read) -> Iterator[str]:
    yield f"{one.image}: " + (f"refused: {one.refused}" if one.refused else f"lungs of quality {one.lung_quality:.2f}")
    for said in one.said:
        named = name_of(said.concept) if said.concept != "anomaly" else "Anomaly"
        probability = "" if said.probability is None else f", probability {said.probability:.0%} as calibrated where it was made"
        call = "no threshold" if said.threshold is None else f"{said.call} (threshold {said.threshold:.3g})"
        yield f"  {named}: {call}, score {said.score:.3g}{probability} [{said.model}]"
    for warning in dict.fromkeys(said.warning for said in one.said if said.warning):
        yield f"  warning: {warning}"


def cards(models: Sequence[Reader]) -> list[dict[str, Any]]:
    """What each model says of itself: what it is, of whom and what it has learnt, how it did, and what it must not be used for."""
    return [
        {
            "model": model.name, "file": model.place.name, "digest": model.digest, "title": model.card.title, "says": list(model.concepts),
            "learnt from": f"{model.people}, {model.ages[0]:g} to {model.ages[1]:g} years old; {model.card.counts}",
            "beware": model.card.caveats, "licence": model.card.licence, "source": model.card.source, "figures": model.figures,
        }
        for model in models
    ]  # fmt: skip


def card_lines(models: Sequence[Reader]) -> str:
    told = []
    for card in cards(models):
        figures = [f"  {name}: {value}" for name, value in card["figures"].items()]
        about = [f"  {name}: {card[name]}" for name in ("learnt from", "beware", "licence", "source")]
        told.append("\n".join([f"{card['model']}: {card['title']} ({card['file']}, {card['digest']})", *about, *figures]))
    return "\n\n".join(told) or f"no model that reads pictures comes with this installation (looked in {shipped.folder()})"


def table(found: Sequence[Read]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for one in found:
        about = {name: value for name, value in one.as_dict().items() if name != "said"}
        writer.writerows([{**about, **asdict(said)} for said in one.said] or [about])
    return stream.getvalue()


def _write(to: Path, one: Read, seen: lungs.Seen, maps: Mapping[str, np.ndarray]) -> None:
    store.write_bytes(to / "overlay" / f"{one.name}.jpg", lungs.overlay(seen, framed=bool(one.refused) or not seen.trusted))
    for concept, found in maps.items():
        scale = min(1.0, lungs.OVERLAY / max(found.shape))
        size = tuple(max(1, round(side * scale)) for side in found.shape)
        low, high = np.quantile(found[found > 0], (0.5, 0.999)) if (found > 0).any() else (0.0, 1.0)
        grey = resize(to_uint8(seen.radiograph.pixels), size)
        drawn = heat(grey, (resize(found, size) - low) / max(high - low, 1e-6))
        store.write_bytes(to / concept / f"{one.name}.jpg", cv2.imencode(".jpg", drawn[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes())
