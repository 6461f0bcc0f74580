"""Croissant 1.0: the data set as JSON-LD for machines, and the table of images that it points to.

Version 1.0 of the format is written, not 1.1, since every version of the validator in use accepts
it. The release's own files are file sets below the data folder, which need no digest; the table has
the first characters of each file's XXH3 digest of 128 bits, by which two copies of the data can be
compared. The table itself is a file object with its whole SHA-256. Readings are left out of it.
Source: docs.mlcommons.org/croissant/docs/croissant-spec.html.
"""

from __future__ import annotations

import glob
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

import polars as pl

from hilum.annotations import acquisition
from hilum.annotations.vocabulary import name_of
from hilum.dataset import mask_files
from hilum.dataset.manifest import Manifest
from hilum.plugins import Card
from hilum.reporting.card.published import Published

Json = dict[str, object]  # JSON-LD, as it is written
TABLE = "images.csv"
CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
CONTEXT: Json = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
KINDS = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".dcm": "application/dicom",
}
FOLDERS = 100  # named one by one in a file set; of more, the endings alone are named
COLUMNS = {  # of the table of images, before those of the findings: type and meaning
    "image_id": ("sc:Text", "unique, data set/name"),
    "path": ("sc:Text", "the image below the data folder"),
    "patient_id": (
        "sc:Text",
        "data set/patient; images that the source links to one person have one",
    ),
    "source": ("sc:Text", "hospital or collection"),
    "part": ("sc:Text", "train, tune or test of the split that the source comes with"),
    "sex": ("sc:Text", "female, male or other"),
    "age_years": ("sc:Float", "age in years"),
    "view": (
        "sc:Text",
        f"one of {', '.join(acquisition.VIEWS)}; FRONTAL: PA or AP, which is not stated",
    ),
    "body_part": ("sc:Text", "DICOM's defined term, as far as it is recognised"),
    "modality": (
        "sc:Text",
        "DICOM's defined term; XR: radiography of which the kind is not stated",
    ),
    "laterality": ("sc:Text", "R, L, B (both) or U (unpaired)"),
    "lung_mask": ("sc:Text", "mask of both lungs below the data folder"),
    "right_lung_mask": ("sc:Text", "mask of the patient's right lung below the data folder"),
    "left_lung_mask": ("sc:Text", "mask of the patient's left lung below the data folder"),
    "height": ("sc:Integer", "pixels"),
    "width": ("sc:Integer", "pixels"),
    "bits": ("sc:Integer", "of a stored value"),
    "xxh3_128_start": ("sc:Text", "first 16 characters of the XXH3 digest (128 bits) of the file"),
}


def table(manifest: Manifest, index: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each image: `COLUMNS`, then a column for each finding.

    A finding is 1 present, 0 absent, -1 uncertain, null where it is not mentioned.
    """
    found = manifest.table.join(index, on="image_id", how="left", maintain_order="left").rename(
        {"given_part": "part", "file_digest": "xxh3_128_start"}
    )
    found = found.select(*COLUMNS)
    for concept in _findings(manifest):
        found = found.with_columns(manifest.states(concept)["state"].alias(concept))
    return found


def describe(
    manifest: Manifest,
    digest: str,
    rows: bytes,
    cards: Sequence[Card],
    published: Sequence[Published],
) -> Json:
    """Return the JSON-LD of a manifest with this digest; `rows` are the bytes of its `TABLE`."""
    urls = [item.url for item in published if item.url]
    licences = [
        item.licence_url or card.licence for card, item in zip(cards, published, strict=True)
    ]
    cited = "; ".join(card.citation for card in cards if card.citation)
    years = [item.year for item in published if item.year]
    counted = (
        f"{manifest.table.height:,} chest radiographs of "
        f"{manifest.table['patient_id'].n_unique():,} patients, as found in one folder."
    )
    described: Json = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": " and ".join(card.title for card in cards),
        "description": " ".join([counted, *(card.caveats for card in cards if card.caveats)]),
        "version": f"0.0.0+{digest}",  # no version is known of a folder
        "keywords": [
            "chest radiograph",
            "chest X-ray",
            *(name_of(concept).lower() for concept in _findings(manifest)),
        ],
        "license": licences,
        "distribution": [_file_object(rows), *_file_sets(manifest)],
        "recordSet": [_record_set(manifest)],
    }
    described |= {"url": urls[0]} if urls else {}
    described |= {"sameAs": urls[1:]} if urls[1:] else {}
    described |= {"citeAs": cited} if cited else {}
    return described | ({"datePublished": max(years)} if years else {})


def _file_object(rows: bytes) -> Json:
    return {
        "@type": "cr:FileObject",
        "@id": TABLE,
        "name": TABLE,
        "description": "One row for each image; it is beside this file.",
        "contentUrl": TABLE,
        "contentSize": f"{len(rows)} B",
        "encodingFormat": "text/csv",
        "sha256": hashlib.sha256(rows).hexdigest(),
    }


def _file_sets(manifest: Manifest) -> Iterator[Json]:
    for name, columns, about in (
        ("images", ("path",), "The radiographs"),
        ("lung-masks", tuple(mask_files.COLUMNS), "Masks of the lungs"),
    ):
        places: dict[str, set[str]] = defaultdict(set)
        for place in (place for column in columns for place in manifest.table[column].drop_nulls()):
            path = PurePosixPath(place)
            places[KINDS.get(path.suffix.lower(), "application/octet-stream")].add(
                f"{glob.escape(str(path.parent))}/*{glob.escape(path.suffix)}".removeprefix("./")
            )
        for kind, patterns in sorted(places.items()):
            if len(patterns) > FOLDERS:
                patterns = {f"*{PurePosixPath(pattern).suffix}" for pattern in patterns}
            label = f"{name}-{kind.partition('/')[2]}"
            yield {
                "@type": "cr:FileSet",
                "@id": label,
                "name": label,
                "description": f"{about}, below the data folder, which is not part of this "
                "description.",
                "encodingFormat": kind,
                "includes": sorted(patterns),
            }


def _record_set(manifest: Manifest) -> Json:
    states = "1 present, 0 absent, -1 uncertain, empty: not mentioned"
    fields = [_field(column, kind, meaning) for column, (kind, meaning) in COLUMNS.items()]
    fields += [
        _field(concept, "sc:Integer", f"{name_of(concept)}: {states}")
        for concept in _findings(manifest)
    ]
    about = "One record for each image: its patient, its labels, and where its files are."
    return {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": about,
        "key": {"@id": "images/image_id"},
        "field": fields,
    }


def _field(column: str, kind: str, meaning: str) -> Json:
    name = column.replace(":", "-")  # of an own finding; a colon would make the name a scheme
    source = {"fileObject": {"@id": TABLE}, "extract": {"column": column}}
    return {
        "@type": "cr:Field",
        "@id": f"images/{name}",
        "name": name,
        "description": meaning,
        "dataType": kind,
        "source": source,
    }


def _findings(manifest: Manifest) -> Iterable[str]:
    return sorted(manifest.labels["concept"].unique())
