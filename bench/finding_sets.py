"""Radiographs with a finding for the benches: each set's pictures as a run would feed them to a classifier, whole or cut to the lungs.

Lungs of Montgomery are found by a model that learnt from Shenzhen alone and the other way round, so that no region of a picture that is
tested on was cut by what had seen its mask; those of other sets by the model that comes with Hilum, which has seen none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

import lung_sets
from hilum import quality, shipped, store
from hilum.exported import Contract, Exported
from hilum.recipe import Pixels, Region
from hilum.steps import cache, ingest, region
from hilum.vocabulary import State

CONTENTS = ("whole", "lungs", "masked")  # the picture; the box of both lungs; that box, black outside the lungs
FOLDERS = {"montgomery": "montgomery", "shenzhen": "shenzhen", "kermany": "kermany-224"}
FINDING = {"montgomery": "tuberculosis", "shenzhen": "tuberculosis", "kermany": "pneumonia"}
SIZE, LUNG_STEPS, SEED = 256, 480, 0


@dataclass(frozen=True)
class Seen:
    """Pictures with a known state of the finding: images uint8 (n, size, size), states (n,) 0 or 1, of each picture its name, patient, set and given part."""

    images: np.ndarray
    states: np.ndarray
    image_ids: np.ndarray
    patients: np.ndarray
    sources: np.ndarray
    parts: np.ndarray  # "" where the set comes with none

    def __add__(self, other: Seen) -> Seen:
        return Seen(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in self.__dataclass_fields__))

    def of(self, source: str) -> np.ndarray:
        return np.flatnonzero(self.sources == source)


def read(data: Path, name: str, content: str, size: int, work: Path) -> Seen:
    """One set, cached in `work`."""
    manifest = ingest.ingest(data / FOLDERS[name])
    states = manifest.states(FINDING[name]).filter(pl.col("state") >= State.ABSENT)
    pictures = cache.fill(manifest, Pixels(size=SIZE), work / f"cache-{name}")
    facts = pictures.readable.select("image_id", "row", "height", "width")
    table = manifest.table.join(states, on="image_id").join(facts, on="image_id").sort("image_id")
    images = pictures.images[table["row"].to_numpy()]
    sizes = table.select("height", "width").rows()
    regions = _cut(images, sizes, content, size, lambda: _found(data, name, images, sizes, work))
    told = (np.array(table[column].to_list()) for column in ("image_id", "patient_id"))
    parts = np.array(table["given_part"].fill_null("").to_list())
    return Seen(regions, table["state"].to_numpy().astype(np.int64), *told, np.full(table.height, name), parts)


def _cut(images: np.ndarray, sizes: list[tuple[int, int]], content: str, size: int, lungs) -> np.ndarray:
    settings = Region(size=size, masked=content == "masked")
    if content == "whole":
        nothing = np.zeros(images.shape[1:], np.uint8)
        return np.stack([region.cut(image, nothing, settings, quality=0.0).image for image in images])
    labels, trusted = lungs()
    cuts = zip(images, labels, trusted, sizes, strict=True)
    return np.stack([region.cut(image, found, settings, quality=told, size=of).image for image, found, told, of in cuts])


def _found(data: Path, name: str, images: np.ndarray, sizes: list[tuple[int, int]], work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels uint8 (n, size, size) and their quality, kept in `work`."""
    path = work / f"lungs-{name}.npz"
    if not path.exists():
        model = _other_sets_model(data, name, work) if name in lung_sets.SETS else shipped.lungs()
        found = [quality.find(model, image, size) for image, size in zip(images, sizes, strict=True)]
        with store.replacing(path) as beside, open(beside, "wb") as stream:
            np.savez_compressed(stream, labels=np.stack([one.labels for one in found]), quality=np.array([one.quality for one in found]))
    kept = np.load(path)
    return kept["labels"], kept["quality"]


def _other_sets_model(data: Path, name: str, work: Path) -> Exported:
    from dataclasses import asdict

    from hilum.models import _export, compact

    (other,) = set(lung_sets.SETS) - {name}
    path = work / f"lungs-from-{other}.onnx"
    if not path.exists():
        drawn = lung_sets.read(data, other, SIZE, work / "drawn")
        learn, tune = lung_sets.parted(drawn.patients, np.arange(len(drawn.patients)))
        settings = compact.Settings(**{"least_steps": LUNG_STEPS, "epochs": 1, **lung_sets.WIDE})
        network = compact.fit(drawn.images, drawn.masks, learn, settings, seed=SEED, tune=tune)
        contract = store.as_json(asdict(Contract(compact.TASK, SIZE, "whole", Pixels().window, compact.OUTPUTS)))
        _export.to_onnx(network, path, size=SIZE, outputs=compact.OUTPUTS, metadata={"contract": contract})
    return Exported(path)
