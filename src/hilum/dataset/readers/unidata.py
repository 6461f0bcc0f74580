"""UniData, "Chest X-rays labeled by 13 classes": DICOM files, polygons drawn by radiologists, and a CSV of links and metadata.

    dicoms/….dcm               the pictures
    annotations/….json         what is drawn on one picture: polygons of findings and, on some, of the lungs
    ….csv                      one line a study: links to its .dcm and .json file, and metadata (columns patient, sex, age are read)

DICOM and JSON files carry different UIDs in their names, and equal names would prove nothing: a JSON file belongs to the picture
whose header (SOP Instance, then Series, then Study UID) holds a UID that stands in the JSON file's name or beside its objects, or to
the one that a CSV line names with it. What belongs to nothing is told.

A class that is drawn on a picture is present, rule "drawn". Of pictures with an annotation file the classes that are not drawn are
absent, rule "not drawn". Of pictures without one nothing is known.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np

from hilum import storage
from hilum.annotations import acquisition, shapes
from hilum.annotations.vocabulary import LOCAL, SEX_NAMES, State, ancestors
from hilum.dataset.manifest import DROPPED, Label, Remark, Row
from hilum.dataset.readers import _supervisely
from hilum.errors import BadData
from hilum.imaging import synthetic
from hilum.imaging.files import dicom, opened, text
from hilum.imaging.files.dicom import Header
from hilum.imaging.files.links import Links, why_left_out
from hilum.plugins import Card
from hilum.safety import path_names

CARD = Card(
    title="Chest X-rays labeled by 13 classes (UniData)",
    licence="CC BY-NC-ND 4.0 for the public sample; the whole set is sold",
    source="Hugging Face: UniDataPro/chest-xray (sample of 5 studies); unidata.pro",
    citation="UniData, Chest X-rays labeled by 13 classes",
    counts="150 frontal studies, 13 classes; the public sample has 5",
    caveats="A class that is not drawn on an annotated picture is taken to be absent (rule 'not drawn'): nobody stated that it is not "
    "there. Pictures without an annotation file have no labels. Lung outlines are claimed by the card and stand on some pictures only. "
    "The files do not say how many radiologists drew, nor whether they agreed.",
)
FINDINGS = {  # the card's words, in its order
    "Petrifications": "calcification",
    "Nodule/mass": "lung_lesion",
    "Infiltration/Consolidation": "airspace_opacity",
    "Fibrosis": "fibrosis",
    "Dissemination": "dissemination",
    "Pleural effusion": "effusion",
    "Hilar enlargement": "hilar_enlargement",
    "Annular shadows": "annular_shadow",
    "Healed rib fracture": "healed_rib_fracture",
    "Enlarged mediastinum": "enlarged_mediastinum",
    "Rib fractures": "rib_fracture",
    "Pneumothorax": "pneumothorax",
    "Atelectasis": "atelectasis",
}
_SPELT = {
    **FINDINGS,
    "Petrification": "calcification",
    "Nodule": "nodule",
    "Mass": "mass",
    "Infiltration": "infiltration",
    "Consolidation": "consolidation",
    "Annular shadow": "annular_shadow",
    "Healed rib fractures": "healed_rib_fracture",
    "Rib fracture": "rib_fracture",
    "Enlarged medinastium": "enlarged_mediastinum",
    "Enlargement of hilum": "hilar_enlargement",
}
TERMS = {
    form(word): concept
    for word, concept in _SPELT.items()
    for form in (str, str.lower, str.title, str.capitalize)
} | _supervisely.LUNGS
DRAWN, NOT_DRAWN = "drawn", "not drawn"
PICTURES, ANNOTATIONS = "dicoms", "annotations"
COLUMNS = {
    "patient": ("patient", "patient_id", "patientid", "patient id"),
    "sex": ("sex", "gender"),
    "age": ("age", "age_years"),
}
OLDEST_YEARS = 120
_SEXES = {word: name for code, name in SEX_NAMES.items() for word in (code.lower(), name)}
_LEVELS: tuple[Callable[[Header], str | None], ...] = (
    lambda it: it.instance,
    lambda it: it.series,
    lambda it: it.study,
)


@dataclass(frozen=True)
class _Line:
    """What one line of the CSV says of one picture, by the picture's place."""

    where: str
    annotation: str | None
    patient: str | None
    sex: str | None
    age_years: float | None


def detect(root: Path) -> bool:
    return (root / ANNOTATIONS).is_dir() and any(_files(root, PICTURES, dicom.ENDINGS))


def _files(root: Path, folder: str, endings: tuple[str, ...]) -> Iterator[Path]:
    if (root / folder).is_dir():
        yield from (
            path
            for path in sorted((root / folder).iterdir())
            if path.suffix.lower() in endings and not path.name.startswith(".")
        )


def rows(root: Path) -> Iterator[Row | Remark]:
    told = _supervisely.Told()
    headers = _headers(root, told)
    lines = _lines(root, told)
    read = (_supervisely.read(root, path, told) for path in _files(root, ANNOTATIONS, (".json",)))
    paired = _paired(headers, [one for one in read if one], lines, told)
    patients = _patients(headers, lines, told)
    _strangers(root, headers, lines, told)
    made = [
        _row(place, header, paired.get(place), lines.get(place), patients[place], told)
        for place, header in headers.items()
    ]
    yield from told.settle(f"{root} is not a sound copy of UniData's set", TERMS)
    yield from made


def _headers(root: Path, told: _supervisely.Told) -> dict[str, Header]:
    """Header by the picture's place below `root`."""
    found: dict[str, Header] = {}
    first: dict[str, str] = {}
    links = Links(root)
    for path in _files(root, PICTURES, dicom.ENDINGS):
        place = path_names.below(root, path)
        if opened.root() and (target := links.target(place)):
            told.remark(place, "warning", DROPPED, why_left_out(target))
            continue
        try:
            header = dicom.header(path, opened.root())
        except BadData as fault:
            told.faults.append(str(fault).replace(f"{root}/", ""))
            continue
        if header.size is None:
            told.faults.append(
                f"{place}: its header tells of no picture; copy the file again from its source, or take it out of the folder"
            )
        if header.instance and first.setdefault(header.instance, place) != place:
            told.faults.append(
                f"{place}: has the SOP Instance UID {header.instance} of {first[header.instance]}; keep one of the two files"
            )
        found[place] = header
    return found


# ----------------------------------------------------------------------------------------------------------------------------- CSV


def _lines(root: Path, told: _supervisely.Told) -> dict[str, _Line]:
    """What the CSV files say, by the picture's place."""
    found: dict[str, _Line] = {}
    for path in sorted(root.glob("*.csv")):
        words, encoding = text.read(path)
        if encoding:
            told.remark(
                path.name,
                "warning",
                "csv-encoding",
                f"is not UTF-8; it was read as {encoding}; save it again as UTF-8",
            )
        lines = csv.reader(io.StringIO(words), delimiter=text.delimiter(words))
        header = [cell.strip().lower() for cell in next(lines, [])]
        columns = {
            field: next((header.index(name) for name in names if name in header), None)
            for field, names in COLUMNS.items()
        }
        for cells in lines:
            where = f"{path.name} line {lines.line_num}"
            pictures, annotations = (
                _linked(cells, endings, folder, where, told)
                for endings, folder in ((dicom.ENDINGS, PICTURES), ((".json",), ANNOTATIONS))
            )
            if len(pictures) > 1 or len(annotations) > 1:
                told.faults.append(
                    f"{where}: names {', '.join((*pictures, *annotations))}; expected one picture and one annotation"
                )
            elif pictures:
                line = _line(where, cells, columns, annotations, told)
                if (before := found.setdefault(pictures[0], line)) is not line:
                    told.faults.append(f"{where}: {pictures[0]} stands in {before.where} already")
    return found


def _linked(
    cells: list[str], endings: tuple[str, ...], folder: str, where: str, told: _supervisely.Told
) -> list[str]:
    """Places that the cells of a line name, each once; a link's last part is the file's name."""
    places: dict[str, None] = {}
    for cell in cells:
        link = urlsplit(cell.strip()) if "://" in cell else None
        path = PurePosixPath((link.path if link else cell.strip()).replace("\\", "/"))
        if path.suffix.lower() not in endings:
            continue
        if not link and (
            path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", cell.strip())
        ):
            told.faults.append(
                f"{where}: '{cell.strip()}' leads out of the folder; write the path below it"
            )
        else:
            places[f"{folder}/{path.name}"] = None
    return list(places)


def _line(
    where: str,
    cells: list[str],
    columns: Mapping[str, int | None],
    annotations: list[str],
    told: _supervisely.Told,
) -> _Line:
    said = {
        field: cells[place].strip() if place is not None and place < len(cells) else ""
        for field, place in columns.items()
    }
    age = re.fullmatch(r"0*(\d{1,3}(?:\.\d+)?)\s*(?:y|yrs|years)?", said["age"].lower())
    if said["age"] and not age:
        told.remark(
            where,
            "warning",
            "age-form",
            f"age '{said['age']}' is not a number of years: it is left empty",
        )
    if said["sex"] and said["sex"].lower() not in _SEXES:
        told.remark(
            where,
            "warning",
            "sex-form",
            f"sex '{said['sex']}' is not one of {', '.join(_SEXES)}: it is left empty",
        )
    return _Line(
        where,
        next(iter(annotations), None),
        said["patient"] or None,
        _SEXES.get(said["sex"].lower()),
        float(age[1]) if age else None,
    )


# ------------------------------------------------------------------------------------------------------------------------- pairing


def _paired(
    headers: Mapping[str, Header],
    annotations: list[_supervisely.Annotation],
    lines: Mapping[str, _Line],
    told: _supervisely.Told,
) -> dict[str, _supervisely.Annotation]:
    """Annotation by the picture's place."""
    holders = [defaultdict(list) for _ in _LEVELS]
    for place, header in headers.items():
        for level, uid_of in zip(holders, _LEVELS, strict=True):
            level[uid_of(header)].append(place)
    by_line = {
        line.annotation: (place, line.where)
        for place, line in lines.items()
        if line.annotation and place in headers
    }
    paired: dict[str, _supervisely.Annotation] = {}
    for annotation in annotations:
        named = next(
            (places for level in holders for uid in annotation.uids if (places := level.get(uid))),
            [],
        )
        said, where = by_line.get(annotation.place, (None, None))
        if said and named and said not in named:
            told.faults.append(
                f"{where}: names {said} with {annotation.place}, whose UID is that of {', '.join(named)}; mend the line"
            )
            continue
        place = said or (named[0] if len(named) == 1 else None)
        if place is None:
            why = (
                f"its UID is that of {len(named)} pictures"
                if named
                else "no picture's header holds a UID of it, and no CSV line names both"
            )
            told.remark(
                annotation.place,
                "warning",
                "annotation-unpaired",
                f"{why}: what it draws is left out",
            )
        elif place in paired:
            told.faults.append(
                f"{annotation.place}: belongs to {place} as {paired[place].place} does; keep one of the two files"
            )
        else:
            paired[place] = annotation
    # a header without a size is a fault of its own
    return {
        place: annotation.on(place, headers[place].size or annotation.size, told)
        for place, annotation in paired.items()
    }


def _patients(
    headers: Mapping[str, Header], lines: Mapping[str, _Line], told: _supervisely.Told
) -> dict[str, str]:
    """Patient by the picture's place: the header's, the CSV's, or else the study."""
    placeholder = dicom.placeholder(headers.values())
    if placeholder:
        told.remark(
            PICTURES,
            "warning",
            "no-patients",
            f"every picture has the Patient ID '{placeholder}', which names nobody: it is not used",
        )
    found, by_study = {}, []
    for place, header in headers.items():
        named = header.patient if header.patient != placeholder else None
        named = named or (lines[place].patient if place in lines else None)
        by_study += [] if named else [place]
        found[place] = named or header.study or PurePosixPath(place).stem
    if by_study:
        told.remark(
            by_study[0],
            "warning",
            "no-patients",
            f"{len(by_study)} pictures name no patient: a study is taken for a patient of its own",
        )
    return found


def _strangers(
    root: Path, headers: Mapping[str, Header], lines: Mapping[str, _Line], told: _supervisely.Told
) -> None:
    """Files that are neither, and lines of pictures that are not here."""
    for folder, endings in ((PICTURES, dicom.ENDINGS), (ANNOTATIONS, (".json",))):
        for path in sorted((root / folder).iterdir()) if (root / folder).is_dir() else ():
            if path.suffix.lower() not in endings and not path.name.startswith("."):
                told.remark(
                    path_names.below(root, path),
                    "info",
                    DROPPED,
                    f"is not a {' or '.join(endings)} file",
                )
    for place, line in lines.items():
        if place not in headers:
            told.remark(
                place, "warning", "csv-orphan", f"{line.where} names it, but it is not here"
            )


def _row(
    place: str,
    header: Header,
    annotation: _supervisely.Annotation | None,
    line: _Line | None,
    patient: str,
    told: _supervisely.Told,
) -> Row:
    if annotation is None:
        told.remark(
            place,
            "warning",
            "annotation-missing",
            "no annotation file could be paired with it: it has no labels",
        )
    age = header.age_years if header.age_years is not None or line is None else line.age_years
    if age is not None and age > OLDEST_YEARS:
        told.remark(place, "warning", "age-impossible", f"its age of {age:g} years is left empty")
        age = None
    height, width = header.size or (None, None)
    row_spacing, column_spacing = header.spacing_mm or (None, None)
    return Row(
        place,
        PurePosixPath(place).stem,
        patient,
        labels=_labels(annotation) if annotation else (),
        sex=header.sex or (line.sex if line else None),
        age_years=age,
        view=header.view,
        study=header.study,
        stated_height=height,
        stated_width=width,
        row_spacing_mm=row_spacing,
        column_spacing_mm=column_spacing,
        drawn=annotation.drawn if annotation else (),
        **acquisition.in_header(header.body_part, header.modality, header.laterality),
    )


def _labels(annotation: _supervisely.Annotation) -> tuple[Label, ...]:
    """One for each of the 13 classes and for each other finding that is drawn."""
    first = {}
    for one in annotation.drawn:
        if one.term not in _supervisely.LUNGS:
            first.setdefault(
                TERMS.get(one.term, LOCAL + one.term), one
            )  # a term that is not known is refused with the others
    present = [Label(one.term, State.PRESENT, one.source, DRAWN) for one in first.values()]
    # Who has a healed rib fracture has a rib fracture, whether or not one is drawn as such: nothing is said of it.
    told = {*first, *(wider for concept in first for wider in ancestors(concept))}
    return (
        *present,
        *(
            Label(word, State.ABSENT, annotation.place, NOT_DRAWN)
            for word, concept in FINDINGS.items()
            if concept not in told
        ),
    )


# ------------------------------------------------------------------------------------------------------------------ made-up copies


_COMMON = (  # in the made-up set, a finding of one patient in five; the others of one in ten
    "Petrifications",
    "Nodule/mass",
    "Infiltration/Consolidation",
    "Fibrosis",
    "Pleural effusion",
    "Hilar enlargement",
    "Atelectasis",
)


def example(root: Path, *, images: int = 12, seed: int = 0) -> None:
    """Write studies of 12 bits with all 13 classes: none on one patient in five, mostly several on the others.

    Every third image is MONOCHROME1, each second patient has two, the sixth image has no annotation, every fifth is paired by the CSV.
    """
    rng = np.random.default_rng(seed)
    dealt = _dealt_findings(images, np.random.default_rng([seed, 1]))
    lines = ["id,gender,age,dicom_link,annotation_link"]
    patient = 0
    for index in range(images):
        if index % 3 != 2:
            body, patient, sex, age = (
                synthetic.anatomy(rng),
                patient + 1,
                "FM"[int(rng.integers(2))],
                int(rng.integers(18, 80)),
            )
        height, width = (int(side * rng.uniform(0.9, 1.1)) for side in (300, 290))
        terms = dealt[patient - 1]
        image = synthetic.draw(
            body, rng, height=height, width=width, signs=[FINDINGS[term] for term in terms]
        )
        study, instance = (
            f"1.2.826.0.1.3680043.10.{seed}.{kind}.{index + 1}" for kind in (1459, 11881)
        )
        stored = image.pixels.astype(np.uint16) * 16 + rng.integers(
            0, 16, image.pixels.shape, np.uint16
        )
        write_dicom(
            root / PICTURES / f"{study}.1.dcm",
            stored,
            study,
            instance,
            turned=index % 3 == 1,
            PatientID=f"P{patient:03d}",
            PatientSex=sex,
            PatientAge=f"{age:03d}Y",
        )
        regions = (
            [("Lungs", lung) for lung in (image.right_lung, image.left_lung)]
            if index % 4 != 3
            else []
        )
        regions += [(term, image.extents[FINDINGS[term]]) for term in terms]
        name = f"study{index:03d}.json" if index % 5 == 4 else f"{instance}.json"
        if index != 5:
            objects = [
                _polygon(term, part)
                for term, region in regions
                for part in shapes.polygons_of(region)
            ]
            content = {"size": {"height": height, "width": width}, "objects": objects}
            storage.write_text(root / ANNOTATIONS / name, json.dumps(content) + "\n")
        lines.append(
            f"{index},{sex},{age},https://example.org/dicoms/{study}.1.dcm,https://example.org/annotations/{name if index % 5 == 4 else ''}"
        )
    storage.write_text(root / "metadata.csv", "\n".join(lines) + "\n")


def _dealt_findings(patients: int, rng: np.random.Generator) -> list[list[str]]:
    """Deal classes to at least so many patients, of each ten in a row the fifth and the tenth healthy.

    Dealt by tens and not drawn for each patient, so that a small set holds every class as often as expected.
    """
    findings: list[list[str]] = [[] for _ in range(-(-patients // 10) * 10)]
    for first in range(0, len(findings), 10):
        for term in FINDINGS:
            if term in _COMMON:
                holders = [first + rng.integers(4), first + 5 + rng.integers(4)]
            else:
                holders = [first + rng.choice([0, 1, 2, 3, 5, 6, 7, 8])]
            for holder in holders:
                findings[holder].append(term)
    return findings


def _polygon(term: str, shape: shapes.Polygon) -> dict:
    return {"labelerLogin": "invented", "classTitle": term, **shapes.to_supervisely(shape)}


def write_dicom(
    path: Path, stored: np.ndarray, study: str, instance: str, *, turned: bool = False, **said: str
) -> None:
    """A 12-bit DX picture of nobody, uncompressed: uint16 (height, width) below 4096, bright is dense; `turned`: as MONOCHROME1."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = (
        DigitalXRayImageStorageForPresentation
    )
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = instance
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.1"
    dataset.Modality, dataset.ViewPosition, dataset.ImagerPixelSpacing = "DX", "PA", [0.5, 0.5]
    dataset.PhotometricInterpretation = "MONOCHROME1" if turned else "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.PixelData = (np.uint16(4095) - stored if turned else stored).astype("<u2").tobytes()
    for keyword, value in said.items():
        setattr(dataset, keyword, value)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    storage.write_bytes(path, stream.getvalue())
