"""UniData, "Chest X-rays labeled by 13 classes": DICOM files, polygons, and a CSV of links.

    dicoms/….dcm               the images
    annotations/….json         polygons on one image: of findings and, on some, of the lungs
    ….csv                      links and metadata (`hilum.dataset.readers._unidata_links`)

Names of DICOM and JSON files carry different UIDs. A JSON file belongs to the image whose header
(SOP Instance, else Series, else Study UID) has a UID from the JSON file's name or from beside its
objects, or to the image that a CSV line names with it. Files that belong to nothing are reported.

Labels. A class that is drawn on an image is present, rule "drawn". On images with an annotation
file the classes that are not drawn are absent, rule "not drawn". Images without one have no
labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from hilum.annotations import acquisition
from hilum.annotations.vocabulary import LOCAL, State, ancestors
from hilum.dataset.manifest import DROPPED, Drawn, Label, Remark, Row
from hilum.dataset.readers import _supervisely, _unidata_example, _unidata_links
from hilum.dataset.readers._supervisely import Annotation, AnnotationLog
from hilum.dataset.readers._unidata_links import ANNOTATIONS, IMAGES, Line
from hilum.errors import BadData
from hilum.imaging.batch.dicom_headers import Place, headers
from hilum.imaging.files import dicom, opened
from hilum.imaging.files.dicom import Header
from hilum.imaging.files.links import Links, why_left_out
from hilum.plugins import Card
from hilum.safety import addresses

CARD = Card(
    title="Chest X-rays labeled by 13 classes (UniData)",
    licence="CC BY-NC-ND 4.0 for the public sample; the whole set is sold",
    source="Hugging Face: UniDataPro/chest-xray (sample of 5 studies); unidata.pro",
    citation="UniData, Chest X-rays labeled by 13 classes",
    counts="150 frontal studies, 13 classes; the public sample has 5",
    caveats="A class that is not drawn on an annotated image is taken to be absent (rule 'not "
    "drawn'): nobody stated that it is absent. Images without an annotation file have no labels. "
    "The card claims lung outlines; only some images have them. The files do not say how many "
    "radiologists annotated, nor whether they agreed.",
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
    **_supervisely.spellings(_SPELT, str.lower, str.title, str.capitalize),
    **_supervisely.LUNGS,
}
DRAWN, NOT_DRAWN = "drawn", "not drawn"
_LEVELS: tuple[Callable[[Header], str | None], ...] = (  # a UID of the narrowest level decides
    lambda header: header.instance,
    lambda header: header.series,
    lambda header: header.study,
)


def detect(root: Path) -> bool:
    """Return whether a folder has annotations beside DICOM files."""
    return (root / ANNOTATIONS).is_dir() and any(_files(root, IMAGES, dicom.ENDINGS))


def rows(root: Path) -> Iterator[Row | Remark]:
    """Yield the images and remarks. Raises `BadData` with all faults of the files."""
    log = AnnotationLog(root)
    headers = _headers(log)
    lines = _unidata_links.read(log)
    read = [_supervisely.read(path, log) for path in _files(root, ANNOTATIONS, (".json",))]
    paired = _paired(headers, [one for one in read if one], lines, log)
    patients = _patients(headers, lines, log)
    _report_unmatched(headers, lines, log)
    made = [
        _row(place, header, paired.get(place), lines.get(place), patients[place], log)
        for place, header in headers.items()
    ]
    yield from log.settle(f"{root} is not a sound copy of UniData's set", TERMS)
    yield from made


def example(root: Path, *, images: int = 12, seed: int = 0, size: int | None = None) -> None:
    """Write a made-up copy with all 13 classes, and with images that no annotation describes."""
    _unidata_example.write(root, FINDINGS, images=images, seed=seed, size=size)


def _files(root: Path, folder: str, endings: tuple[str, ...]) -> Iterator[Path]:
    yield from (path for path in _visible(root / folder) if path.suffix.lower() in endings)


def _visible(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _headers(log: AnnotationLog) -> dict[str, Header]:
    """Return the header of each image by its path relative to the root."""
    found: dict[str, Header] = {}
    first: dict[str, str] = {}
    links, files = Links(log.root), dict[str, Place]()
    for path in _files(log.root, IMAGES, dicom.ENDINGS):
        place = log.place(path)
        if opened.root() and (target := links.target(place)):
            log.remark(place, "warning", DROPPED, why_left_out(target))
        else:
            files[place] = path, opened.root()
    for place, header in headers(files):
        if isinstance(header, BadData):
            log.faults.append(addresses.without_root(str(header), log.root))
            continue
        if header.size is None:
            log.faults.append(
                f"{place}: its header states no rows and columns of an image; copy the file again "
                "from its source, or remove it from the folder"
            )
        if header.instance and first.setdefault(header.instance, place) != place:
            log.faults.append(
                f"{place}: has the SOP Instance UID {header.instance} of {first[header.instance]}; "
                "keep one of the two files"
            )
        found[place] = header
    return found


# ------------------------------------------------------------------------------------------ pairing


def _paired(
    headers: Mapping[str, Header],
    annotations: list[Annotation],
    lines: Mapping[str, Line],
    log: AnnotationLog,
) -> dict[str, Annotation]:
    """Return the annotation of each image that has one, in the pixels of the image."""
    holders = [defaultdict(list) for _ in _LEVELS]
    for place, header in headers.items():
        for level, uid_of in zip(holders, _LEVELS, strict=True):
            level[uid_of(header)].append(place)
    by_line = {
        line.annotation: (place, line.where)
        for place, line in lines.items()
        if line.annotation and place in headers
    }
    paired: dict[str, Annotation] = {}
    for annotation in annotations:
        candidates = (level.get(uid) for level in holders for uid in annotation.uids)
        named = next(filter(None, candidates), [])
        linked, where = by_line.get(annotation.place, (None, None))
        if linked and named and linked not in named:
            log.faults.append(
                f"{where}: names {linked} with {annotation.place}, "
                f"whose UID is that of {', '.join(named)}; correct the line"
            )
            continue
        place = linked or (named[0] if len(named) == 1 else None)
        if place is None:
            why = "no image's header has a UID of it, and no CSV line names both"
            if named:
                why = f"its UID is that of {len(named)} images"
            message = f"{why}: its objects are left out"
            log.remark(annotation.place, "warning", "annotation-unpaired", message)
        elif place in paired:
            log.faults.append(
                f"{annotation.place}: belongs to {place} as {paired[place].place} does; "
                "keep one of the two files"
            )
        else:
            paired[place] = annotation
    # An image whose header has no size is a fault already.
    return {
        place: annotation.on(place, headers[place].size or annotation.size, log)
        for place, annotation in paired.items()
    }


def _patients(
    headers: Mapping[str, Header], lines: Mapping[str, Line], log: AnnotationLog
) -> dict[str, str]:
    """Return the patient of each image: the header's, else the CSV's, else its study."""
    placeholder = dicom.placeholder(headers.values())
    if placeholder:
        message = (
            f"every image has the Patient ID '{placeholder}', which names nobody: it is not used"
        )
        log.remark(IMAGES, "warning", "no-patients", message)
    found: dict[str, str] = {}
    by_study: list[str] = []
    for place, header in headers.items():
        named = header.patient if header.patient != placeholder else None
        if not named and place in lines:
            named = lines[place].patient
        if not named:
            by_study.append(place)
        found[place] = named or header.study or PurePosixPath(place).stem
    if by_study:
        message = f"{len(by_study)} images name no patient: a study counts as a patient of its own"
        log.remark(by_study[0], "warning", "no-patients", message)
    return found


def _report_unmatched(
    headers: Mapping[str, Header], lines: Mapping[str, Line], log: AnnotationLog
) -> None:
    """Remark on files that are neither image nor annotation, and on lines without an image."""
    for folder, endings in ((IMAGES, dicom.ENDINGS), (ANNOTATIONS, (".json",))):
        for path in _visible(log.root / folder):
            if path.suffix.lower() not in endings:
                message = f"is not a {' or '.join(endings)} file"
                log.remark(log.place(path), "info", DROPPED, message)
    for place, line in lines.items():
        if place not in headers:
            log.remark(place, "warning", "csv-orphan", f"{line.where} names it, but it is not here")


# --------------------------------------------------------------------------------------------- rows


def _row(
    place: str,
    header: Header,
    annotation: Annotation | None,
    line: Line | None,
    patient: str,
    log: AnnotationLog,
) -> Row:
    if annotation is None:
        message = "no annotation file could be paired with it: it has no labels"
        log.remark(place, "warning", "annotation-missing", message)
    age = header.age_years if header.age_years is not None or line is None else line.age_years
    if age is not None and age > acquisition.OLDEST_YEARS:
        log.remark(place, "warning", "age-impossible", f"its age of {age:g} years is left empty")
        age = None
    height, width = header.size or (None, None)
    row_spacing, column_spacing = header.spacing_mm or (None, None)
    stated = acquisition.in_header(header.body_part, header.modality, header.laterality)
    return Row(
        place,
        PurePosixPath(place).stem,
        patient,
        labels=_labels(annotation) if annotation else (),
        sex=header.sex or (line.sex if line else None),
        age_years=age,
        view=header.view,
        body_part=stated["body_part"],
        modality=stated["modality"],
        laterality=stated["laterality"],
        study=header.study,
        stated_height=height,
        stated_width=width,
        row_spacing_mm=row_spacing,
        column_spacing_mm=column_spacing,
        drawn=annotation.drawn if annotation else (),
    )


def _labels(annotation: Annotation) -> tuple[Label, ...]:
    """Return a label for each of the 13 classes, and for each other finding that is drawn."""
    first: dict[str, Drawn] = {}
    for one in annotation.drawn:
        if one.term not in _supervisely.LUNGS:
            # An unknown term is a local concept here; reading the data set refuses it by name.
            first.setdefault(TERMS.get(one.term, LOCAL + one.term), one)
    present = [Label(one.term, State.PRESENT, one.source, DRAWN) for one in first.values()]
    # Whoever has a healed rib fracture has a rib fracture, whether or not one is drawn as such:
    # a wider concept of one that is drawn is not absent.
    implied = {*first, *(wider for concept in first for wider in ancestors(concept))}
    absent = [
        Label(word, State.ABSENT, annotation.place, NOT_DRAWN)
        for word, concept in FINDINGS.items()
        if concept not in implied
    ]
    return (*present, *absent)
