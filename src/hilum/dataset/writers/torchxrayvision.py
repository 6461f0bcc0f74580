"""TorchXRayVision, both ways, without importing it: a data set for its tools, and labels from one.

`to_xrv` returns a view with `pathologies`, `labels`, `csv`, `views`, `transform`, `data_aug`,
`string()`, `totals()` and samples

    {"idx": int, "lab": float32 (findings,), "img": float32 (1, height, width) in [-1024, 1024]}

which `relabel_dataset`, `MergeDataset`, `SubsetDataset`, `CovariateDataset` and `utils.infer`
accept. Labels are 1, 0, or NaN for not mentioned; an uncertain label is NaN as well, because the
format has no third state (`string()` has their number). `patientid` is always there and starts
with the data set's name. Nothing is filtered by view or patient. Masks come on request, with
values 0 and 1: `pathology_masks` by the finding's index in `pathologies`, `semantic_masks` by
"Lungs". `default_collate` refuses samples whose masks differ: use `DataLoader(view,
collate_fn=lambda samples: default_collate(collatable(samples)))`.

`from_xrv` goes the other way, with remarks on what is questionable
(`hilum.dataset.writers._from_xrv`). `write` leaves a folder that TorchXRayVision reads on a
machine without Hilum:

    images/...png      8-bit grey
    labels.csv         one row per image: image, patientid ... part, then one column per finding
                       (1, 0, empty)
    dataset.py         `Exported(part="train")`, a data set of TorchXRayVision's kind on this folder

Source: the package's datasets.py and utils.py, 1.5.7 (Cohen et al. 2022, MIDL).
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations import lung_masks, shapes
from hilum.annotations.vocabulary import State
from hilum.dataset.manifest import Manifest
from hilum.dataset.mask_files import Meanings
from hilum.dataset.writers import _annotations, _output_folder, _tables
from hilum.dataset.writers._from_xrv import Taken, from_xrv
from hilum.dataset.writers._xrv_pathologies import name_for, ordered
from hilum.errors import BadData, MissingExtra
from hilum.imaging.files import image_file
from hilum.imaging.files.pose import Display, Pose
from hilum.plugins import Card
from hilum.safety import spreadsheet_cells

__all__ = ["CARD", "Taken", "XrvView", "collatable", "from_xrv", "to_xrv", "write"]

CARD = Card(
    title="TorchXRayVision: a folder with labels.csv and dataset.py",
    source="github.com/mlmed/torchxrayvision",
    citation="Cohen et al. 2022, TorchXRayVision: a library of chest X-ray datasets and models, "
    "MIDL",
    caveats="Uncertain labels become unknown (NaN). Images become 8 bits, as the package reads "
    "no others. In Python, to_xrv needs no files.",
)
RANGE = 1024.0  # of the package's pixels, either side of 0
VIEWS = {"LATERAL": "L", None: "UNKNOWN"}
Transform = Callable[[np.ndarray], np.ndarray]
_Masks = dict[int | str, np.ndarray]  # by index of the pathology, or by name


class Sample(TypedDict):
    """An item of a view; masks are float32 (1, height, width)."""

    idx: int
    lab: np.ndarray
    img: np.ndarray
    pathology_masks: NotRequired[_Masks]
    semantic_masks: NotRequired[_Masks]


class XrvView:
    """A manifest as a data set of TorchXRayVision's kind.

    `relabel_dataset` may replace `labels` and `pathologies`.
    """

    def __init__(
        self,
        manifest: Manifest,
        transform: Transform | None,
        data_aug: Transform | None,
        pathology_masks: bool,
        semantic_masks: bool,
    ) -> None:
        found = ordered(_tables.concepts_in(manifest))
        states = _tables.wide(manifest, found).select(found).cast(pl.Float32)
        self.manifest = manifest
        self.pathologies = [name_for(concept) for concept in found]
        self.labels = (
            states.select(pl.all().replace(State.UNCERTAIN, None).fill_null(np.nan))
            .to_numpy()
            .reshape(manifest.table.height, -1)
        )
        self.labels = np.ascontiguousarray(self.labels, np.float32)
        self.transform, self.data_aug = transform, data_aug
        self.pathology_masks, self.semantic_masks = pathology_masks, semantic_masks
        self.views = ["*"]
        self._drawn = _annotations.by_image(manifest) if pathology_masks or semantic_masks else {}

    @cached_property
    def _meanings(self) -> Meanings:
        return Meanings(self.manifest)

    @cached_property
    def csv(self) -> Any:
        """Return a pandas DataFrame with row i for item i.

        Raises `MissingExtra` without pandas, which TorchXRayVision needs as well.
        """
        with MissingExtra.explained("", "the csv of a TorchXRayVision data set"):
            import pandas
        return pandas.DataFrame({column.name: column.to_list() for column in about(self.manifest)})

    def string(self) -> str:
        """Return the description that the package prints, with the number of uncertain labels."""
        names = "+".join(self.manifest.table["dataset"].unique().sort())
        unsure = (self.manifest.labels["state"] == State.UNCERTAIN).sum()
        return (
            f"Hilum {names} num_samples={len(self)} views={self.views} "
            f"data_aug={self.data_aug} uncertain_as_nan={unsure}"
        )

    __repr__ = string

    def totals(self) -> dict[str, dict[float, int]]:
        """Return the count of each label value by finding, the most frequent value first."""
        found = {}
        for name, column in zip(self.pathologies, self.labels.T, strict=True):
            values, counts = np.unique(column[~np.isnan(column)], return_counts=True)
            order = np.argsort(-counts, kind="stable")
            found[name] = dict(zip(values[order].tolist(), counts[order].tolist(), strict=True))
        return found

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample. Raises `IndexError`, and `BadData` for an unreadable image or mask."""
        label = self.labels[index].astype(np.float32)
        row = self.manifest.table.row(int(index), named=True)
        file = image_file.read(*self.manifest.located(row["path"]), Display.of(row))
        pixels = file.radiograph().pixels
        sample: Sample = {
            "idx": int(index),
            "lab": label,
            "img": (2 * pixels[None] - 1) * np.float32(RANGE),
        }
        if self.pathology_masks:
            masks = self._findings(row["image_id"], file.pose)
            sample["pathology_masks"] = {
                self.pathologies.index(name): mask
                for name, mask in masks.items()
                if name in self.pathologies
            }
        if self.semantic_masks and (lungs := self._lungs(row, file.pose)) is not None:
            sample["semantic_masks"] = {"Lungs": lungs}
        for transform in (self.transform, self.data_aug):
            _apply(transform, sample)
        return sample

    def _findings(self, image_id: str, pose: Pose) -> dict[str, np.ndarray]:
        """Return masks by name, float32 (1, height, width): the union of a finding's shapes."""
        found: dict[str, np.ndarray] = {}
        for one in self._drawn.get(image_id, []):
            if one.concept not in lung_masks.REFERENCE:
                own = shapes.from_json(one.shape).to_mask(pose.source)
                mask = pose.mask(own)[None].astype(np.float32)
                name = name_for(one.concept)
                found[name] = np.maximum(found.get(name, mask), mask)
        return found

    def _lungs(self, row: Mapping[str, Any], pose: Pose) -> np.ndarray | None:
        stored = _annotations.stored(self.manifest, row)
        files = _annotations.lung_masks(self.manifest.folder, row, stored, pose, self._meanings.of)
        found = [mask for file in files for mask in file.named().values()]
        drawn = (
            one.shape
            for one in self._drawn.get(row["image_id"], [])
            if one.concept in lung_masks.REFERENCE and one.concept != lung_masks.IGNORED
        )
        found += [shapes.from_json(shape).to_mask(pose.source) for shape in drawn]
        if not found:
            return None
        return pose.mask(np.any(found, axis=0))[None].astype(np.float32)


def to_xrv(
    manifest: Manifest,
    *,
    transform: Transform | None = None,
    data_aug: Transform | None = None,
    pathology_masks: bool = False,
    semantic_masks: bool = False,
) -> XrvView:
    """Return a view; `transform`, then `data_aug`, get images float32 (1, height, width).

    For one part pass `manifest.only(...)` and apply `relabel_dataset`: a part has only the
    findings that are mentioned in it.
    """
    return XrvView(manifest, transform, data_aug, pathology_masks, semantic_masks)


def about(manifest: Manifest) -> pl.DataFrame:
    """Return the package's common columns after our names of image, data set and file."""
    return manifest.table.select(
        "image_id",
        "dataset",
        "source",
        "path",
        "study",
        pl.col("patient_id").alias("patientid"),
        pl.col("view").replace(VIEWS),
        "age_years",
        (pl.col("sex") == "male").fill_null(False).alias("sex_male"),
        (pl.col("sex") == "female").fill_null(False).alias("sex_female"),
        pl.col("image_id")
        .is_in(
            manifest.shapes.filter(~pl.col("concept").is_in(list(lung_masks.REFERENCE)))[
                "image_id"
            ].to_list()
        )
        .alias("has_masks"),
    )


def collatable(samples: Sequence[Sample]) -> list[Sample]:
    """Return a batch with the same mask keys in each sample; missing masks are NaN."""
    whole = [sample.copy() for sample in samples]
    for kind in ("pathology_masks", "semantic_masks"):
        keys = sorted({key for sample in samples for key in sample.get(kind, ())})
        for sample in whole:
            own: _Masks = sample.get(kind, {})
            sample.pop(kind, None)
            if keys:
                sample[kind] = {
                    key: own[key] if key in own else np.full_like(sample["img"], np.nan)
                    for key in keys
                }
    return whole


def _apply(transform: Transform | None, sample: Sample) -> None:
    """Transform the image, and each mask with the same random numbers.

    No generator is seeded: the state after is the one that the image alone would leave.
    """
    if transform is None:
        return
    restore = _snapshot()
    sample["img"] = transform(sample["img"])
    for masks in (sample.get("pathology_masks", {}), sample.get("semantic_masks", {})):
        for key in masks:
            restore()
            masks[key] = transform(masks[key])


def _snapshot() -> Callable[[], None]:
    """Return a call that restores the present state of the global random generators."""
    python, numpy = random.getstate(), np.random.get_state()
    # Not imported for this: a transform that draws from PyTorch's generator has imported it.
    torch = sys.modules.get("torch")
    drawn = torch.random.get_rng_state() if torch else None

    def restore() -> None:
        """Restore the state."""
        random.setstate(python)
        np.random.set_state(numpy)
        if torch:
            torch.random.set_rng_state(drawn)

    return restore


def write(manifest: Manifest, folder: Path, *, split: pl.DataFrame | None) -> dict[str, object]:
    """Write images, labels and a data set class; see `hilum.dataset.writers`."""
    exported = _tables.exported(manifest, split)
    placed, view = _output_folder.places(exported, ".png"), to_xrv(exported)
    files = [f"images/{placed[image_id]}" for image_id in exported.table["image_id"]]
    table = (
        about(exported)
        .insert_column(0, pl.Series("image", files))
        .join(_tables.part_of(exported, split), on="image_id", maintain_order="left")
    )
    if same := sorted(set(table.columns) & set(view.pathologies)):
        raise BadData(
            f"findings have the names of columns of labels.csv: {', '.join(same)}; "
            "give them other names"
        )
    labels = [
        pl.Series(name, column).cast(pl.Int8, strict=False)
        for name, column in zip(view.pathologies, view.labels.T, strict=True)
    ]
    with _output_folder.whole(folder) as beside:
        _output_folder.write_grey(exported, beside / "images", placed)
        storage.write_text(
            beside / "labels.csv", spreadsheet_cells.of_table(table.with_columns(labels))
        )
        storage.write_text(
            beside / "dataset.py",
            Path(__file__).with_name("_xrv_dataset.py").read_text(encoding="utf-8"),
        )
    unsure = (exported.labels["state"] == State.UNCERTAIN).sum()
    return _tables.summary(
        "torchxrayvision",
        manifest,
        exported.table.height,
        findings=len(view.pathologies),
        **{"uncertain, now unknown": unsure, "image files": "8-bit PNG"},
    )
