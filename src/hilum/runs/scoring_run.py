"""A finished run that scores images of one's own, with whom and what it was trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from hilum import storage
from hilum.audit.duplicates.known_images import KnownImages
from hilum.config import Recipe
from hilum.dataset.manifest import DISPLAY, Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.errors import HilumError
from hilum.imaging.files import dicom, image_file, raster
from hilum.imaging.files.pose import AS_READ, Display
from hilum.inference import (
    acceptance,
    age_group,
    calls,
    lung_crop,
    lung_finder,
    segment_images,
)
from hilum.inference.calls import FindingScore, ImageResult
from hilum.inference.delivery import Findings, ModelIdentity, Region
from hilum.pipeline import cache, crop, evaluate, predict
from hilum.pipeline._training import TRAINING
from hilum.run_folder import MARKERS, Run
from hilum.safety.path_names import as_text
from hilum.statistics.calibration import Fitted

_OF_HIGHEST = 0.5  # of an anomaly map's highest value: where it counts as the anomaly's region
ANOMALY = "anomaly"  # the concept of an anomaly score
# Fraction of the run's crops that follow segmented lungs, from which on an image without reliable
# lungs is out of distribution.
RELIED_ON = 0.5
SAMPLED = 60  # training images whose lungs show whether the run is one of small children
PARTS = {"train": "training part", "tune": "tune (validation) part"}
NEEDED = ("ingest", "split", "segment", "crop", "train")  # steps


@dataclass(frozen=True)
class ScoringRun:
    """A trained run, checked for damage."""

    run: Run
    recipe: Recipe
    models: predict.RunModels

    @classmethod
    def of(cls, run: Run) -> ScoringRun:
        """Open a run.

        Raises `NotFound` where it was never trained, `Damaged` where the marker or a file of any
        step that is needed is missing or has changed.
        """
        models = predict.RunModels.of(run)
        evaluated = run.done("report") or (run / evaluate.CALIBRATION).exists()
        run.refuse_damage(*NEEDED, *["evaluate"] * evaluated)
        return cls(run, models.recipe, models)

    @cached_property
    def digest(self) -> str:
        """Digest of settings and step markers; if equal, the same images have the same results."""
        markers = sorted((self.run / MARKERS).glob("*.json"))
        return storage.digest(
            [storage.digest_of_file(file) for file in (self.run / "recipe.toml", *markers)]
        )

    def read(self, path: Path) -> raster.Raster | dicom.Dicom:
        """Decode a file; one of the run's own images as its corrections display it.

        Raises as `image_file.read` does.
        """
        return image_file.read(path, display=self.displays.get(path.resolve(), AS_READ))

    @cached_property
    def manifest(self) -> Manifest:
        """The table of the run's data."""
        return self.run.manifest()

    @cached_property
    def cached(self) -> Cache | None:
        """The run's cache; None where it has none."""
        if not (self.run / "cache").exists():
            return None
        return cache.opened(self.run, self.recipe, self.manifest)

    @cached_property
    def displays(self) -> dict[Path, Display]:
        """How corrections display files of the run, by path; all others are as read."""
        corrected = self.manifest.table.filter(
            pl.any_horizontal(pl.col(column).is_not_null() for column in DISPLAY)
        )
        return {
            self.manifest.located(row["path"])[0].resolve(): Display.of(row)
            for row in corrected.iter_rows(named=True)
        }

    def refuse_place(self, place: Path) -> None:
        """Raise `HilumError` for a place in the run's data, and for the run's own folder."""
        self.recipe.data.refuse_inside(place, "choose another folder with --out")
        if place.resolve() == self.run.folder.resolve():
            raise HilumError(
                f"{place} is the folder of the run itself; choose another folder with --out, "
                f"such as {place}/new"
            )

    def result(
        self, path: Path, name: str, file: raster.Raster | dicom.Dicom, found: predict.Prediction
    ) -> ImageResult:
        """Return the scores of a file, or why it is refused."""
        stated = segment_images.stated_by(file)
        evidence = acceptance.Lungs(bool(found.lungs.any()), found.quality, self.least_quality)
        why = acceptance.refusal(found.quality_flags, stated, evidence, self.recipe.split.include)
        scores = [] if why else list(self._scores(file, found, stated))
        flags = ", ".join(flag.fault for flag in found.quality_flags)
        return ImageResult(
            as_text(path), name, why, flags, round(found.quality, 4), stated.age_years, scores
        )

    def findings(
        self, file: raster.Raster | dicom.Dicom, found: predict.Prediction, result: ImageResult
    ) -> Findings:
        """Return what was found in a file, for a delivery.

        Of a run without a lung model these are the findings alone: the objects of lungs are absent.
        """
        models = {
            task: ModelIdentity.of(task, model, self.calibration.get(task, {}))
            for task, model in self.models.models.items()
        }
        trusted = found.quality >= lung_finder.GOOD
        of_lungs = Findings(file, found.lungs, found.quality, trusted, models.pop("lungs", None))
        scored = of_lungs.classified(result, models.values(), self.digest)
        return replace(scored, regions=tuple(regions(found, result)))

    def _scores(
        self,
        file: raster.Raster | dicom.Dicom,
        found: predict.Prediction,
        stated: acceptance.Stated,
    ) -> Iterator[FindingScore]:
        warning = "; ".join(self._warnings(file, found, stated))
        of_people = ""
        if self.people:
            measured = "" if stated.age_years is not None else age_group.classify(found.seen)
            of_people = acceptance.excluded("this run", self.people, stated, measured)
        for stage, scores in found.scores.items():
            placed = found.placements[stage]
            for concept, score in scores.items():
                yield calls.decide(
                    stage,
                    concept if stage != ANOMALY else ANOMALY,
                    score,
                    self.calibration.get(stage, {}).get(concept),
                    reasons=[placed.reason, of_people],
                    percentile=None if math.isnan(placed.percentile) else placed.percentile,
                    warning=warning,
                )

    def _warnings(
        self,
        file: raster.Raster | dicom.Dicom,
        found: predict.Prediction,
        stated: acceptance.Stated,
    ) -> Iterator[str]:
        yield from acceptance.warnings(stated)
        if words := self._copied(file, found):
            yield words
        if found.cut in lung_crop.FLAGGED:
            shown = f"the scores are of the {found.cut} and mean little"
            yield f"no lungs were segmented reliably: {shown}"

    def _copied(self, file: raster.Raster | dicom.Dicom, found: predict.Prediction) -> str:
        """Return a warning where the run was trained or tuned on the image or a copy of it."""
        if self.known is None:
            unknown = "it is not known whether it was trained on this image"
            return f"the run's cache is missing, so {unknown}"
        size = file.radiograph().size
        copy = self.known.find(
            found.seen, size, file_digest=file.file_digest, pixel_digest=file.pixel_digest
        )
        if copy is None:
            return ""
        known = f"{copy.image_id} of this run's {PARTS[self.parts[copy.image_id]]}"
        return f"it is {copy.words} {known}, so the scores show nothing"

    @cached_property
    def calibration(self) -> Mapping[str, Mapping[str, Fitted]]:
        """Calibration by task and concept, from JSON; {} where the run was not evaluated."""
        return self.run.json("evaluate", evaluate.CALIBRATION) if self.run.done("evaluate") else {}

    @cached_property
    def least_quality(self) -> float | None:
        """Least quality of lungs that crops rely on; None where most do not follow lungs."""
        if self.recipe.crop.area == "whole" or "lungs" not in self.models.models:
            return None
        cut = self.run.table("crop", crop.INDEX)["cut"]
        followed = int((cut == lung_crop.LUNGS).sum())
        relied_on = followed >= RELIED_ON * max(len(cut), 1)
        return self.recipe.crop.min_mask_quality if relied_on else None

    @cached_property
    def parts(self) -> dict[str, str]:
        """Part by image id, train of every image that any model was trained on, else tune."""
        split = self.run.table("split", "split.parquet").filter(pl.col("part").is_in(list(PARTS)))
        listed = [
            self.run.table(stage, f"{stage}/{TRAINING}")["image_id"]
            for stage in ("segment", "train")
        ]
        return dict(split.select("image_id", "part").iter_rows()) | dict.fromkeys(
            pl.concat(listed), "train"
        )

    @cached_property
    def known(self) -> KnownImages | None:
        """The run's training and tune images; None where the run has no cache."""
        return None if self.cached is None else KnownImages(self.cached, self.parts)

    @cached_property
    def people(self) -> acceptance.People | None:
        """Whom the run was trained on, by stated ages or else the images; None if unknown."""
        trained = [image_id for image_id, part in self.parts.items() if part == "train"]
        table = self.manifest.table.filter(pl.col("image_id").is_in(trained))
        ages = table["age_years"].to_list()
        if people := acceptance.people_by_ages(ages, "the people of its training part"):
            return people
        if (cached := self.cached) is None:
            return None
        known = set(cached.readable["image_id"])
        some = [image_id for image_id in sorted(trained) if image_id in known]
        chosen = cached.rows(some[:: max(1, len(some) // SAMPLED)])
        return acceptance.people_by_images(
            (age_group.classify(cached.images[row]) for row in chosen),
            "the images of its training part",
        )


def regions(found: predict.Prediction, result: ImageResult) -> Iterator[Region]:
    """Yield where the anomaly is that the run's model calls present.

    The model has no threshold for a pixel, so the region is where its map is at least half of its
    own highest value.
    """
    heat = found.anomaly_map
    called = [one for one in result.scores if one.concept == ANOMALY and one.call == calls.PRESENT]
    if heat is None or not called or not heat.max() > 0:
        return
    mask = np.asarray(heat >= _OF_HIGHEST * heat.max())
    rule = f"the map from {_OF_HIGHEST:.0%} of its highest value on, which is no threshold"
    yield Region(ANOMALY, called[0].model, mask, rule)
