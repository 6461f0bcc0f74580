"""Measure how well the classifiers rank and call a finding within a set, in another set, and on an
official test part.

    python -m benchmarks.accuracy.findings --data ../shared/data --work work --what in-set cross
    kermany --content whole lungs masked
    python -m benchmarks.accuracy.findings --data ../shared/data --work work --what in-set cross
    --model probe

in-set: five folds by patient of Shenzhen. cross: trained on Shenzhen and tested on Montgomery, and
back. kermany: trained on the train part, tested on the official 624 images;
benchmarks/accuracy/kermany_shift.py and benchmarks/accuracy/shortcuts.py say what is different
about them. A tenth of the patients that are trained on is the tune part: it says where the
threshold lies, which is transferred to the test images, and to models that watch it when to stop.
Beside it stands the threshold that the test images would have chosen for themselves, by halves of
their patients, each half called by the other's.

The stages that the probe sees were chosen on five folds of Shenzhen, so its in-set figures are a
little optimistic. Of three recipes for EfficientNet-Lite0 two train to the end; its defaults are
the one of these with the better AUROC in the tune parts of Shenzhen's folds (0.967 and 0.957; the
other chose its weights there, so its tune figure is no guide). Nothing else is chosen by test
images. What a training gave stays in --work, so that a run which was cut goes on; the page of
results is written from what is there.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks._lib.finding_sets import CONTENTS, FINDING, Seen, missing, read
from benchmarks._lib.lung_sets import dealt, parted
from benchmarks._lib.results import machine, record
from benchmarks._lib.settings import chosen
from hilum import plugins, storage
from hilum.statistics import bootstrap
from hilum.statistics.metrics import discrimination

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # before torch is imported: threads that wait must not count as CPU seconds
FOLDS, SEED = 5, 0
SETS = {"in-set": ("shenzhen",), "cross": ("shenzhen", "montgomery"), "kermany": ("kermany",)}


class Job(NamedTuple):
    title: str
    name: str
    learn: np.ndarray  # rows
    test: np.ndarray


def jobs(what: str, seen: Seen) -> Iterator[Job]:
    if what == "in-set":
        fold = dealt(seen.patients, FOLDS)
        for number in range(FOLDS):
            yield Job(
                f"shenzhen, {FOLDS} folds",
                f"in-{number}",
                np.flatnonzero(fold != number),
                np.flatnonzero(fold == number),
            )
    if what == "cross":
        for one, other in (SETS["cross"], SETS["cross"][::-1]):
            yield Job(f"{one} -> {other}", f"cross-{one}-{other}", seen.of(one), seen.of(other))
    if what == "kermany":
        yield Job(
            "kermany, official test",
            "kermany",
            np.flatnonzero(seen.parts != "test"),
            np.flatnonzero(seen.parts == "test"),
        )


def scored(arguments: argparse.Namespace, seen: Seen, job: Job, where: Path) -> dict[str, Any]:
    """Return the scores of the tune and the test images, and what it took."""
    import torch

    torch.set_num_threads(arguments.threads)
    module, reported = plugins.load("models", arguments.model), [0.0]
    learn, tune = parted(seen.patients, job.learn)
    begun = time.process_time()

    def progress(done: int, of: int) -> None:
        if time.time() - reported[0] > 20:
            reported[0] = time.time()
            print(
                f"  {arguments.content} {job.name}: {done} of {of},"
                f" {time.process_time() - begun:.0f} CPU s",
                flush=True,
            )

    targets = seen.states.astype(np.float32)[:, None]
    settings = module.Settings(**arguments.settings)
    reported_to = {
        "concepts": [FINDING[str(seen.sources[0])]],
        "seed": SEED,
        "tune": tune,
        "progress": progress,
    }
    checkpoint = where.with_suffix(".checkpoint")
    network = module.fit(
        seen.images,
        targets,
        learn,
        settings,
        checkpoint=checkpoint,
        **reported_to,
    )
    cpu = time.process_time() - begun
    checkpoint.unlink(missing_ok=True)
    rows = {"tune": tune, "test": job.test}
    found = {
        part: {
            "image": seen.image_ids[some].tolist(),
            "patient": seen.patients[some].tolist(),
            "set": seen.sources[some].tolist(),
            "state": seen.states[some].tolist(),
            "score": requested(network, seen.images[some]),
        }
        for part, some in rows.items()
    }
    return {"cpu_s": cpu, "images": len(learn), **found}


def requested(network: Any, images: np.ndarray) -> list[float]:
    import torch

    with torch.no_grad():
        return [float(network(torch.from_numpy(image[None]))[0].reshape(-1)[0]) for image in images]


# ------------------------------------------------------------------------------------------ figures


def figures(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of several folds: AUROC is the mean over folds of each fold's own, as
    scores of two trainings have no common scale.
    """
    folds = np.concatenate(
        [np.full(len(one["test"]["state"]), number) for number, one in enumerate(results)]
    )
    truth, score, patients = (
        np.concatenate([one["test"][column] for one in results])
        for column in ("state", "score", "patient")
    )
    transferred = np.concatenate(
        [
            called(
                one["test"]["score"],
                discrimination.youden_threshold(one["tune"]["state"], one["tune"]["score"]),
            )
            for one in results
        ]
    )
    reoptimised = np.concatenate([by_halves(one["test"]) for one in results])

    def area(rows: np.ndarray) -> float:
        # nan where a fold lacks a class: the resample is left out and counted, not averaged over
        # fewer folds
        return float(
            np.mean(
                [
                    discrimination.auroc(
                        truth[rows[folds[rows] == fold]], score[rows[folds[rows] == fold]]
                    )
                    for fold in range(len(results))
                ]
            )
        )

    reported = {"AUROC": bootstrap.bootstrap_patients(area, patients)}
    for name, calls in (("transferred", transferred), ("reoptimised", reoptimised)):
        for metric in ("sensitivity", "specificity"):
            reported[f"{metric}, {name}"] = bootstrap.bootstrap_patients(
                partial(at_half, getattr(discrimination, metric), truth, calls), patients
            )
        reported[f"accuracy, {name}"] = bootstrap.bootstrap_patients(
            lambda rows, calls=calls: float(np.mean(truth[rows] == calls[rows])), patients
        )
    return {
        "images": len(truth),
        "positive": int(truth.sum()),
        **reported,
        "tune AUROC": float(
            np.mean(
                [
                    discrimination.auroc(one["tune"]["state"], one["tune"]["score"])
                    for one in results
                ]
            )
        ),
    }


def at_half(metric: Any, truth: np.ndarray, calls: np.ndarray, rows: np.ndarray) -> float:
    return metric(truth[rows], calls[rows], 0.5)


def called(score: list[float], threshold: float) -> np.ndarray:
    return (np.array(score) >= threshold).astype(np.float64)


def by_halves(test: dict[str, list[Any]]) -> np.ndarray:
    """Return calls of each half of the patients by the threshold that the other half chose."""
    half, truth, score = (
        dealt(np.array(test["patient"]), 2),
        np.array(test["state"]),
        np.array(test["score"]),
    )
    calls = np.full(len(truth), np.nan)
    for number in range(2):
        calls[half == number] = called(
            score[half == number],
            discrimination.youden_threshold(truth[half != number], score[half != number]),
        )
    return calls


def named(about: dict[str, Any]) -> str:
    """Return the model, the side of what it sees, and its settings that are not its defaults."""
    known = plugins.defaults("models", about["model"], "Settings")
    return ", ".join(
        [
            f"{about['model']} {about['size']}",
            *(
                f"{name} {value}"
                for name, value in about["settings"].items()
                if value != known[name]
            ),
        ]
    )


def write(arguments: argparse.Namespace) -> None:
    """Record the table of all that is in --work."""
    columns: list[str] = []
    lines = []
    for content in CONTENTS:
        for folder in sorted(arguments.work.glob(f"findings-*-{content}-*")):
            about, results = storage.read_json(folder / "about.json"), {}
            for path in sorted(folder.glob("*.result.json")):
                one = storage.read_json(path)
                results.setdefault(one["title"], []).append(one)
            for title, some in results.items():
                reported = figures(some)
                columns = [name for name in reported if name not in ("images", "positive")]
                cells = [
                    (
                        f"{cell:.3f}"
                        if isinstance(cell, float)
                        else f"{cell.value:.3f} ({cell.low:.3f} to {cell.high:.3f})"
                    )
                    for cell in (reported[name] for name in columns)
                ]
                missing = " (cut)" if "folds" in title and len(some) < FOLDS else ""
                cpu = np.mean([one["cpu_s"] for one in some])
                lines.append(
                    f"| {title}{missing} | {named(about)} | {content} | {reported['images']} |"
                    f" {reported['positive']} | {' | '.join(cells)} | {cpu:.0f} |"
                )
    head = (
        f"| trained and tested | model | content | images | positive | {' | '.join(columns)} | CPU"
        " s of a training |"
    )
    note = (
        "95 % intervals over patients. The threshold is the tune part's (Youden), carried;"
        " re-tuned: that of the other half of the test patients. Of folds, AUROC is the mean of"
        " each fold's own."
    )
    command = (
        f"`python -m benchmarks.accuracy.findings --data {arguments.data} --work WORK --what in-set"
        " cross kermany --content whole lungs masked`"
    )
    record(
        "Findings",
        "\n".join(
            [
                f"{command} on {machine('numpy', 'torch')}.",
                note,
                "",
                head,
                "| --- | --- | --- | " + "--: | " * (len(columns) + 3),
                *sorted(lines),
            ]
        ),
    )


# --------------------------------------------------------------------------------------------- main


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
        help="where caches and results are kept until the next run",
    )
    parser.add_argument("--what", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--content", nargs="+", default=["lungs"], choices=CONTENTS)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument(
        "--folds", type=int, nargs="+", help="only these numbers of the jobs of each --what"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the model"
    )
    arguments = parser.parse_args()
    arguments.settings = chosen(arguments.model, arguments.set)
    if absent := missing(arguments.data, {name for what in arguments.what for name in SETS[what]}):
        sys.exit(f"no {' and no '.join(absent)} in {arguments.data}")
    for content in arguments.content:
        arguments.content = content
        about = {"model": arguments.model, "size": arguments.size, "settings": arguments.settings}
        folder = (
            arguments.work / f"findings-{arguments.model}-{content}-{storage.digest(about)[:8]}"
        )
        storage.write_json(folder / "about.json", about)
        for what in arguments.what:
            sets = [
                read(arguments.data, name, content, arguments.size, arguments.work)
                for name in SETS[what]
            ]
            seen = sets[0] if len(sets) == 1 else sets[0] + sets[1]
            for number, job in enumerate(jobs(what, seen)):
                path = folder / f"{job.name}.result.json"
                if not path.exists() and (arguments.folds is None or number in arguments.folds):
                    storage.write_json(
                        path, {"title": job.title, **scored(arguments, seen, job, path)}
                    )
                    one = storage.read_json(path)
                    print(
                        f"{content} {job.name}: AUROC"
                        f" {discrimination.auroc(one['test']['state'], one['test']['score']):.4f},"
                        f" {one['cpu_s']:.0f} CPU s",
                        flush=True,
                    )
        write(arguments)


if __name__ == "__main__":
    main()
