"""The benchmarks of the page of results: which scripts run, and which of their figures are rows.

A row is read from the section that its script records in the same run. Its rival is another cell of
that section, and then the ratio does not depend on the machine; or it is a published figure with
its source, or there is none and the row has a bound of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks._lib.markdown import Cell

DATA, WORK = "{data}", "{work}"  # of arguments: the folders that `benchmarks.run` is given
PAGES = ("speed", "accuracy", "robustness")


@dataclass(frozen=True)
class Script:
    """A script to run: its arguments, in full and quickly, and what must be there for it.

    `folders` are below the folder of data, `packages` are modules of rivals.
    """

    module: str
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = None  # None: not part of the quick run
    folders: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One row of the summary: a figure of Hilum, what it is beside, and what it must reach.

    `target`: the least ratio in favour of Hilum; where there is no rival, the bound of the figure.
    `published`: a rival's figure and its source, where the rival is not measured in the run.
    """

    name: str
    script: str
    unit: str
    ours: Cell
    target: float
    rival: str = ""
    theirs: Cell | None = None
    published: tuple[float, str] | None = None
    more_is_better: bool = False

    def ratio(self, ours: float, theirs: float | None) -> float | None:
        """Return by what factor Hilum is better, above 1 where it is; None without a rival."""
        if theirs is None:
            return None
        return ours / theirs if self.more_is_better else theirs / ours

    def held(self, ours: float, theirs: float | None) -> bool:
        """Say whether the target is reached."""
        if (ratio := self.ratio(ours, theirs)) is not None:
            return ratio >= self.target
        return ours >= self.target if self.more_is_better else ours <= self.target


NIH = ("--data", f"{DATA}/nih-sample")
SCRIPTS = (
    Script(
        "benchmarks.speed.first_pass",
        NIH,
        (*NIH, "--size", "256", "--repeats", "1", "--images", "30"),
        ("nih-sample",),
        ("torchxrayvision", "skimage"),
    ),
    Script(
        "benchmarks.speed.batches",
        NIH,
        (*NIH, "--rounds", "1", "--images", "32"),
        ("nih-sample",),
        ("torchxrayvision", "skimage"),
    ),
    Script("benchmarks.speed.cache", ("--items", "2000")),
    Script(
        "benchmarks.speed.dicom",
        (),
        ("--turns", "2"),
        packages=("libjpeg", "openjpeg", "rle"),
    ),
    Script(
        "benchmarks.speed.ingest_nih",
        ("--data", f"{DATA}/nih-metadata"),
        ("--data", f"{DATA}/nih-metadata"),
        ("nih-metadata",),
    ),
    Script("benchmarks.speed.audit", ("--data", f"{DATA}/nih-metadata"), None, ("nih-metadata",)),
    Script("benchmarks.speed.million_rows", ("--rows", "1000000", "--record"), None),
    Script("benchmarks.speed.duplicates", ("--data", DATA, "--speed"), None, ("kermany-224",)),
    Script("benchmarks.speed.classify", (), ("--repeats", "2")),
    Script(
        "benchmarks.accuracy.lungs",
        ("--data", DATA, "--work", WORK, "--what", "speed"),
        ("--data", DATA, "--work", WORK, "--what", "speed"),
        ("montgomery", "shenzhen"),
    ),
)


def _first_pass(size: int, target: float) -> Row:
    section, row = "First pass over PNG files", (str(size), "CPU time")
    return Row(
        f"PNG file to a cached square of {size}",
        "benchmarks.speed.first_pass",
        "ms",
        Cell(section, row, "Hilum"),
        target,
        "TorchXRayVision",
        Cell(section, row, "TorchXRayVision"),
    )


def _batches(change: str, target: float) -> Row:
    section = "Batches to train on"
    return Row(
        f"training batches of 224, {change}",
        "benchmarks.speed.batches",
        "images/s",
        Cell(section, ("Hilum", change), "images/s"),
        target,
        "TorchXRayVision, 2 workers",
        Cell(section, ("TorchXRayVision", change), "images/s"),
        more_is_better=True,
    )


def _cache(rival: str, target: float) -> Row:
    return Row(
        f"random batches of the cache, beside {rival.partition(',')[0]}",
        "benchmarks.speed.cache",
        "images/s",
        Cell("The cache", ("Hilum, into one array",), "images/s"),
        target,
        rival,
        Cell("The cache", (rival,), "images/s"),
        more_is_better=True,
    )


def _dicom(form: str, what: str, target: float) -> Row:
    section = "DICOM: pixels and headers"
    return Row(
        f"DICOM, {form}: {what}",
        "benchmarks.speed.dicom",
        "ms",
        Cell(section, (form,), what),
        target,
        "pydicom with pylibjpeg",
        Cell(section, (form,), "pydicom", 0 if what == "decode" else 1),
    )


def _alone(name: str, script: str, unit: str, cell: Cell, target: float) -> Row:
    return Row(name, f"benchmarks.{script}", unit, cell, target)


_LUNGS = "Lungs: speed of compact_unet"
_COPIES = "Duplicates: speed"
ROWS = (
    _first_pass(256, 4.3),
    _first_pass(512, 4.3),
    _batches("affine", 110),
    _batches("crop and flip", 500),
    _cache("copy of images in memory (the limit)", 0.95),
    _cache("NumPy memory map", 1.0),
    _dicom("JPEG Lossless SV1", "decode", 4.0),
    _dicom("HTJ2K lossless", "decode", 1.8),
    _dicom("RLE", "decode", 1.3),
    _dicom("RLE", "read", 1.0),
    _dicom("explicit little endian", "read", 1.0),
    Row(
        "lungs of one image, one core",
        "benchmarks.accuracy.lungs",
        "ms",
        Cell(_LUNGS, ("compact_unet int8",), "ms"),
        20,
        "ResNet18 U-Net, PyTorch",
        Cell(_LUNGS, ("ResNet18 U-Net",), "ms"),
    ),
    _alone(
        "table of ChestX-ray14 to a manifest, processor time",
        "speed.ingest_nih",
        "s",
        Cell("Reading ChestX-ray14's table", ("112,120",), "processor (s)"),
        5.0,
    ),
    _alone(
        "checks of a table of 112,120 rows, processor time",
        "speed.audit",
        "s",
        Cell("Checks on tables", ("ChestX-ray14",), "processor (s)"),
        5.0,
    ),
    _alone(
        "evaluation of 1,000,000 rows and 14 findings, peak memory",
        "speed.million_rows",
        "GiB",
        Cell("A million rows", ("evaluate",), "peak memory (GiB)"),
        2.0,
    ),
    _alone(
        "checks of a table of 1,000,000 rows, peak memory",
        "speed.audit",
        "GiB",
        Cell("Checks on tables", ("made up",), "peak memory (GiB)"),
        2.0,
    ),
    _alone(
        "hashes within 40 of 256 bits among 112,120, exact",
        "speed.duplicates",
        "s",
        Cell(_COPIES, ("hashes within 40",), "wall"),
        12.0,
    ),
    _alone(
        "3 nearest spectra of each of 112,120",
        "speed.duplicates",
        "s",
        Cell(_COPIES, ("3 nearest spectra",), "wall"),
        20.0,
    ),
    _alone(
        "one image classified by all bundled models that call, one core",
        "speed.classify",
        "ms",
        Cell("Classify one image on one core", ("the whole chain: calls",), "made up"),
        25.0,
    ),
    _alone(
        "all models, tables and templates of the package",
        "speed.classify",
        "MB",
        Cell("Classify one image on one core", ("all models, tables",), "MB"),
        12.0,
    ),
)
