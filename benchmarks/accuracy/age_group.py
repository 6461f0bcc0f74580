"""The age-group model: child or adult, by patients and by sources that it has not seen.

    python -m tools.build_models.films --data ../shared/data --work FILMS
    python -m benchmarks.accuracy.age_group --films FILMS FILMS/kermany224 --work WORK

Rows: out of fold by patient, and with a whole source left out, limits and all; in the latter the
limits are those of the other sources' patients. Wrong is a child of at most 10 years classified as
an adult, or an adult of 18 or more as a child; youths between are in no figure but the last table.
Then what the bundled model of children's pneumonia calls where no file states an age: a film that
is taken for a child's and lies in the model's own domain. The ridge's strength was chosen
by leaving Montgomery and Shenzhen out, and COVID, so their rows are not free of choice; nothing was
chosen on NIH.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks._lib.results import machine, record
from hilum.inference import pretrained
from hilum.statistics import bootstrap
from hilum.statistics.metrics.discrimination import auroc
from tools.build_models.fit_age_group import (
    Films,
    Rule,
    cross_fitted,
    fit,
    limited,
    read,
    trainable,
)

NIH, CLINICS = ("nih",), ("montgomery", "shenzhen")
LEFT_OUT = (NIH, CLINICS, ("covid",), ("kermany",))


def scored_without(
    films: Films, sources: tuple[str, ...], rows: np.ndarray
) -> tuple[Rule, np.ndarray]:
    """Return the rule of all other sources, limits and all, and its log-odds of every film."""
    others = rows[~np.isin(films.source[rows], sources)]
    rule = limited(fit(films, others), films, others, cross_fitted(films, others))
    return rule, rule(films.features)


def figures(films: Films, rows: np.ndarray, odds: np.ndarray, rule: Rule) -> str:
    """Return the cells of a table row for the children and adults among `rows`."""
    rows = rows[films.child[rows] | films.adult[rows]]
    child, found = films.child[rows], odds[rows]
    patients = films.facts["patient_id"].to_numpy()[rows]
    area = "-"
    if child.any() and not child.all():
        interval = bootstrap.bootstrap_patients(
            lambda some: auroc(child[some], found[some]), patients, seed=0
        )
        area = f"{interval.value:.3f} ({interval.ci_low:.3f} to {interval.ci_high:.3f})"
    missed, false = child & (found < rule.adult), ~child & (found > rule.child)
    unstated = (found >= rule.adult) & (found <= rule.child)
    return (
        f"{child.sum()} / {(~child).sum()} | {area} | {missed.sum()} | {false.sum()} | "
        f"{(missed | false).mean():.1%} | {unstated.mean():.1%}"
    )


def answers(films: Films, rows: np.ndarray, odds: np.ndarray, rule: Rule) -> str:
    """Return the fraction of `rows` that are taken for children, and that then get a call."""
    taken = rows[odds[rows] > rule.child]
    called = sum(map(in_domain, films.facts[taken].select("folder", "row").iter_rows()))
    return f"{len(rows)} | {len(taken) / len(rows):.1%} | {called} | {called / len(rows):.1%}"


@cache
def in_domain(film: tuple[str, int]) -> bool:
    """Return whether a film (folder, row) lies in the domain of the model of children."""
    folder, row = film
    model = pretrained.PretrainedModel(pretrained.path("pneumonia_child.onnx")).model
    crop = np.ascontiguousarray(np.load(Path(folder) / "crops.npy", mmap_mode="r")[row])
    return model.place(crop, model(crop)).inside


def tables(films: Films) -> Iterator[str]:
    """Yield the lines of the record."""
    rows = np.flatnonzero(trainable(films))
    whole = cross_fitted(films, rows)
    rule = limited(fit(films, rows), films, rows, whole)
    without = {names: scored_without(films, names, rows) for names in LEFT_OUT}
    yield (
        "| evaluated | fitted to | children / adults | AUROC | children as adults "
        "| adults as children | wrong | not stated |"
    )
    yield "| --- | --- | --- | --- | --: | --: | --: | --: |"
    for names in LEFT_OUT:
        here = rows[np.isin(films.source[rows], names)]
        title = ", ".join(names)
        yield f"| {title} | other patients | {figures(films, here, whole, rule)} |"
        left_rule, odds = without[names]
        yield f"| {title} | other sources | {figures(films, here, odds, left_rule)} |"
    yield ""
    yield (
        "| what pneumonia_child calls where no age is stated | age group fitted to | films "
        "| taken for a child's | and in its domain: called | fraction called |"
    )
    yield "| --- | --- | --: | --: | --: | --: |"
    groups = {
        "nih, 18 years and older": (NIH, films.adult),
        "nih, 11 to 17 years": (NIH, ~films.adult & ~films.child),
        "montgomery and shenzhen, 18 and older": (CLINICS, films.adult),
        "covid, all but one of them adults": (("covid",), films.source == "covid"),
        "kermany-448": (("kermany",), films.source == "kermany"),
    }
    for title, (names, chosen) in groups.items():
        here = rows[np.isin(films.source[rows], names) & chosen[rows]]
        yield f"| {title} | other patients | {answers(films, here, whole, rule)} |"
        left_rule, odds = without[names]
        yield f"| {title} | other sources | {answers(films, here, odds, left_rule)} |"
    held = np.flatnonzero(~trainable(films))
    if len(held):
        cells = answers(films, held, rule(films.features), rule)
        yield f"| kermany-224, official test | other patients | {cells} |"
    yield ""
    yield (
        "Nine tenths of the patients of kermany-448 were shown to the domain of pneumonia_child, "
        "none of the official test part."
    )
    yield ""
    yield "| nih, years | films | child | not stated | adult |"
    yield "| --- | --: | --: | --: | --: |"
    nih, ends = rows[films.source[rows] == "nih"], (0, 6, 11, 15, 18, 30, 60, 130)
    for low, high in zip(ends, ends[1:], strict=False):
        here = nih[(films.years[nih] >= low) & (films.years[nih] < high)]
        child, adult = whole[here] > rule.child, whole[here] < rule.adult
        yield (
            f"| {low} to {high - 1} | {len(here)} | {child.mean():.0%} | "
            f"{(~child & ~adult).mean():.0%} | {adult.mean():.0%} |"
        )


def main() -> None:
    """Parse the command line, measure and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    lines = list(tables(read(arguments.films, arguments.work)))
    command = "`python -m benchmarks.accuracy.age_group --films FILMS FILMS/kermany224 --work WORK`"
    text = "\n".join([f"{command} on {machine('numpy', 'onnxruntime')}.", "", *lines])
    print(text)
    record("Age group: child or adult", text)


if __name__ == "__main__":
    main()
