"""Write perceptual hashes of the images that the models which come with Hilum were trained or
tuned on, for `hilum.inference.training_hashes`.

    python -m tools.build_models.training_hashes --data ../shared/data --out
    src/hilum/resources/training_hashes.parquet

A model's list is made again from the files below the folders of `SETS`: every digest in it must be
found, or nothing is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from hilum import storage
from hilum.errors import BadData
from hilum.imaging.files import image_file
from hilum.imaging.files.find_images import collect
from hilum.imaging.perceptual_hash import dct_hash
from hilum.imaging.radiograph import preprocess
from hilum.inference import pretrained, training_hashes
from hilum.inference.onnx_model import TRAINING_LIST, OnnxModel

SETS = (
    "montgomery/CXR_png",
    "shenzhen/CXR_png",
    "kermany-224",
    "kermany-448/images",
    "nih-448/images",
    "nih-sample/images",
    "covid-448/images",
)
MOST_BYTES = 300_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    hashes = dict(hashed(arguments.data))
    models = [
        *pretrained.lung_models(),
        *(reader.model for reader in pretrained.pretrained_models()),
    ]
    # Files of one training share their list.
    lists = {model.training_list: model for model in models}
    rows = [row for model in lists.values() for row in of_model(model, hashes)]
    storage.write_table(
        arguments.out,
        pl.DataFrame(rows, schema=training_hashes.COLUMNS, orient="row").sort(
            "training_list", "hash"
        ),
    )
    if (size := arguments.out.stat().st_size) > MOST_BYTES:
        raise SystemExit(f"{arguments.out} has {size:,} bytes, more than {MOST_BYTES:,}")
    print(f"{len(rows):,} hashes, {size:,} bytes")


def hashed(data: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the pixel digest and hash of each image that shows something."""
    paths = [path for path, _ in collect([data / folder for folder in SETS]).names]
    with ThreadPoolExecutor(2) as pool:
        yield from (one for one in pool.map(_hashed, paths) if one)


def _hashed(path: Path) -> tuple[str, bytes] | None:
    file = image_file.read(path)
    radiograph, contract = file.radiograph(), pretrained.lung_model().contract
    square = preprocess(radiograph, contract.size, contract.normalisation)
    found = dct_hash(square, radiograph.size)
    return None if found is None else (file.pixel_digest, found.tobytes())


def of_model(model: OnnxModel, hashes: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """Return a row for each image of a model's list. Raises `BadData` where a file is missing."""
    listed = model.metadata["trained_on"][TRAINING_LIST]
    if missing := set(listed) - set(hashes):
        raise BadData(
            f"{len(missing)} of {len(listed)} images that {model.path.name} was trained on are not "
            "among the files: get the same release"
        )
    return [(model.training_list, hashes[digest]) for digest in sorted(set(listed))]


if __name__ == "__main__":
    main()
