"""The cache: filled image by image, resumed after a kill to the same bytes, and honest about what
it could not read.
"""

import contextlib
import dataclasses
import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from hilum import storage
from hilum.cli.verbs import app
from hilum.config import Pixels
from hilum.dataset.readers import kaggle_masks
from hilum.errors import CannotWrite
from hilum.imaging.files import image_file, raster
from hilum.imaging.geometry import Letterbox
from hilum.pipeline import cache
from hilum.pipeline.ingest import ingest

PIXELS = Pixels(size=64)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    kaggle_masks.example(folder / "data", images=12, seed=1)
    return folder / "data"


@pytest.fixture
def data(drawn, tmp_path):
    return Path(shutil.copytree(drawn, tmp_path / "data"))


def files_of(filled: cache.Cache) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in filled.folder.iterdir() if path.suffix == ".u8"
    }


def test_every_image_is_there_letterboxed_with_its_mask(data, tmp_path):
    manifest = ingest(data)
    filled = cache.fill(manifest, PIXELS, tmp_path / "cache")
    assert (
        filled.images.shape == filled.masks.shape == (12, 64, 64) and filled.readable.height == 12
    )
    image = manifest.table.filter(pl.col("lung_mask").is_not_null()).row(0, named=True)
    row = filled.rows([image["image_id"]])[0]
    assert np.array_equal(
        filled.images[row],
        cache.preprocess(raster.read(data / image["path"]).radiograph(), 64, "percentiles"),
    )
    drawn = raster.read(data / image["lung_mask"]).values
    expected = Letterbox(drawn.shape, 64).forward(drawn) >= 128
    assert (expected != (filled.masks[row] > 0)).mean() < 0.01 and set(
        np.unique(filled.masks[row])
    ) == {0, 1, 2}


def test_a_second_pass_reads_nothing_and_a_changed_file_alone_is_read_again(
    data, tmp_path, monkeypatch
):
    manifest = ingest(data)
    cache.fill(manifest, PIXELS, tmp_path / "cache")
    seen = []
    decoded = raster.decoded
    monkeypatch.setattr(
        raster, "decoded", lambda path, data: seen.append(path.name) or decoded(path, data)
    )
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
    assert (
        some.folder == filled.folder
        and some.index.height == 3
        and files_of(some) == files_of(filled)
    )
    assert (
        len(
            {
                cache.name(pixels)
                for pixels in (
                    PIXELS,
                    Pixels(size=96),
                    Pixels(size=64, depth=16),
                    Pixels(size=64, normalisation="full"),
                )
            }
        )
        == 4
    )


def test_a_corrected_label_decodes_nothing_again(data, tmp_path, monkeypatch):
    cache.fill(ingest(data), PIXELS, tmp_path / "cache")
    manifest = ingest(data)
    corrected = dataclasses.replace(
        manifest,
        labels=manifest.labels.with_columns(state=pl.lit(0, manifest.labels.schema["state"])),
    )
    assert corrected.digest != manifest.digest
    monkeypatch.setattr(
        image_file, "read", lambda path, root: pytest.fail(f"{path} was read again")
    )
    assert cache.fill(corrected, PIXELS, tmp_path / "cache").index.height == 12


def test_sixteen_bits_keep_what_eight_would_round_away(data, tmp_path):
    deep, flat = (
        cache.fill(ingest(data), Pixels(size=64, depth=depth), tmp_path / "cache")
        for depth in (16, 8)
    )
    assert (
        (deep.depth, flat.depth) == (16, 8)
        and deep.stored.dtype == np.uint16
        and deep.images.dtype == deep.masks.dtype == np.uint8
    )
    assert (
        np.abs(deep.stored[:] / 257 - flat.images[:]).max() <= 0.51
        and len(np.unique(deep.stored[:])) > 1000
    )
    assert np.array_equal(deep.images[:], np.round(deep.stored[:] / 257)) and np.array_equal(
        deep.images[3], deep.images[[3]][0]
    )
    assert np.array_equal(deep.masks[:], flat.masks[:]) and not list(deep.mismatches())


def broken(data, kind):
    """Spoil one file; returns its place and words that the fault must hold."""
    radiograph = sorted((data / "CXR_png").glob("CHN*.png"))[1]
    mask = data / "masks" / f"{radiograph.stem}_mask.png"
    if kind == "truncated":
        radiograph.write_bytes(radiograph.read_bytes()[: radiograph.stat().st_size // 2])
        return radiograph, "error", ("broken or cut short", "copy the file again")
    if kind == "text":
        radiograph.write_text("this is no image")
        return radiograph, "error", ("is not a PNG", "remove it")
    if kind == "nothing":
        radiograph.write_bytes(b"")
        return radiograph, "error", ("0 bytes", "copy it again")
    if kind == "giant":
        head = bytearray(radiograph.read_bytes())
        head[16:24] = (60_000).to_bytes(4, "big") * 2
        radiograph.write_bytes(head)
        return radiograph, "error", ("60000x60000", "shrink it")
    raster.write_png(mask, np.zeros((50, 60), np.uint8))
    return mask, "mask_error", ("50x60", "export the mask again")


@pytest.mark.parametrize("kind", ["truncated", "text", "nothing", "giant", "mask of another size"])
def test_a_broken_file_is_a_fact_with_name_and_remedy_and_the_others_are_read(data, tmp_path, kind):
    place, column, words = broken(data, kind)
    filled = cache.fill(ingest(data), PIXELS, tmp_path / "cache")
    reported = filled.index.filter(pl.col(column).is_not_null())
    assert reported.height == 1 and filled.index.height == 12
    message = reported[column][0]
    assert (
        place.name in message
        and all(word in message for word in words)
        and str(data) not in message
    )
    assert filled.readable.height == (11 if column == "error" else 12)
    assert not filled.masks[reported["row"][0]].any()


FORKING = """
import os, sys, time
from pathlib import Path
from hilum.dataset.manifest import Manifest
from hilum.config import Pixels
from hilum.pipeline import cache
for line in sys.stdin:  # nothing here has begun a thread, so forking is safe
    pid = os.fork()
    if not pid:
        cache.fill(Manifest.read(Path(sys.argv[1])), Pixels(size=64), Path(sys.argv[1], "cache"), lambda done, total: time.sleep(0.004))
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


KILLS = 8


def test_killed_eight_times_at_random_while_filling_it_goes_on_to_the_same_bytes(tmp_path):
    """SIGKILL to a process that fills, each at a random moment; it is let go on from there, and
    begins anew when it came to its end.
    """
    kaggle_masks.example(tmp_path / "data", images=24, seed=1)
    manifest = ingest(tmp_path / "data")
    manifest.write(tmp_path)
    whole = cache.fill(manifest, PIXELS, tmp_path / "whole")
    folder = tmp_path / "cache" / cache.name(PIXELS)
    rng, killed, seen = np.random.default_rng(), 0, set()
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as child:
        for number in range(60):
            before = lines_in(folder)
            child.stdin.write("\n")
            pid = int(child.stdout.readline())
            deadline = time.monotonic() + 5 * (
                number % 4 > 0
            )  # every fourth is killed before, or while, it takes up its work
            while (
                time.monotonic() < deadline
                and lines_in(folder) == before
                and not (folder / "index.parquet").exists()
            ):
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.05))
            with contextlib.suppress(ProcessLookupError):  # it had come to its end
                os.kill(pid, signal.SIGKILL)
            killed += int(child.stdout.readline()) == -signal.SIGKILL
            seen.add(lines_in(folder))
            if (folder / "index.parquet").exists():
                assert same(cache.fill(manifest, PIXELS, tmp_path / "cache"), whole)
                shutil.rmtree(folder)
            if killed >= KILLS:
                break
        child.stdin.close()
    assert killed >= KILLS and len(seen) >= 4, (
        f"{killed} were killed, with {seen} lines in the journal"
    )
    assert same(cache.fill(manifest, PIXELS, tmp_path / "cache"), whole)
    assert not list(folder.glob("journal*"))


def lines_in(folder: Path) -> int:
    """Images in the journal; -1 without one. It is copied, since its owner has it locked."""
    with tempfile.TemporaryDirectory() as copied:
        for path in folder.glob("journal.sqlite*"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(path, copied)
        try:
            with contextlib.closing(sqlite3.connect(Path(copied) / "journal.sqlite")) as database:
                return database.execute("SELECT COUNT(*) FROM items").fetchone()[0]
        except sqlite3.Error:
            return -1


def same(one: cache.Cache, other: cache.Cache) -> bool:
    return (
        files_of(one) == files_of(other)
        and one.digest == other.digest
        and not list(one.mismatches())
    )


@pytest.mark.parametrize("at", [0, 100, 5000])
def test_a_journal_spoilt_by_a_power_cut_costs_work_alone(data, tmp_path, at, monkeypatch):
    whole = cache.fill(ingest(data), PIXELS, tmp_path / "whole")
    stopped_at(8, monkeypatch)
    with pytest.raises(CannotWrite):
        cache.fill(ingest(data), PIXELS, tmp_path / "cache")
    monkeypatch.undo()
    journal = tmp_path / "cache" / cache.name(PIXELS) / "journal.sqlite"
    content = journal.read_bytes()
    assert len(content) > 5000
    journal.write_bytes(content[:at] + bytes(100) + content[at + 100 :])
    assert files_of(cache.fill(ingest(data), PIXELS, tmp_path / "cache")) == files_of(whole)


def stopped_at(writes: int, monkeypatch, error: int = errno.ENOSPC) -> None:
    """From that write on the disk is full."""
    done, real = [], os.pwrite

    def pwrite(descriptor, content, offset):
        done.append(offset)
        if len(done) > writes:
            raise OSError(error, os.strerror(error))
        return real(descriptor, content, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


@pytest.mark.parametrize("writes", [0, 1, 9, 15])
def test_a_full_disk_is_reported_and_the_cache_goes_on_afterwards(
    data, tmp_path, monkeypatch, writes
):
    stopped_at(writes, monkeypatch)
    with pytest.raises(
        CannotWrite, match="disk is full; free some space and run the same command again"
    ):
        cache.fill(ingest(data), PIXELS, tmp_path / "cache")
    monkeypatch.undo()
    again = cache.fill(ingest(data), PIXELS, tmp_path / "cache")
    assert files_of(again) == files_of(
        cache.fill(ingest(data), PIXELS, tmp_path / "whole")
    ) and not list(again.mismatches())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB; only an administrator can make one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_really_full_disk_is_reported_and_the_cache_goes_on_when_it_has_grown(
    data, tmp_path, small_disk
):
    with pytest.raises(CannotWrite, match="disk is full"):
        cache.fill(ingest(data), PIXELS, small_disk / "cache")
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    again = cache.fill(ingest(data), PIXELS, small_disk / "cache")
    assert files_of(again) == files_of(cache.fill(ingest(data), PIXELS, tmp_path / "whole"))


def test_an_image_spoilt_on_the_disk_is_found_and_it_alone_is_read_again(
    data, tmp_path, monkeypatch
):
    manifest = ingest(data)
    filled = cache.fill(manifest, PIXELS, tmp_path / "cache")
    assert list(filled.mismatches()) == []
    before = files_of(filled)
    with open(filled.folder / "masks.u8", "rb+") as stream:
        stream.seek(5 * 64 * 64 + 100)
        stream.write(b"\x07")
    (image_id, what), *others = filled.mismatches()
    assert (
        filled.rows([image_id])[0] == 5 and "does not hold what was written" in what and not others
    )
    os.truncate(filled.folder / "images.u8", 11 * 64 * 64)
    wrong = dict(cache.Cache.open(filled.folder, 64, manifest).mismatches())
    assert sorted(filled.rows(wrong)) == [5, 11] and any(
        "end before it" in what for what in wrong.values()
    )
    filled.invalidate(wrong)
    seen = []
    decoded = raster.decoded
    monkeypatch.setattr(
        raster, "decoded", lambda path, data: seen.append(path.parent.name) or decoded(path, data)
    )
    assert (
        files_of(cache.fill(manifest, PIXELS, tmp_path / "cache")) == before
        and seen.count("CXR_png") == 2
    )


def test_a_file_that_changed_behind_its_size_and_time_is_found(data, tmp_path):
    manifest = ingest(data)
    filled = cache.fill(manifest, PIXELS, tmp_path / "cache")
    image = manifest.table.row(3, named=True)
    path = data / image["path"]
    times, content = path.stat(), bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    paths = dict(manifest.table.select("image_id", "path").iter_rows())
    assert list(filled.mismatches()) == []
    ((image_id, what),) = filled.mismatches(data, paths)
    assert image_id == image["image_id"] and "other bytes" in what
    path.unlink()
    assert "cannot be opened" in dict(filled.mismatches(data, paths))[image_id]


def test_verify_reports_what_does_not_fit_and_the_next_cache_mends_it(tmp_path):
    kaggle_masks.example(tmp_path / "data", images=8, seed=1)
    run = tmp_path / "run"
    assert said("cache", tmp_path / "data", "--out", run).exit_code == 0
    fine = said("verify-cache", run, "--files")
    assert fine.exit_code == 0 and "8 images checked, 0 do not fit" in fine.stdout
    (radiographs,) = run.glob("cache/*/images.u8")
    marker, whole = (run / "finished/cache.json").read_text(), radiographs.read_bytes()
    radiographs.write_bytes(whole[: 64 * 64] + b"spoilt..." + whole[64 * 64 + 9 :])
    found = said("verify-cache", run)
    assert (
        found.exit_code == 1
        and "1 do not fit" in found.stdout
        and "kaggle_masks/" in found.stdout
        and f"hilum cache {run}" in found.stderr
    )
    assert said("cache", run).exit_code == 0
    assert radiographs.read_bytes() == whole and (run / "finished/cache.json").read_text() == marker
    assert said("verify-cache", run, "--json").exit_code == 0
    assert said("cache", tmp_path / "data", run).exit_code == 2


def said(*arguments: object):
    """The command line in this process."""
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "table.parquet"
    storage.write_table(path, pl.DataFrame({"a": [1]}))
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full"))
    )
    with pytest.raises(CannotWrite, match=r"table\.parquet: the disk is full"):
        storage.write_table(path, pl.DataFrame({"a": [2]}))
    assert storage.read_table(path)["a"].to_list() == [1] and [
        entry.name for entry in tmp_path.iterdir()
    ] == ["table.parquet"]


@pytest.mark.parametrize(
    ("dtype", "top", "expected"),
    [
        (np.uint8, 200, 255),
        (np.uint16, 900, 1023),
        (np.uint16, 4000, 4095),
        (np.uint16, 65000, 65535),
    ],
)
def test_values_become_zero_to_one_by_the_files_own_range(tmp_path, dtype, top, expected):
    values = np.linspace(0, top, 64 * 64).reshape(64, 64).astype(dtype)
    raster.write_png(tmp_path / "a.png", values)
    pixels = raster.read(tmp_path / "a.png").radiograph().pixels
    assert pixels.dtype == np.float32 and abs(float(pixels.max()) - top / expected) < 1e-6


def test_colour_that_is_grey_and_alpha_are_read_as_the_grey_they_are(tmp_path):
    import imagecodecs

    grey = np.random.default_rng(0).integers(0, 256, (70, 80)).astype(np.uint8)
    for name, colour in (
        ("rgb", np.stack([grey] * 3, -1)),
        ("rgba", np.stack([grey] * 3 + [np.full_like(grey, 255)], -1)),
    ):
        (tmp_path / name).write_bytes(imagecodecs.png_encode(colour))
        assert np.array_equal(raster.read(tmp_path / name).values, grey)


def test_one_image_in_two_files_has_one_pixel_digest(tmp_path):
    import imagecodecs

    grey = np.random.default_rng(0).integers(0, 256, (70, 80)).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(grey, level=1))
    (tmp_path / "b.tif").write_bytes(imagecodecs.tiff_encode(grey))
    first, second = raster.read(tmp_path / "a.png"), raster.read(tmp_path / "b.tif")
    assert first.file_digest != second.file_digest and first.pixel_digest == second.pixel_digest
