"""The detector of wrong images: each fault is named on made-up chests it was not trained on, right
ones are left alone.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from hilum.dataset.pixel_cache import FACTS, Cache
from hilum.imaging import synthetic
from hilum.imaging.geometry import Letterbox, content_box
from hilum.inference import orientation
from hilum.inference.onnx_model import ORIENTATION, InputContract
from hilum.storage.integrity import checksum

SEED = 77_000  # far from the seeds that the detector trained on
SIZE = 256
REAL = Path(os.environ.get("HILUM_DATA", Path(__file__).parents[2] / "shared" / "data"))


def chests(count: int, seed: int = SEED) -> list[np.ndarray]:
    rng, drawn = np.random.default_rng(seed), []
    for number in range(count):
        height, width = (int(side) for side in rng.integers(180, 320, 2))
        body = synthetic.anatomy(rng, child=bool(number % 3 == 0))
        drawn.append(
            synthetic.draw(
                body,
                rng,
                height=height,
                width=width,
                disease=(None, *synthetic.DISEASES)[number % 4],
            ).pixels
        )
    return drawn


CHESTS = chests(24)


def flagged(images: list[np.ndarray]) -> list[list[orientation.QualityFlag]]:
    squares = np.stack(
        [Letterbox(image.shape, SIZE).forward(np.ascontiguousarray(image)) for image in images]
    )
    return list(
        orientation.quality_flags(
            orientation.describe_orientation(squares, [image.shape for image in images])
        )
    )


def faults(images: list[np.ndarray]) -> list[list[str]]:
    return [[flag.fault for flag in flags] for flags in flagged(images)]


def lean(image: np.ndarray, degrees: float) -> np.ndarray:
    height, width = image.shape
    return cv2.warpAffine(
        image, cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1), (width, height)
    )


HARMLESS = {
    "as it is": lambda image: image,
    "gamma": lambda image: (255 * (image / 255) ** 1.8).astype(np.uint8),
    "dull": lambda image: image // 3 + 60,
    "10 degrees": lambda image: lean(image, 10),
    "black border": lambda image: np.pad(image, ((0, 60), (40, 10))),
    "white border": lambda image: np.pad(image, 40, constant_values=255),
    "cropped": lambda image: image[12:-12, 12:-12],
    "equalised": cv2.equalizeHist,
    "small": lambda image: cv2.resize(image, (96, 96), interpolation=cv2.INTER_AREA),
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_right_images_are_not_flagged(change):
    assert faults([change(image) for image in CHESTS]) == [[]] * len(CHESTS)


@pytest.mark.parametrize(
    ("spoil", "fault", "words", "upright"),
    [
        (lambda image: 255 - image, orientation.INVERTED, "inverted: dark where it is dense", None),
        (
            lambda image: np.rot90(image, 1),
            orientation.ROTATED,
            "rotated by 90° counterclockwise",
            90,
        ),
        (lambda image: np.rot90(image, 2), orientation.ROTATED, "rotated by 180°", 180),
        (lambda image: np.rot90(image, 3), orientation.ROTATED, "rotated by 90° clockwise", 270),
    ],
    ids=["inverted", "90", "180", "270"],
)
def test_a_fault_is_named_on_every_made_up_chest(spoil, fault, words, upright):
    expected = [[orientation.QualityFlag(fault, words, upright)]] * len(CHESTS)
    assert flagged([spoil(image) for image in CHESTS]) == expected


def test_a_mirrored_chest_is_named_and_two_faults_both():
    named = faults([image[:, ::-1] for image in CHESTS])
    assert sum(one == [orientation.MIRRORED] for one in named) >= 0.9 * len(CHESTS)
    assert all(one in ([], [orientation.MIRRORED]) for one in named)
    both = faults([255 - np.rot90(image) for image in CHESTS])
    assert sum(one == [orientation.INVERTED, orientation.ROTATED] for one in both) >= 0.9 * len(
        CHESTS
    )


def house() -> np.ndarray:
    """A sunny day, as a child draws it."""
    image = np.full((240, 320), 200, np.uint8)
    cv2.rectangle(image, (0, 170), (320, 240), 90, -1)
    cv2.rectangle(image, (90, 90), (210, 190), 140, -1)
    cv2.fillPoly(image, [np.array([[80, 90], [150, 30], [220, 90]])], 40)
    cv2.rectangle(image, (140, 140), (165, 190), 20, -1)
    cv2.circle(image, (270, 45), 25, 255, -1)
    return image


def words() -> np.ndarray:
    image = np.full((300, 240), 250, np.uint8)
    for line in range(12):
        cv2.putText(
            image,
            "no acute findings here",
            (10, 25 + 22 * line),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.55,
            10,
            1,
        )
    return image


OTHERS = {
    "house": house(),
    "words": words(),
    "snow": np.random.default_rng(1).integers(0, 256, (256, 256), np.uint8),
    "ramp": np.tile(np.linspace(0, 255, 256).astype(np.uint8), (200, 1)),
    "rings": (127 + 127 * np.sin(np.hypot(*np.mgrid[-128:128, -128:128]) / 6)).astype(np.uint8),
}


def test_what_is_no_chest_is_always_flagged_and_nearly_always_named_so():
    named = dict(zip(OTHERS, faults(list(OTHERS.values())), strict=True))
    assert all(named.values()), named
    assert (
        sum(one == [orientation.OUT_OF_DISTRIBUTION] for one in named.values()) >= len(OTHERS) - 1
    ), named


@pytest.mark.parametrize("value", [0, 97, 255])
def test_an_empty_image_is_called_empty(value):
    image = np.full((200, 150), value, np.uint8)
    image[20:28, 20:26] = 180  # a marker
    assert faults([image, np.full((64, 64), value, np.uint8)]) == [[orientation.EMPTY]] * 2


def test_an_answer_does_not_depend_on_the_images_beside_it():
    squares = np.stack([Letterbox(image.shape, SIZE).forward(image) for image in CHESTS])
    sizes = [image.shape for image in CHESTS]
    alone = pl.concat(
        [
            orientation.describe_orientation(square[None], [size])
            for square, size in zip(squares, sizes, strict=True)
        ]
    )
    together = orientation.describe_orientation(squares, sizes)
    np.testing.assert_allclose(alone.to_numpy(), together.to_numpy(), rtol=1e-4, atol=1e-4)


def test_the_network_hears_only_of_what_lies_within_flat_borders():
    inside = np.full((128, 128), 9, np.uint8)
    inside[32:96, 16:120] = np.random.default_rng(0).integers(0, 255, (64, 104))
    inside[4:8, 4:10] = 255  # a marker in the border
    assert content_box(inside) == (slice(32, 96), slice(16, 120))
    assert content_box(np.full((90, 70), 3, np.uint8)) == (slice(None), slice(None))


def test_features_that_need_no_network_are_fractions_of_the_image_inside_its_border():
    image = np.random.default_rng(0).integers(100, 228, (128, 128), np.uint8)
    image[::2, :32], image[::2, 96:] = 0, 255
    square = Letterbox((128, 256), 256).forward(np.pad(image, ((0, 0), (0, 128))))
    features = orientation.describe_orientation(square[None], [(128, 256)]).row(0, named=True)
    assert features["border"] == pytest.approx(1 / 2)
    assert (
        features["black"] == pytest.approx(1 / 8)
        and features["white"] == pytest.approx(1 / 8)
        and features["flat"] == pytest.approx(1 / 8)
    )
    assert features["spread"] == 255  # the 5th percentile is black, the 95th white


def test_features_of_a_cache_have_nulls_where_nothing_could_be_read(tmp_path):
    squares = np.stack(
        [
            np.zeros((SIZE, SIZE), np.uint8),
            Letterbox(CHESTS[0].shape, SIZE).forward(255 - CHESTS[0]),
        ]
    )
    (tmp_path / "images.u8").write_bytes(squares.tobytes())
    height, width = CHESTS[0].shape
    broken = {"image_id": "set/broken", "row": 0, "error": "broken"}
    rows = [broken, {"image_id": "set/dark", "row": 1, "height": height, "width": width}]
    rows = [
        row | {"image_crc32": checksum(square)} for row, square in zip(rows, squares, strict=True)
    ]
    index = pl.DataFrame([dict.fromkeys(FACTS) | row for row in rows], schema=FACTS)
    features = orientation.describe_cache(Cache(tmp_path, SIZE, index), index)
    assert (
        features["image_id"].to_list() == ["set/broken", "set/dark"]
        and features["inverted"][0] is None
    )
    assert [[flag.fault for flag in flags] for flags in orientation.quality_flags(features)] == [
        [],
        [orientation.INVERTED],
    ]


def test_progress_counts_the_images_that_are_described(tmp_path, monkeypatch):
    monkeypatch.setattr(orientation, "BATCH", 2)
    squares = np.zeros((5, SIZE, SIZE), np.uint8)
    (tmp_path / "images.u8").write_bytes(squares.tobytes())
    same = {"height": SIZE, "width": SIZE, "image_crc32": checksum(squares[0])}
    rows = [{"image_id": f"set/{row}", "row": row} for row in range(5)]
    index = pl.DataFrame([dict.fromkeys(FACTS) | row | same for row in rows], schema=FACTS)
    heard = []
    orientation.describe_cache(
        Cache(tmp_path, SIZE, index), index, lambda done, total: heard.append((done, total))
    )
    assert heard == [(2, 5), (4, 5), (5, 5)]


def test_no_images_no_features():
    features = orientation.describe_orientation(np.zeros((0, SIZE, SIZE), np.uint8), [])
    assert (
        features.schema == pl.Schema(orientation.FEATURES)
        and list(orientation.quality_flags(features)) == []
    )


def test_the_network_is_small_and_says_what_it_was_made_from():
    path = Path(orientation.__file__).parents[1] / orientation.MODEL
    assert path.stat().st_size <= 300_000
    reported = orientation._network().metadata
    assert "CC BY 4.0" in reported["card"]["licence"] and "kermany" in reported["card"]["counts"]
    assert set(reported["limits"]) == set(orientation.OUTPUTS) - {orientation.QUARTER_TURNS}
    contract = orientation._network().contract
    assert (
        contract
        == InputContract("orientation", orientation.SIDE, "ranks", "ranks", orientation.OUTPUTS)
        and contract.orientation == ORIENTATION
    )


@pytest.mark.skipif(
    not (REAL / "nih-sample").is_dir(),
    reason="needs the real radiographs of ../shared/data (nih-sample)",
)
def test_real_radiographs_of_a_set_it_was_not_trained_on():
    from hilum.imaging.files import image_file
    from hilum.imaging.radiograph import preprocess

    radiographs = [
        image_file.read(path).radiograph()
        for path in sorted((REAL / "nih-sample" / "images").glob("*.png"))[::2]
    ]
    squares = np.stack([preprocess(radiograph, SIZE, "percentiles") for radiograph in radiographs])
    named = faults(
        [
            square[Letterbox(one.size, SIZE).inside()]
            for square, one in zip(squares, radiographs, strict=True)
        ]
    )
    assert sum(map(bool, named)) <= 1
    rotated = faults(
        [
            np.rot90(square[Letterbox(one.size, SIZE).inside()])
            for square, one in zip(squares, radiographs, strict=True)
        ]
    )
    assert sum(orientation.ROTATED in one for one in rotated) >= 0.9 * len(rotated)
