"""Measure the shift of Kermany's official test part: the pretrained model of children on normal
films, by their number.

    python -m benchmarks.accuracy.kermany_shift --data ../shared/data --work work

The part was dealt out by number: its normal films are the first ones of either series (IM-…,
NORMAL2-IM-…), those that are trained on follow. In order of their numbers, a quarter of each part's
films a row: how many the model calls well at its transferred threshold, and its mean log-odds. The
tune part, random patients of those after, stands beside. Below, what the whole test part comes to
with the lungs that come with Hilum now, as they may have been trained anew since the model was
trained. --work is that of tools/build_models/train_findings.py.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks._lib.results import machine, record
from hilum.inference import pretrained
from hilum.statistics import bootstrap, calibration
from hilum.statistics.metrics import discrimination
from tools.build_models import train_findings

NAME, ROWS = "pneumonia_child", 4
PARTS = ("tune", "test")
SERIES = re.compile(r"(NORMAL2-IM|IM)-(\d+)")


def requested(data: Path, reader: pretrained.PretrainedModel, work: Path) -> pl.DataFrame:
    """Return the films of PARTS with their facts and the model's `score`."""
    task = train_findings.TASKS[NAME]
    table, images = train_findings.facts(data, *task.folders, task, work, 0)
    table = table.filter(pl.col("part").is_in(PARTS))
    lungs = train_findings.found(table, images, task.shape, work / "lungs")
    cuts = train_findings.regions(table, images, task.shape, *lungs, reader.crop, reader.typical)
    return table.with_columns(score=pl.Series(train_findings.scores(reader.place, np.stack(cuts))))


def lines(normal: pl.DataFrame, part: str, threshold: float) -> list[str]:
    named = [SERIES.search(image_id).groups() for image_id in normal["image_id"]]
    series, number, score = (
        np.array([name for name, _ in named]),
        np.array([int(digits) for _, digits in named]),
        normal["score"].to_numpy(),
    )
    reported = []
    for name in np.unique(series):
        at = np.flatnonzero(series == name)
        for some in np.array_split(at[np.argsort(number[at])], ROWS):
            well, mean = np.mean(score[some] < threshold), calibration.logit(score[some]).mean()
            reported.append(
                f"| {part} | {name} | {number[some].min()} to {number[some].max()} | {len(some)} |"
                f" {well:.2f} | {mean:.1f} |"
            )
    return reported


def figures(test: pl.DataFrame, threshold: float) -> str:
    truth, score = test["state"].to_numpy(), test["score"].to_numpy()
    reported = []
    for name, metric, at in (
        ("AUROC", discrimination.auroc, ()),
        *(
            (name, discrimination.METRICS_AT[name], (threshold,))
            for name in ("accuracy", "sensitivity", "specificity")
        ),
    ):
        found = bootstrap.bootstrap_patients(
            lambda rows, metric=metric, at=at: metric(truth[rows], score[rows], *at),
            test["patient_id"].to_numpy(),
        )
        reported.append(f"{name} {found.value:.3f} ({found.ci_low:.3f} to {found.ci_high:.3f})")
    return (
        f"The {test.height} films of the test part, at the transferred threshold:"
        f" {', '.join(reported)}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder that holds kermany-224/"
    )
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    reader = pretrained.PretrainedModel(pretrained.path(f"{NAME}.onnx"))
    threshold = reader.calibration[train_findings.TASKS[NAME].concept]["threshold"]
    films = requested(arguments.data, reader, arguments.work)
    normal = films.filter(pl.col("state") == 0)
    head = [
        "| part | series | numbers | normal films | called well | mean log-odds |",
        "| --- | --- | --- | --: | --: | --: |",
    ]
    table = [
        line
        for part in PARTS
        for line in lines(normal.filter(pl.col("part") == part), part, threshold)
    ]
    command = (
        f"`python -m benchmarks.accuracy.kermany_shift --data {arguments.data} --work WORK` on"
        f" {machine('onnxruntime')}."
    )
    text = "\n".join(
        [command, "", *head, *table, "", figures(films.filter(pl.col("part") == "test"), threshold)]
    )
    record("Kermany: normal films by number", text)
    print(text)


if __name__ == "__main__":
    main()
