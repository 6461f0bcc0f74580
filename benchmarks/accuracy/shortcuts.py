"""Measure shortcuts in public sets: predict the hospital, the sex, the age and the finding from
parts of the images that do not show the finding.

    python -m benchmarks.accuracy.shortcuts --data ../shared/data --work work
    python -m benchmarks.accuracy.shortcuts --data ../shared/data --work work --features backbone

adults: Montgomery and Shenzhen together, the source from each part, and tuberculosis from each part
within each source. children: Kermany, pneumonia, and whether the official test part can be
predicted from the rest among those of one state: what shifts between them. Parts and probes are
those of `hilum shortcuts`; lungs are found by the model that comes with Hilum, and all images take
part whose lungs are believed, each evaluated by the fit that did not see its patient. With
--features backbone the features are those of EfficientNet-Lite0 with its ImageNet weights (needs
the extra [train]), the mean over the image, in place of the hand-made ones.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported

import numpy as np
import polars as pl

from benchmarks._lib.results import machine, record
from hilum import storage
from hilum.annotations.vocabulary import State, name_of
from hilum.cli import console
from hilum.config import Evaluate, LungCrop, Pixels
from hilum.dataset.manifest import Manifest
from hilum.imaging.geometry import Size
from hilum.inference import lung_finder, pretrained
from hilum.pipeline import _shortcut_probes, cache, ingest, shortcuts
from hilum.progress import quietly

GROUPS = {
    "adults": (("montgomery", "shenzhen"), "tuberculosis"),
    "children": (("kermany-224/chest_xray",), "pneumonia"),
}
SEED = 0


def radiographs(
    folder: Path, finding: str, work: Path, most: int
) -> tuple[pl.DataFrame, list[tuple[np.ndarray, np.ndarray, Size]]]:
    """Return, of one set, at most about `most` of its images, whole patients: rows for
    `probe.questions`, and images with the lungs found in them.
    """
    manifest = some(ingest.ingest(folder), most)
    cached = cache.fill(manifest, Pixels(), work / f"cache-{folder.name}")
    rows = manifest.table.join(
        manifest.states(finding).select("image_id", "state"), on="image_id", maintain_order="left"
    )
    rows = rows.join(
        cached.readable.select("image_id", "row", "height", "width"),
        on="image_id",
        maintain_order="left",
    ).drop_nulls("row")
    images = cached.images[rows["row"].to_numpy()]
    labels, trust = lungs(
        images,
        rows.select("height", "width").rows(),
        work / f"lungs-{storage.digest(rows['image_id'].to_list())}.npz",
    )
    believed = np.flatnonzero(
        (trust >= LungCrop().min_mask_quality) & ((labels > 0).mean((1, 2)) > 0.02)
    )
    print(f"{folder.name}: {len(believed)} of {rows.height} images with believed lungs", flush=True)
    sizes = rows.select("height", "width").rows()
    return rows[believed], [(images[k], labels[k], sizes[k]) for k in believed]


def some(manifest: Manifest, most: int) -> Manifest:
    names = np.random.default_rng(SEED).permutation(
        manifest.table["patient_id"].unique().sort().to_numpy()
    )
    counts = dict(manifest.table["patient_id"].value_counts().iter_rows())
    kept = names[np.cumsum([counts[name] for name in names]) <= most]
    return manifest.only(
        manifest.table.filter(pl.col("patient_id").is_in(kept.tolist()))["image_id"]
    )


def lungs(images: np.ndarray, sizes: list[Size], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return labels uint8 (n, size, size) and their quality, found once."""
    if not path.exists():
        model, found = pretrained.lung_model(), []
        for done, (image, size) in enumerate(zip(images, sizes, strict=True)):
            found.append(lung_finder.segment_lungs(model, image, size))
            if done % 100 == 0:
                print(f"  lungs of {done} of {len(images)}", flush=True)
        with storage.replacing(path) as beside, open(beside, "wb") as stream:
            np.savez_compressed(
                stream,
                labels=np.stack([one.labels for one in found]),
                quality=np.array([one.quality for one in found]),
            )
    stored = np.load(path)
    return stored["labels"], stored["quality"]


def backbone() -> Callable[[np.ndarray], np.ndarray]:
    import torch

    from hilum.training import efficientnet_backbone

    network = efficientnet_backbone.Backbone().eval()
    efficientnet_backbone.load_imagenet(network)
    torch.set_num_threads(1)

    def describe(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            parts = [
                network(torch.from_numpy(some).unsqueeze(1).float() / 255).mean((2, 3)).numpy()
                for some in np.array_split(images, -(-len(images) // 16))
            ]
        return np.concatenate(parts)

    return describe


def measured(name: str, arguments: argparse.Namespace) -> pl.DataFrame:
    folders, finding = GROUPS[name]
    read = [
        radiographs(arguments.data / folder, finding, arguments.work, arguments.most)
        for folder in folders
    ]
    rows = pl.concat([table for table, _ in read])
    images = [one for _, several in read for one in several]
    describe = backbone() if arguments.features == "backbone" else _shortcut_probes.features
    found = shortcuts.described(lambda k: images[k], len(images), LungCrop(), quietly, describe)
    requested = [*shortcuts.questions(rows, finding), *given_parts(rows, finding)]
    return shortcuts.answers(
        found, requested, rows["patient_id"].to_numpy(), Evaluate(seed=SEED), quietly
    )


def given_parts(rows: pl.DataFrame, finding: str) -> Iterator[shortcuts.Question]:
    """Yield where a set comes with a test part: whether that can be predicted from the rest, among
    those with the finding and among those without.
    """
    held_out = (rows["given_part"] == "test").fill_null(False)
    for state, word in (
        ((State.ABSENT, "absent"), (State.PRESENT, "present")) if held_out.any() else ()
    ):
        classes = np.where((rows["state"] == state).fill_null(False), held_out, -1).astype(np.int64)
        yield shortcuts.Question("given part", classes, ("trained on", "test"), f"{finding} {word}")


def written(name: str, probes: pl.DataFrame, arguments: argparse.Namespace) -> None:
    columns = shortcuts.columns(probes.filter(pl.col("reason") == ""))
    print(console.columns(columns), flush=True)
    cells = [
        list(columns.columns),
        ["---"] * columns.width,
        *([str("–" if cell is None else cell) for cell in row] for row in columns.iter_rows()),
    ]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    command = (
        f"python -m benchmarks.accuracy.shortcuts --data {arguments.data} --work WORK --what {name}"
        f" --features {arguments.features} --most {arguments.most}"
    )
    note = (
        "AUROC with its 95 % interval over patients, cross-validated by patient, of a linear"
        " probe on "
        + (
            "EfficientNet-Lite0's ImageNet features"
            if arguments.features == "backbone"
            else "thumbnails, histograms and fineness of detail"
        )
        + "; `chance up to`: the most that the same probe reached with labels shuffled between"
        f" patients, {_shortcut_probes.SHUFFLES} times for each part. Parts: `python -c 'import"
        " hilum.pipeline._shortcut_probes; help(hilum.pipeline._shortcut_probes)'`; `box` is the"
        " lungs' box, `lungs` that with all but the lungs black."
    )
    warned = [
        f"- {sentence}."
        for sentence in shortcuts.warnings(probes.filter(pl.col("target") == GROUPS[name][1]))
    ]
    unasked = [
        f"- {row['target']}{'' if row['within'] == shortcuts.ALL else ' within ' + row['within']}"
        f" is not evaluated: {row['reason']}."
        for row in probes.filter((pl.col("reason") != "") & (pl.col("view") == "whole")).iter_rows(
            named=True
        )
    ]
    title = f"Shortcuts: {name}, {name_of(GROUPS[name][1]).lower()}, features {arguments.features}"
    record(
        title,
        "\n".join(
            [
                f"`{command}` on {machine('numpy', 'onnxruntime')}.",
                note,
                "",
                *lines,
                "",
                *warned,
                *unasked,
            ]
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="the folder that holds montgomery/, shenzhen/ and kermany-224/",
    )
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help="where caches and found lungs are kept until the next run",
    )
    parser.add_argument("--what", nargs="+", default=list(GROUPS), choices=list(GROUPS))
    parser.add_argument("--features", default="handmade", choices=["handmade", "backbone"])
    parser.add_argument("--most", type=int, default=2000, help="images of a set, whole patients")
    parser.add_argument(
        "--no-record",
        action="store_true",
        help="print only, and leave the page of results as it is",
    )
    arguments = parser.parse_args()
    for name in arguments.what:
        probes = measured(name, arguments)
        if arguments.no_record:
            print(
                console.columns(shortcuts.columns(probes.filter(pl.col("reason") == ""))),
                *shortcuts.warnings(probes),
                sep="\n",
            )
        else:
            written(name, probes, arguments)


if __name__ == "__main__":
    main()
