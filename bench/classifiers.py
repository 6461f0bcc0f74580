"""Classifiers of tuberculosis: how well they rank within a set and across sets, of whole pictures, lung boxes and masked lungs.

    python bench/classifiers.py --data ../shared/data --work work --what in-set cross
    python bench/classifiers.py --data ../shared/data --work work --what in-set --model efficientnet_lite0 --content whole --set epochs=10

in-set: five folds by patient of Shenzhen. cross: learnt from Shenzhen and tested on Montgomery, and the other way about. Each is a run of Hilum
whose split is given, so that lungs, regions and classifier share it; an eighth of the patients that are learnt from is the tune part,
which chooses thresholds. Whole pictures need no lungs; for the others the run trains its own segmenter. Runs stay in --work, and one that is
finished is not made again. RESULTS.md is written from what is there.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum import intervals, store
from hilum.exported import Exported
from hilum.metrics import ranking
from hilum.recipe import SHIPPED, Recipe
from hilum.run import Run
from hilum.steps import Progress, chain, ingest, predict, train
from results import machine, record

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported: threads that wait must not count as CPU seconds
FOLDS, SEED, TUNE = 5, 0, 8  # of the patients that are learnt from, every TUNE-th is watched
SETS = ("shenzhen", "montgomery")
CONTENTS = {
    "whole": {"content": "whole"},
    "lungs": {},
    "masked": {"masked": True},
}
MODELS = ("probe", "efficientnet_lite0")


@dataclass(frozen=True)
class Job:
    """One run: which sets it reads, and the part of each patient."""

    name: str
    data: tuple[Path, ...]
    parts: dict[str, str]


def jobs(what: str, data: Path) -> Iterator[Job]:
    rng = np.random.default_rng(SEED)
    if what == "in-set":
        patients = rng.permutation(_patients(data / SETS[0]))
        for fold in range(FOLDS):
            test, rest = patients[fold::FOLDS], np.delete(patients, np.s_[fold::FOLDS])
            yield Job(f"in-set-{fold}", (data / SETS[0],), dict.fromkeys(test, "test") | _learnt(rest))
    else:
        for learnt, tested in (SETS, SETS[::-1]):
            rest, test = rng.permutation(_patients(data / learnt)), _patients(data / tested)
            yield Job(f"{learnt} to {tested}", (data / learnt, data / tested), dict.fromkeys(test, "test") | _learnt(rest))


def _patients(folder: Path) -> np.ndarray:
    return ingest.ingest(folder).table["patient_id"].unique().sort().to_numpy()


def _learnt(patients: np.ndarray) -> dict[str, str]:
    return {patient: "train" if at % TUNE else "tune" for at, patient in enumerate(patients)}


@contextmanager
def quietly(step: str) -> Iterator[Progress]:
    print(f"  {step}", flush=True)
    yield lambda done, of: None


def made(job: Job, place: Path, sections: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Scores of the run's tune and test parts with the truth, the seconds that its training took, and those of one picture's score."""
    split = place / "given.parquet"
    parts = pl.DataFrame({"patient_id": list(job.parts), "part": list(job.parts.values())}).sort("patient_id")
    store.write_table(split, parts)
    folder, *also = map(str, job.data)
    recipe = Recipe.of({"data": {"folder": folder, "also": also}, "split": {"keep": str(split)}, **sections})
    run, seconds = Run(place / "run"), place / "seconds.json"
    for done in chain.perform(run, recipe, quietly, until="predict"):
        if done.step == "train" and not done.kept:
            store.write_json(seconds, {"training": done.seconds})
    truth = store.read_table(run / "split.parquet").select("image_id", "group", "state")
    scores = store.read_table(run / predict.SCORES).join(truth, on="image_id").filter(pl.col("state") >= 0)
    return {"scores": scores, "training": store.read_json(seconds)["training"], "one": _one(run), "images": run.summary("train")["trained on images"]}


def _one(run: Run) -> float:
    """Seconds that the classifier takes for one picture, the median of 20."""
    model, took = Exported(run / train.FINDING), []
    picture = np.random.default_rng(0).integers(0, 256, (model.contract.size,) * 2, np.uint8)
    for _ in range(21):
        begun = time.perf_counter()
        model(picture)
        took.append(time.perf_counter() - begun)
    return float(np.median(took[1:]))


def figures(one: dict[str, Any], stage: str) -> dict[str, float]:
    """AUROC with its interval over patients, and sensitivity and specificity at the carried and at the re-tuned threshold."""
    tune, test = (one["scores"].filter((pl.col("part") == part) & (pl.col("stage") == stage)) for part in ("tune", "test"))
    truth, score = test["state"].to_numpy(), test["score"].to_numpy()
    told = intervals.over_patients(lambda rows: ranking.auroc(truth[rows], score[rows]), test["group"].to_list(), seed=SEED)._asdict()
    for name, rows in (("carried", tune), ("re-tuned", test)):
        threshold = ranking.youden_threshold(rows["state"].to_numpy(), rows["score"].to_numpy())
        for metric in ("sensitivity", "specificity"):
            told[f"{metric} {name}"] = ranking.METRICS_AT[metric](truth, score, threshold=threshold)
    return told | {"images": test.height}


def row(what: str, label: tuple[str, ...], ones: list[dict[str, Any]]) -> str:
    found = [figures(one, "finding") for one in ones]
    mean = {key: float(np.mean([fold[key] for fold in found])) for key in found[0]}
    spread = f"{mean['low']:.3f} to {mean['high']:.3f}" if what == "cross" else " ".join(f"{fold['value']:.3f}" for fold in found)
    pairs = (f"{mean[f'sensitivity {name}']:.3f} / {mean[f'specificity {name}']:.3f}" for name in ("carried", "re-tuned"))
    cost = f"{np.mean([one['training'] for one in ones]) / 60:.1f}", f"{1000 * np.mean([one['one'] for one in ones]):.0f}"
    anomaly = float(np.mean([figures(one, "anomaly")["value"] for one in ones]))
    return "| " + " | ".join([*label, f"{mean['value']:.3f}", spread, *pairs, f"{anomaly:.3f}", *cost]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--what", nargs="+", choices=("in-set", "cross"), default=["in-set", "cross"])
    parser.add_argument("--model", nargs="+", default=list(MODELS))
    parser.add_argument("--content", nargs="+", choices=tuple(CONTENTS), default=list(CONTENTS))
    parser.add_argument("--segment", default="compact", help="the lung model that runs with lungs train")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the classifier")
    parser.add_argument("--folds", type=int, default=FOLDS, help="make so many of the five, to try")
    arguments = parser.parse_args()
    settings = dict(map(partial(str.split, sep="=", maxsplit=1), arguments.set))
    settings = {key: value if not value.replace(".", "").isdigit() else float(value) if "." in value else int(value) for key, value in settings.items()}
    for what in arguments.what:
        lines = ["| model | region | test | AUROC | folds, or 95 % interval | sens / spec carried | sens / spec re-tuned | anomaly AUROC | training, min | ms a picture |",
                 "| --- | --- | --- | --: | --- | --- | --- | --: | --: | --: |"]  # fmt: skip
        for content in arguments.content:
            for model in arguments.model:
                tag = "-".join([model, content, *arguments.set])
                sections = {
                    "segment": {"model": SHIPPED if content == "whole" else arguments.segment},
                    "region": CONTENTS[content],
                    "classify": {"model": model, "finding": "tuberculosis", **settings},
                }
                found = {}
                for job in list(jobs(what, arguments.data))[: arguments.folds]:
                    print(f"{tag}: {job.name}", flush=True)
                    found[job.name] = made(job, arguments.work / tag / job.name.replace(" ", "-"), sections)
                if what == "in-set":
                    lines.append(row(what, (tag, content, SETS[0]), list(found.values())))
                else:
                    lines += [row(what, (tag, content, name), [one]) for name, one in found.items()]
        print("\n".join(lines))
        if arguments.folds >= FOLDS:
            command = f"`python bench/classifiers.py --data ../shared/data --work work --what {what}`\nMachine: {machine('torch', 'onnxruntime')}"
            record(f"Classifiers of tuberculosis, {what}", f"Command: {command}\n\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
