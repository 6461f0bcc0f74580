"""Look: where the finding model looks on some test images, and whether that is in the lungs and where the finding is drawn.

    looks.parquet          one row an image and method, see LOOKS
    look/maps.npy          float16 (n, GRID, GRID): the maps over the regions that the model was shown, in units of the logit; the n-th
                           row's, all 0 of a control
    look/covered.parquet   see COVERED
    look/figures.parquet   means over images with their intervals over patients, see FIGURES: of all images and of those that are drawn on

Methods are those of `hilum.inference.saliency`. Looked at are the test images that are called most confidently, right and wrong (`choice`, one of
CHOICES), and up to DRAWN on which the finding is drawn. `inside` is the share of the map's positive mass that lies in the lungs, `area`
their share of the picture, `gain` the one over the other: all over the region that the model was shown, by the lungs found in it. The pointing
game and box IoU are of the cached picture, against all that is drawn of the finding, and beside two controls that see no picture: CENTRES, the
middle of each lung, and EVENLY, a random point in the lungs.

What the maps say of some images, `explain/covered.parquet` says of the test part, at most about MOST images of it: the AUROC of the same model as
it was shown the regions, with the lungs covered by the mean tone around them, and with all else covered by theirs. A model that tells the
finding without the lungs has learnt something else too.

Not a step of the chain: `hilum explain RUN` does it, and the next report takes it in.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations import lung_masks, shapes
from hilum.annotations.vocabulary import State
from hilum.config import Evaluate, Recipe
from hilum.dataset.manifest import Manifest
from hilum.errors import HilumError, NotFound
from hilum.imaging.geometry import Chain, Crop, Letterbox, Size
from hilum.inference import lung_crop, saliency
from hilum.inference.onnx_model import InputContract, OnnxModel
from hilum.pipeline import _shortcut_probes, cache, division, predict, segment
from hilum.pipeline import crop as region
from hilum.pipeline._training import digests
from hilum.pipeline.division import Division
from hilum.progress import Progress, portion
from hilum.run_folder import Run
from hilum.statistics import bootstrap
from hilum.statistics.metrics import discrimination, localisation

VERSION = 2
TABLE, MAPS, AVERAGES, COVERS = (
    "looks.parquet",
    "explain/maps.npy",
    "explain/figures.parquet",
    "explain/covered.parquet",
)
EACH, DRAWN = 4, 24  # images of a choice, and of those that are drawn on
CHOICES = ("present, found", "present, missed", "absent, called present", "absent, left alone")
OTHERWISE = "drawn on"  # the choice of an image that is there for what is drawn on it
LUNG_CENTRES, UNIFORM_IN_LUNGS = CONTROLS = ("centre of a lung", "random point in the lungs")
LOOKS = {
    "image_id": pl.String,
    "group": pl.String,
    "concept": pl.String,
    "choice": pl.String,
    "state": pl.Int8,
    "score": pl.Float64,
    "method": pl.String,
    "inside": pl.Float64,
    "area": pl.Float64,
    "gain": pl.Float64,
    "drawn": pl.Int64,
    "pointing_game": pl.Float64,
    "box_iou": pl.Float64,
}
AS_SHOWN, WITHOUT, ALONE = "as shown", "lungs covered", "all but the lungs covered"
MOST = 400
COVERED = {
    "shown": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n_undefined": pl.Int64,
    "images": pl.Int64,
    "patients": pl.Int64,
    "positives": pl.Int64,
    "left_out": pl.Int64,
}
AVERAGED = ("inside", "area", "gain", "pointing_game", "box_iou")
FIGURES = {
    "method": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n_undefined": pl.Int64,
    "images": pl.Int64,
    "patients": pl.Int64,
    "left_out": pl.Int64,
}
NAN = float("nan")


@dataclass(frozen=True)
class Shown:
    """What a model was shown of one file: the region, the lungs in it, and the ways to the cached picture and to the file."""

    image: np.ndarray  # uint8 (size, size)
    labels: np.ndarray  # uint8, lungs found in the cached picture
    crop: Crop
    size: Size  # of the file

    @property
    def from_cached(self) -> Chain:
        return Chain((self.crop, Letterbox(self.crop.target, self.image.shape[0])))

    @property
    def from_file(self) -> Chain:
        return lung_crop.Cut(self.image, self.crop, "").to_file(self.size)

    @property
    def lungs(self) -> np.ndarray:
        """bool, in the region."""
        return lung_masks.downsample_labels(self.labels, self.from_cached.forward) > 0

    def in_file(self, found: np.ndarray) -> np.ndarray:
        """A map of the region as float32 in the file's own pixels, 0 outside the region."""
        return self.from_file.back(saliency.upsample(found, self.image.shape[0]))

    def in_cached(self, found: np.ndarray) -> np.ndarray:
        return self.from_cached.back(saliency.upsample(found, self.image.shape[0]))

    def reference_mask(self, things: list[shapes.Shape]) -> np.ndarray:
        """bool, in the cached picture: all that is drawn on the file."""
        mask = np.zeros(self.size, bool)
        for thing in things:
            mask |= thing.to_mask(self.size)
        return (
            Letterbox(self.size, self.crop.source[0]).forward(mask.astype(np.uint8) * np.uint8(255))
            >= 128
        )


def attention(found: np.ndarray, shown: Shown) -> dict[str, float]:
    """`inside`, `area` and `gain` of one map."""
    picture = Letterbox(shown.crop.target, shown.image.shape[0]).inside()
    inside, strength = shown.lungs[picture], saliency.upsample(found, shown.image.shape[0])[picture]
    return {
        "inside": localisation.fraction_inside(inside, strength),
        "area": float(inside.mean()) if inside.any() else np.nan,
        "gain": localisation.gain_inside(inside, strength),
    }


def agreement(found: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
    """`pointing_game` and `box_iou` of a map and what is drawn, both over the cached picture."""
    return {
        "pointing_game": localisation.pointing_game(drawn, found),
        "box_iou": localisation.box_iou(drawn, found),
    }


def controls(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Maps that see no more than found lungs, by name of CONTROLS: nothing has to be drawn by chance, equal maxima count by their share."""
    centres = np.zeros(labels.shape, np.float32)
    for side in lung_masks.SIDES.values():
        if (labels == side).any():
            rows, columns = np.nonzero(labels == side)
            centres[round(rows.mean()), round(columns.mean())] = 1
    return {LUNG_CENTRES: centres, UNIFORM_IN_LUNGS: (labels > 0).astype(np.float32)}


# -------------------------------------------------------------------------------------------------------------------------- the images


def chosen(rows: pl.DataFrame, drawn_on: pl.Series) -> pl.DataFrame:
    """The test images to look at, with `choice`; `rows` have image_id, part, state and score of the finding.

    The threshold is Youden's on the tune part, as evaluation has it; without one the choices are by the score alone.
    """
    known = rows.filter(pl.col("state") >= State.ABSENT)
    tune, test = (known.filter(pl.col("part") == part) for part in ("tune", "test"))
    threshold = discrimination.youden_threshold(tune["state"].to_numpy(), tune["score"].to_numpy())
    parts = []
    for choice, state, above in zip(CHOICES, (1, 1, 0, 0), (True, False, True, False), strict=True):
        of = test.filter(pl.col("state") == state)
        if not np.isnan(threshold):
            of = of.filter((pl.col("score") >= threshold) == above)
        parts.append(
            of.sort("score", "image_id", descending=[above, False])
            .head(EACH)
            .with_columns(choice=pl.lit(choice))
        )
    more = (
        rows.filter((pl.col("part") == "test") & pl.col("image_id").is_in(drawn_on.implode()))
        .sort("image_id")
        .head(DRAWN)
    )
    parts.append(more.with_columns(choice=pl.lit(OTHERWISE)))
    return pl.concat(parts).unique("image_id", keep="first", maintain_order=True)


def column(contract: InputContract, concept: str) -> int:
    """Where a concept stands among the columns of a model's score."""
    if concept not in contract.concepts:
        raise NotFound.named("finding of this model", concept, contract.concepts)
    return contract.concepts.index(concept)


def shown(run: Run, recipe: Recipe) -> Iterator[tuple[str, Shown]]:
    """By image id, of all images that have a region."""
    regions = region.Crops.of(run, recipe.crop.size)
    masks = segment.Masks.of(run, recipe.pixels.size)
    facts = cache.opened(run, recipe).readable.select("image_id", "height", "width")
    side = recipe.pixels.size
    for row in regions.index.join(facts, on="image_id", maintain_order="left").iter_rows(
        named=True
    ):
        crop = Crop((side, side), *(row[end] for end in lung_crop.SIDES))
        yield (
            row["image_id"],
            Shown(
                regions.images[row["row"]],
                masks.get(row["image_id"]),
                crop,
                (row["height"], row["width"]),
            ),
        )


def drawn_of(manifest: Manifest, concept: str) -> dict[str, list[shapes.Shape]]:
    """What is drawn of a finding, by image id."""
    rows = manifest.shapes.filter(pl.col("concept") == concept)
    found: dict[str, list[shapes.Shape]] = {}
    for image_id, text in rows.select("image_id", "shape").iter_rows():
        found.setdefault(image_id, []).append(shapes.from_json(text))
    return found


# ------------------------------------------------------------------------------------------------------------------------- the figures


def attributed(
    model: OnnxModel, at: int, picture: Shown, things: list[shapes.Shape]
) -> Iterator[tuple[str, dict[str, Any], np.ndarray | None]]:
    """Method, columns of LOOKS and map of one image; the controls, which have no map, where something is drawn."""
    drawn = picture.reference_mask(things)
    for method, found in saliency.maps(model, picture.image, at).items():
        against = agreement(picture.in_cached(found), drawn) if drawn.any() else {}
        yield method, {**attention(found, picture), "drawn": len(things), **against}, found
    for method, found in controls(picture.labels).items() if drawn.any() else ():
        yield method, {"drawn": len(things), **agreement(found, drawn)}, None


def occlusion_variants(picture: Shown) -> dict[str, np.ndarray]:
    """The region as it is, without the lungs and with them alone; what lies beside the picture in its square stays."""
    inside = Letterbox(picture.crop.target, picture.image.shape[0]).inside()
    lung, wide = (mask[inside] for mask in (picture.lungs, _shortcut_probes.rimmed(picture.lungs)))
    made = {name: picture.image.copy() for name in (AS_SHOWN, WITHOUT, ALONE)}
    made[WITHOUT][inside][wide] = (
        round(float(picture.image[inside][~wide].mean())) if not wide.all() else 0
    )
    made[ALONE][inside][~lung] = round(float(picture.image[inside][lung].mean()))
    return made


def covered(
    model: OnnxModel,
    at: int,
    rows: pl.DataFrame,
    pictures: Mapping[str, Shown],
    settings: Evaluate,
    progress: Progress,
) -> pl.DataFrame:
    """The table of COVERED, of `rows` (image_id, group, state 1 or 0) in whose regions lungs were found; `left_out` counts the others."""
    asked = rows.height
    rows = rows.filter(
        pl.Series(
            [bool(pictures[image_id].lungs.any()) for image_id in rows["image_id"]],
            dtype=pl.Boolean,
        )
    )
    scores: dict[str, list[float]] = {name: [] for name in (AS_SHOWN, WITHOUT, ALONE)}
    for done, image_id in enumerate(rows["image_id"], start=1):
        made = occlusion_variants(pictures[image_id])
        for name, logit in zip(
            made, saliency.logits(model, np.stack(list(made.values())), at), strict=True
        ):
            scores[name].append(float(logit))
        progress(done, rows.height)
    truth, about = (
        rows["state"].to_numpy(),
        {
            "images": rows.height,
            "patients": rows["group"].n_unique(),
            "positives": int((rows["state"] == State.PRESENT).sum()),
            "left_out": asked - rows.height,
        },
    )
    told = []
    for name, logits in scores.items() if rows.height else ():
        values = np.array(logits)
        found = bootstrap.bootstrap_patients(
            lambda some, values=values: discrimination.auroc(truth[some], values[some]),
            rows["group"].to_list(),
            resamples=settings.bootstrap,
            confidence=settings.confidence,
            seed=settings.seed,
        )
        told.append({"shown": name, **about, **found._asdict()})
    return pl.DataFrame(told, schema=COVERED, orient="row")


def averages(looks: pl.DataFrame, settings: Evaluate) -> pl.DataFrame:
    """Compute the mean of each method over the images in which a figure is defined.

    `images` counts these; `left_out` counts the images in which it is undefined, as where no lung was
    found. An image on which nothing is drawn has no figure of what is drawn, and counts in neither.
    """
    rows = []
    for (method,), of in looks.group_by("method", maintain_order=True):
        for metric in AVERAGED:
            asked = of.drop_nulls(metric)
            defined = asked.filter(pl.col(metric).is_not_nan())
            if not asked.height:
                continue
            values = defined[metric].to_numpy()
            found = bootstrap.bootstrap_patients(
                lambda at, values=values: float(values[at].mean()) if at.size else NAN,
                defined["group"].to_list(),
                resamples=settings.bootstrap,
                confidence=settings.confidence,
                seed=settings.seed,
            )
            held = {"images": defined.height, "patients": defined["group"].n_unique()}
            left_out = asked.height - defined.height
            about = {"method": method, "metric": metric, **held, "left_out": left_out}
            rows.append({**about, **found._asdict()})
    return pl.DataFrame(rows, schema=FIGURES, orient="row")


def lines(figures: pl.DataFrame) -> pl.DataFrame:
    """A row a method, figures as text."""
    rows = []
    for (method,), of in figures.group_by("method", maintain_order=True):
        cells = {row["metric"]: _cell(row) for row in of.iter_rows(named=True)}
        rows.append({"method": method, **{metric: cells.get(metric) for metric in AVERAGED}})
    return pl.DataFrame(rows)


def _cell(row: dict[str, Any]) -> str:
    images = f"{row['images']} images"
    if row["left_out"]:
        images = f"{row['images']} of {row['images'] + row['left_out']} images"
    if not row["images"]:
        return f"– ({images})"
    return f"{row['value']:.2f} ({row['ci_low']:.2f}-{row['ci_high']:.2f}, {images})"


# ------------------------------------------------------------------------------------------------------------------------------ the step


def made_from(run: Run, recipe: Recipe) -> dict[str, Any]:
    made = {
        step: run.made(step)
        for step in ("ingest", "cache", "split", "segment", "crop", "train", "predict")
    }
    return {**made, "evaluate": recipe.section("evaluate"), "version": VERSION}


def make(run: Run, recipe: Recipe, progress: Progress) -> tuple[dict[str, str], dict[str, Any]]:
    if division.folds(run):
        raise HilumError(
            f"{run.folder} is cross-validated: its final finding model is trained on all images, so there is no test image to look at it with. "
            f"`hilum explain` needs one split: more images, or [split] folds = 1 with a lower minimum"
        )
    concept, looks, maps, without = (
        Division.of(run).trained,
        pl.DataFrame(schema=LOOKS),
        [],
        pl.DataFrame(schema=COVERED),
    )
    if concept:
        model = OnnxModel(run.file("train", predict.STAGES["finding"]), run.folder)
        things = drawn_of(run.manifest(), concept)
        at, scored = column(model.contract, concept), _scored(run, concept)
        images = chosen(scored, pl.Series(list(things), dtype=pl.String))
        known = _some(scored.filter((pl.col("part") == "test") & (pl.col("state") >= State.ABSENT)))
        wanted = {*images["image_id"], *known["image_id"]}
        pictures = {image_id: one for image_id, one in shown(run, recipe) if image_id in wanted}
        looks, maps = _looks(model, at, concept, images, pictures, things, portion(progress, 0, 2))
        without = covered(model, at, known, pictures, recipe.evaluate, portion(progress, 1, 2))
    storage.write_table(run / TABLE, looks)
    stream = io.BytesIO()
    np.save(
        stream, np.stack(maps) if maps else np.zeros((0, saliency.GRID, saliency.GRID), np.float16)
    )
    storage.write_bytes(run / MAPS, stream.getvalue())
    storage.write_table(run / AVERAGES, averages(looks, recipe.evaluate))
    storage.write_table(run / COVERS, without)
    told = {
        "images": looks["image_id"].n_unique(),
        "of them drawn on": looks.filter(pl.col("drawn") > 0)["image_id"].n_unique(),
    }
    return digests(run, [TABLE, MAPS, AVERAGES, COVERS]), told


def _looks(
    model: OnnxModel,
    at: int,
    concept: str,
    images: pl.DataFrame,
    pictures: Mapping[str, Shown],
    things: Mapping[str, list[shapes.Shape]],
    progress: Progress,
) -> tuple[pl.DataFrame, list[np.ndarray]]:
    rows, maps = [], []
    for done, row in enumerate(
        images.select("image_id", "group", "choice", "state", "score").iter_rows(named=True),
        start=1,
    ):
        for method, figures, found in attributed(
            model, at, pictures[row["image_id"]], things.get(row["image_id"], [])
        ):
            rows.append({**row, "concept": concept, "method": method, **figures})
            maps.append(
                saliency.upsample(
                    np.zeros((1, 1)) if found is None else found, saliency.GRID
                ).astype(np.float16)
            )
        progress(done, images.height)
    return pl.DataFrame(rows, schema=LOOKS, orient="row"), maps


def _some(rows: pl.DataFrame) -> pl.DataFrame:
    """About MOST of the rows, whole patients."""
    names = np.random.default_rng(0).permutation(rows["group"].unique().sort().to_numpy())
    return rows.filter(
        pl.col("group").is_in(names[: max(1, len(names) * MOST // max(rows.height, 1))].tolist())
    )


def _scored(run: Run, concept: str) -> pl.DataFrame:
    """image_id, part, group, state and score of the leading finding."""
    scores = run.table("predict", predict.SCORES).filter(
        (pl.col("task") == "finding") & (pl.col("concept") == concept)
    )
    table = run.table("split", "split.parquet").select("image_id", "group", "state")
    return scores.select("image_id", "part", "score").join(
        table, on="image_id", maintain_order="left"
    )
