"""The detector of wrong pictures: each fault is named on made-up chests it has not learnt from, right ones are left alone."""

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

SEED = 77_000  # far from the seeds that the detector learnt from
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


def doubted(pictures: list[np.ndarray]) -> list[list[orientation.QualityFlag]]:
    squares = np.stack(
        [
            Letterbox(picture.shape, SIZE).forward(np.ascontiguousarray(picture))
            for picture in pictures
        ]
    )
    return list(
        orientation.quality_flags(
            orientation.describe_orientation(squares, [picture.shape for picture in pictures])
        )
    )


def faults(pictures: list[np.ndarray]) -> list[list[str]]:
    return [[doubt.fault for doubt in doubts] for doubts in doubted(pictures)]


def lean(picture: np.ndarray, degrees: float) -> np.ndarray:
    height, width = picture.shape
    return cv2.warpAffine(
        picture, cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1), (width, height)
    )


HARMLESS = {
    "as it is": lambda picture: picture,
    "gamma": lambda picture: (255 * (picture / 255) ** 1.8).astype(np.uint8),
    "dull": lambda picture: picture // 3 + 60,
    "10 degrees": lambda picture: lean(picture, 10),
    "black border": lambda picture: np.pad(picture, ((0, 60), (40, 10))),
    "white border": lambda picture: np.pad(picture, 40, constant_values=255),
    "cropped": lambda picture: picture[12:-12, 12:-12],
    "equalised": cv2.equalizeHist,
    "small": lambda picture: cv2.resize(picture, (96, 96), interpolation=cv2.INTER_AREA),
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_right_pictures_are_not_doubted(change):
    assert faults([change(picture) for picture in CHESTS]) == [[]] * len(CHESTS)


@pytest.mark.parametrize(
    ("spoil", "fault", "words"),
    [
        (lambda picture: 255 - picture, orientation.INVERTED, "inverted: dark where it is dense"),
        (
            lambda picture: np.rot90(picture, 1),
            orientation.ROTATED,
            "rotated by 90° counterclockwise",
        ),
        (lambda picture: np.rot90(picture, 2), orientation.ROTATED, "rotated by 180°"),
        (lambda picture: np.rot90(picture, 3), orientation.ROTATED, "rotated by 90° clockwise"),
    ],
    ids=["inverted", "90", "180", "270"],
)
def test_a_fault_is_named_on_every_made_up_chest(spoil, fault, words):
    expected = [[orientation.QualityFlag(fault, words)]] * len(CHESTS)
    assert doubted([spoil(picture) for picture in CHESTS]) == expected


def test_a_mirrored_chest_is_named_and_two_faults_both():
    named = faults([picture[:, ::-1] for picture in CHESTS])
    assert sum(one == [orientation.MIRRORED] for one in named) >= 0.9 * len(CHESTS)
    assert all(one in ([], [orientation.MIRRORED]) for one in named)
    both = faults([255 - np.rot90(picture) for picture in CHESTS])
    assert sum(one == [orientation.INVERTED, orientation.ROTATED] for one in both) >= 0.9 * len(
        CHESTS
    )


def house() -> np.ndarray:
    """A sunny day, as a child draws it."""
    picture = np.full((240, 320), 200, np.uint8)
    cv2.rectangle(picture, (0, 170), (320, 240), 90, -1)
    cv2.rectangle(picture, (90, 90), (210, 190), 140, -1)
    cv2.fillPoly(picture, [np.array([[80, 90], [150, 30], [220, 90]])], 40)
    cv2.rectangle(picture, (140, 140), (165, 190), 20, -1)
    cv2.circle(picture, (270, 45), 25, 255, -1)
    return picture


def words() -> np.ndarray:
    picture = np.full((300, 240), 250, np.uint8)
    for line in range(12):
        cv2.putText(
            picture,
            "no acute findings here",
            (10, 25 + 22 * line),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.55,
            10,
            1,
        )
    return picture


OTHERS = {
    "house": house(),
    "words": words(),
    "snow": np.random.default_rng(1).integers(0, 256, (256, 256), np.uint8),
    "ramp": np.tile(np.linspace(0, 255, 256).astype(np.uint8), (200, 1)),
    "rings": (127 + 127 * np.sin(np.hypot(*np.mgrid[-128:128, -128:128]) / 6)).astype(np.uint8),
}


def test_what_is_no_chest_is_always_doubted_and_nearly_always_named_so():
    named = dict(zip(OTHERS, faults(list(OTHERS.values())), strict=True))
    assert all(named.values()), named
    assert (
        sum(one == [orientation.OUT_OF_DISTRIBUTION] for one in named.values()) >= len(OTHERS) - 1
    ), named


@pytest.mark.parametrize("value", [0, 97, 255])
def test_an_empty_picture_is_called_empty(value):
    picture = np.full((200, 150), value, np.uint8)
    picture[20:28, 20:26] = 180  # a marker
    assert faults([picture, np.full((64, 64), value, np.uint8)]) == [[orientation.EMPTY]] * 2


def test_an_answer_does_not_depend_on_the_pictures_beside_it():
    squares = np.stack([Letterbox(picture.shape, SIZE).forward(picture) for picture in CHESTS])
    sizes = [picture.shape for picture in CHESTS]
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


def test_looks_that_need_no_network_are_shares_of_the_picture_inside_its_border():
    picture = np.random.default_rng(0).integers(100, 228, (128, 128), np.uint8)
    picture[::2, :32], picture[::2, 96:] = 0, 255
    square = Letterbox((128, 256), 256).forward(np.pad(picture, ((0, 0), (0, 128))))
    looks = orientation.describe_orientation(square[None], [(128, 256)]).row(0, named=True)
    assert looks["border"] == pytest.approx(1 / 2)
    assert (
        looks["black"] == pytest.approx(1 / 8)
        and looks["white"] == pytest.approx(1 / 8)
        and looks["flat"] == pytest.approx(1 / 8)
    )
    assert looks["spread"] == 255  # the 5th percentile is black, the 95th white


def test_looks_of_a_cache_have_nulls_where_nothing_could_be_read(tmp_path):
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
    looks = orientation.describe_cache(Cache(tmp_path, SIZE, index), index)
    assert (
        looks["image_id"].to_list() == ["set/broken", "set/dark"] and looks["inverted"][0] is None
    )
    assert [[doubt.fault for doubt in doubts] for doubts in orientation.quality_flags(looks)] == [
        [],
        [orientation.INVERTED],
    ]


def test_no_pictures_no_looks():
    looks = orientation.describe_orientation(np.zeros((0, SIZE, SIZE), np.uint8), [])
    assert (
        looks.schema == pl.Schema(orientation.FEATURES)
        and list(orientation.quality_flags(looks)) == []
    )


def test_the_network_is_small_and_says_what_it_was_made_from():
    path = Path(orientation.__file__).parents[1] / orientation.MODEL
    assert path.stat().st_size <= 300_000
    told = orientation._network().metadata
    assert "CC BY 4.0" in told["card"]["licence"] and "kermany" in told["card"]["counts"]
    assert set(told["limits"]) == set(orientation.OUTPUTS) - {orientation.QUARTER_TURNS}
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
def test_real_radiographs_of_a_set_it_has_not_learnt_from():
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
    turned = faults(
        [
            np.rot90(square[Letterbox(one.size, SIZE).inside()])
            for square, one in zip(squares, radiographs, strict=True)
        ]
    )
    assert sum(orientation.ROTATED in one for one in turned) >= 0.9 * len(turned)
