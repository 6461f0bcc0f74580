"""Fit src/hilum/resources/age_group.onnx: child or adult, by a frontal chest radiograph.

    python -m tools.build_models.films --data ../shared/data --work FILMS
    python -m tools.build_models.fit_age_group --films FILMS --work WORK --out src/hilum/resources

The network is the encoder of a lung model, up to its third resolution, averaged over 4x4 cells of
the whole image. It is that of the model of one protocol, bundled earlier, and is taken from
age_group.onnx itself: the encoder of two protocols ranks NIH's children less well (AUROC 0.964
instead of 0.975 with NIH left out). Beside it stand the ranks of the grey levels in 16x16 cells of
the image without its border. The log-odds are linear in both: a ridge regression on 1 up to 8
years, falling to 0 at 18 years, in which each source counts alike and the few children of adults'
hospitals count half as much as all its adults, since they alone do not differ by hospital. Each
image is shown mirrored, too. The strength was chosen by leaving Montgomery and Shenzhen out, and
COVID: of 0.1, 0.3 and 1 the first ranks children of the clinics best, by 0.004, but takes 16 % of
the COVID films for children's, the second 10 %.

Children of Kermany are of one to five years; their exact age is not known. Some minutes.
benchmarks/accuracy/age_group.py measures what this fits, by patients and by sources left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import polars as pl
from onnx import TensorProto, helper, numpy_helper

from benchmarks._lib.lung_sets import dealt
from hilum import storage
from hilum.inference import age_group, pretrained
from hilum.inference.onnx_model import InputContract
from hilum.safety import onnx_file
from hilum.safety.onnx_session import Session
from hilum.training import onnx_export

LAYER = "/network/down.2/down.2.5/Relu_output_0"  # 96 channels of 16x16 of the encoder
CHANNELS, GRID, CELLS = 96, 16, 4
STRENGTH, KERMANY, YOUNG = 0.3, 1.5, 0.5  # weights: all of Kermany, all children of another source
YOUTH, FEWEST = 14.0, 10  # years; so many children count fully
FOLDS = 5
CHILD_TAIL, ADULT_LEVEL = 0.007, 0.9  # adults classified as children; adults that get an answer
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Films:
    """Features float32 (n, d) of images and of their mirror images, with the facts of each film."""

    features: np.ndarray
    mirrored: np.ndarray
    facts: pl.DataFrame

    @property
    def source(self) -> np.ndarray:
        """The collection of each film, str (n,)."""
        return self.facts["source"].to_numpy()

    @property
    def fold(self) -> np.ndarray:
        """A fold by patient, int (n,)."""
        return dealt(self.facts["patient_id"].to_numpy(), FOLDS)

    @property
    def years(self) -> np.ndarray:
        """Ages float64 (n,); 3 in Kermany, nan where unknown."""
        known = self.facts["age_years"].to_numpy().astype(np.float64).copy()
        known[self.source == "kermany"] = 3.0
        return known

    @property
    def child(self) -> np.ndarray:
        """Which are at most ten years old."""
        return self.years <= age_group.OLDEST_CHILD

    @property
    def adult(self) -> np.ndarray:
        """Which are 18 years old or older, or of unknown age in a collection of adults."""
        return (self.years >= age_group.YOUNGEST_ADULT) | np.isnan(self.years)


@dataclass(frozen=True)
class Rule:
    """A linear function of the features and its limits, see `hilum.inference.age_group`."""

    weights: np.ndarray
    bias: float
    child: float = 0.0
    adult: float = 0.0

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Compute the log-odds."""
        return features @ self.weights + self.bias


# ---------------------------------------------------------------------------- features


def read(folders: Sequence[Path], work: Path) -> Films:
    """Read what `tools.build_models.films` prepared; features are kept in `work`."""
    parts = [_read(folder, work) for folder in folders]
    names = set.intersection(*(set(part.facts.columns) for part in parts))
    return Films(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.mirrored for part in parts]),
        pl.concat([part.facts.select(sorted(names)) for part in parts]),
    )


def _read(folder: Path, work: Path) -> Films:
    facts = pl.read_parquet(folder / "facts.parquet").with_row_index("row")
    # Of kermany-224 the official test part alone: its other films are in kermany-448, unsquashed.
    facts = facts.filter((pl.col("set") != "kermany-224") | (pl.col("part") == "test"))
    images = np.load(folder / "whole.npy", mmap_mode="r")
    encoder = encoder_of(onnx.load(pretrained.path(pretrained.AGE_GROUP)))
    made_of = storage.digest([facts["pixel_digest"].to_list(), storage.digest(encoder)])
    kept = work / f"age-features-{made_of}.npz"
    if not kept.exists():
        session = Session(encoder, "encoder", images.shape[1], trusted=True)
        both = [
            (
                features(session, np.ascontiguousarray(image)),
                features(session, image[:, ::-1].copy()),
            )
            for image in (images[row] for row in facts["row"])
        ]
        plain, mirrored = (np.stack(some).astype(np.float16) for some in zip(*both, strict=True))
        with storage.replacing(kept) as beside, open(beside, "wb") as stream:
            np.savez(stream, plain=plain, mirrored=mirrored)
    with np.load(kept) as stored:
        plain, mirrored = (stored[name].astype(np.float32) for name in ("plain", "mirrored"))
    return Films(plain, mirrored, facts.with_columns(folder=pl.lit(str(folder))))


def features(session: Session, image: np.ndarray) -> np.ndarray:
    """Compute encoder features and ranks, float32 (CHANNELS * CELLS^2 + RANKS^2,)."""
    (cells,) = session.run(["features"], {"images": image[None]})
    return np.concatenate([cells[0], age_group.rank_cells(image)])


def encoder_of(lungs: onnx.ModelProto) -> bytes:
    """Return the part of the lung model up to LAYER, averaged over cells, as an ONNX file."""
    graph = lungs.graph
    made = {output: node for node in graph.node for output in node.output}
    wanted, waiting = [], [LAYER]
    while waiting:
        name = waiting.pop()
        if name in made and made[name] not in wanted:
            wanted.append(made[name])
            waiting += list(made[name].input)
    order = [node for node in graph.node if node in wanted]
    step = GRID // CELLS
    order += [
        helper.make_node(
            "AveragePool", [LAYER], ["cells"], kernel_shape=[step] * 2, strides=[step] * 2
        ),
        helper.make_node("Flatten", ["cells"], ["features"], axis=1),
    ]
    used = {name for node in order for name in node.input}
    made_graph = helper.make_graph(
        order,
        "age_group",
        list(graph.input),
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", CHANNELS * CELLS**2])],
        [one for one in graph.initializer if one.name in used],
    )
    return helper.make_model(
        made_graph, opset_imports=list(lungs.opset_import), ir_version=lungs.ir_version
    ).SerializeToString(deterministic=True)


# ---------------------------------------------------------------------------- the rule


def target(years: np.ndarray) -> np.ndarray:
    """Return 1 up to 8 years, falling linearly to 0 at 18 and beyond; 0 for an unknown age."""
    return np.nan_to_num(np.clip((age_group.YOUNGEST_ADULT - years) / 10, 0, 1))


def importance(films: Films) -> np.ndarray:
    """Return the weight of each film: each source 1 in all, see KERMANY and YOUNG."""
    weight = np.zeros(len(films.source))
    for one in np.unique(films.source):
        here = films.source == one
        young = here & (films.years < YOUTH)
        if one == "kermany":
            weight[here] = KERMANY / here.sum()
            continue
        weight[here & ~young] = 1 / max((here & ~young).sum(), 1)
        weight[young] = YOUNG * min(1, young.sum() / FEWEST) / max(young.sum(), 1)
    return weight


def fit(films: Films, rows: np.ndarray, strength: float = STRENGTH) -> Rule:
    """Fit the linear function to `rows`, without limits."""
    x = np.concatenate([films.features[rows], films.mirrored[rows]])
    y = np.tile(target(films.years[rows]), 2)
    weight = np.tile(importance(films)[rows], 2)
    weight = (weight / weight.sum()).astype(np.float32)
    mean = weight @ x
    spread = np.sqrt(weight @ (x - mean) ** 2) + 1e-3
    scaled = (x - mean) / spread * np.sqrt(weight)[:, None]
    gram = (scaled.T @ scaled).astype(np.float64)
    gram[np.diag_indices_from(gram)] += strength
    centre = float(weight @ y)
    found = np.linalg.solve(gram, scaled.T @ (np.sqrt(weight) * (y - centre))) / spread
    # A scale on which 0 lies half-way and differences resemble log-odds.
    gain = 10.0
    return Rule(gain * found, gain * (centre - float(found @ mean) - 0.5))


def limited(rule: Rule, films: Films, rows: np.ndarray, out_of_fold: np.ndarray) -> Rule:
    """Set the limits by log-odds of patients that the rule had not seen; sources count alike."""
    adults = rows[films.adult[rows]]
    weight = np.zeros(len(films.source))
    for one in np.unique(films.source[adults]):
        here = adults[films.source[adults] == one]
        weight[here] = 1 / len(here)
    child, adult = (
        _quantile(out_of_fold[adults], weight[adults], level)
        for level in (1 - CHILD_TAIL, ADULT_LEVEL)
    )
    return Rule(rule.weights, rule.bias, child, min(adult, child))


def _quantile(values: np.ndarray, weight: np.ndarray, level: float) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weight[order]) / weight.sum()
    return float(values[order][min(np.searchsorted(reached, level), len(values) - 1)])


def cross_fitted(films: Films, rows: np.ndarray, strength: float = STRENGTH) -> np.ndarray:
    """Compute log-odds (n,) of `rows`, each by a rule of other patients; nan elsewhere."""
    found = np.full(len(films.source), np.nan)
    for number in range(FOLDS):
        held = rows[films.fold[rows] == number]
        found[held] = fit(films, rows[films.fold[rows] != number], strength)(films.features[held])
    return found


# ---------------------------------------------------------------------------- the file


def write(rule: Rule, films: Films, to: Path) -> None:
    """Write the network with the rule. Raises `SystemExit` where it is larger than MAX_BYTES."""
    model = onnx.load_from_string(encoder_of(onnx.load(pretrained.path(pretrained.AGE_GROUP))))
    count = CHANNELS * CELLS**2
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(rule.weights[:count, None].astype(np.float32), "weights"),
            numpy_helper.from_array(np.array([rule.bias], np.float32), "bias"),
        ]
    )
    model.graph.node.append(helper.make_node("Gemm", ["features", "weights", "bias"], ["child"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("child", TensorProto.FLOAT, ["n", 1]))
    size = pretrained.lung_model().contract.size
    contract = InputContract("age_group", size, "whole", "percentiles", ("child",))
    sources = films.facts.group_by("source").len().sort("source")
    counts = ", ".join(f"{source} {number}" for source, number in sources.iter_rows())
    metadata = {
        "contract": asdict(contract),
        "card": {
            "title": "Age group of frontal chest radiographs, the model that comes with Hilum",
            "licence": "CC BY-NC-SA 4.0, as the bundled lung model whose encoder it contains",
            "source": "tools/build_models/fit_age_group.py of Hilum",
            "counts": counts,
            "caveats": "Separates children of up to ten years from adults; it is no measure of "
            "age. Few children of 6 to 10 years were among its training images. For research only.",
        },
        "trained_on": {"images": films.facts.height, "sources": sources["source"].to_list()},
        "limits": {"child": round(rule.child, 4), "adult": round(rule.adult, 4)},
        "rank_weights": rule.weights[count:].round(7).tolist(),
    }
    helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    if len(content) > MAX_BYTES:
        raise SystemExit(f"{len(content)} bytes; expected at most {MAX_BYTES}")
    onnx_file.examine(content, to.name)
    storage.write_bytes(to, content)
    onnx_export.to_half_weights(to, to)


def main() -> None:
    """Parse the command line, fit the rule and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True, help="where features are kept")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write into")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    films = read(arguments.films, arguments.work)
    rows = np.flatnonzero(trainable(films))
    rule = limited(fit(films, rows), films, rows, cross_fitted(films, rows))
    write(rule, films, arguments.out / pretrained.AGE_GROUP)
    print(f"child above {rule.child:.3f}, adult below {rule.adult:.3f}, {len(rows)} films")


def trainable(films: Films) -> np.ndarray:
    """Return which films may be fitted to: all but Kermany's official test part."""
    return (films.facts["set"] != "kermany-224").to_numpy()


if __name__ == "__main__":
    main()
