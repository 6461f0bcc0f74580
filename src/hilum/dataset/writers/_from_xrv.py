"""Labels, patients and images from a data set of TorchXRayVision's kind.

Anything with `pathologies`, `labels`, `csv` and items will do: the package's own classes, merged,
filtered and subset ones, and other people's. Items keep their order. NaN labels have no row, as
findings that are not mentioned have none. A patient's name starts with its data set's, because the
package merges data sets whose patients have the same numbers; an item without a patient counts as
a patient of its own, with a remark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hilum.annotations import acquisition
from hilum.annotations.vocabulary import LOCAL
from hilum.dataset.manifest import LABEL_COLUMNS, REMARK_COLUMNS
from hilum.dataset.writers._xrv_pathologies import concept_of
from hilum.errors import BadData
from hilum.imaging.radiograph import Radiograph

ITEMS = dict.fromkeys(("image_id", "dataset", "patient_id", "view", "sex"), pl.String) | {
    "age_years": pl.Float64
}
_IMAGE = (
    "Image Index",
    "ImageId",
    "ImageID",
    "image_id",
    "dicom_id",
    "Path",
    "PngPath",
    "file_name",
    "filename",
    "fname",
    "image_name",
    "image",
    "patientId",
)
_ABOUT = ("dataset", "patientid", "view", "sex_male", "sex_female", "age_years")
_LUNGS = {"Lungs": "lungs"}
_FIRST_OF_PATIENT = ("CheX_Dataset", "MIMIC_Dataset", "CheXlocalize_Dataset")
_NIH_IMAGES = 112_120
_SLACK = 1.0  # rounding of a transform beyond the range


@dataclass(frozen=True)
class Taken:
    """What was taken from a data set.

    `table` has image_id, dataset, patient_id, view, sex and age_years, one row per item; `labels`
    and `remarks` are as in a manifest.
    """

    dataset: Any
    table: pl.DataFrame
    labels: pl.DataFrame
    remarks: pl.DataFrame

    def radiograph(self, index: int) -> Radiograph:
        """Return item `index` with pixels in [0, 1].

        Raises `BadData` where its pixels are not in ±1024, or its labels are not those of the
        table.
        """
        item, name = self.dataset[index], self.table["image_id"][index]
        own = np.asarray(item["lab"], np.float64)
        of_row = np.asarray(self.dataset.labels[index], np.float64)
        if own.shape != of_row.shape or not np.array_equal(own, of_row, equal_nan=True):
            raise BadData(
                f"{name}: the item's labels are not those of its row: a subset keeps its parent's; "
                "relabel before SubsetDataset or FilterDataset"
            )
        pixels = np.asarray(item["img"], np.float32)
        if pixels.ndim != 3 or pixels.shape[0] != 1:
            raise BadData(
                f"{name}: the image has shape {pixels.shape}; expected (1, height, width)"
            )
        low, high = float(pixels.min()), float(pixels.max())
        if not (np.isfinite(pixels).all() and max(-low, high) <= 1024 + _SLACK) or (
            low >= 0 and high <= 255
        ):
            raise BadData(
                f"{name}: pixels from {low:g} to {high:g}; expected -1024 to 1024: "
                "use utils.normalize, and check the transforms"
            )
        return Radiograph(
            np.clip(pixels[0] / 2048 + 0.5, 0, 1),
            None,
            ("-1024 to 1024 of TorchXRayVision become 0 to 1",),
        )

    def masks(self, index: int) -> dict[str, np.ndarray]:
        """Return the masks of item `index`, bool (height, width), by concept or "lungs"."""
        item = self.dataset[index]
        names = {
            name if isinstance(name, str) else self.dataset.pathologies[name]: mask
            for name, mask in item.get("pathology_masks", {}).items()
        }
        found = {concept_of(name): mask for name, mask in names.items()}
        found |= {
            _LUNGS.get(name) or concept_of(name): mask
            for name, mask in item.get("semantic_masks", {}).items()
        }
        return {name: np.asarray(mask)[0] > 0.5 for name, mask in found.items()}


def from_xrv(dataset: Any) -> Taken:
    """Take labels, patients and images from a data set.

    Raises `BadData` with everything that makes it unusable; what is only questionable becomes
    remarks.
    """
    names, labels = list(dataset.pathologies), np.asarray(dataset.labels, np.float64)
    _refuse_unsound(dataset, names, labels)
    columns = {name: list(dataset.csv[name]) for name in (*_IMAGE, *_ABOUT) if name in dataset.csv}
    rows = [_row(columns, index) for index in range(len(labels))]
    items, repeated = _items(rows, _sets(dataset))
    remarks = [*_about_classes(dataset), *_about_rows(rows, repeated), *_about_names(names, labels)]
    table = pl.DataFrame(items, schema=ITEMS, orient="row")
    return Taken(
        dataset,
        table,
        _labels(dataset, table["image_id"], names, labels),
        pl.DataFrame(remarks, schema=REMARK_COLUMNS, orient="row"),
    )


def _row(columns: Mapping[str, list[Any]], index: int) -> Mapping[str, Any]:
    """Return one row of the csv, with None for missing values."""
    cells = ((name, values[index]) for name, values in columns.items())
    return {name: None if _missing(cell) else cell for name, cell in cells}


def _refuse_unsound(dataset: Any, names: list[str], labels: np.ndarray) -> None:
    faults = []
    if labels.shape != (len(dataset), len(names)):
        faults.append(
            f"labels have shape {labels.shape}; "
            f"expected {(len(dataset), len(names))} (items, pathologies)"
        )
    else:
        known = np.isnan(labels) | (labels == 0) | (labels == 1)
        invalid = [
            (name, np.unique(column[~good]).tolist())
            for name, column, good in zip(names, labels.T, known.T, strict=True)
            if not good.all()
        ]
        faults += [
            f"labels of {name} hold {', '.join(map(str, values[:3]))}; expected 1, 0 or NaN"
            for name, values in invalid
        ]
    if len(dataset.csv) != len(dataset):
        faults.append(f"csv has {len(dataset.csv)} rows for {len(dataset)} items")
    by_concept: dict[str, list[str]] = {}
    for name in names:
        by_concept.setdefault(concept_of(name), []).append(name)
    faults += [
        f"several pathologies are {concept}: {', '.join(alike)}"
        for concept, alike in by_concept.items()
        if len(alike) > 1
    ]
    if faults:
        raise BadData.listing(f"{_class(dataset)} is not sound", faults)


def _leaves(dataset: Any) -> list[Any]:
    """Return the data sets that a merged, subset or filtered one is made of."""
    inner = getattr(dataset, "datasets", None) or (
        [dataset.dataset] if hasattr(dataset, "dataset") else []
    )
    return [leaf for one in inner for leaf in _leaves(one)] or [dataset]


def _sets(dataset: Any) -> list[str]:
    """Return each item's data set: its class, numbered where several of a class are merged."""
    if hasattr(dataset, "datasets"):
        inner = [_sets(one) for one in dataset.datasets]
        held = Counter(name for names in inner for name in set(names))
        nth: Counter[str] = Counter()
        found = []
        for names in inner:
            nth.update(set(names))
            found += [f"{name}-{nth[name]}" if held[name] > 1 else name for name in names]
        return found
    if hasattr(dataset, "dataset"):
        inner = _sets(dataset.dataset)
        return [inner[index] for index in dataset.idxs]
    return [_class(dataset).removesuffix("_Dataset").lower()] * len(dataset)


def _items(rows: list[Mapping[str, Any]], sets: list[str]) -> tuple[list[tuple], Counter[str]]:
    """Return the rows of the table, and the number of rows of each image that has several."""
    items, seen = [], Counter()
    for index, (row, dataset) in enumerate(zip(rows, sets, strict=True)):
        # In a view of Hilum's the names start with their data set already.
        own = str(row.get("image_id")).startswith(f"{row.get('dataset')}/")
        name = next(
            (str(row[column]) for column in _IMAGE if row.get(column) is not None), f"item {index}"
        )
        image = str(row["image_id"]) if own else f"{dataset}/{name}"
        patient = str(row["patientid"]) if row.get("patientid") is not None else ""
        if not patient:
            patient = image
        elif not own:
            patient = f"{dataset}/{patient}"
        seen[image] += 1
        age = float(row["age_years"]) if row.get("age_years") is not None else None
        items.append(
            (
                image if seen[image] == 1 else f"{image}#{seen[image]}",
                row["dataset"] if own else dataset,
                patient,
                acquisition.view_of(str(row.get("view") or "")),
                _sex(row),
                age,
            )
        )
    return items, Counter({image: count for image, count in seen.items() if count > 1})


def _sex(row: Mapping[str, Any]) -> str | None:
    if row.get("sex_female"):
        return "female"
    return "male" if row.get("sex_male") else None


def _labels(
    dataset: Any, image_ids: pl.Series, names: list[str], labels: np.ndarray
) -> pl.DataFrame:
    parts = [pl.DataFrame(schema=LABEL_COLUMNS)]
    for name, column in zip(names, labels.T, strict=True):
        known = np.flatnonzero(~np.isnan(column))
        stated = pl.DataFrame(
            {"image_id": image_ids.gather(known), "state": column[known].astype(np.int8)}
        )
        origin = {
            "concept": concept_of(name),
            "term": name,
            "source": f"{_class(dataset)}.labels, column {name}",
            "rule": "column",
        }
        blank = (
            pl.lit(None, kind).alias(column)
            for column, kind in LABEL_COLUMNS.items()
            if column not in (*origin, "image_id", "state")
        )
        parts.append(
            stated.with_columns(
                *(pl.lit(text).alias(key) for key, text in origin.items()), *blank
            ).select(LABEL_COLUMNS.keys())
        )
    return pl.concat(parts).sort("image_id", "concept")


def _about_classes(dataset: Any) -> Iterator[tuple[str, str, str, str]]:
    """Yield remarks on known faults of the package's own classes (1.5.7), where they can apply."""
    for leaf in _leaves(dataset):
        name = _class(leaf)
        patients = list(leaf.csv["patientid"]) if "patientid" in leaf.csv else []
        if name in _FIRST_OF_PATIENT and len(set(patients)) == len(patients):
            message = (
                "one row per patient: with unique_patients=True it has labels of a patient's other "
                "images; make it with unique_patients=False"
            )
            yield name, "warning", "xrv-first-of-patient", message
        if name == "NIH_Dataset" and len(leaf) < _NIH_IMAGES:
            message = (
                f"holds {len(leaf):,} of {_NIH_IMAGES:,} images; for all of them make it with "
                "views=['*'], unique_patients=False"
            )
            yield name, "info", "xrv-rows-left-out", message
        if name == "PC_Dataset":
            message = (
                "its labels are found as parts of words: 'pseudonodule' counts as Nodule, "
                "'subcutaneous emphysema' as Emphysema"
            )
            yield name, "warning", "xrv-parts-of-words", message


def _about_rows(
    rows: list[Mapping[str, Any]], repeated: Mapping[str, int]
) -> Iterator[tuple[str, str, str, str]]:
    nobody = sum(row.get("patientid") is None for row in rows)
    if nobody:
        yield (
            ".",
            "warning",
            "no-patients",
            f"{nobody} of {len(rows)} items name no patient: "
            "each of their images counts as a patient of its own",
        )
    for image, count in sorted(repeated.items()):
        yield (
            image,
            "error",
            "repeated-image",
            f"stands in {count} rows; give it one, with the labels of all",
        )


def _about_names(names: Iterable[str], labels: np.ndarray) -> Iterator[tuple[str, str, str, str]]:
    for name, column in zip(names, labels.T, strict=True):
        if (concept := concept_of(name)).startswith(LOCAL):
            count = np.count_nonzero(~np.isnan(column))
            yield (
                ".",
                "warning",
                "unknown-finding",
                f"'{name}' on {count} images is not in the vocabulary; it is kept as {concept}",
            )


def _class(dataset: Any) -> str:
    return type(dataset).__name__


def _missing(value: Any) -> bool:
    return value is None or value != value or type(value).__name__ == "NAType"
