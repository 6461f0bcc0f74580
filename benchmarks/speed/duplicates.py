"""Measure the search for duplicates: its speed among many images, its recall on real ones.

    python -m benchmarks.speed.duplicates --data ../shared/data              both
    python -m benchmarks.speed.duplicates --data ../shared/data --speed      only the time
    python -m benchmarks.speed.duplicates --data ../shared/data --robust     only the table of what
    is found

`--data` is a folder below which radiographs lie (PNG, JPEG, DICOM); nothing is written there.
Speed: fingerprints are made up with the statistics of the real ones (normal deviates with the
covariance of the real hashes' and spectra's numbers), so that they crowd as real ones do.
Robustness: `--queries` images are each changed in one way; a change is found when the changed copy
is reported with its original and with no other. The usual way beside it is a 64-bit pHash within 8
bits (imagehash, as CleanVision and others use it), where it is installed.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import polars as pl
from scipy import stats

from benchmarks._lib.results import machine, record
from hilum.audit.duplicates import near_duplicates
from hilum.config import Pixels
from hilum.dataset import pixel_cache
from hilum.errors import HilumError
from hilum.imaging import hash_search, perceptual_hash, spectrum_search
from hilum.imaging.files import image_file
from hilum.imaging.geometry import Letterbox
from hilum.imaging.radiograph import preprocess
from hilum.storage.integrity import checksum

ENDINGS = (".png", ".jpg", ".jpeg", ".dcm")
SIDE = 256
NIH, MILLION = 112_120, 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--robust", action="store_true")
    parser.add_argument("--limit", type=int, default=10_000, help="images to read")
    parser.add_argument("--count", type=int, default=NIH, help="fingerprints of the speed test")
    parser.add_argument("--queries", type=int, default=200)
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        sys.exit(f"no data at {arguments.data}")
    table, squares = read(arguments.data, arguments.limit)
    head = (
        f"Command: `{' '.join(['python -m', __spec__.name, *sys.argv[1:]])}`\nMachine:"
        f" {machine('numpy', 'polars', 'opencv-python-headless')}, load"
        f" {os.getloadavg()[0]:.1f}\n\n"
    )
    for wanted, title, reported in (
        (arguments.speed, "Duplicates: speed", speed),
        (arguments.robust, "Duplicates: what is found", robust),
    ):
        if wanted or not (arguments.speed or arguments.robust):
            text = head + reported(table, squares, arguments)
            record(title, text)
            print(text)


def read(folder: Path, limit: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Return a cache's index of the images below `folder`, and their cached images. Unreadable
    ones, and masks (by their folder), are left out.
    """
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS and "mask" not in path.parent.name.lower()
    )
    paths = paths[:: max(1, -(-len(paths) // limit))]
    with ThreadPoolExecutor(2) as pool:
        seen = [one for one in pool.map(lambda path: one_of(path, folder), paths) if one]
    table = pl.DataFrame(
        [facts | {"row": row} for row, (facts, _) in enumerate(seen)],
        schema_overrides={"fingerprint": pl.String},
    )
    return table, np.stack([square for _, square in seen])


def one_of(path: Path, folder: Path) -> tuple[dict, np.ndarray] | None:
    try:
        file = image_file.read(path)
        square = preprocess(file.radiograph(), SIDE, Pixels().normalisation)
    except HilumError:
        return None
    size, ends = file.values.shape[:2], (int(file.values.min()), int(file.values.max()))
    facts = {
        "image_id": str(path.relative_to(folder)),
        "file_digest": file.file_digest,
        "pixel_digest": file.pixel_digest,
    }
    return (
        facts
        | {
            "height": size[0],
            "width": size[1],
            "minimum": ends[0],
            "maximum": ends[1],
            "fingerprint": perceptual_hash.hash_image(square, size),
        },
        square,
    )


# -------------------------------------------------------------------------------------------- speed


def timed(work: Callable[[], object]) -> tuple[object, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    made = work()
    return made, time.perf_counter() - wall, time.process_time() - cpu


def speed(table: pl.DataFrame, squares: np.ndarray, arguments: argparse.Namespace) -> str:
    sizes = table.select("height", "width").rows()
    _, _, making = timed(
        lambda: [
            perceptual_hash.hash_image(square, size)
            for square, size in zip(squares[:500], sizes, strict=False)
        ]
    )
    keys = alike(perceptual_hash.decode(real(table)["fingerprint"]), arguments.count)
    found, near_wall, near_cpu = timed(
        lambda: hash_search.near(keys.hashes, near_duplicates.DISTANCE)
    )
    pairs, wall, cpu = timed(lambda: spectrum_search.nearest(keys, near_duplicates.NEIGHBOURS))
    rows = [
        f"| make a fingerprint | 1 | | {making / min(500, len(squares)) * 1000:.2f} ms | |",
        (
            f"| hashes within {near_duplicates.DISTANCE} of 256 bits, also mirrored and inverted,"
            f" exact | {len(keys):,} | {near_wall:.1f} s | {near_cpu:.1f} s | {len(found.first):,}"
            " pairs |"
        ),
        (
            f"| {near_duplicates.NEIGHBOURS} nearest spectra of each | {len(keys):,} | {wall:.1f} s"
            f" | {cpu:.1f} s | {len(pairs):,} pairs |"
        ),
    ]
    for count in (NIH, MILLION):
        exact = digests(count)
        reported, wall, cpu = timed(lambda exact=exact: near_duplicates.within(exact))
        rows.append(
            f"| equal files and pixels | {count:,} | {wall:.2f} s | {cpu:.2f} s |"
            f" {reported.height:,} pairs |"
        )
    distinct = real(table).unique("pixel_digest", maintain_order=True)
    some = distinct.head(2000)
    _, wall, cpu = whole(some, squares)
    rows.append(
        f"| all three levels with the images, real ones | {some.height:,} | {wall:.1f} s |"
        f" {cpu:.1f} s | {cpu / some.height * 1000:.1f} ms each |"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return "\n".join(
        [
            f"Largest resident memory {peak:.2f} GiB. {crowding(distinct, keys)}",
            "",
            "| what | images | wall | CPU | found |",
            "| --- | --: | --: | --: | --: |",
            *rows,
        ]
    )


def real(table: pl.DataFrame) -> pl.DataFrame:
    return table.drop_nulls("fingerprint")


def alike(known: perceptual_hash.HashKeys, count: int) -> perceptual_hash.HashKeys:
    """Return made-up keys with the correlations of known ones. Signs of normal deviates with
    correlation sin(pi/2 r) have correlation r.
    """
    noise = np.random.default_rng(0)
    bits = np.unpackbits(known.hashes.view(np.uint8), axis=1)[:, 1:].astype(np.float64)
    usual = stats.norm.ppf(np.clip(bits.mean(0), 0.001, 0.999)).astype(
        np.float32
    )  # most bits are set more often than not, or less
    correlation = np.sin(np.pi / 2 * np.nan_to_num(np.corrcoef(bits.T)))
    values, vectors = np.linalg.eigh(correlation)
    root = (vectors * np.sqrt(np.maximum(values, 0))).astype(np.float32).T
    spectra = known.spectra.reshape(len(known), -1).astype(np.float64)
    mean, (spread, axes) = spectra.mean(0), np.linalg.eigh(np.cov(spectra.T))
    spectral = (axes * np.sqrt(np.maximum(spread, 0))).astype(np.float32).T
    hashes, made = [], []
    for start in range(0, count, 8192):
        size = min(8192, count - start)
        signs = np.zeros((size, 256), bool)
        signs[:, 1:] = noise.normal(size=(size, len(root))).astype(np.float32) @ root + usual > 0
        hashes.append(np.packbits(signs, axis=1).view(np.uint64))
        drawn = noise.normal(size=(size, len(spectral))).astype(np.float32) @ spectral + mean
        made.append(
            np.clip(np.rint(drawn), -127, 127)
            .astype(np.int8)
            .reshape(size, *known.spectra.shape[1:])
        )
    return perceptual_hash.HashKeys(np.concatenate(hashes), np.concatenate(made))


def crowding(distinct: pl.DataFrame, made: perceptual_hash.HashKeys) -> str:
    """Return how near real and made-up hashes are to others, in bits: the smallest ten-thousandth,
    and the middle.
    """
    reported = []
    for name, hashes in (
        ("real", perceptual_hash.decode(distinct["fingerprint"]).hashes),
        ("made-up", made.hashes),
    ):
        some = hashes[np.random.default_rng(1).permutation(len(hashes))[:2000]]
        bits = np.unpackbits(some.view(np.uint8), axis=1).astype(np.float32) * 2 - 1
        apart = ((256 - bits @ bits.T) / 2)[np.triu_indices(len(some), 1)]
        reported.append(
            f"{name} ones differ in {np.quantile(apart, 1e-4):.0f} (0.01 %) and"
            f" {np.median(apart):.0f} (median) bits"
        )
    return "; ".join(reported) + "."


def digests(count: int) -> pl.DataFrame:
    """Return an index in which each hundredth file, and each hundredth image, is there twice."""
    number = pl.int_range(count, dtype=pl.Int64)
    file = pl.when(number % 100 == 1).then(number - 1).otherwise(number)
    shown = pl.when(number % 100 == 51).then(number - 1).otherwise(file)

    def name(of, prefix):
        return pl.format(
            "{}{}",
            pl.lit(prefix),
            of.hash(7).cast(pl.String).str.zfill(20) + of.hash(8).cast(pl.String).str.zfill(20),
        )

    table = pl.select(
        image_id=pl.format("set/{}", number.cast(pl.String).str.zfill(8)),
        file_digest=name(file, "f"),
        pixel_digest=name(shown, "p"),
    )
    table = table.with_columns(
        fingerprint=pl.lit(None, pl.String), height=1024, width=1024, minimum=0, maximum=255
    )
    return table.sample(fraction=1, shuffle=True, seed=0)


def whole(table: pl.DataFrame, squares: np.ndarray) -> tuple[pl.DataFrame, float, float]:
    with tempfile.TemporaryDirectory() as temporary:
        cache = stored(table, squares, Path(temporary))
        return timed(lambda: near_duplicates.within(cache.index, cache))


def stored(table: pl.DataFrame, squares: np.ndarray, folder: Path) -> pixel_cache.Cache:
    squares.tofile(folder / pixel_cache.IMAGES[8])
    sums = pl.Series("image_crc32", [checksum(squares[row]) for row in table["row"]], pl.Int64)
    return pixel_cache.Cache(folder, SIDE, table.with_columns(sums))


# --------------------------------------------------------------------------------------- robustness


def _warped(image: np.ndarray, degrees: float) -> np.ndarray:
    height, width = image.shape
    return cv2.warpAffine(
        image, cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1), (width, height)
    )


def _cut(image: np.ndarray, top: float, bottom: float, left: float, right: float) -> np.ndarray:
    height, width = image.shape
    return image[
        round(height * top) : height - round(height * bottom),
        round(width * left) : width - round(width * right),
    ]


def _marked(image: np.ndarray, down: float, across: float) -> np.ndarray:
    marked, (height, width) = image.copy(), image.shape
    marked[
        round(height * 0.04) : round(height * (0.04 + down)),
        round(width * 0.04) : round(width * (0.04 + across)),
    ] = 255
    return marked


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE
    )


def _window(image: np.ndarray, part_of: float) -> np.ndarray:
    low, high = np.percentile(image, (part_of, 100 - part_of))
    return np.rint(np.clip((image - low) / max(high - low, 1), 0, 1) * 255).astype(np.uint8)


def _padded(image: np.ndarray, down: float, across: float, value: int) -> np.ndarray:
    more = (round(image.shape[0] * down), round(image.shape[1] * across))
    return cv2.copyMakeBorder(
        image, more[0], more[0], more[1], more[1], cv2.BORDER_CONSTANT, value=value
    )


def _noisy(image: np.ndarray, spread: float) -> np.ndarray:
    return np.clip(
        np.rint(image + np.random.default_rng(0).normal(0, spread, image.shape)), 0, 255
    ).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG quality 50": lambda p: _jpeg(p, 50),
    "JPEG quality 20": lambda p: _jpeg(p, 20),
    "half the size": lambda p: cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "squashed to a square": lambda p: cv2.resize(p, (224, 224), interpolation=cv2.INTER_AREA),
    "noise, sigma 10 of 255": lambda p: _noisy(p, 10),
    "gamma 0.5": lambda p: np.rint(255 * (p / 255) ** 0.5).astype(np.uint8),
    "gamma 2": lambda p: np.rint(255 * (p / 255) ** 2).astype(np.uint8),
    "window 2 to 98 %": lambda p: _window(p, 2),
    "window 10 to 90 %": lambda p: _window(p, 10),
    "histogram equalised": cv2.equalizeHist,
    "CLAHE, clip 2": lambda p: cv2.createCLAHE(2, (8, 8)).apply(p),
    "CLAHE, clip 4": lambda p: cv2.createCLAHE(4, (8, 8)).apply(p),
    "64 grey levels": lambda p: p // 4 * 4,
    "inverted": lambda p: 255 - p,
    "mirrored": lambda p: p[:, ::-1],
    "inverted and mirrored": lambda p: 255 - p[:, ::-1],
    "padded 10 %, black": lambda p: _padded(p, 0.1, 0.1, 0),
    "padded at the sides, white": lambda p: _padded(p, 0, 0.15, 255),
    "marker 8 x 12 %": lambda p: _marked(p, 0.08, 0.12),
    "marker 16 x 24 %": lambda p: _marked(p, 0.16, 0.24),
    "rotated 2 degrees": lambda p: _warped(p, 2),
    "rotated 5 degrees": lambda p: _warped(p, 5),
    "rotated 7 degrees": lambda p: _warped(p, 7),
    "rotated 10 degrees": lambda p: _warped(p, 10),
    "rotated 90 degrees": lambda p: np.rot90(p),
    "cropped 2 % of each side": lambda p: _cut(p, 0.02, 0.02, 0.02, 0.02),
    "cropped 5 % of each side": lambda p: _cut(p, 0.05, 0.05, 0.05, 0.05),
    "cropped 10 % of each side": lambda p: _cut(p, 0.1, 0.1, 0.1, 0.1),
    "cropped 15 % of each side": lambda p: _cut(p, 0.15, 0.15, 0.15, 0.15),
    "cropped 10 % at the top": lambda p: _cut(p, 0.1, 0, 0, 0),
    "cropped 10 % at top and left": lambda p: _cut(p, 0.1, 0, 0.1, 0),
    "cropped 5 %, JPEG 50, gamma 0.7": lambda p: _jpeg(
        np.rint(255 * (_cut(p, 0.05, 0.05, 0.05, 0.05) / 255) ** 0.7).astype(np.uint8), 50
    ),
    "mirrored, cropped 5 %": lambda p: _cut(p, 0.05, 0.05, 0.05, 0.05)[:, ::-1],
    "inverted, rotated 3 degrees": lambda p: _warped(255 - p, 3),
}


def robust(table: pl.DataFrame, squares: np.ndarray, arguments: argparse.Namespace) -> str:
    base, requested = chosen(table, arguments.queries)
    rows, usual = [], Usual.of(squares, base)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, change in CHANGES.items():
            copies, copied = changed(requested, squares, change)
            joined = pl.concat(
                [base, copies.with_columns(row=pl.col("row") + len(squares))],
                how="diagonal_relaxed",
            )
            cache = stored(joined, np.concatenate([squares, copied]), folder)
            rows.append(
                f"| {name} | {_found(requested, copies, base, cache)} |"
                f" {usual.found(requested, copied, copies) if usual else '-'} |"
            )
            print(rows[-1], flush=True)
    own = _reported_alone(base, squares)
    return "\n".join(
        [
            f"{requested.height} images, each changed, among {base.height:,} different ones. {own}",
            "",
            (
                "| change | hash within reach | among the nearest | found | called another's |"
                " pHash 64 within 8 | others within 8, of each |"
            ),
            "| --- | --: | --: | --: | --: | --: | --: |",
            *rows,
        ]
    )


def chosen(table: pl.DataFrame, count: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return all images that are different, as Hilum finds them equal, and some of them
    to change.
    """
    base = real(table).sort("image_id").unique("pixel_digest", keep="first", maintain_order=True)
    return base, base.sample(min(count, base.height), seed=0)


def changed(
    requested: pl.DataFrame, squares: np.ndarray, change: Callable[[np.ndarray], np.ndarray]
) -> tuple[pl.DataFrame, np.ndarray]:
    rows, copies = [], []
    for at, one in enumerate(requested.iter_rows(named=True)):
        shown = squares[one["row"]][Letterbox((one["height"], one["width"]), SIDE).inside()]
        copy = np.ascontiguousarray(change(np.ascontiguousarray(shown)))
        copies.append(Letterbox(copy.shape, SIDE).forward(copy))
        name = f"~{one['image_id']}"
        rows.append(
            one
            | {
                "image_id": name,
                "row": at,
                "file_digest": name,
                "pixel_digest": name,
                "height": copy.shape[0],
                "width": copy.shape[1],
                "fingerprint": perceptual_hash.hash_image(copies[-1], copy.shape),
            }
        )
    return pl.DataFrame(rows, schema=requested.schema), np.stack(copies)


def _found(
    requested: pl.DataFrame, copies: pl.DataFrame, base: pl.DataFrame, cache: pixel_cache.Cache
) -> str:
    """Return fractions of the changed images: found by hash, among the nearest, and reported by the
    check; and how many were reported with a non-chest image.
    """
    first, second = (
        perceptual_hash.decode(copies["fingerprint"]),
        perceptual_hash.decode(base["fingerprint"]),
    )
    origin = base["image_id"].to_list()
    own = {(at, origin.index(name)) for at, name in enumerate(requested["image_id"])}
    hashed = hash_search.near(first.hashes, near_duplicates.DISTANCE, second.hashes)
    by_hash = own & set(zip(hashed.first.tolist(), hashed.second.tolist(), strict=True))
    there, back = spectrum_search.nearest_between(first, second, near_duplicates.NEIGHBOURS)
    by_spectrum = own & (
        {tuple(pair) for pair in there[:, :2].tolist()}
        | {tuple(pair[::-1]) for pair in back[:, :2].tolist()}
    )
    reported = near_duplicates.shared(copies, base, (cache, cache))
    right = reported.filter(pl.col("image_id") == "~" + pl.col("other_image_id"))
    counts = len(by_hash), len(by_spectrum), right.height
    return " | ".join(
        [
            *(f"{count / requested.height:.1%}" for count in counts),
            str(reported.height - right.height),
        ]
    )


def _reported_alone(base: pl.DataFrame, squares: np.ndarray) -> str:
    reported, _, cpu = whole(base, squares)
    reported = reported.filter(pl.col("agreement") < 1)
    lines = [
        f"{row['image_id']} and {row['other_image_id']} {row['agreement']:.3f} ({row['kind']})"
        for row in reported.sort("agreement").head(8).iter_rows(named=True)
    ]
    return (
        f"Among these themselves {reported.height} pairs are reported ({cpu:.0f} CPU-seconds), of"
        f" the least agreement: {'; '.join(lines) or 'none'}."
    )


class Usual:
    """Match by 64-bit pHash within 8 bits."""

    def __init__(
        self, hashes: np.ndarray, ids: list[str], hashed: Callable[[np.ndarray], int]
    ) -> None:
        self.hashes, self.ids, self.hashed = hashes, ids, hashed

    @classmethod
    def of(cls, squares: np.ndarray, base: pl.DataFrame) -> Usual | None:
        try:
            import imagehash
            from PIL import Image
        except ImportError:
            return None

        def hashed(shown: np.ndarray) -> int:
            return int(str(imagehash.phash(Image.fromarray(shown))), 16)

        sizes = base.select("row", "height", "width").rows()
        shown = [
            hashed(squares[row][Letterbox((height, width), SIDE).inside()])
            for row, height, width in sizes
        ]
        return cls(np.array(shown, np.uint64), base["image_id"].to_list(), hashed)

    def found(self, requested: pl.DataFrame, copied: np.ndarray, copies: pl.DataFrame) -> str:
        sizes = copies.select("height", "width").rows()
        own = np.array(
            [
                self.hashed(square[Letterbox(size, SIDE).inside()])
                for square, size in zip(copied, sizes, strict=True)
            ],
            np.uint64,
        )
        within = np.bitwise_count(own[:, None] ^ self.hashes) <= 8
        place = [self.ids.index(name) for name in requested["image_id"]]
        right = within[np.arange(len(own)), place]
        return f"{right.mean():.1%} | {(within.sum() - right.sum()) / len(own):.1f}"


if __name__ == "__main__":
    main()
