"""The benchmarks of the page of results: which scripts run, and which of their figures are rows.

A row is read from the section that its script records in the same run. Its rival is another cell of
that section, and then the ratio does not depend on the machine; or it is a published figure with
its source, or there is none and the row has a bound of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks._lib.markdown import Cell, Cells, Reading

DATA, WORK = "{data}", "{work}"  # of arguments: the folders that `benchmarks.run` is given
PAGES = ("speed", "accuracy", "robustness")


@dataclass(frozen=True)
class Script:
    """A script to run: its arguments, in full and quickly, and what must be there for it.

    `folders` are below the folder of data, `packages` are modules of rivals. `minutes`: about what
    it takes on two quiet cores. `apart` says why it is in no run of the registry: its rows are then
    read from what it recorded when it was run by itself.
    """

    module: str
    minutes: float = 0.0
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = None  # None: not part of the quick run
    folders: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    apart: str = ""


@dataclass(frozen=True)
class Row:
    """One row of the summary: a figure of Hilum, what it is beside, and what it must reach.

    `target`: the least ratio in favour of Hilum; where there is no rival, the bound of the figure.
    `published`: a rival's figure and its source, where the rival is not measured in the run.
    """

    name: str
    script: str
    unit: str
    ours: Reading
    target: float
    rival: str = ""
    theirs: Reading | None = None
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


NIH, METADATA = ("--data", f"{DATA}/nih-sample"), ("--data", f"{DATA}/nih-metadata")
LUNGS = ("--data", DATA, "--work", WORK, "--what", "speed")
SCRIPTS = (
    Script(
        "benchmarks.speed.first_pass",
        1.5,
        NIH,
        (*NIH, "--size", "256", "--repeats", "1", "--images", "30"),
        ("nih-sample",),
        ("torchxrayvision", "skimage"),
    ),
    Script(
        "benchmarks.speed.batches",
        3.0,
        NIH,
        (*NIH, "--rounds", "1", "--images", "32"),
        ("nih-sample",),
        ("torchxrayvision", "skimage"),
    ),
    Script("benchmarks.speed.cache", 4.0, ("--items", "2000")),
    Script(
        "benchmarks.speed.dicom",
        3.0,
        (),
        ("--turns", "2"),
        packages=("libjpeg", "openjpeg", "rle"),
    ),
    Script("benchmarks.speed.ingest_nih", 0.5, METADATA, METADATA, ("nih-metadata",)),
    Script("benchmarks.speed.audit", 1.0, METADATA, folders=("nih-metadata",)),
    # Ten resamples: the rows are of tables and memory, and a thousand take half an hour.
    Script(
        "benchmarks.speed.million_rows",
        2.0,
        ("--rows", "1000000", "--resamples", "10", "--record"),
    ),
    Script("benchmarks.speed.duplicates", 4.0, ("--data", DATA, "--speed"), None, ("kermany-224",)),
    Script("benchmarks.speed.classify", 0.5, (), ("--repeats", "2")),
    Script("benchmarks.speed.synthetic", 1.5, ("--record",), ("--rounds", "1", "--record")),
    Script("benchmarks.accuracy.lungs", 2.0, LUNGS, LUNGS, ("montgomery", "shenzhen")),
    Script(
        "benchmarks.speed.audit_images",
        1.5,
        ("--data", f"{DATA}/kermany-224", "--work", WORK, "--record"),
        folders=("kermany-224",),
    ),
    Script(
        "benchmarks.speed.full_job",
        5.0,
        ("--data", f"{DATA}/kaggle-masks-and-labels", "--record"),
        folders=("kaggle-masks-and-labels",),
    ),
    Script(
        "benchmarks.speed.training_ddp",
        2.0,
        ("--record",),
        ("--images", "32", "--size", "96", "--record"),
    ),
    Script("benchmarks.speed.shards", apart="needs both cores, and 20 minutes"),
    Script("benchmarks.speed.nih_size", apart="takes an hour"),
    Script("benchmarks.speed.training_gpu", apart="needs a GPU"),
    Script("benchmarks.robustness.killed_shards", apart="takes 20 minutes"),
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


def _alone(name: str, script: str, unit: str, cell: Reading, target: float) -> Row:
    return Row(name, f"benchmarks.{script}", unit, cell, target)


def _more(name: str, script: str, unit: str, cell: Reading, target: float) -> Row:
    return Row(name, f"benchmarks.{script}", unit, cell, target, more_is_better=True)


def _made_up(kind: str, row: str, target: float) -> Row:
    cell = Cell("Made-up radiographs", (row,), "now: images/s of one core (wall)")
    name = f"made-up radiographs, {kind}, one core"
    return _more(name, "speed.synthetic", "images/s", cell, target)


_MILLION, _FILMS = "A million rows", "Audit of images: 112,120 made-up films"
_SHARDS, _WHOLE = "Two processes against one", "A whole job of 112,120 images"
_GPU, _RANKS = "Training on a GPU", "Training on two ranks"
_TABLES = tuple(Cell(_MILLION, (step,), "wall (s)") for step in ("ingest", "split", "checks"))
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
        "1,000,000 rows: ingest, split and checks of the table",
        "speed.million_rows",
        "s",
        Cells(_TABLES, sum),
        12.0,
    ),
    _alone(
        "1,000,000 rows, evaluation and report of 14 findings included: peak memory",
        "speed.million_rows",
        "GiB",
        Cell(_MILLION, (), "peak memory (GiB)", of=max),
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
    _made_up("256 x 256", "256 x 256", 200),
    _made_up("a copy of ChestX-ray14", "nih14", 200),
    _made_up("with lung masks, 350 x 345", "kaggle_masks", 200),
    _alone(
        "audit of Kermany's 5,856 images, cached",
        "speed.audit_images",
        "s",
        Cell("Audit of images: kermany-224", ("now",), "wall (s)"),
        18.0,
    ),
    _alone(
        "the whole job on Masks-and-Labels, two cores",
        "speed.full_job",
        "s",
        Cell("The whole job: kaggle-masks-and-labels", ("all",), "wall s"),
        300.0,
    ),
    _alone(
        "audit of 112,120 images of 256 x 256, cached",
        "speed.audit_images",
        "s",
        Cell(_FILMS, ("now",), "wall (s)"),
        480.0,
    ),
    _alone(
        "audit of 112,120 images of 256 x 256: peak memory",
        "speed.audit_images",
        "GiB",
        Cell(_FILMS, ("now",), "peak memory (GiB)"),
        2.0,
    ),
    _alone(
        "the whole job on 112,120 images, two cores",
        "speed.nih_size",
        "s",
        Cell(_WHOLE, (), "wall s", of=sum),
        3600.0,
    ),
    _alone(
        "the whole job on 112,120 images: memory of all processes",
        "speed.nih_size",
        "GiB",
        Cell(_WHOLE, ("memory of all processes",), "figure"),
        3.0,
    ),
    _alone(
        "the whole job on 112,120 images: report",
        "speed.nih_size",
        "MB",
        Cell(_WHOLE, ("report (MB)",), "figure"),
        15.0,
    ),
    _alone(
        "the whole job on 112,120 images: report opens",
        "speed.nih_size",
        "s",
        Cell(_WHOLE, ("report opens",), "figure"),
        2.0,
    ),
    _more(
        "two processes beside one, the least of all steps",
        "speed.shards",
        "times",
        Cell(_SHARDS, (), "x2", of=min),
        1.8,
    ),
    _more(
        "Dask with two workers beside two processes, the least of all steps",
        "speed.shards",
        "times",
        Cell(_SHARDS, (), "dask", of=min),
        0.85,
    ),
    _more(
        "lungs of cached films with quality, two processes",
        "speed.shards",
        "films/s",
        Cell(_SHARDS, ("with quality",), "films/s, 2 processes"),
        80.0,
    ),
    _more(
        "lungs of cached films without test-time changes, two processes",
        "speed.shards",
        "films/s",
        Cell(_SHARDS, ("without test-time changes",), "films/s, 2 processes"),
        300.0,
    ),
    # The least over batch sizes, each against the network alone at the same one.
    _more(
        "training of DenseNet-121, 224, bfloat16, on one GPU, beside the network alone",
        "speed.training_gpu",
        "times",
        Cell(_GPU, ("DenseNet-121", "bfloat16", "no"), "ratio", of=min),
        0.9,
    ),
    _alone(
        "training on two ranks beside one process: largest difference of the losses",
        "speed.training_ddp",
        "",
        Cell(_RANKS, ("two ranks",), "small network: losses differ by", of=max),
        1e-5,
    ),
    _alone(
        "training on two ranks, one killed: sets of weights that differ from those undisturbed",
        "speed.training_ddp",
        "sets",
        Cell(_RANKS, ("two ranks, one killed",), "sets of weights that differ"),
        0.0,
    ),
    Row(
        "training of EfficientNet-Lite0, 128, on two ranks of one core each",
        "benchmarks.speed.training_ddp",
        "images/s",
        Cell(_RANKS, ("two ranks",), "images/s"),
        1.3,
        "one process",
        Cell(_RANKS, ("one process",), "images/s"),
        more_is_better=True,
    ),
    _alone(
        "kills of workers, schedulers and commands after which results differ",
        "robustness.killed_shards",
        "kills",
        Cell("Shards whose workers", (), "with other files or films", of=sum),
        0.0,
    ),
)
