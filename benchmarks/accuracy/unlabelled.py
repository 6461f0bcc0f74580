"""Measure whether images without reference masks help a lung model: a teacher trained on reference
masks segments the other images, and a student is trained on both.

    python -m benchmarks.accuracy.unlabelled --data ../shared/data --work work

Self-training (Lee 2013, "Pseudo-Label"; Xie et al. 2020, "Self-training with Noisy Student improves
ImageNet classification"): the teacher sees each undrawn image once and unchanged; what it finds is
trained on under all changes of the augmentation. Kept whole, or only where the teacher is SURE: the
rest is unknown, which nothing is trained on. Two cases, tested on a fifth of Shenzhen, its first
fold; of the other four folds

    other hospital   all are taken as undrawn, and Montgomery is drawn
    few drawn        a fifth is drawn, the rest taken as undrawn

Teacher and student are trained alike and as long, drawn images repeated until they count as much as
the others. Differences are paired by patient. What a training gave stays in --work.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._lib.lung_sets import SETS, WIDE, Drawn, dealt, read
from benchmarks._lib.results import machine, record
from benchmarks._lib.settings import again, chosen
from benchmarks.accuracy.lungs import FOLDS, kept, requested, tested, trained
from hilum import storage
from hilum.annotations import lung_masks
from hilum.statistics import bootstrap

UNDRAWN = (  # the set that they count to, so that drawn images are repeated until there are as many
    "undrawn"
)
SURE = {
    "all that was found": 0.0,
    "where it is sure": 0.8,
}  # probability of the likelier answer, below which a pixel is unknown


@dataclass(frozen=True)
class Case:
    """Hold rows of a `Drawn`: with reference masks, without, and to test on."""

    name: str
    drawn: np.ndarray
    undrawn: np.ndarray
    test: np.ndarray


def cases(radiographs: Drawn) -> list[Case]:
    montgomery, shenzhen = map(radiographs.of, SETS)
    fold = dealt(radiographs.patients[shenzhen], FOLDS)
    learn, test = shenzhen[fold != 0], shenzhen[fold == 0]
    few = dealt(radiographs.patients[learn], FOLDS, seed=1) == 0
    return [
        Case("other hospital", montgomery, learn, test),
        Case("few drawn", learn[few], learn[~few], test),
    ]


def pseudo(network: Any, radiographs: Drawn, rows: np.ndarray, sure: float) -> Drawn:
    """Return `images` with what the network finds in `rows` in place of their masks, and these a
    set of their own.
    """
    masks = radiographs.masks.copy()
    for row in rows:
        likely = requested(network, radiographs.images[row])
        found, best = lung_masks.from_probabilities(likely), likely.max(axis=0)
        masks[row] = np.where(np.maximum(best, 1 - best) < sure, lung_masks.IGNORE, found)
    return replace(
        radiographs,
        masks=masks,
        sources=np.where(np.isin(np.arange(len(masks)), rows), UNDRAWN, radiographs.sources),
    )


def compared(
    case: Case, radiographs: Drawn, arguments: argparse.Namespace, folder: Path
) -> list[str]:
    """Return a line of the teacher and one of each student."""
    name = case.name.replace(" ", "-")

    @cache
    def teacher() -> tuple[Any, dict[str, Any]]:
        return trained(
            arguments.model, radiographs, case.drawn, arguments.settings, f"{name}, teacher"
        )

    def made(network: Any, took: dict[str, Any]) -> dict[str, Any]:
        return {"cpu_s": took["cpu_s"], "found": tested(network, radiographs, case.test)}

    def student(sure: float) -> dict[str, Any]:
        more = pseudo(teacher()[0], radiographs, case.undrawn, sure)
        return made(
            *trained(
                arguments.model,
                more,
                case.drawn,
                arguments.settings,
                f"{name}, student {sure}",
                also=case.undrawn,
            )
        )

    before = kept(folder / f"{name}-teacher.json", lambda: made(*teacher()))
    lines = [line(case, "teacher", before, before)]
    for words, sure in SURE.items():
        after = kept(folder / f"{name}-student-{sure}.json", lambda sure=sure: student(sure))
        lines.append(line(case, f"student, {words}", after, before))
    print(*lines, sep="\n", flush=True)
    return lines


def line(case: Case, who: str, found: dict[str, Any], before: dict[str, Any]) -> str:
    dices, others = (
        np.array([one["dice"] for one in reported["found"]]) for reported in (found, before)
    )
    patients = [one["patient"] for one in found["found"]]
    mean, more = (
        bootstrap.bootstrap_patients(lambda rows, of=of: float(of[rows].mean()), patients)
        for of in (dices, dices - others)
    )
    difference = (
        "" if found is before else f"{more.value:+.4f} ({more.ci_low:+.4f} to {more.ci_high:+.4f})"
    )
    counts = f"{len(case.drawn)} | {len(case.undrawn) if found is not before else 0} | {len(dices)}"
    return (
        f"| {case.name} | {who} | {counts} | {mean.value:.4f} ({mean.ci_low:.4f} to"
        f" {mean.ci_high:.4f}) | {difference} | {found['cpu_s']:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="the folder that holds montgomery/ and shenzhen/"
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="where results are kept until the next run"
    )
    parser.add_argument("--model", default="compact_unet")
    parser.add_argument("--steps", type=int, default=1500, help="batches of each training")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the model"
    )
    arguments = parser.parse_args()
    arguments.settings = chosen(
        arguments.model, arguments.set, least_steps=arguments.steps, epochs=1, **WIDE
    )
    montgomery, shenzhen = (read(arguments.data, name, 256, arguments.work) for name in SETS)
    radiographs = montgomery + shenzhen
    folder = (
        arguments.work / f"unlabelled-{arguments.model}-{storage.digest(arguments.settings)[:8]}"
    )
    lines = [
        "| case | trained | drawn | undrawn | tested | Dice | more than the teacher | CPU s |",
        "| --- | --- | --: | --: | --: | --- | --- | --: |",
    ]
    for case in cases(radiographs):
        lines += compared(case, radiographs, arguments, folder)
    command = (
        f"python -m benchmarks.accuracy.unlabelled --data {arguments.data} --work WORK --model"
        f" {arguments.model} --steps {arguments.steps}{again(arguments.set)}"
    )
    made_by = f"`{command}` on {machine('numpy', 'torch')}."
    record(
        f"Lungs: images without masks, {arguments.model}",
        "\n".join([made_by, "Means over images, 95 % intervals over patients.", "", *lines]),
    )


if __name__ == "__main__":
    main()
