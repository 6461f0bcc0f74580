"""Score images of one's own with a finished run, with the refusals of `hilum classify`.

    OUT/apply.csv                the columns of `hilum.inference.classify_images`: a row for each
                                 image and score, `model` is finding or anomaly; of an image that
                                 is refused one row with the reason
    OUT/masks/NAME_lungs.png     the lungs in the file's own pixels: 127 right lung, 255 left; of
                                 images that are scored
    OUT/masks/NAME_anomaly.png   the anomaly map in the file's own pixels, stretched to its own
                                 highest value

NAME is as in `hilum.inference.segment_images`; masks and maps go elsewhere on request. Scores,
thresholds and probabilities are the run's own: thresholds and calibration were chosen on its tune
part. Outside the domain of the run's models, and outside its population, there is a score but
neither call nor probability. `hilum.inference.acceptance` decides which images are refused;
unreliable lungs are a reason only where most of the run's own crops rely on segmented lungs. A
warning is beside the scores of an
image that a model was trained on, of one of the tune part, and of a changed copy of either
(`hilum.audit.duplicates.known_images`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hilum.imaging.batch.each_image import Say, Watch, for_each, unheard, unwatched
from hilum.imaging.files import output_folder, raster
from hilum.imaging.files.find_images import collect
from hilum.imaging.radiograph import to_uint8
from hilum.inference import classify_images
from hilum.inference.calls import ImageResult
from hilum.inference.delivery import Delivery
from hilum.pipeline import predict
from hilum.run_folder import Run
from hilum.runs.scoring_run import ScoringRun

TABLE, MASKS = "apply.csv", "masks"


def predict_images(
    folder: Path,
    images: Sequence[str | Path],
    masks: Path | None = None,
    *,
    to: Path | None = None,
    delivery: Delivery | None = None,
    watch: Watch = unwatched,
    say: Say = unheard,
) -> tuple[list[ImageResult], list[str]]:
    """Return the scores of each image, and the faults of images that cannot be read.

    `images`, `say` and errors as in `hilum.inference.segment_images.segment_images`. With `to` the
    table, masks and maps are written there; with `masks` these go there instead, as NAME_lungs.png
    and NAME_anomaly.png. `delivery` takes what was found in each image.
    Raises `Mismatch` where a model of the run is missing or was changed.
    """
    scoring, out = ScoringRun.of(Run(folder)), output_folder.Output(to, "apply")
    drawn, below = (output_folder.Output(masks, "apply"), ()) if masks else (out, (MASKS,))
    also = delivery.outputs if delivery else ()
    places = output_folder.folders(out, drawn, *also)
    for place in places:
        scoring.refuse_place(place)

    table = None
    if out:
        made_by = [scoring.digest, delivery.made_by] if delivery else scoring.digest
        table = classify_images.table_of(out, TABLE, made_by, (drawn, *also), scores=True)
    found = collect(images, places)
    work = _Scoring(scoring, drawn, below, delivery)
    return for_each(
        found,
        work,
        title="apply",
        watch=watch,
        say=say,
        table=table,
        plain=ImageResult.as_dict,
        restored=ImageResult.of_dict,
    )


@dataclass(frozen=True)
class _Scoring:
    """Scores one image, and writes its masks and maps `below` the folder of `drawn`."""

    scoring: ScoringRun
    drawn: output_folder.Output
    below: tuple[str, ...]
    delivery: Delivery | None

    def __call__(self, path: Path, name: str) -> ImageResult:
        file = self.scoring.read(path)
        if self.delivery:
            self.delivery.refuse(path, file)
        found = self.scoring.models.of_file(path, file)
        one = self.scoring.result(path, name, file, found)
        if self.delivery:
            self.delivery.deliver(path, name, self.scoring.findings(file, found, one))
        if self.drawn and not one.refused:
            _write(self.drawn, "/".join((*self.below, name)), found)
        return one


def _write(out: output_folder.Output, name: str, found: predict.Prediction) -> None:
    raster.write_png(out.path(f"{name}_lungs.png"), np.array([0, 127, 255], np.uint8)[found.lungs])
    if found.anomaly_map is not None:
        raster.write_png(
            out.path(f"{name}_anomaly.png"),
            to_uint8(found.anomaly_map / max(float(found.anomaly_map.max()), 1e-6)),
        )
