"""Explain a run's finding scores of images of one's own by saliency maps laid over them.

    OUT/occlusion/NAME.jpg     the image under the map of `hilum.inference.saliency.OCCLUSION`:
                               brightest where the leading finding's score comes from; each on a
                               scale of its own, at most `lungs.OVERLAY` pixels long
    OUT/activation/NAME.jpg    the same of the model's own class activation map, where it gives one
    OUT/explain.csv            a row for each image and method, see COLUMNS; of an image that is
                               refused one row with the reason

NAME is as in `hilum.inference.segment_images`. The images that `hilum apply` refuses are refused
here too, with the same warnings beside the others. `inside`, `area` and `gain` are as in
`hilum.pipeline.explain`: how much of the map lies in the lungs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TypedDict, cast

import numpy as np

from hilum import storage
from hilum.annotations.vocabulary import name_of
from hilum.errors import NotFound, on_one_line
from hilum.imaging.batch.each_image import Say, Watch, for_each, unheard, unwatched
from hilum.imaging.batch.results_table import Table
from hilum.imaging.files import output_folder
from hilum.imaging.files.find_images import collect
from hilum.imaging.radiograph import Radiograph, to_uint8
from hilum.inference import classify_images
from hilum.inference import saliency as saliency_maps
from hilum.inference.calls import ImageResult
from hilum.pipeline import explain, predict, shown_region
from hilum.run_folder import Run
from hilum.runs.scoring_run import ScoringRun

TABLE = "explain.csv"
OF_SCORE = ("concept", "score", "call", "warning")


class Row(TypedDict):
    """A row of explain.csv; of a refused image all from `concept` on is None."""

    image: str
    name: str
    refused: str
    quality_flags: str
    lung_quality: float
    age_years: float | None
    concept: str | None
    score: float | None
    call: str | None
    method: str | None
    inside: float | None
    area: float | None
    gain: float | None
    warning: str | None


COLUMNS = tuple(Row.__annotations__)


def explain_images(
    folder: Path,
    images: Sequence[str | Path],
    to: Path | None = None,
    *,
    watch: Watch = unwatched,
    say: Say = unheard,
) -> tuple[list[Row], list[str]]:
    """Return a row (`COLUMNS`) for each image and method, and faults of images that cannot be read.

    `images`, `say` and errors as in `hilum.runs.predict_images.predict_images`; raises `NotFound`
    too where the run was trained on no finding.
    """
    scoring, out = ScoringRun.of(Run(folder)), output_folder.Output(to, "explain")
    if "finding" not in scoring.models.models:
        raise NotFound(
            f"the run in {folder} was trained on no finding, so there is nothing to explain: "
            f"give its data labels of both states and run it again"
        )
    for place in out.folders:
        scoring.refuse_place(place)

    table = Table(out, TABLE, COLUMNS, scoring.digest, _joined) if out else None
    found = collect(images, out.folders)
    work = _Explaining(scoring, out)
    done, faults = for_each(found, work, title="explain", watch=watch, say=say, table=table)
    return _joined(done), faults


@dataclass(frozen=True)
class _Explaining:
    """Explains the scores of one image, and writes its overlays."""

    scoring: ScoringRun
    out: output_folder.Output

    def __call__(self, path: Path, name: str) -> list[Row]:
        file = self.scoring.read(path)
        found = self.scoring.models.of_file(path, file)
        one = self.scoring.result(path, name, file, found)
        radiograph = file.radiograph()
        maps = (
            {}
            if one.refused
            else saliency_maps.maps(self.scoring.models.models["finding"], found.region.image)
        )
        for method, saliency in maps.items() if self.out else ():
            storage.write_bytes(
                self.out.path(method, f"{name}.jpg"), _overlay(radiograph, found, saliency)
            )
        return list(_rows(one, found, radiograph, maps))


def _joined(done: Sequence[list[Row]]) -> list[Row]:
    return [row for of_image in done for row in of_image]


def _overlay(radiograph: Radiograph, found: predict.Prediction, saliency: np.ndarray) -> bytes:
    on_file = found.region.to_file(radiograph.size).back(
        saliency_maps.upsample(saliency, found.region.image.shape[0])
    )
    return classify_images.heat_overlay(to_uint8(radiograph.pixels), on_file)


def _rows(
    one: ImageResult,
    found: predict.Prediction,
    radiograph: Radiograph,
    maps: dict[str, np.ndarray],
) -> Iterator[Row]:
    about = {name: value for name, value in one.as_dict().items() if name != "scores"}
    if one.refused:
        yield cast(Row, {**dict.fromkeys(COLUMNS), **about})
        return
    leading = asdict(one.scores[0])
    shown = shown_region.Shown(found.region.image, found.labels, found.region.crop, radiograph.size)
    for method, saliency in maps.items():
        figures = {
            name: None if np.isnan(value) else round(value, 4)
            for name, value in explain.attention(saliency, shown).items()
        }
        of_score = {name: leading[name] for name in OF_SCORE}
        yield cast(Row, {**about, **of_score, "method": method, **figures})


def lines(rows: Sequence[Row], to: Path | None) -> str:
    """Return a line for each image and method, and the image's warnings below, as text."""
    text = []
    for _, of_image in groupby(rows, key=lambda row: row["name"]):
        images = list(of_image)
        text += map(_line, images)
        if images[0]["warning"]:
            text.append(f"  warning: {images[0]['warning']}")
    where = [f"overlays and table: {to.resolve()}"] if to and rows else []
    return "\n".join(
        [*text, *where] if rows else ["nothing was explained: no image could be opened"]
    )


def _line(row: Row) -> str:
    image = on_one_line(row["image"])
    if row["concept"] is None:
        return f"{image}: refused: {row['refused']}"
    inside = (
        "no part of it supports the finding"
        if row["inside"] is None
        else f"{row['inside']:.0%} of it in the lungs, which cover {row['area'] or 0:.0%}"
    )
    score = f"{name_of(row['concept'])}, score {row['score']:.3g}"
    return f"{image}: {score}; map of {row['method']}: {inside}"
