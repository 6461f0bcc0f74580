"""Read radiographs with or without a finding for the benchmarks: each set's images as a run would
feed them to its models, whole or cut to the lungs.

Lungs of Montgomery are found by a model that was trained on Shenzhen alone and the other way round,
so that no region of an image that is tested on was cut by what had seen its mask; those of other
sets by the model that comes with Hilum, which has seen none of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks._lib import lung_sets
from hilum import storage
from hilum.annotations.vocabulary import State
from hilum.config import LungCrop, Pixels
from hilum.imaging.geometry import Size
from hilum.inference import lung_crop, lung_finder, pretrained
from hilum.inference.onnx_model import InputContract, OnnxModel
from hilum.pipeline import cache, ingest

CONTENTS = (
    "whole",
    "lungs",
    "masked",
)  # the image; the box of both lungs; that box, black outside the lungs
FOLDERS = {"montgomery": "montgomery", "shenzhen": "shenzhen", "kermany": "kermany-224"}
FINDING = {"montgomery": "tuberculosis", "shenzhen": "tuberculosis", "kermany": "pneumonia"}
SIZE, LUNG_STEPS, SEED = 256, 480, 0


@dataclass(frozen=True)
class Seen:
    """Hold images with a known state of the finding: images uint8 (n, size, size), states (n,) 0 or
    1, of each image its name, patient, set and given part.
    """

    images: np.ndarray
    states: np.ndarray
    image_ids: np.ndarray
    patients: np.ndarray
    sources: np.ndarray
    parts: np.ndarray  # "" where the set comes with none

    def __add__(self, other: Seen) -> Seen:
        return Seen(
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])
                for name in self.__dataclass_fields__
            )
        )

    def at(self, rows: np.ndarray) -> Seen:
        return Seen(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def of(self, source: str) -> np.ndarray:
        """Return the rows of a set."""
        return np.flatnonzero(self.sources == source)

    @property
    def ill(self) -> np.ndarray:
        return self.states == State.PRESENT


def missing(data: Path, names: Iterable[str]) -> list[str]:
    """Return the folders that are not there."""
    return [FOLDERS[name] for name in names if not (data / FOLDERS[name]).is_dir()]


def read(data: Path, name: str, content: str, size: int, work: Path, *, most: int = 0) -> Seen:
    """Return one set, cached in `work`. `most` of each part and state are taken, evenly spread; 0:
    all.
    """
    manifest = ingest.ingest(data / FOLDERS[name])
    states = (
        manifest.states(FINDING[name])
        .select("image_id", "state")
        .filter(pl.col("state") >= State.ABSENT)
    )
    table = (
        manifest.table.with_columns(pl.col("given_part").fill_null(""))
        .join(states, on="image_id")
        .sort("image_id")
    )
    if most:
        groups = table.partition_by("given_part", "state", maintain_order=True)
        table = pl.concat([one[:: max(1, -(-one.height // most))] for one in groups]).sort(
            "image_id"
        )
    radiographs = cache.fill(
        manifest.only(table["image_id"]), Pixels(size=SIZE), work / f"cache-{name}"
    )
    table = table.join(
        radiographs.readable.select("image_id", "height", "width"), on="image_id"
    ).sort("image_id")
    images, sizes = (
        radiographs.images[radiographs.rows(table["image_id"])],
        table.select("height", "width").rows(),
    )
    regions = (
        _whole(images, size)
        if content == "whole"
        else _cut(
            images,
            sizes,
            LungCrop(size=size, masked=content == "masked"),
            *_found(data, name, images, sizes, work),
        )
    )
    ids, patients, parts = (
        np.array(table[column].to_list()) for column in ("image_id", "patient_id", "given_part")
    )
    return Seen(
        regions,
        table["state"].to_numpy().astype(np.int64),
        ids,
        patients,
        np.full(table.height, name),
        parts,
    )


def _whole(images: np.ndarray, size: int) -> np.ndarray:
    return np.stack(
        [
            lung_crop.cut(image, np.zeros_like(image), LungCrop(size=size, area="whole")).image
            for image in images
        ]
    )


def _cut(
    images: np.ndarray,
    sizes: list[Size],
    settings: LungCrop,
    labels: np.ndarray,
    trusted: np.ndarray,
) -> np.ndarray:
    """Return where a mask is flagged, the typical box: it depends on no label, and on believed
    masks of the set alone.
    """
    boxes = (
        (crop, size)
        for mask, reported, size in zip(labels, trusted, sizes, strict=True)
        if (crop := lung_crop.box(mask, settings, reported))
    )
    typical = lung_crop.typical_box(boxes)
    requested = zip(images, labels, trusted, sizes, strict=True)
    return np.stack(
        [
            lung_crop.cut(image, mask, settings, quality=reported, typical=typical, size=size).image
            for image, mask, reported, size in requested
        ]
    )


def _found(
    data: Path, name: str, images: np.ndarray, sizes: list[Size], work: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels uint8 (n, SIZE, SIZE) of the lungs and their quality (n,), kept in `work`."""
    path = work / f"lungs-{name}-{len(images)}.npz"
    if not path.exists():
        model = (
            _other_sets_model(data, name, work)
            if name in lung_sets.SETS
            else pretrained.lung_model()
        )
        found = [
            lung_finder.segment_lungs(model, image, size)
            for image, size in zip(images, sizes, strict=True)
        ]
        with storage.replacing(path) as beside, open(beside, "wb") as stream:
            np.savez_compressed(
                stream,
                labels=np.stack([one.labels for one in found]),
                quality=np.array([one.quality for one in found]),
            )
    with np.load(path) as kept:
        return kept["labels"], kept["quality"]


def _other_sets_model(data: Path, name: str, work: Path) -> OnnxModel:
    from hilum.training import onnx_export
    from hilum.training.models import compact_unet

    (other,) = set(lung_sets.SETS) - {name}
    path = work / f"lungs-from-{other}.onnx"
    if not path.exists():
        drawn = lung_sets.read(data, other, SIZE, work / "drawn")
        learn, tune = lung_sets.parted(drawn.patients, np.arange(len(drawn.patients)))
        settings = compact_unet.Settings(
            **{"least_steps": LUNG_STEPS, "epochs": 1, **lung_sets.WIDE}
        )
        network = compact_unet.fit(drawn.images, drawn.masks, learn, settings, seed=SEED, tune=tune)
        contract = storage.as_json(
            asdict(
                InputContract(
                    compact_unet.TASK, SIZE, "whole", Pixels().normalisation, compact_unet.OUTPUTS
                )
            )
        )
        onnx_export.to_onnx(
            network, path, size=SIZE, outputs=compact_unet.OUTPUTS, metadata={"contract": contract}
        )
    return OnnxModel(path)
