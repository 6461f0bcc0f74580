"""An image that is known already is recognised: equal files and pixels, and copies that were saved
again, resized or changed otherwise.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import polars as pl
import pytest
from readers import installation, reader

from hilum import storage
from hilum.audit.duplicates import known_images, near_duplicates
from hilum.config import Pixels
from hilum.dataset.manifest import Manifest
from hilum.imaging import synthetic
from hilum.imaging.files import image_file, raster
from hilum.imaging.perceptual_hash import dct_hash, decode, hash_image
from hilum.imaging.radiograph import preprocess
from hilum.inference import classify_images, pretrained, training_hashes
from hilum.inference.onnx_model import TRAINING_LIST
from hilum.pipeline import cache, ingest
from hilum.runs import predict_images


def chest(seed, height=420, width=400):
    rng = np.random.default_rng(seed)
    return synthetic.draw(synthetic.anatomy(rng), rng, height=height, width=width).pixels


def jpeg(pixels, quality):
    return imagecodecs.jpeg_encode(pixels, level=quality)


def resized(pixels, scale):
    return cv2.resize(
        pixels,
        None,
        fx=scale,
        fy=scale,
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC,
    )


CHANGES = {
    "jpeg": lambda pixels: jpeg(pixels, 40),
    "smaller": lambda pixels: imagecodecs.png_encode(resized(pixels, 0.5)),
    "larger, jpeg": lambda pixels: jpeg(resized(pixels, 1.5), 75),
    "tiff of 16 bits": lambda pixels: imagecodecs.tiff_encode(pixels.astype(np.uint16) * 257),
    "mirrored": lambda pixels: imagecodecs.png_encode(np.ascontiguousarray(pixels[:, ::-1])),
    "cropped": lambda pixels: imagecodecs.png_encode(np.ascontiguousarray(pixels[21:-21, 20:-20])),
    "padded": lambda pixels: imagecodecs.png_encode(np.pad(pixels, 40)),
}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Forty made-up films in a cache."""
    folder = tmp_path_factory.mktemp("known")
    for seed in range(40):
        raster.write_png(folder / "data" / f"{seed}.png", chest(seed))
    manifest = ingest.ingest(folder / "data")
    filled = cache.fill(manifest, Pixels(), folder / "cache")
    return known_images.KnownImages(filled, filled.index["image_id"].to_list())


def found(known, path):
    file = image_file.read(path)
    radiograph = file.radiograph()
    square = preprocess(radiograph, 256, "percentiles")
    return known.find(
        square, radiograph.size, file_digest=file.file_digest, pixel_digest=file.pixel_digest
    )


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_recognised_and_another_image_is_not(known, tmp_path, change):
    for seed in (3, 17, 28):
        path = tmp_path / f"{seed}.img"
        path.write_bytes(CHANGES[change](chest(seed)))
        copy = found(known, path)
        assert (
            Path(copy.image_id).stem == str(seed)
            and copy.kind == near_duplicates.PROCESSED
            and "a changed copy (" in copy.words
        )
        path.write_bytes(CHANGES[change](chest(1000 + seed)))
        assert found(known, path) is None


def test_equal_files_and_equal_pixels_are_reported_as_such(known, tmp_path):
    raster.write_png(tmp_path / "same.png", chest(5))
    assert found(known, tmp_path / "same.png").kind == near_duplicates.SAME_FILE
    (tmp_path / "same.tif").write_bytes(imagecodecs.tiff_encode(chest(5)))
    copy = found(known, tmp_path / "same.tif")
    assert (copy.kind, copy.words) == (near_duplicates.SAME_PIXELS, "the same pixels as") and Path(
        copy.image_id
    ).stem == "5"


def test_an_image_that_shows_nothing_is_no_copy(known, tmp_path):
    raster.write_png(tmp_path / "grey.png", np.full((300, 280), 77, np.uint8))
    assert found(known, tmp_path / "grey.png") is None


def test_without_known_images_nothing_is_a_copy(known, tmp_path):
    none = known_images.KnownImages(known._cache, [])
    raster.write_png(tmp_path / "a.png", chest(5))
    assert found(none, tmp_path / "a.png") is None


# In the commands


def warnings(small_run, path):
    (one,), faults = predict_images.predict_images(small_run.folder, [path])
    assert not faults and not one.refused
    return {said.warning for said in one.scores}.pop()


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("train", "this run's training part"),
        ("tune", "this run's tune (validation) part"),
        ("test", ""),
    ],
)
def test_predict_reports_an_image_that_the_run_was_trained_or_tuned_on_and_a_changed_copy_of_it(
    small_run, tmp_path, part, words
):
    split = storage.read_table(small_run / "split.parquet").filter(pl.col("part") == part)
    manifest = Manifest.read(small_run.folder)
    image_id, path = (
        manifest.table.join(split, on="image_id", how="semi").select("image_id", "path").row(1)
    )
    values = raster.read(manifest.root / path).values
    (tmp_path / "copy.jpg").write_bytes(jpeg(values, 85))
    for file, how in (
        (manifest.root / path, "the same file as"),
        (tmp_path / "copy.jpg", "a changed copy ("),
    ):
        said = warnings(small_run, file)
        assert (
            (f"it is {how}" in said and f"{image_id} of {words}" in said)
            if words
            else "it is" not in said
        )


def test_predict_says_where_nothing_is_known_as_the_cache_is_gone(small_run, tmp_path):
    import shutil

    run = Path(
        shutil.copytree(small_run.folder, tmp_path / "run", ignore=shutil.ignore_patterns("cache"))
    )
    raster.write_png(tmp_path / "a.png", chest(1))
    (one,), _ = predict_images.predict_images(run, [tmp_path / "a.png"])
    assert "the run's cache is missing" in one.scores[0].warning


def test_classify_reports_a_changed_copy_of_an_image_that_a_model_was_trained_on(
    tmp_path, monkeypatch
):
    made = installation(tmp_path / "installed")
    raster.write_png(tmp_path / "a.png", chest(7))
    file = image_file.read(tmp_path / "a.png")
    place = reader(made, "tb", "tuberculosis", pixels=(file.pixel_digest,))
    monkeypatch.setattr(pretrained, "folder", lambda: made)
    own = decode(
        pl.Series(
            [hash_image(preprocess(file.radiograph(), 256, "percentiles"), file.values.shape)]
        )
    ).hashes
    listed = pretrained.PretrainedModel(place).model.training_list
    monkeypatch.setattr(training_hashes, "_hashes", lambda of: own if of == listed else own[:0])
    for name, data in {
        "copy.jpg": jpeg(chest(7), 50),
        "small.png": imagecodecs.png_encode(resized(chest(7), 0.6)),
    }.items():
        (tmp_path / name).write_bytes(data)
        (one,), _ = classify_images.classify_images([tmp_path / name])
        assert "of which this is an altered copy" in one.scores[0].warning
    (tmp_path / "other.jpg").write_bytes(jpeg(chest(8), 50))
    (one,), _ = classify_images.classify_images([tmp_path / "other.jpg"])
    assert "changed copy" not in one.scores[0].warning


def test_every_model_that_comes_with_hilum_has_a_hash_of_each_image_that_it_was_trained_on():
    for model in pretrained.pretrained_models():
        listed = model.model.metadata["trained_on"][TRAINING_LIST]
        assert len(training_hashes._hashes(model.model.training_list)) == len(set(listed)) > 0
    assert (pretrained.folder().parent / training_hashes.FILE).stat().st_size < 300_000


def test_a_model_of_another_training_has_no_hashes(tmp_path):
    made = installation(tmp_path / "installed")
    model = pretrained.PretrainedModel(reader(made, "tb", "tuberculosis", pixels=("0123",))).model
    square = preprocess(raster.read(_png(tmp_path)).radiograph(), 256, "percentiles")
    assert not training_hashes.is_copy(model, dct_hash(square, (420, 400)))


def _png(folder):
    raster.write_png(folder / "x.png", chest(1))
    return folder / "x.png"
