"""Explain: where the finding model's saliency lies on some test images, against lungs and outlines.

    explained.parquet         one row for each image and method, see EXPLAINED
    explain/maps.npy          float16 (n, GRID, GRID): the maps over the regions that the model was
                              shown, in units of the logit, in the rows of explained.parquet;
                              all 0 of a control
    explain/covered.parquet   and
    explain/figures.parquet   see `hilum.pipeline.explanation_figures`

Methods are those of `hilum.inference.saliency`. Explained are the test images that are called
most confidently, right and wrong (`choice`, one of CHOICES), and up to DRAWN on which the
finding is outlined. `inside` is the fraction of the map's positive mass within the lungs, `area`
the lungs' fraction of the image, `gain` the one over the other: all over the region that the
model was shown, by the lungs predicted in it. The pointing game and box IoU are of the cached
image, against all outlines of the finding, and beside two controls that use no image:
LUNG_CENTRES, the middle of each lung, and UNIFORM_IN_LUNGS, a random point in the lungs.

Not a step of `hilum run`: `hilum explain RUN` does it, and the next report includes it.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import numpy as np
import polars as pl

from hilum import storage
from hilum.annotations import lung_masks, shapes
from hilum.annotations.vocabulary import State
from hilum.config import Recipe
from hilum.dataset.manifest import Manifest
from hilum.errors import HilumError, NotFound
from hilum.imaging.files import dicom, image_file
from hilum.imaging.files.pose import AS_READ, Display
from hilum.imaging.geometry import Crop, Letterbox, Size
from hilum.imaging.image_stack import ImageStack
from hilum.inference import lung_crop, saliency
from hilum.inference.onnx_model import InputContract, OnnxModel
from hilum.pipeline import _sharded, cache, division, predict, segment
from hilum.pipeline import crop as region
from hilum.pipeline._training import digests
from hilum.pipeline.division import Division
from hilum.pipeline.explanation_figures import COVERED, averages, covered, logits_covered
from hilum.pipeline.shown_region import Shown
from hilum.pipeline.step import Inputs, StepResult
from hilum.pipeline.truth import truths
from hilum.progress import Progress
from hilum.run_folder import Run
from hilum.statistics.metrics import discrimination, localisation

VERSION = 4
TABLE, MAPS, AVERAGES, COVERS = (
    "explained.parquet",
    "explain/maps.npy",
    "explain/figures.parquet",
    "explain/covered.parquet",
)
EACH, DRAWN = 4, 24  # images of each choice, and of those with an outline of the finding
MOST = 400  # images of the test part whose lungs are covered, about
CHOICES = ("present, found", "present, missed", "absent, called present", "absent, left alone")
OTHERWISE = "drawn on"  # the choice of an image explained for its outline of the finding
LUNG_CENTRES, UNIFORM_IN_LUNGS = CONTROLS = ("centre of a lung", "random point in the lungs")
Measures = dict[str, float | int]  # columns of EXPLAINED
EXPLAINED = {
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


def attention(found: np.ndarray, shown: Shown) -> dict[str, float]:
    """Return `inside`, `area` and `gain` of one map."""
    image = Letterbox(shown.crop.target, shown.image.shape[0]).inside()
    inside, strength = shown.lungs[image], saliency.upsample(found, shown.image.shape[0])[image]
    return {
        "inside": localisation.fraction_inside(inside, strength),
        "area": float(inside.mean()) if inside.any() else np.nan,
        "gain": localisation.gain_inside(inside, strength),
    }


def agreement(found: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Return `pointing_game` and `box_iou` of a map and a reference mask, both of the cached
    image.
    """
    return {
        "pointing_game": localisation.pointing_game(reference, found),
        "box_iou": localisation.box_iou(reference, found),
    }


def controls(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return maps that use no more than predicted lungs, by name of CONTROLS.

    Nothing is drawn at random: equal maxima of a map count by their fraction.
    """
    centres = np.zeros(labels.shape, np.float32)
    for side in lung_masks.SIDES.values():
        if (labels == side).any():
            rows, columns = np.nonzero(labels == side)
            centres[round(rows.mean()), round(columns.mean())] = 1
    return {LUNG_CENTRES: centres, UNIFORM_IN_LUNGS: (labels > 0).astype(np.float32)}


# -------------------------------------------------------------------------------------- the images


def chosen(rows: pl.DataFrame, drawn_on: pl.Series) -> pl.DataFrame:
    """Return the test images to explain, with `choice`.

    `rows`: image_id, part, state and score of the finding. The threshold is Youden's on the tune
    part, as in the evaluation; without one the choices are by the score alone.
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
    """Return the column of a concept in a model's score."""
    if concept not in contract.concepts:
        raise NotFound.named("finding of this model", concept, contract.concepts)
    return contract.concepts.index(concept)


@dataclass(frozen=True)
class Regions:
    """The regions of a run's images, which a process reads one at a time."""

    crops: np.ndarray | ImageStack  # uint8 (n, size, size)
    labels: np.ndarray | ImageStack  # uint8 (n, side, side): the lungs of the cached images

    def __getitem__(self, place: Place) -> Shown:
        """Return the region at a place."""
        none = np.zeros(self.labels.shape[1:], np.uint8)
        labels = none if place.mask is None else self.labels[place.mask]
        return Shown(self.crops[place.row], labels, place.crop, place.size)


class Place(NamedTuple):
    """A region: row of its crop, row of its mask, box in the cached image, size of the file."""

    row: int
    mask: int | None
    crop: Crop
    size: Size


def regions(run: Run, recipe: Recipe) -> tuple[Regions, dict[str, Place]]:
    """Return the regions of a run, and the place of each image that has one, by image id."""
    crops = region.Crops.of(run, recipe.crop.size)
    masks = segment.Masks.of(run, recipe.pixels.size)
    facts = cache.opened(run, recipe).readable.select("image_id", "height", "width")
    side = recipe.pixels.size
    places = {}
    for row in crops.index.join(facts, on="image_id", maintain_order="left").iter_rows(named=True):
        crop = Crop((side, side), *(row[end] for end in lung_crop.SIDES))
        mask = masks.rows.get(row["image_id"])
        places[row["image_id"]] = Place(row["row"], mask, crop, (row["height"], row["width"]))
    return Regions(crops.images, masks.labels), places


def drawn_of(manifest: Manifest, concept: str) -> dict[str, list[shapes.Shape]]:
    """Return the outlines of a finding, by image id, on the images as displayed.

    Raises `BadData` where an image that is not displayed as stored can no longer be read.
    """
    rows = manifest.shapes.filter(pl.col("concept") == concept)
    texts = rows.group_by("image_id", maintain_order=True).agg("shape")
    found: dict[str, list[shapes.Shape]] = {}
    for row in texts.join(manifest.table, on="image_id", maintain_order="left").iter_rows(
        named=True
    ):
        outlines = [shapes.from_json(text) for text in row["shape"]]
        place, display = manifest.located(row["path"]), Display.of(row)
        if display != AS_READ or dicom.is_one(*place):
            pose = image_file.pose(*place, display)
            outlines = [pose.shape(outline) for outline in outlines]
        found[row["image_id"]] = outlines
    return found


# ------------------------------------------------------------------------------------- the figures


def attributed(
    model: OnnxModel, at: int, region: Shown, outlines: Sequence[shapes.Shape]
) -> Iterator[tuple[str, Measures, np.ndarray | None]]:
    """Yield method, columns of EXPLAINED and map of one image.

    The controls, which have no map, are there where the finding is outlined.
    """
    reference = region.reference_mask(outlines)
    for method, found in saliency.maps(model, region.image, at).items():
        against = agreement(region.in_cached(found), reference) if reference.any() else {}
        yield method, {**attention(found, region), "drawn": len(outlines), **against}, found
    for method, found in controls(region.labels).items() if reference.any() else ():
        yield method, {"drawn": len(outlines), **agreement(found, reference)}, None


# ---------------------------------------------------------------------------------------- the step


def made_from(run: Run, recipe: Recipe) -> Inputs:
    """Return the digests of all earlier results that the figures depend on, and the settings."""
    made = {
        step: run.made(step)
        for step in ("ingest", "cache", "split", "segment", "crop", "train", "predict")
    }
    return {**made, "evaluate": recipe.section("evaluate"), "version": VERSION}


def make(run: Run, recipe: Recipe, progress: Progress) -> StepResult:
    """Explain the chosen images, and measure the covered ones.

    Raises `HilumError` of a cross-validated run.
    """
    if division.folds(run):
        raise HilumError(
            f"{run.folder} is cross-validated: its final finding model is trained on all "
            f"images, so "
            f"no test image is left to explain it on. `hilum explain` needs one split: more "
            f"images, or "
            f"[split] folds = 1 with a lower min_per_class"
        )
    concept, maps = Division.of(run).trained, []
    explained, without = pl.DataFrame(schema=EXPLAINED), pl.DataFrame(schema=COVERED)
    if concept:
        outlines, scored = drawn_of(run.manifest(), concept), _scored(run, concept)
        images = chosen(scored, pl.Series(list(outlines), dtype=pl.String))
        known = _some(scored.filter((pl.col("part") == "test") & (pl.col("state") >= State.ABSENT)))
        found = _each(run, recipe, concept, outlines, (images, known), progress)
        explained, maps = _explained(concept, images, found)
        without = covered(
            {name: one["covered"] for name, one in found.items()}, known, recipe.evaluate
        )
    storage.write_table(run / TABLE, explained)
    stream = io.BytesIO()
    np.save(
        stream, np.stack(maps) if maps else np.zeros((0, saliency.GRID, saliency.GRID), np.float16)
    )
    storage.write_bytes(run / MAPS, stream.getvalue())
    storage.write_table(run / AVERAGES, averages(explained, recipe.evaluate))
    storage.write_table(run / COVERS, without)
    outlined = explained.filter(pl.col("drawn") > 0)
    counts = {
        "images": explained["image_id"].n_unique(),
        "of them drawn on": outlined["image_id"].n_unique(),
    }
    return StepResult(digests(run, [TABLE, MAPS, AVERAGES, COVERS]), counts)


class _Item(NamedTuple):
    """An image: its region, the outlines on its file, and what is to be done with it."""

    place: Place
    outlines: tuple[shapes.Shape, ...]
    is_explained: bool
    is_covered: bool


class _Answer(TypedDict):
    """Of one image: method, columns of EXPLAINED and map of each method, float16 (GRID, GRID) in
    base 64; and what `explanation_figures.logits_covered` gives.
    """

    explained: list[tuple[str, Measures, str]]
    covered: list[float]


def _each(
    run: Run,
    recipe: Recipe,
    concept: str,
    outlines: Mapping[str, list[shapes.Shape]],
    tables: tuple[pl.DataFrame, pl.DataFrame],
    progress: Progress,
) -> dict[str, _Answer]:
    """Return what is found in each image of two tables, of those to explain and to cover."""
    model = OnnxModel(run.file("train", predict.STAGES["finding"]), run.folder)
    shown, places = regions(run, recipe)
    explained, known = ({*table["image_id"]} for table in tables)
    items = {
        name: _Item(place, tuple(outlines.get(name, ())), name in explained, name in known)
        for name, place in places.items()
        if name in explained | known
    }
    work = _Attributing(model, column(model.contract, concept), shown)
    made = made_from(run, recipe)
    answers = _sharded.results(run / "explain", work, items, progress, made_from=made)
    return dict(zip(items, map(json.loads, answers), strict=True))


@dataclass(frozen=True)
class _Attributing:
    """Explains one image, and covers its lungs; gives an `_Answer` as JSON."""

    model: OnnxModel
    at: int
    regions: Regions

    def __call__(self, item: _Item) -> bytes:
        one, answer = self.regions[item.place], _Answer(explained=[], covered=[])
        if item.is_explained:
            for method, figures, found in attributed(self.model, self.at, one, item.outlines):
                grid = saliency.upsample(
                    np.zeros((1, 1)) if found is None else found, saliency.GRID
                ).astype(np.float16)
                drawn = base64.b64encode(grid.tobytes()).decode()
                answer["explained"].append((method, figures, drawn))
        if item.is_covered:
            answer["covered"] = logits_covered(self.model, self.at, one)
        return json.dumps(answer, default=float).encode()


def _explained(
    concept: str, images: pl.DataFrame, found: Mapping[str, _Answer]
) -> tuple[pl.DataFrame, list[np.ndarray]]:
    rows, maps = [], []
    for row in images.select("image_id", "group", "choice", "state", "score").iter_rows(named=True):
        for method, figures, drawn in found[row["image_id"]]["explained"]:
            rows.append({**row, "concept": concept, "method": method, **figures})
            values = np.frombuffer(base64.b64decode(drawn), np.float16)
            maps.append(values.reshape(saliency.GRID, saliency.GRID))
    return pl.DataFrame(rows, schema=EXPLAINED, orient="row"), maps


def _some(rows: pl.DataFrame) -> pl.DataFrame:
    """Return about MOST of the rows, with all rows of each patient."""
    names = np.random.default_rng(0).permutation(rows["group"].unique().sort().to_numpy())
    return rows.filter(
        pl.col("group").is_in(names[: max(1, len(names) * MOST // max(rows.height, 1))].tolist())
    )


def _scored(run: Run, concept: str) -> pl.DataFrame:
    """Return image_id, part, group, state and score of the leading finding."""
    scores = run.table("predict", predict.SCORES).filter(
        (pl.col("task") == "finding") & (pl.col("concept") == concept)
    )
    groups = run.table("split", "split.parquet").select("image_id", "group")
    states = truths(run.manifest(), [concept]).select("image_id", "state")
    return (
        scores.select("image_id", "part", "score")
        .join(groups, on="image_id", maintain_order="left")
        .join(states, on="image_id", maintain_order="left")
    )
