"""The lung models that come with Hilum, under `data/`: ready as it is installed, without a download and without PyTorch.

    lungs.onnx         float32
    lungs.int8.onnx    the same with weights of 8 bits, smaller and on many processors quicker

They are what a training leaves (`hilum.exported`): the contract says what they want to see, the card what they were made of and under
which terms. Their metadata `trained_on` holds, besides the number of pictures,

    sources            names of the collections (`source` of a manifest) that pictures were learnt from
    pixels             `pixel_digest` of each picture that was learnt from, sorted, as a cache's index has it

so that a run can tell which of its pictures such a model has learnt from, whatever they are called there. A resized or recompressed copy
has other digests: pictures of a collection that is named count as learnt from, all of them.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

import polars as pl

from hilum.errors import NotFound
from hilum.exported import Exported
from hilum.recipe import SHIPPED

NAME = SHIPPED  # what a recipe calls it, and the tables of a run
MODEL, SMALL = "lungs.onnx", "lungs.int8.onnx"


def path(name: str = MODEL) -> Path:
    """Where a model lies. Packages are installed as files: the wheel is never read zipped."""
    return Path(str(resources.files("hilum").joinpath("data", name)))


def there(name: str = MODEL) -> bool:
    return path(name).is_file()


def lungs(name: str = MODEL) -> Exported:
    """Raises `NotFound` where this installation has none."""
    return _opened(_there(name))


def _there(name: str) -> Path:
    place = path(name)
    if not place.is_file():
        raise NotFound(
            f"this installation of Hilum has no lung model at {place}: install a release again (`pip install --force-reinstall hilum`), "
            f"name a model of your own with --model, or make one with bench/train_lungs.py"
        )
    return place


@cache
def _opened(place: Path) -> Exported:
    return Exported(place)


def learnt_from(model: Exported, pictures: pl.DataFrame) -> pl.DataFrame:
    """The rows of `pictures` (image_id, source, pixel_digest) that the model has learnt from, by digest or by collection."""
    told = model.metadata.get("trained_on", {})
    by_pixels = pl.col("pixel_digest").is_in(list(told.get("pixels", ())))
    by_source = pl.col("source").is_in(list(told.get("sources", ())))
    return pictures.filter((by_pixels | by_source).fill_null(False))
