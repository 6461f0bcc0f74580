"""Fit src/hilum/resources/age_group.json, the rule that recognises small children by the outlines
of the lungs, and measure it on sets that it has not seen.

    python -m tools.build_models.fit_age_group --data ../shared/data --work work [--out
    src/hilum/resources/age_group.json]

--data holds kermany-224/, montgomery/ and shenzhen/, and where they are there nih-sample/ and
kermany-original/. Children of Montgomery and Shenzhen are left out of the fit: most are of school
age. Half a minute; what is seen of the images is kept in --work.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl
from scipy.optimize import minimize
from scipy.special import expit

from benchmarks._lib.lung_sets import dealt
from benchmarks._lib.results import machine, record
from hilum import storage
from hilum.annotations import lung_masks
from hilum.config import Pixels
from hilum.inference import age_group, pretrained
from hilum.pipeline import cache, ingest
from hilum.statistics.metrics.discrimination import auroc

CHILDREN, ADULTS, OTHERS = (
    ("kermany-224",),
    ("montgomery", "shenzhen"),
    ("nih-sample", "kermany-original"),
)
MOST = 1200  # images of a set, evenly out of it
FOLDS, RIDGE, TAIL = 5, 0.01, 0.01
OF_AGE = 18.0


def seen(data: Path, name: str, work: Path) -> pl.DataFrame:
    """Return the image_id, patient_id, age_years and the signs of a set's images; those without
    signs are left out.
    """
    manifest = ingest.ingest(data / name)
    every = max(1, manifest.table.height // MOST)
    manifest = manifest.only(manifest.table.gather_every(every)["image_id"])
    kept, model = work / f"age-{name}.parquet", pretrained.lung_model()
    made_of = storage.digest([manifest.digest, storage.digest_of_file(model.path), age_group.SIGNS])
    if kept.exists() and (found := storage.read_table(kept))["made_of"][0] == made_of:
        return found
    radiographs = cache.fill(manifest, Pixels(size=model.contract.size), work / f"cache-{name}")
    rows = []
    for image_id, row in radiographs.readable.select("image_id", "row").iter_rows():
        signs = age_group.signs(
            lung_masks.from_probabilities(model(radiographs.images[row])["lungs"])
        )
        if signs:
            rows.append({"image_id": image_id, **signs})
    found = (
        pl.DataFrame(rows)
        .join(manifest.table.select("image_id", "patient_id", "age_years"), on="image_id")
        .with_columns(made_of=pl.lit(made_of))
    )
    storage.write_table(kept, found)
    return found


def fit(signs: np.ndarray, child: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the weights and bias for signs as they are; both classes weigh the same."""
    middle, spread = signs.mean(0), signs.std(0)
    x = (signs - middle) / spread
    fraction = np.where(child, 0.5 / child.sum(), 0.5 / (~child).sum())

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        odds = x @ values[:-1] + values[-1]
        wrong = fraction * (expit(odds) - child)
        value = (fraction * (np.logaddexp(0, odds) - child * odds)).sum() + RIDGE / 2 * (
            values[:-1] ** 2
        ).sum()
        return value, np.append(x.T @ wrong + RIDGE * values[:-1], wrong.sum())

    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x
    weights = found[:-1] / spread
    return weights, float(found[-1] - weights @ middle)


def matrix(table: pl.DataFrame) -> np.ndarray:
    return table.select(age_group.SIGNS).to_numpy()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="where to write the rule")
    arguments = parser.parse_args()
    sets = {
        name: seen(arguments.data, name, arguments.work)
        for name in (*CHILDREN, *ADULTS, *OTHERS)
        if (arguments.data / name).is_dir()
    }
    children, all_adults = (
        pl.concat([sets[name] for name in names], how="vertical_relaxed")
        for names in (CHILDREN, ADULTS)
    )
    adults = all_adults.filter(pl.col("age_years") >= OF_AGE)
    signs, child = (
        np.concatenate([matrix(children), matrix(adults)]),
        np.repeat([True, False], [children.height, adults.height]),
    )
    fold = dealt(np.array([*children["patient_id"], *adults["patient_id"]]), FOLDS)
    held = np.empty(len(child))
    for number in range(FOLDS):
        weights, bias = fit(signs[fold != number], child[fold != number])
        held[fold == number] = signs[fold == number] @ weights + bias
    weights, bias = fit(signs, child)
    small, grown = float(np.quantile(held[~child], 1 - TAIL)), float(np.quantile(held[child], TAIL))
    rule = {
        "weights": dict(zip(age_group.SIGNS, weights.round(6).tolist(), strict=True)),
        "bias": round(bias, 6),
        "small": round(small, 4),
        "grown": round(grown, 4),
    }
    if arguments.out:
        storage.write_json(arguments.out, rule)
    lines = [
        (
            f"Out of fold, {child.sum()} films of children of one to five years (Kermany) and"
            f" {(~child).sum()} of adults (Montgomery, Shenzhen): AUROC {auroc(child, held):.3f};"
            f" {np.mean(held[child] > small):.0%} of the children's are called a small child's and"
            f" {TAIL:.0%} of the adults'; {np.mean(held[~child] < grown):.0%} of the adults' are"
            f" called grown and {TAIL:.0%} of the children's."
        ),
        "",
        (
            "| films that it was not fitted to | images | called a small child's | called grown |"
            " not reported |"
        ),
        "| --- | --- | --- | --- | --- |",
    ]
    others = {
        "Montgomery and Shenzhen, below 18 years (2 and above)": all_adults.filter(
            pl.col("age_years") < OF_AGE
        )
    }
    if "nih-sample" in sets:
        others["NIH sample, adults"] = sets["nih-sample"].filter(pl.col("age_years") >= OF_AGE)
    if "kermany-original" in sets:
        others["Kermany, in their true shape (of the same hospital)"] = sets["kermany-original"]
    for name, table in others.items():
        odds = matrix(table) @ weights + bias
        fractions = (
            np.mean(odds > small),
            np.mean(odds < grown),
            np.mean((odds <= small) & (odds >= grown)),
        )
        lines.append(
            f"| {name} | {table.height} |"
            f" {' | '.join(f'{fraction:.0%}' for fraction in fractions)} |"
        )
    text = "\n".join(
        [
            "`python -m tools.build_models.fit_age_group --data ../shared/data --work WORK`",
            "",
            *lines,
            "",
            machine("onnxruntime", "scipy"),
        ]
    )
    record("Small child or not, by the outlines of the lungs", text)
    print(text)


if __name__ == "__main__":
    main()
