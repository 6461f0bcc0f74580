"""The cache: filled image by image, resumed after a kill to the same bytes, and honest about what it could not read."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest

from hilum import store
from hilum.datasets import kaggle_masks
from hilum.errors import CannotWrite
from hilum.files import raster
from hilum.radiograph import Letterbox
from hilum.recipe import Pixels
from hilum.steps import cache
from hilum.steps.ingest import ingest

PIXELS = Pixels(size=64)


@pytest.fixture
def data(tmp_path):
    kaggle_masks.example(tmp_path / "data", images=12, seed=1)
    return tmp_path / "data"


def files_of(filled: cache.Cache) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in filled.folder.iterdir() if path.suffix == ".u8"}


def test_every_picture_is_there_letterboxed_with_its_mask(data, tmp_path):
    manifest = ingest(data)
    filled = cache.fill(manifest, PIXELS, tmp_path / "cache")
    assert filled.images.shape == filled.masks.shape == (12, 64, 64) and filled.readable.height == 12
    image = manifest.table.filter(pl.col("lung_mask").is_not_null()).row(0, named=True)
    row = filled.rows([image["image_id"]])[0]
    assert np.array_equal(filled.images[row], cache.prepare(raster.read(data / image["path"]).radiograph(), 64, "percentiles"))
    drawn = raster.read(data / image["lung_mask"]).values
    expected = Letterbox(drawn.shape, 64).forward(drawn) >= 128
    assert (expected != (filled.masks[row] > 0)).mean() < 0.01 and set(np.unique(filled.masks[row])) == {0, 1, 2}


def test_a_second_pass_reads_nothing_and_a_changed_file_alone_is_read_again(data, tmp_path, monkeypatch):
    manifest = ingest(data)
    cache.fill(manifest, PIXELS, tmp_path / "cache")
    seen = []
    read = raster.read
    monkeypatch.setattr(raster, "read", lambda path: seen.append(path.name) or read(path))
    cache.fill(manifest, PIXELS, tmp_path / "cache")
    assert seen == []
    changed = data / manifest.table.filter(pl.col("lung_mask").is_null())["path"][0]
    raster.write_png(changed, np.arange(90 * 80, dtype=np.uint8).reshape(90, 80))
    filled = cache.fill(manifest, PIXELS, tmp_path / "cache")
    assert seen == [changed.name] and filled.index.filter(pl.col("height") == 90).height == 1


def test_new_images_are_added_behind_and_old_ones_stay(data, tmp_path):
    before = files_of(cache.fill(ingest(data), PIXELS, tmp_path / "cache"))["images.u8"]
    raster.write_png(data / "CXR_png" / "CHNCXR_9000_0.png", np.full((70, 70), 9, np.uint8))
    filled = cache.fill(ingest(data), PIXELS, tmp_path / "cache")
    assert filled.images.shape[0] == 13 and files_of(filled)["images.u8"].startswith(before)


def test_labels_and_filters_do_not_touch_a_cache(data, tmp_path):
    manifest = ingest(data)
    filled = cache.fill(manifest, PIXELS, tmp_path / "cache")
    some = cache.fill(manifest.only(manifest.table["image_id"][:3]), PIXELS, tmp_path / "cache")
    assert some.folder == filled.folder and some.index.height == 3 and files_of(some) == files_of(filled)
    assert cache.name(PIXELS) != cache.name(Pixels(size=96))


def broken(data, kind):
    """Spoil one file; returns its place and words that the fault must hold."""
    picture = sorted((data / "CXR_png").glob("CHN*.png"))[1]
    mask = data / "masks" / f"{picture.stem}_mask.png"
    if kind == "truncated":
        picture.write_bytes(picture.read_bytes()[: picture.stat().st_size // 2])
        return picture, "error", ("broken or cut short", "copy the file again")
    if kind == "text":
        picture.write_text("this is no picture")
        return picture, "error", ("is not a PNG", "remove it")
    if kind == "nothing":
        picture.write_bytes(b"")
        return picture, "error", ("0 bytes", "copy it again")
    if kind == "giant":
        head = bytearray(picture.read_bytes())
        head[16:24] = (60_000).to_bytes(4, "big") * 2
        picture.write_bytes(head)
        return picture, "error", ("60000x60000", "shrink it")
    raster.write_png(mask, np.zeros((50, 60), np.uint8))
    return mask, "mask_error", ("50x60", "export the mask again")


@pytest.mark.parametrize("kind", ["truncated", "text", "nothing", "giant", "mask of another size"])
def test_a_broken_file_is_a_fact_with_name_and_remedy_and_the_others_are_read(data, tmp_path, kind):
    place, column, words = broken(data, kind)
    filled = cache.fill(ingest(data), PIXELS, tmp_path / "cache")
    told = filled.index.filter(pl.col(column).is_not_null())
    assert told.height == 1 and filled.index.height == 12
    message = told[column][0]
    assert place.name in message and all(word in message for word in words) and str(data) not in message
    assert filled.readable.height == (11 if column == "error" else 12)
    assert not filled.masks[told["row"][0]].any()


def test_killed_while_filling_it_goes_on_to_the_same_bytes(data, tmp_path):
    """SIGKILL at five moments, found by the number of images that the journal holds; then the same call."""
    whole = cache.fill(ingest(data), PIXELS, tmp_path / "whole")
    journal = tmp_path / "cache" / cache.name(PIXELS) / "journal.jsonl"
    program = (
        "import sys, time; from pathlib import Path; from hilum.recipe import Pixels; from hilum.steps import cache; from hilum.steps.ingest import ingest\n"
        "cache.fill(ingest(Path(sys.argv[1])), Pixels(size=64), Path(sys.argv[2]), lambda done, total: time.sleep(0.05))"
    )
    for images in (1, 3, 4, 7, 10):
        child = subprocess.Popen([sys.executable, "-c", program, str(data), str(tmp_path / "cache")])
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and child.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= images):
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert journal.exists() and not (journal.parent / "index.parquet").exists()
    with open(journal, "a") as stream:
        stream.write('{"image_id": "cut in the mid')
    resumed = cache.fill(ingest(data), PIXELS, tmp_path / "cache")
    assert files_of(resumed) == files_of(whole) and resumed.digest == whole.digest and not journal.exists()


def test_a_full_disk_is_told_and_the_cache_goes_on_afterwards(data, tmp_path, monkeypatch):
    written, real = [], os.pwrite

    def pwrite(descriptor, content, offset):
        written.append(offset)
        if len(written) > 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, content, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(CannotWrite, match="disk is full; free some space and run the same command again"):
        cache.fill(ingest(data), PIXELS, tmp_path / "cache")
    monkeypatch.setattr(os, "pwrite", real)
    again = cache.fill(ingest(data), PIXELS, tmp_path / "cache")
    assert files_of(again) == files_of(cache.fill(ingest(data), PIXELS, tmp_path / "whole"))


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "table.parquet"
    store.write_table(path, pl.DataFrame({"a": [1]}))
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(CannotWrite, match=r"table\.parquet: the disk is full"):
        store.write_table(path, pl.DataFrame({"a": [2]}))
    assert store.read_table(path)["a"].to_list() == [1] and [entry.name for entry in tmp_path.iterdir()] == ["table.parquet"]


@pytest.mark.parametrize(("dtype", "top", "expected"), [(np.uint8, 200, 255), (np.uint16, 900, 1023), (np.uint16, 4000, 4095), (np.uint16, 65000, 65535)])
def test_values_become_zero_to_one_by_the_files_own_range(tmp_path, dtype, top, expected):
    values = np.linspace(0, top, 64 * 64).reshape(64, 64).astype(dtype)
    raster.write_png(tmp_path / "a.png", values)
    pixels = raster.read(tmp_path / "a.png").radiograph().pixels
    assert pixels.dtype == np.float32 and abs(float(pixels.max()) - top / expected) < 1e-6


def test_colour_that_is_grey_and_alpha_are_read_as_the_grey_they_are(tmp_path):
    import imagecodecs

    grey = np.random.default_rng(0).integers(0, 256, (70, 80)).astype(np.uint8)
    for name, picture in (("rgb", np.stack([grey] * 3, -1)), ("rgba", np.stack([grey] * 3 + [np.full_like(grey, 255)], -1))):
        (tmp_path / name).write_bytes(imagecodecs.png_encode(picture))
        assert np.array_equal(raster.read(tmp_path / name).values, grey)


def test_one_picture_in_two_files_has_one_pixel_digest(tmp_path):
    import imagecodecs

    grey = np.random.default_rng(0).integers(0, 256, (70, 80)).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(grey, level=1))
    (tmp_path / "b.tif").write_bytes(imagecodecs.tiff_encode(grey))
    first, second = raster.read(tmp_path / "a.png"), raster.read(tmp_path / "b.tif")
    assert first.file_digest != second.file_digest and first.pixel_digest == second.pixel_digest
