"""Choose whether the pretrained lung model can be used by a run that trains none of its own.

Where it was trained on an image of the tune or test part, or of their patients, it is used only
if the recipe says `[segment] model = "pretrained"`, and figures of lungs then leave these
patients out.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from hilum.config import Recipe
from hilum.errors import BadRecipe
from hilum.inference import pretrained
from hilum.inference.onnx_model import OnnxModel
from hilum.pipeline._training import FEWEST_MASKS


@dataclass(frozen=True)
class LungModelChoice:
    """The pretrained model, or None; why it is used, or is not; and what it was trained on.

    `seen`: image_id of the run's images that the model was trained on, empty where it is not used.
    """

    model: OnnxModel | None
    why: str
    seen: pl.DataFrame


def choose(recipe: Recipe, images: pl.DataFrame, masks: int = 0) -> LungModelChoice:
    """Choose for a run that has no model of its own, for want of `masks` to train on.

    `images`: the run's, with image_id, source, pixel_digest, fingerprint, group, part and fold.
    Where the recipe asks for the pretrained model, raises `NotFound` where there is none and
    `BadRecipe` where the recipe's pixels do not fit it.
    """
    wanted = recipe.segment.model == pretrained.NAME
    part = "the training part" if images["fold"].count() == 0 else "a training part"
    few = f"{masks} lung masks in {part}, and at least {FEWEST_MASKS} are needed"
    nobody = images.select("image_id").clear()
    if not wanted and not pretrained.is_bundled():
        why = "no lung model comes with this installation: regions are whole images"
        return LungModelChoice(None, f"{few}, and {why}", nobody)
    model = pretrained.lung_model()
    if wrong := model.contract.mismatches(
        content="whole", size=recipe.pixels.size, normalisation=recipe.pixels.normalisation
    ):
        faults = "; ".join(wrong)
        if wanted:
            raise BadRecipe(
                f'[segment] model = "{pretrained.NAME}" expects other images: {faults}; '
                f"change it in "
                f"[pixels]"
            )
        why = f"the pretrained lung model expects other images ({faults}): regions are whole images"
        return LungModelChoice(None, f"{few}, and {why}", nobody)
    seen = pretrained.training_sets(model, images)
    # In a cross-validated run each image is in the test part of one fold.
    tested = images.filter((pl.col("part") != "train") | pl.col("fold").is_not_null())
    leaked = tested.join(seen.select("group").unique(), on="group", how="semi").height
    if leaked and not wanted:
        why = (
            f"the pretrained lung model was trained on {leaked} of the tune and test images or on "
            f"other images of their patients: regions are whole images. [segment] model = "
            f'"{pretrained.NAME}" uses it all the same, and leaves these out of the figures '
            f"of lungs"
        )
        return LungModelChoice(None, f"{few}, and {why}", nobody)
    why = "requested in the recipe" if wanted else few
    return LungModelChoice(model, why, seen.select("image_id"))
