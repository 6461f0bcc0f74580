"""Planted copies are found, each under its rule; what is only similar is not; and nothing depends
on the order of rows.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_near_duplicates import CHANGES, radiograph

from hilum.audit.checks import _pairs, duplicates
from hilum.audit.duplicates import near_duplicates
from hilum.dataset import pixel_cache
from hilum.dataset.manifest import COLUMNS, Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.imaging.geometry import Letterbox
from hilum.imaging.perceptual_hash import hash_image
from hilum.pipeline import audit, patient_groups
from hilum.storage.integrity import checksum

OTHERS = 40
PLANTED = {
    "copy/file": ("other/03", lambda p: p, "duplicate-file"),
    "copy/pixels": ("other/04", lambda p: p, "duplicate-pixels"),
    "copy/inverted": ("other/05", lambda p: 255 - p, "duplicate-processed"),
    "copy/mirrored": ("other/06", CHANGES["mirrored"], "duplicate-processed"),
    "copy/cropped": ("other/07", CHANGES["cropped"], "duplicate-processed"),
    "copy/rotated": ("other/08", CHANGES["rotated"], "duplicate-processed"),
    "copy/marked": ("other/09", CHANGES["marked"], "duplicate-processed"),
    "copy/smaller": (
        "other/10",
        lambda p: cv2.resize(p, (120, 128), interpolation=cv2.INTER_AREA),
        "duplicate-processed",
    ),
}


def stored(
    folder: Path, radiographs: dict[str, np.ndarray], digests: dict[str, tuple[str, str]]
) -> tuple[Manifest, pl.DataFrame, Cache]:
    """A set of these images, each with its digests of file and pixels, and a cache of them."""
    folder.mkdir()
    squares = np.stack(
        [Letterbox(image.shape, 128).forward(image) for image in radiographs.values()]
    )
    squares.tofile(folder / "images.u8")
    facts = [
        dict.fromkeys(pixel_cache.FACTS)
        | {
            "image_id": name,
            "row": row,
            "height": image.shape[0],
            "width": image.shape[1],
            "minimum": 0,
            "maximum": 250,
        }
        | {"image_crc32": checksum(squares[row])}
        | {
            "fingerprint": hash_image(squares[row], image.shape),
            "file_digest": digests[name][0],
            "pixel_digest": digests[name][1],
        }
        for row, (name, image) in enumerate(radiographs.items())
    ]
    images = [
        dict.fromkeys(COLUMNS)
        | {
            "image_id": name,
            "dataset": "set",
            "source": "set",
            "patient_id": name,
            "path": f"{name}.png",
        }
        for name in radiographs
    ]
    index = pl.DataFrame(facts, schema=pixel_cache.FACTS)
    return Manifest.of(Path("/nowhere"), images, [], []), index, Cache(folder, 128, index)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    radiographs = {f"other/{number:02d}": radiograph(number) for number in range(OTHERS)}
    digests = {name: (f"file of {name}", f"pixels of {name}") for name in radiographs}
    for name, (source, change, rule) in PLANTED.items():
        radiographs[name] = np.ascontiguousarray(change(radiographs[source]))
        own = f"file of {name}", f"pixels of {name}"
        digests[name] = {
            "duplicate-file": digests[source],
            "duplicate-pixels": (own[0], digests[source][1]),
        }.get(rule, own)
    return stored(tmp_path_factory.mktemp("planted") / "cache", radiographs, digests)


def test_each_planted_copy_is_reported_once_and_under_its_rule(planted):
    found = {(one.rule, one.other_image_id, one.image_id) for one in duplicates.check(*planted)}
    assert found == {(rule, *sorted([name, source])) for name, (source, _, rule) in PLANTED.items()}


def test_messages_name_the_files_and_say_what_was_done(planted):
    reported = {
        {one.image_id, one.other_image_id} & set(PLANTED) and one.other_image_id: one.message
        for one in duplicates.check(*planted)
    }
    assert "inverted" in reported["copy/inverted"] and "mirrored" in reported["copy/mirrored"]
    assert (
        "cropped or rotated" in reported["copy/cropped"]
        and "cropped or rotated" in reported["copy/rotated"]
    )
    assert (
        "resized, compressed again" in reported["copy/smaller"]
        and "cropped" not in reported["copy/smaller"]
    )
    assert (
        reported["copy/file"]
        == "other/03.png and copy/file.png are the same file, byte for byte (200x180 pixels)"
    )


def test_without_the_images_only_equal_ones_are_reported(planted):
    manifest, facts, _ = planted
    assert {one.rule for one in duplicates.check(manifest, facts)} == {
        "duplicate-file",
        "duplicate-pixels",
    }


def test_the_order_of_rows_and_the_threads_change_nothing(planted, monkeypatch):
    manifest, facts, cache = planted
    expected = list(duplicates.check(manifest, facts, cache))
    for seed, threads in ((1, 1), (2, 3)):
        monkeypatch.setattr("hilum.imaging.hash_search._THREADS", threads)
        monkeypatch.setattr("hilum.imaging.spectrum_search._THREADS", threads)
        monkeypatch.setattr("hilum.audit.duplicates.registered_pairs._THREADS", threads)
        shuffled = facts.sample(fraction=1, shuffle=True, seed=seed)
        assert (
            list(duplicates.check(manifest, shuffled, Cache(cache.folder, cache.size, shuffled)))
            == expected
        )


def test_a_split_keeps_confirmed_copies_in_one_part(planted):
    manifest, facts, cache = planted
    same = audit.duplicates(audit.audit(manifest, facts, cache))
    assert len(same) == len(PLANTED)
    table = patient_groups.grouped(manifest, None, same)
    group = dict(zip(table["image_id"], table["group"], strict=True))
    assert all(group[name] == group[source] for name, (source, _, _) in PLANTED.items())
    assert len(set(group.values())) == OTHERS


def test_what_two_sets_share(planted, tmp_path):
    _, facts, cache = planted
    copies, others = (
        facts.filter(pl.col("image_id").str.starts_with(which)) for which in ("copy", "other")
    )
    found = near_duplicates.shared(copies, others, (cache, cache))
    assert dict(found.select("image_id", "other_image_id").iter_rows()) == {
        name: source for name, (source, _, _) in PLANTED.items()
    }
    kinds = dict(found.select("image_id", "kind").iter_rows())
    assert (kinds.pop("copy/file"), kinds.pop("copy/pixels")) == ("same file", "same pixels")
    assert set(kinds.values()) == {near_duplicates.PROCESSED}
    assert near_duplicates.shared(copies, others)["image_id"].to_list() == [
        "copy/file",
        "copy/pixels",
    ]
    assert near_duplicates.shared(others.clear(), copies, (cache, cache)).is_empty()


def test_images_that_show_nothing_are_no_copies(tmp_path):
    flat = np.full((200, 180), 7, np.uint8)
    manifest, facts, cache = stored(
        tmp_path / "cache",
        {"set/a": flat, "set/b": flat, "set/c": radiograph(1)},
        dict.fromkeys(["set/a", "set/b", "set/c"], ("f", "p")),
    )
    facts = facts.with_columns(
        maximum=pl.when(pl.col("image_id") == "set/c").then("maximum").otherwise("minimum")
    )
    assert list(duplicates.check(manifest, facts, cache)) == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["p", "q", None]), st.sampled_from(["f", "m", None])), max_size=8
    ),
    st.booleans(),
)
def test_groups_with_several_values_are_found_in_any_order(rows, neighbours):
    if neighbours:
        rows = sorted(rows, key=lambda row: (row[0] or "", rows.index(row)))
    table = pl.DataFrame(rows, schema={"patient": pl.String, "sex": pl.String}, orient="row")
    table = table.with_row_index("row")
    values = {key: {sex for one, sex in rows if one == key and sex} for key in ("p", "q")}
    expected = [at for at, (key, _) in enumerate(rows) if len(values.get(key, ())) > 1]
    assert _pairs.mixed(table, ["patient"], "sex")["row"].to_list() == expected
