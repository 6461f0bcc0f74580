"""Fingerprints stay what they are when an image is processed; the searches find what comparing one
by one finds.
"""

from __future__ import annotations

import cv2
import numpy as np
import polars as pl
import pytest

from hilum.audit.duplicates import registration
from hilum.imaging import hash_search, perceptual_hash, spectrum_search
from hilum.imaging.geometry import Letterbox

SIZE = (200, 180)


def radiograph(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8: something with coarse and fine structure, as a radiograph has."""
    noise = np.random.default_rng(seed)
    parts = [
        cv2.resize(
            noise.normal(size=(side, side)).astype(np.float32),
            size[::-1],
            interpolation=cv2.INTER_CUBIC,
        )
        / side**0.5
        for side in (4, 10, 30)
    ]
    whole = sum(parts)
    return np.rint((whole - whole.min()) / np.ptp(whole) * 250).astype(np.uint8)


def printed(image: np.ndarray, side: int = 256) -> str | None:
    return perceptual_hash.hash_image(Letterbox(image.shape, side).forward(image), image.shape)


def keys(*images: np.ndarray) -> perceptual_hash.HashKeys:
    return perceptual_hash.decode(pl.Series([printed(image) for image in images]))


def test_a_fingerprint_is_one_word_of_its_length_and_decodes_to_both_keys():
    assert len(printed(radiograph(0))) == perceptual_hash.LENGTH
    reported = keys(radiograph(0), radiograph(1))
    assert reported.hashes.shape == (2, 4) and reported.hashes.dtype == np.uint64
    assert (
        reported.spectra.shape == (2, len(perceptual_hash.VIEWS), 112)
        and reported.spectra.dtype == np.int8
    )
    assert len(perceptual_hash.decode(pl.Series([], dtype=pl.String))) == 0


def test_an_image_that_shows_nothing_has_none():
    assert printed(np.full(SIZE, 90, np.uint8)) is None


def test_sixteen_bits_give_nearly_the_print_of_eight():
    eight = Letterbox(SIZE, 256).forward(radiograph(0))
    sixteen = eight.astype(np.uint16) * 257
    assert perceptual_hash.hash_image(sixteen, SIZE) == perceptual_hash.hash_image(eight, SIZE)


@pytest.mark.parametrize(
    ("changed", "mirrored", "inverted", "most"),
    [
        (lambda p: p, False, False, 0),
        (lambda p: 255 - p, False, True, 4),
        (lambda p: p[:, ::-1], True, False, 4),
        (lambda p: 255 - p[:, ::-1], True, True, 4),
        (lambda p: np.rint(255 * (p / 255) ** 0.5).astype(np.uint8), False, False, 6),
        (lambda p: cv2.resize(p, (97, 140), interpolation=cv2.INTER_AREA), False, False, 12),
        (
            lambda p: cv2.imdecode(
                cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE
            ),
            False,
            False,
            12,
        ),
        (
            lambda p: cv2.copyMakeBorder(p, 12, 30, 25, 25, cv2.BORDER_CONSTANT, value=0),
            False,
            False,
            40,
        ),
    ],
)
def test_the_hash_of_a_processed_copy_is_near(changed, mirrored, inverted, most):
    reported = keys(radiograph(0), np.ascontiguousarray(changed(radiograph(0))))
    found = hash_search.near(reported.hashes, 40)
    assert (found.first.tolist(), found.second.tolist()) == ([0], [1])
    assert (found.mirrored[0], found.inverted[0]) == (mirrored, inverted)
    assert found.distance[0] <= most


def clustered(count: int, seed: int) -> np.ndarray:
    """uint64 (count, 4): hashes around a few centres, also mirrored and inverted, their first bit
    never set.
    """
    noise = np.random.default_rng(seed)
    bits = noise.random((12, 256)).round().astype(bool)[noise.integers(12, size=count)] ^ (
        noise.random((count, 256)) < noise.uniform(0, 0.2, (count, 1))
    )
    odd = np.unpackbits(perceptual_hash.MIRROR.view(np.uint8)).astype(bool)
    bits ^= noise.random((count, 1)) < 0.3
    bits ^= odd & (noise.random((count, 1)) < 0.3)
    bits[:, 0] = False
    return np.packbits(bits, axis=1).view(np.uint64)


def one_by_one(first: np.ndarray, second: np.ndarray, distance: int) -> dict[tuple[int, int], int]:
    odd = np.unpackbits(perceptual_hash.MIRROR.view(np.uint8)).astype(bool)
    found = {}
    for i, one in enumerate(np.unpackbits(first.view(np.uint8), axis=1).astype(bool)):
        for j, other in enumerate(np.unpackbits(second.view(np.uint8), axis=1).astype(bool)):
            ways = [int((one ^ other ^ mirror)[1:].sum()) for mirror in (np.zeros(256, bool), odd)]
            best = min(min(way, 255 - way) for way in ways)
            if best <= distance:
                found[i, j] = best
    return found


@pytest.mark.parametrize("distance", [0, 12, 40])
def test_the_range_search_is_exact(distance, monkeypatch):
    monkeypatch.setattr(hash_search, "BLOCK", 64)
    hashes, others = clustered(150, 1), clustered(90, 1)
    found = hash_search.near(hashes, distance)
    expected = {
        pair: bits
        for pair, bits in one_by_one(hashes, hashes, distance).items()
        if pair[0] < pair[1]
    }
    assert (
        dict(
            zip(
                zip(found.first.tolist(), found.second.tolist(), strict=True),
                found.distance.tolist(),
                strict=True,
            )
        )
        == expected
    )
    between = hash_search.near(hashes, distance, others)
    pairs = zip(between.first.tolist(), between.second.tolist(), strict=True)
    assert dict(zip(pairs, between.distance.tolist(), strict=True)) == one_by_one(
        hashes, others, distance
    )
    assert distance == 0 or len(expected) > 20


@pytest.mark.parametrize("count", [100, 2100])
def test_a_whole_that_equals_the_middle_of_another_is_nearest_to_it(count):
    noise = np.random.default_rng(3)
    mix = noise.normal(size=(112, 112)) * noise.uniform(0.1, 2, 112)
    spectra = np.clip(noise.normal(size=(count, 3, 112)) @ mix, -127, 127).astype(np.int8)
    spectra[0, 0] = spectra[5, 2]
    spectra[1, 0] = spectra[6, 1] * np.where(np.arange(112) < perceptual_hash.EVEN, 1, -1)
    nearest = spectrum_search.nearest(
        perceptual_hash.HashKeys(np.zeros((count, 4), np.uint64), spectra), 1
    ).tolist()
    assert nearest[:2] == [[0, 5, 2, 0], [1, 6, 1, 1]]


def test_of_hashes_that_are_all_alike_each_has_its_nearest(monkeypatch):
    monkeypatch.setattr(hash_search, "BLOCK", 64)
    monkeypatch.setattr(hash_search, "_TRIMMED", 8)
    hashes = np.tile(clustered(3, 1), (100, 1))
    found = hash_search.near(hashes, 12, most=5)
    every = hash_search.near(hashes, 12)
    assert np.bincount(found.first).max() == 5 < np.bincount(every.first).max()
    reached = {int(second) for second in found.second}
    assert reached == {int(second) for second in every.second}  # no group falls apart


def test_few_or_no_hashes_are_no_trouble():
    for count in (0, 1):
        assert len(hash_search.near(clustered(count, 0), 40).first) == 0
        assert spectrum_search.nearest(
            keys(*[radiograph(0)] * count)
            if count
            else perceptual_hash.decode(pl.Series([], dtype=pl.String)),
            3,
        ).shape == (0, 4)


TURN = cv2.getRotationMatrix2D((90, 100), 4, 1.0)
CHANGES = {
    "cropped": lambda p: p[14:186, 12:168],
    "cropped at one corner": lambda p: p[16:, 14:],
    "rotated": lambda p: cv2.warpAffine(p, TURN, (180, 200)),
    "marked": lambda p: np.where(
        np.add.outer(np.arange(200) < 30, np.zeros(180)) * (np.arange(180) < 40) > 0, 255, p
    ).astype(np.uint8),
    "mirrored": lambda p: p[:, ::-1],
}


def described(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    square = Letterbox(image.shape, 256).forward(image)
    content = perceptual_hash.content(square, image.shape)
    return registration.phases(content), registration.fine(content)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_among_the_nearest_and_fits(change):
    images = [radiograph(seed) for seed in range(60)]
    copy = np.ascontiguousarray(CHANGES[change](images[7]))
    pairs = spectrum_search.nearest(keys(*images, copy), 3)
    assert np.bincount(pairs[:, 0]).max() <= 3
    met = [pair for pair in pairs.tolist() if {pair[0], pair[1]} == {7, 60}]
    assert met
    details = {at: described(one) for at, one in ((7, images[7]), (60, copy))}
    fits = [
        registration.fit_one(details[first], details[second], view, mirrored=mirrored == 1)
        for first, second, view, mirrored in met
    ]
    assert max(fit.agreement for fit in fits) > 0.95


def test_other_images_do_not_fit():
    first, *others = (described(radiograph(seed)) for seed in range(12))
    fits = [registration.fit_one(first, other, 0, mirrored=False) for other in others]
    assert max(fit.agreement for fit in fits) < 0.5


def test_an_inverted_image_fits_and_is_called_so():
    image, inverted = described(radiograph(3)), described(255 - radiograph(3))
    fit = registration.fit_one(image, inverted, 0, mirrored=False)
    assert fit.inverted and fit.agreement > 0.98
    assert np.allclose(fit.place, [[1, 0, 0], [0, 1, 0]], atol=0.02)


def test_the_phases_of_a_mirrored_image_are_derived_from_its_own():
    image = radiograph(4, (192, 192))
    derived = registration.mirrored_phases(registration.phases(image))
    computed = registration.phases(np.ascontiguousarray(image[:, ::-1]))
    found = registration.shifts(derived, computed)
    assert (found.height > 20).all()
    assert not found.down.any() and not found.across.any()


def test_a_shift_is_found_where_the_image_lies_in_the_other():
    image = radiograph(4, (256, 256))
    moved = np.roll(image, (12, -20), axis=(0, 1))  # pixels of 256: 3 and -5 of 64
    first, second = (registration.phases(one)[:1] for one in (moved, image))
    found = registration.shifts(first, second)
    assert (found.height[0] > 11, found.down[0], found.across[0]) == (True, 3, -5)


def test_in_cells_the_nearest_are_those_of_all(monkeypatch):
    noise = np.random.default_rng(5)
    spectra = noise.integers(-100, 100, (900, 3, 112)).astype(np.int8)
    spectra[450:] = np.clip(spectra[:450] + noise.integers(-40, 40, (450, 3, 112)), -127, 127)
    keys = perceptual_hash.HashKeys(np.zeros((900, 4), np.uint64), spectra)
    expected = spectrum_search.nearest(keys, 1)
    monkeypatch.setattr(spectrum_search, "FEW", 100)
    monkeypatch.setattr(spectrum_search, "_IN_CELL", 30)
    monkeypatch.setattr(spectrum_search, "PROBED", 15)  # of 90
    found = spectrum_search.nearest(keys, 1)
    assert (expected[:450, 1] == np.arange(450, 900)).all()
    assert (found[:, :2] == expected[:, :2]).all(1).mean() > 0.98
