"""What is different about the official test part of Kermany: the children's model that comes with Hilum on normal films, by their number.

    python bench/kermany_shift.py --data ../shared/data --work work

The part was dealt out by number: its normal films are the first ones of either series (IM-…, NORMAL2-IM-…), those that are learnt from follow. In order of
their numbers, a quarter of each part's films a row: how many the model calls well at its carried threshold, and its mean log-odds. The tune part,
random patients of those after, stands beside. --work is that of bench/train_findings.py, which keeps the lungs there.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np

import train_findings
from hilum import calibration, shipped
from hilum.recipe import Region
from results import machine, record

NAME, ROWS = "pneumonia_child", 4
SERIES = re.compile(r"(NORMAL2-IM|IM)-(\d+)")


def lines(cuts: train_findings.Cuts, part: str, threshold: float) -> list[str]:
    rows = cuts.rows(part)[cuts.truth(part) == 0]
    score = train_findings.scores(shipped.path(f"{NAME}.onnx"), cuts.images[rows])
    named = [SERIES.search(image_id).groups() for image_id in cuts.facts["image_id"].to_numpy()[rows]]
    series, number = np.array([name for name, _ in named]), np.array([int(number) for _, number in named])
    told = []
    for name in np.unique(series):
        at = np.flatnonzero(series == name)
        for some in np.array_split(at[np.argsort(number[at])], ROWS):
            well, mean = np.mean(score[some] < threshold), calibration.logit(score[some]).mean()
            told.append(f"| {part} | {name} | {number[some].min()} to {number[some].max()} | {len(some)} | {well:.2f} | {mean:.1f} |")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds kermany-224/")
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    model = shipped.opened(shipped.path(f"{NAME}.onnx"))
    told = model.metadata["region"]
    cutting = Region(size=model.contract.size, margin=told["margin"], masked=told["masked"], least_quality=told["least_quality"])
    cuts = train_findings.cut(arguments.data, train_findings.TASKS[NAME], arguments.work, 0, cutting)
    threshold = next(iter(model.metadata["calibration"].values()))["threshold"]
    head = ["| part | series | numbers | normal films | called well | mean log-odds |", "| --- | --- | --- | --: | --: | --: |"]
    table = [*head, *lines(cuts, "tune", threshold), *lines(cuts, "test", threshold)]
    command = f"`python bench/kermany_shift.py --data {arguments.data} --work WORK` on {machine('onnxruntime')}."
    record("Kermany: normal films by number", "\n".join([command, "", *table]))
    print("\n".join(table))


if __name__ == "__main__":
    main()
