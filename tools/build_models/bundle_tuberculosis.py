"""Make the bundled tuberculosis model of one of the networks that scored films out of fold.

    python -m tools.build_models.films --data ../shared/data --work FILMS
    python -m tools.build_models.films --data ../shared/data --work FILMS/kermany224
        --sets kermany-224
    export OMP_NUM_THREADS=1
    python -m tools.build_models.pneumonia_backbone --films FILMS/kermany224
        --out WORK/pneumonia_backbone.pt
    python -m tools.build_models.out_of_fold --films FILMS --work WORK
        --start WORK/pneumonia_backbone.pt
    python -m tools.build_models.bundle_tuberculosis --films FILMS --work WORK
        --start WORK/pneumonia_backbone.pt --out src/hilum/resources
    python -m tools.build_models.finish_tuberculosis --films FILMS
        --folds WORK/out_of_fold.parquet --out src/hilum/resources

The network is that of fold `out_of_fold.BUNDLED`, which was fixed beforehand: its own scores out of
fold calibrate it, so nothing is carried over from networks of other films, and no film is spent on
tuning alone. It is quantised to 8 bits, calibrated and measured as
tools/build_models/train_findings.py does it; the test part takes no part in a choice.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl
import torch

from benchmarks._lib.results import machine, record
from hilum.inference import pretrained
from hilum.training import classification, onnx_export
from tools.build_models import out_of_fold, pneumonia_backbone, train_findings
from tools.build_models.out_of_fold import BUNDLED, NAME, Places

STARTED = (
    ", then the pneumonia of children (tools/build_models/pneumonia_backbone.py; Kermany et al.,"
    " CC BY 4.0)"
)


def regions(folder: Path) -> train_findings.Cuts:
    """Return the films of a folder of films.py whose state is known.

    The part is "tune" for those that the bundled fold holds out, "train" for the other folds'.
    """
    facts = pl.read_parquet(folder / "facts.parquet")
    scored = out_of_fold.scored(facts)
    fold = np.full(facts.height, -1)
    fold[scored] = out_of_fold.folds(facts[scored])
    part = np.where(fold == BUNDLED, "tune", np.where(fold >= 0, "train", "test"))
    own = facts["set"].is_in(list(train_findings.TASKS[NAME].folders)) & facts["part"].is_not_null()
    rows = np.flatnonzero(own.to_numpy())
    return train_findings.Cuts(
        np.load(folder / "crops.npy", mmap_mode="r")[rows],
        facts[rows].with_columns(
            part=pl.Series(part[rows]), state=pl.col("tuberculosis").cast(pl.Int64)
        ),
        pretrained.PretrainedModel(pretrained.path(f"{NAME}.onnx")).typical,
    )


def exported(places: Places, metadata: dict[str, object]) -> Path:
    """Return the float32 model of the bundled fold's network."""
    made, weights = pneumonia_backbone.network(1), places.weights(BUNDLED)
    made.load_state_dict(torch.load(weights, weights_only=True))
    place = weights.with_suffix(".onnx")
    onnx_export.to_onnx(
        classification.ExportableClassifier(made).eval(),
        place,
        size=train_findings.REGION.size,
        outputs=classification.OUTPUTS,
        metadata=train_findings.texts(metadata),
    )
    return place


def main() -> None:
    """Export, quantise, calibrate, measure and write the model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=Path, required=True, help="the folder of films.py")
    parser.add_argument("--work", type=Path, required=True, help="the folder of out_of_fold.py")
    parser.add_argument("--start", type=Path, help="the file of pneumonia_backbone.py")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    task, cuts = train_findings.TASKS[NAME], regions(arguments.films)
    settings = out_of_fold.recipe()
    settings.pop("seed")
    metadata = train_findings.reported(
        task, cuts, settings, train_findings.REGION, STARTED if arguments.start else ""
    )
    places = Places(arguments.films, arguments.work, arguments.start)
    whole = exported(places, metadata)
    table = train_findings.bundled(NAME, cuts, whole, metadata, arguments.work, arguments.out)
    text = [
        "`python -m tools.build_models.bundle_tuberculosis --films FILMS --work WORK --start "
        f"WORK/pneumonia_backbone.pt --out src/hilum/resources` on "
        f"{machine('torch', 'onnxruntime')}.",
        "",
        "Threshold by the films of the fold that the network has not seen.",
        "",
        *table,
    ]
    print("\n".join(text))
    record(f"A model that comes with Hilum: {NAME}", "\n".join(text))


if __name__ == "__main__":
    main()
