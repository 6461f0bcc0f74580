"""Score the films that the bundled tuberculosis model was trained and tuned on out of fold.

    OMP_NUM_THREADS=1 python -m tools.build_models.out_of_fold --films FILMS --work WORK

The train and tune films of tools/build_models/films.py are dealt into `FOLDS` folds by patient. A
network is trained on all folds but one, with the recipe that the bundled model's card states (with
--start from the features of tools/build_models/pneumonia_backbone.py, to try these), and
scores the films of the fold that it has not seen. No test film is read. Writes

    WORK/out_of_fold.parquet   one row per film: image_id, fold, score in (0, 1)

Finished folds and epochs are kept in WORK, so the same command resumes after an interruption.
tools/build_models/finish_tuberculosis.py chooses the no-call band from these scores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks._lib.lung_sets import dealt
from hilum import storage
from hilum.inference import pretrained
from hilum.inference.onnx_model import OnnxModel
from hilum.training.models import efficientnet_lite0
from tools.build_models import pneumonia_backbone
from tools.build_models.train_findings import TASKS

NAME, FOLDS = "tuberculosis", 5
FILE = "out_of_fold.parquet"
TOGETHER = 16  # films scored at once


@dataclass(frozen=True)
class Places:
    """The folder of films.py, the folder to write, and the weights to start from, if any."""

    films: Path
    work: Path
    start: Path | None = None

    def scores(self, number: int) -> Path:
        """Return the file of a fold's scores; its name is made of all that they depend on."""
        facts = own(self.films)
        digests, states = facts["pixel_digest"].to_list(), facts["tuberculosis"].to_list()
        made_from = [digests, states, recipe(), FOLDS]
        if self.start:
            made_from.append(storage.digest_of_file(self.start))
        return self.work / f"fold-{number}-{storage.digest(made_from)}.npy"


def recipe() -> dict[str, Any]:
    """Return the settings of the bundled model's training and its "seed"."""
    return json.loads(OnnxModel(pretrained.path(f"{NAME}.onnx")).metadata["card"]["recipe"])


def scored(facts: pl.DataFrame) -> np.ndarray:
    """Return the rows of the films to score, (n,): own train and tune films."""
    wanted = facts["set"].is_in(list(TASKS[NAME].folders))
    return np.flatnonzero((wanted & facts["part"].is_in(["train", "tune"])).to_numpy())


def own(folder: Path) -> pl.DataFrame:
    """Return the facts of the films to score."""
    facts = pl.read_parquet(folder / "facts.parquet")
    return facts[scored(facts)]


def folds(facts: pl.DataFrame) -> np.ndarray:
    """Return the fold, (n,), of each of the films to score: whole patients."""
    return dealt(facts["patient_id"].to_numpy(), FOLDS)


def scores_of_fold(places: Places, number: int) -> np.ndarray:
    """Return the scores (n,) of the films of one fold by a network trained on the others."""
    kept = places.scores(number)
    if kept.exists():
        return np.load(kept)
    facts, settings = own(places.films), recipe()
    rows = scored(pl.read_parquet(places.films / "facts.parquet"))
    crops = np.load(places.films / "crops.npy", mmap_mode="r")[rows]
    fold, seed, begun = folds(facts), settings.pop("seed"), time.monotonic()

    def progress(done: int, of: int) -> None:
        if done % 20 == 0:
            print(
                f"fold {number}: {done} of {of} batches, {time.monotonic() - begun:.0f} s",
                flush=True,
            )

    checkpoint = kept.with_suffix(".checkpoint")
    network = pneumonia_backbone.fit_of(places.start)(
        crops,
        facts["tuberculosis"].to_numpy().astype(np.float32)[:, None],
        np.flatnonzero(fold != number),
        efficientnet_lite0.Settings(**settings),
        concepts=[NAME],
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
    )
    held_out = torch.from_numpy(crops[fold == number])
    with torch.no_grad():
        found = [network(batch)[0][:, 0].numpy() for batch in held_out.split(TOGETHER)]
    with storage.replacing(kept) as beside, open(beside, "wb") as stream:
        np.save(stream, np.concatenate(found))
    checkpoint.unlink(missing_ok=True)
    return np.load(kept)


def main() -> None:
    """Train the folds' networks and write the scores."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=Path, required=True, help="the folder of films.py")
    parser.add_argument("--work", type=Path, required=True, help="the folder to write")
    parser.add_argument("--start", type=Path, help="the file of pneumonia_backbone.py")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    facts = own(arguments.films)
    fold, score = folds(facts), np.empty(facts.height)
    places = Places(arguments.films, arguments.work, arguments.start)
    # A forked process would inherit the locks of Polars' threads and wait for ever.
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(scores_of_fold, places, number) for number in range(FOLDS)]
        for number, one in enumerate(waiting):
            score[fold == number] = one.result()
    columns = [pl.Series("fold", fold), pl.Series("score", score)]
    storage.write_table(arguments.work / FILE, facts.select("image_id").with_columns(columns))


if __name__ == "__main__":
    main()
