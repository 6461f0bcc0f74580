"""Plant faults in copies of real and made-up data, and count how many of them the audit finds.

    python -m benchmarks.accuracy.planted_faults --data ../shared/data
    python -m benchmarks.accuracy.planted_faults --data ../shared/data --only made-up        # needs
    no data

Each kind of fault is planted in other images of a copy in a temporary folder; the data stay as they
are. A fault is found where a rule that speaks of it (`EXPECTED`) names its image. False alarms are
issues of severity error on the untouched sets, but for those that are known to be true (`TRUE`).
The result goes into benchmarks/results/accuracy.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import polars as pl

from benchmarks._lib.results import machine, record
from hilum import storage
from hilum.config import Pixels
from hilum.dataset.readers import kaggle_masks, montgomery
from hilum.imaging.files import raster
from hilum.inference import orientation
from hilum.pipeline import audit, cache, ingest

EXACT, GRADED = "exact", "graded"
# What must name a planted fault: rules by kind.
EXPECTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "truncated file": (EXACT, ("image-unreadable",)),
    "zero bytes": (EXACT, ("image-unreadable",)),
    "wrong ending": (EXACT, ("file-extension",)),
    "text as PNG": (EXACT, ("image-unreadable",)),
    "constant": (EXACT, ("image-constant",)),
    "inverted": (GRADED, ("image-inverted",)),
    "rotated by 90 or 270 degrees": (GRADED, ("image-rotated",)),
    "rotated by 180 degrees": (GRADED, ("image-rotated",)),
    "mirrored": (GRADED, ("image-mirrored",)),
    "clipped": (GRADED, ("image-clipped",)),
    "low contrast": (GRADED, ("image-low-contrast", "image-flat")),
    "not a chest": (GRADED, ("image-not-frontal-chest",)),
    "copy, byte for byte": (EXACT, ("duplicate-file",)),
    "copy, encoded again": (EXACT, ("duplicate-pixels",)),
    "copy, resized JPEG": (GRADED, ("duplicate-processed", "duplicate-suspected")),
    "copy, contrast changed": (GRADED, ("duplicate-processed", "duplicate-suspected")),
    "mask shifted": (GRADED, ("mask-shifted", "mask-misfit")),
    "mask of another image": (GRADED, ("mask-misfit", "mask-shifted")),
    "mask copied from another": (EXACT, ("mask-of-another",)),
    "mask empty": (EXACT, ("mask-empty",)),
    "mask of one lung": (EXACT, ("mask-one-lung",)),
    "mask with extra parts": (GRADED, ("mask-pieces",)),
    "mask with a hole": (GRADED, ("mask-holes",)),
    "mask of another size": (EXACT, ("mask-unusable",)),
    "masks of the sides exchanged": (EXACT, ("mask-sides-exchanged",)),
    "label against reading": (EXACT, ("label-contradicts-reading",)),
    "impossible age": (EXACT, ("age-impossible", "age-range", "age-form", "reading-form")),
    "patient in two parts": (EXACT, ("patient-parts",)),
    "label flipped": (GRADED, ("label-suspect",)),
}
CLEAN = {
    "kaggle-masks": "kaggle-masks-and-labels",
    "montgomery": "montgomery",
    "shenzhen": "shenzhen",
    "kermany-224": "kermany-224",
    "nih-sample": "nih-sample",
}
TRUE = {  # errors on the untouched sets that are so
    "kermany-224": (
        "patient-parts",
        "duplicate-parts",
        "duplicate-labels",
    ),  # 170 person numbers stand in two parts; byte-identical files are known
}


@dataclass
class Copy:
    """Hold a copy that faults are planted in: which image got which."""

    root: Path
    planted: dict[str, str] = field(default_factory=dict)  # kind by image name


def plant(copy: Copy, kind: str, names: list[str], fault: Callable[[str], str | None]) -> None:
    """Apply `fault` to the image of that name; it returns the name of the image to be found, where
    it is another.
    """
    for name in names:
        copy.planted[fault(name) or name] = kind


# ----------------------------------------------------------------------------------- kinds of fault


def radiographs_of(root: Path, rng: np.random.Generator) -> dict[str, Callable[[str], str | None]]:
    """Return faults of images in the layout of Chest Xray Masks and Labels, by kind."""
    made = iter(range(9001, 9999))

    def place(name: str) -> Path:
        return root / "CXR_png" / f"{name}.png"

    def changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[str], None]:
        return lambda name: raster.write_png(
            place(name), np.ascontiguousarray(change(raster.read(place(name)).values))
        )

    def copied(write: Callable[[Path, Path], None], ending: str = "png") -> Callable[[str], str]:
        def one(name: str) -> str:
            new = f"CHNCXR_{next(made)}_{name[-1]}"
            write(place(name), root / "CXR_png" / f"{new}.{ending}")
            return new

        return one

    return {
        "truncated file": lambda name: (
            place(name).write_bytes(place(name).read_bytes()[: place(name).stat().st_size // 2])
            and None
        ),
        "zero bytes": lambda name: place(name).write_bytes(b"") or None,
        "wrong ending": lambda name: (
            place(name).write_bytes(
                imagecodecs.jpeg_encode(raster.read(place(name)).values, level=95)
            )
            and None
        ),
        "text as PNG": lambda name: (
            place(name).write_text("<!doctype html><title>404 Not Found</title>\n" * 40) and None
        ),
        "constant": changed(lambda image: np.full_like(image, int(rng.integers(0, 256)))),
        "inverted": changed(lambda image: 255 - image),
        "rotated by 90 or 270 degrees": changed(
            lambda image: np.rot90(image, int(rng.choice([1, 3])))
        ),
        "rotated by 180 degrees": changed(lambda image: image[::-1, ::-1]),
        "mirrored": changed(lambda image: image[:, ::-1]),
        "clipped": changed(lambda image: _clipped(image, *rng.choice([(0.0, 0.5), (0.45, 1.0)]))),
        "low contrast": changed(
            lambda image: (110 + image.astype(float) * rng.uniform(0.1, 0.22)).astype(np.uint8)
        ),
        "not a chest": changed(lambda image: _foreign(image.shape, rng)),
        "copy, byte for byte": copied(lambda old, new: shutil.copyfile(old, new) and None),
        "copy, encoded again": copied(
            lambda old, new: (
                new.write_bytes(imagecodecs.png_encode(raster.read(old).values, level=1)) and None
            )
        ),
        "copy, resized JPEG": copied(lambda old, new: _resized_jpeg(old, new, rng), "jpg"),
        "copy, contrast changed": copied(
            lambda old, new: raster.write_png(
                new, _gamma(raster.read(old).values, rng.choice([0.6, 0.75, 1.4, 1.7]))
            )
        ),
    }


def _clipped(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Stretch brightness from fraction `low` to `high` of the range stretched to all of it; what
    lies beyond is lost.
    """
    return np.clip((image / 255.0 - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def _gamma(image: np.ndarray, gamma: float) -> np.ndarray:
    return (255 * (image / 255.0) ** gamma).round().astype(np.uint8)


def _resized_jpeg(old: Path, new: Path, rng: np.random.Generator) -> None:
    image, scale = raster.read(old).values, rng.uniform(0.5, 0.9)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    new.write_bytes(imagecodecs.jpeg_encode(small, level=int(rng.integers(50, 90))))


def _foreign(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return a page of text, a hand, or a photograph-like scene."""
    height, width = size
    image = np.zeros(size, np.uint8)
    what = int(rng.integers(3))
    if what == 0:
        image[:] = 245
        for row in range(20, height - 10, 16):
            cv2.putText(
                image,
                "".join(rng.choice(list("abcdefgh ijklmno pqrst"), 40)),
                (8, row),
                cv2.FONT_HERSHEY_PLAIN,
                0.9,
                20,
                1,
                cv2.LINE_AA,
            )
    elif what == 1:
        palm = (width // 2, int(height * 0.65))
        cv2.ellipse(image, palm, (width // 6, height // 5), 0, 0, 360, 110, -1, cv2.LINE_AA)
        for finger in range(5):
            angle = np.deg2rad(-150 + finger * 30 + rng.uniform(-6, 6))
            tip = (
                int(palm[0] + np.cos(angle) * width * 0.38),
                int(palm[1] + np.sin(angle) * height * 0.5),
            )
            cv2.line(image, palm, tip, 110, width // 11, cv2.LINE_AA)
            cv2.line(image, palm, tip, 210, width // 26, cv2.LINE_AA)
        image = cv2.GaussianBlur(image, (0, 0), width / 180)
    else:
        image = (
            np.linspace(rng.integers(60, 160), rng.integers(60, 250), height)[:, None]
            .repeat(width, 1)
            .astype(np.uint8)
        )
        for _ in range(14):
            cv2.circle(
                image,
                tuple(rng.integers(0, [width, height]).tolist()),
                int(rng.integers(5, width // 4)),
                int(rng.integers(0, 256)),
                -1,
                cv2.LINE_AA,
            )
    return np.clip(image + rng.normal(0, 3, size), 0, 255).astype(np.uint8)


def masks_of(
    root: Path, masked: list[str], rng: np.random.Generator
) -> dict[str, Callable[[str], str | None]]:
    """Return faults of masks in the same layout, by kind; `masked` are images whose mask is not
    spoilt, to take others' masks from.
    """

    def place(name: str) -> Path:
        return next(
            path
            for path in (root / "masks" / f"{name}_mask.png", root / "masks" / f"{name}.png")
            if path.exists()
        )

    def changed(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[str], None]:
        return lambda name: raster.write_png(
            place(name), np.ascontiguousarray(change(raster.read(place(name)).values > 127))
        )

    def another(name: str) -> None:
        """Write another image's mask at this one's size; drawn a pixel wider, so that it is not the
        very same.
        """
        size = raster.read(place(name)).values.shape
        mask = cv2.resize(
            raster.read(place(str(rng.choice(masked)))).values,
            size[::-1],
            interpolation=cv2.INTER_NEAREST,
        )
        raster.write_png(place(name), cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 127)

    def copied(name: str) -> None:
        """Write another image's mask file; the image is brought to its size, as in sets where all
        are of one.
        """
        source = place(str(rng.choice(masked)))
        radiograph, size = root / "CXR_png" / f"{name}.png", raster.read(source).values.shape
        raster.write_png(
            radiograph,
            cv2.resize(raster.read(radiograph).values, size[::-1], interpolation=cv2.INTER_AREA),
        )
        shutil.copyfile(source, place(name))

    return {
        "mask shifted": changed(lambda mask: _shifted(mask, rng)),
        "mask of another image": another,
        "mask copied from another": copied,
        "mask empty": changed(np.zeros_like),
        "mask of one lung": changed(
            lambda mask: (
                mask & (np.arange(mask.shape[1]) < mask.shape[1] // 2)
                if rng.random() < 0.5
                else _largest(mask)
            )
        ),
        "mask with extra parts": changed(lambda mask: _with_parts(mask, rng)),
        "mask with a hole": changed(lambda mask: _with_hole(mask, rng)),
        "mask of another size": changed(lambda mask: mask[: len(mask) * 3 // 4]),
    }


def _shifted(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shift by 4 to 12 % of the side in any direction."""
    angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.04, 0.12) * max(mask.shape)
    move = np.float32([[1, 0, far * np.cos(angle)], [0, 1, far * np.sin(angle)]])
    return (
        cv2.warpAffine(mask.astype(np.uint8), move, mask.shape[::-1], flags=cv2.INTER_NEAREST) > 0
    )


def _largest(mask: np.ndarray) -> np.ndarray:
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return parts == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])


def _with_parts(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one to three discs of 3 to 6 % of the side, clear of the lungs."""
    side = max(mask.shape)
    grown = mask.copy()
    for _ in range(int(rng.integers(1, 4))):
        radius = int(side * rng.uniform(0.03, 0.06))
        clear = (
            cv2.distanceTransform((~grown).astype(np.uint8), cv2.DIST_L2, 5) > radius + side * 0.03
        )
        rows, columns = np.nonzero(clear)
        at = int(rng.integers(len(rows)))
        grown = (
            cv2.circle(grown.astype(np.uint8), (int(columns[at]), int(rows[at])), radius, 1, -1) > 0
        )
    return grown


def _with_hole(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a disc of 2.5 to 5 % of the side inside a lung."""
    inner = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    radius = max(min(int(max(mask.shape) * rng.uniform(0.025, 0.05)), int(inner.max() * 0.7)), 3)
    rows, columns = np.nonzero(inner > radius + 2)
    at = int(rng.integers(len(rows)))
    return cv2.circle(mask.astype(np.uint8), (int(columns[at]), int(rows[at])), radius, 0, -1) > 0


def readings_of(root: Path) -> dict[str, Callable[[str], str | None]]:
    def contradicted(name: str) -> None:
        words = "normal" if name.endswith("_1") else "bilateral PTB"
        (root / "ClinicalReadings" / f"{name}.txt").write_text(f"male 45yrs\n{words}\n")

    def aged(name: str) -> None:
        words = "bilateral PTB" if name.endswith("_1") else "normal"
        (root / "ClinicalReadings" / f"{name}.txt").write_text(f"male 245yrs\n{words}\n")

    return {"label against reading": contradicted, "impossible age": aged}


# --------------------------------------------------------------------------------------- the copies


def with_masks(source: Path, to: Path, each: int, seed: int) -> Copy:
    """Return a copy in the layout of Chest Xray Masks and Labels with all faults of images, masks
    and readings, `each` of a kind.
    """
    rng = np.random.default_rng(seed)
    shutil.copytree(source, to)
    copy = Copy(to)
    names = [
        str(name)
        for name in rng.permutation(
            sorted(path.stem for path in (to / "CXR_png").iterdir() if _masked(to, path.stem))
        )
    ]
    kinds = {**radiographs_of(to, rng), **readings_of(to)}
    kinds |= masks_of(to, names[-each:], rng)
    for number, (kind, fault) in enumerate(kinds.items()):
        plant(copy, kind, names[number * each : (number + 1) * each], fault)
    return copy


def _masked(root: Path, stem: str) -> bool:
    return (
        any((root / "masks" / f"{stem}{tail}.png").exists() for tail in ("", "_mask"))
        and (root / "ClinicalReadings" / f"{stem}.txt").exists()
    )


def by_side(source: Path, to: Path, each: int, seed: int) -> Copy:
    """Return a copy of Montgomery, where the masks of some are exchanged."""
    shutil.copytree(source, to)
    copy, masks = Copy(to), to / "ManualMask"
    both = sorted(
        path.stem
        for path in (masks / "leftMask").iterdir()
        if (masks / "rightMask" / path.name).exists()
    )

    def exchanged(name: str) -> None:
        left, right = masks / "leftMask" / f"{name}.png", masks / "rightMask" / f"{name}.png"
        kept = left.read_bytes()
        left.write_bytes(right.read_bytes())
        right.write_bytes(kept)

    plant(
        copy,
        "masks of the sides exchanged",
        [str(name) for name in np.random.default_rng(seed).permutation(both)[:each]],
        exchanged,
    )
    return copy


def with_parts(radiographs: dict[str, list[Path]], to: Path, each: int, seed: int) -> Copy:
    """Return an own folder with a CSV of parts, patients and labels, from images by label: some
    patients in two parts, some labels flipped.
    """
    rng = np.random.default_rng(seed)
    to.mkdir(parents=True)
    rows, labels, seen = [], list(radiographs), set()
    for label, files in radiographs.items():
        for path in files:
            if (
                digest := storage.digest_of_file(path)
            ) in seen:  # real copies would be true findings that nobody planted
                continue
            seen.add(digest)
            shutil.copyfile(path, to / f"{len(rows):04d}{path.suffix}")
            rows.append(
                {
                    "image": f"{len(rows):04d}{path.suffix}",
                    "patient": f"p{len(rows):04d}",
                    "part": "train" if rng.random() < 0.7 else "test",
                    "label": label,
                }
            )
    copy, order = Copy(to), rng.permutation(len(rows))
    for at in order[:each]:
        rows[at]["label"] = labels[1 - labels.index(rows[at]["label"])]
        copy.planted[Path(rows[at]["image"]).stem] = "label flipped"
    for one, other in zip(order[each : 2 * each], order[2 * each : 3 * each], strict=True):
        rows[one] |= {"part": "train"}
        rows[other] |= {"part": "test", "patient": rows[one]["patient"]}
        copy.planted[Path(rows[other]["image"]).stem] = "patient in two parts"
        copy.planted[Path(rows[one]["image"]).stem] = ""  # its partner, named with it
    pl.DataFrame(rows).write_csv(to / "labels.csv")
    return copy


# ---------------------------------------------------------------------------------------- measuring


def audited(folder: Path, to: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the issues, and the table of images."""
    manifest = ingest.ingest(folder)
    radiographs = cache.fill(manifest, Pixels(), to)
    return (
        audit.audit(
            manifest, orientation.describe_cache(radiographs, radiographs.index), radiographs
        ),
        manifest.table,
    )


def counted(
    copy: Copy, found: pl.DataFrame, table: pl.DataFrame
) -> tuple[dict[str, list[int]], list[str]]:
    """Return, by kind, how many were planted and found; and images with an error that nobody
    planted.
    """
    named: dict[str, set[str]] = {}
    for rule, first, second in found.select("rule", "image_id", "other_image_id").iter_rows():
        for image_id in (first, second):
            if image_id:
                named.setdefault(image_id.split("/", 1)[1].rsplit(".", 1)[0], set()).add(rule)
    counts: dict[str, list[int]] = {}
    for name, kind in copy.planted.items():
        if kind:
            count = counts.setdefault(kind, [0, 0])
            count[0] += 1
            count[1] += bool(named.get(name, set()) & set(EXPECTED[kind][1]))
    wrong = found.filter(pl.col("severity") == "error").select("image_id", "other_image_id").rows()
    foreign = {
        first
        for first, second in wrong
        if first and not {_name(one) for one in (first, second) if one} & copy.planted.keys()
    }
    return counts, sorted(foreign)


def _name(image_id: str) -> str:
    return image_id.split("/", 1)[1].rsplit(".", 1)[0]


def planted(
    copies: dict[str, Callable[[Path], Copy]], folder: Path
) -> tuple[dict[str, list[int]], int]:
    """Make, audit and remove all copies; return counts by kind, and images with an error
    that nobody planted.
    """
    total: dict[str, list[int]] = {}
    false = 0
    for name, make in copies.items():
        begun = time.monotonic()
        copy = make(folder / name)
        counts, foreign = counted(copy, *audited(copy.root, folder / f"{name} cache"))
        for kind, (there, seen) in counts.items():
            total.setdefault(kind, [0, 0])
            total[kind] = [total[kind][0] + there, total[kind][1] + seen]
        false += len(foreign)
        print(
            f"{name}: {sum(there for there, _ in counts.values())} faults,"
            f" {time.monotonic() - begun:.0f} s; errors beside them: {foreign[:5]}",
            flush=True,
        )
        shutil.rmtree(folder / name)
        shutil.rmtree(folder / f"{name} cache")
    return total, false


def real(data: Path, each: int, seed: int) -> dict[str, Callable[[Path], Copy]]:
    kermany = data / "kermany-224" / "chest_xray" / "train"
    rng = np.random.default_rng(seed)
    by_label = {
        label: [
            Path(path)
            for path in rng.choice(sorted(map(str, (kermany / name).iterdir())), 350, replace=False)
        ]
        for label, name in (("normal", "NORMAL"), ("pneumonia", "PNEUMONIA"))
    }
    return {
        "kaggle-masks": lambda to: with_masks(
            data / CLEAN["kaggle-masks"] / "Lung Segmentation", to, each, seed
        ),
        "montgomery": lambda to: by_side(data / "montgomery", to, each, seed),
        "kermany": lambda to: with_parts(by_label, to, each, seed),
    }


def made_up(folder: Path, each: int, seed: int) -> dict[str, Callable[[Path], Copy]]:
    kaggle_masks.example(folder / "made-up kaggle", images=30 * each * 2, seed=seed)
    montgomery.example(folder / "made-up montgomery", images=4 * each, seed=seed)
    files = sorted((folder / "made-up kaggle" / "CXR_png").iterdir())
    by_label = {
        label: [path for path in files if path.stem.endswith(digit)][: 12 * each]
        for label, digit in (("normal", "0"), ("tuberculosis", "1"))
    }
    return {
        "made-up with masks": lambda to: with_masks(folder / "made-up kaggle", to, each, seed),
        "made-up by side": lambda to: by_side(folder / "made-up montgomery", to, each, seed),
        "made-up with parts": lambda to: with_parts(by_label, to, each, seed),
    }


def false_alarms(data: Path, folder: Path) -> list[str]:
    """Return a line of the table for each untouched set."""
    lines = []
    for name, place in CLEAN.items():
        found, table = audited(data / place, folder / f"{name} cache")
        known = pl.col("rule").is_in(list(TRUE.get(name, ())))
        errors = found.filter((pl.col("severity") == "error") & ~known)
        rules = (
            ", ".join(f"{rule} {count}" for rule, count in sorted(Counter(errors["rule"]).items()))
            or "none"
        )
        warned = found.filter(pl.col("severity") == "warning")["image_id"].n_unique()
        images = errors["image_id"].n_unique()
        lines.append(
            f"| {name} | {table.height} | {images} | {images / table.height:.2%} | {rules} |"
            f" {warned} |"
        )
        print(lines[-1], flush=True)
        shutil.rmtree(folder / f"{name} cache")
    return lines


def table_of(on: dict[str, dict[str, list[int]]]) -> list[str]:
    lines = [
        f"| fault | kind | {' | '.join(f'{name}: planted | found | share' for name in on)} |",
        "| --- | --- |" + " --: | --: | --: |" * len(on),
    ]
    for kind, (exact, _) in EXPECTED.items():
        cells = [
            f"{there} | {seen} | {seen / there:.0%}" if there else "– | – | –"
            for there, seen in (counts.get(kind, [0, 0]) for counts in on.values())
        ]
        lines.append(f"| {kind} | {exact} | {' | '.join(cells)} |")
    for grade in (EXACT, GRADED):
        sums = [
            np.sum(
                [counts[kind] for kind in counts if EXPECTED[kind][0] == grade] or [[0, 0]], axis=0
            )
            for counts in on.values()
        ]
        cells = [
            f"**{there}** | **{seen}** | **{seen / max(there, 1):.1%}**" for there, seen in sums
        ]
        lines.append(f"| **all {grade}** | | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--each", type=int, default=14, help="faults of a kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only",
        choices=["real", "made-up", "clean"],
        help="a part of it; nothing is recorded then",
    )
    arguments = parser.parse_args()
    if arguments.only != "made-up" and (arguments.data is None or not arguments.data.is_dir()):
        sys.exit(
            f"no data at {arguments.data}; give the folder of the data sets with --data, or --only"
            " made-up"
        )
    on, lines, false = {}, [], 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.only in (None, "real"):
            on["real"], more = planted(real(arguments.data, arguments.each, arguments.seed), folder)
            false += more
        if arguments.only in (None, "made-up"):
            on["made up"], more = planted(
                made_up(folder, max(arguments.each // 2, 2), arguments.seed), folder
            )
            false += more
        if arguments.only in (None, "clean"):
            lines = false_alarms(arguments.data, folder)
    reported = "\n".join(
        [
            (
                f"Command: `python -m benchmarks.accuracy.planted_faults --data {arguments.data}"
                f" --each {arguments.each} --seed {arguments.seed}`"
            ),
            f"Machine: {machine('polars', 'onnxruntime', 'opencv-python-headless')}",
            "",
            (
                "Faults planted in copies; found: a rule that speaks of the fault names the image."
                " Shifts are 4 to 12 % of the side."
            ),
            "",
            *(table_of(on) if on else []),
            "",
            f"Images with an error in these copies that nobody planted: {false}.",
            "",
            "| untouched set | images | with a false error | share | rules | with a warning |",
            "| --- | --: | --: | --: | --- | --: |",
            *lines,
        ]
    )
    if arguments.only is None:
        record("Planted faults", reported)
    print(reported)


if __name__ == "__main__":
    main()
