"""Give a classifier of before domains what its training images are like.

    python -m tools.build_models.films --data ../shared/data --work FILMS
    python -m tools.build_models.add_domain --films FILMS/kermany224 --also FILMS kermany-448 \
        --model pneumonia_child

The network is not trained again and its scores stay the same to the bit: to its graph are added
mean and logarithm of the standard deviation of the channels that its early stages end in, as the
output `features` (`hilum.training.staged_features`), and to its metadata the domain, fitted to the
training part of the films and limited by their tune part. `--also` adds films of the same people
in another rendering: those of kermany-224 were squashed to squares and compressed again, which no
hospital's are. Prints which fraction of the test part, and of any films named by --others, lies
inside.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import polars as pl
from onnx import TensorProto, helper, numpy_helper

from benchmarks._lib.lung_sets import dealt
from hilum import storage
from hilum.inference import domain, pretrained
from hilum.inference.onnx_model import OnnxModel
from hilum.training import onnx_export
from hilum.training.efficientnet_backbone import STAGES
from hilum.training.staged_features import EARLY, FAINT

INSIDE = 0.98  # of the tune part lies within the limit
MOST = 3000  # films that the domain is fitted to, evenly out of all


def tapped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Add the output `features` to the graph of an EfficientNet-Lite0 classifier."""
    graph = model.graph
    tensors = stage_ends(model)
    constants = {"features.faint": np.float32(FAINT)}
    nodes, parts = [], []
    for number, tensor in enumerate(tensors):
        at = f"features.{number}"
        nodes += [
            helper.make_node("ReduceMean", [tensor], [f"{at}.mean"], axes=[2, 3], keepdims=1),
            helper.make_node("Sub", [tensor, f"{at}.mean"], [f"{at}.off"]),
            helper.make_node("Mul", [f"{at}.off", f"{at}.off"], [f"{at}.square"]),
            helper.make_node("ReduceMean", [f"{at}.square"], [f"{at}.var"], axes=[2, 3]),
            helper.make_node("Sqrt", [f"{at}.var"], [f"{at}.deviation"]),
            helper.make_node("Add", [f"{at}.deviation", "features.faint"], [f"{at}.some"]),
            helper.make_node("Log", [f"{at}.some"], [f"{at}.log"]),
            helper.make_node("Flatten", [f"{at}.mean"], [f"{at}.means"]),
            helper.make_node("Flatten", [f"{at}.log"], [f"{at}.logs"]),
        ]
        parts += [f"{at}.means", f"{at}.logs"]
    nodes.append(helper.make_node("Concat", parts, [domain.OUTPUT], axis=1))
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in constants.items())
    many = 2 * sum(stage[-1] for stage in STAGES[:EARLY])
    output = helper.make_tensor_value_info(domain.OUTPUT, TensorProto.FLOAT, ["n", many])
    graph.output.append(output)
    onnx.checker.check_model(model, full_check=True)
    return model


def stage_ends(model: onnx.ModelProto) -> list[str]:
    """Return the tensors in which the first `EARLY` stages end, by the names that PyTorch gave."""
    ends = []
    for number in range(EARLY):
        names = [
            name
            for node in model.graph.node
            for name in node.output
            if f"/stages.{number}/" in name and name.endswith(("/Conv_output_0", "/Add_output_0"))
        ]
        ends.append(names[-1])
    return ends


def measured(model: OnnxModel, crops: np.ndarray, rows: Sequence[int]) -> dict[str, np.ndarray]:
    """Return the features of rows of crops, by detector."""
    found = [model(np.asarray(crops[row]))[domain.OUTPUT] for row in rows]
    return {domain.FEATURES: np.stack(found).astype(np.float64)}


def inside(fitted: domain.Domain, values: dict[str, np.ndarray]) -> float:
    """Return the fraction of rows inside."""
    detector = fitted.detectors[domain.FEATURES]
    distances = detector.subspace.distances(values[domain.FEATURES])
    return float((distances <= detector.limit).mean())


def main() -> None:
    """Tap the graph, fit the domain, and write the model in its place."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--also", nargs=2, metavar=("FILMS", "SET"), help="further films, a set")
    parser.add_argument("--model", default="pneumonia_child")
    parser.add_argument("--others", type=Path, help="films of other sets, to be outside")
    parser.add_argument("--out", type=Path, default=pretrained.folder())
    arguments = parser.parse_args()
    source = pretrained.path(f"{arguments.model}.onnx")
    model = onnx.load(source)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    contract = {**OnnxModel(source).metadata["contract"]}
    if domain.OUTPUT not in contract["outputs"]:
        contract["outputs"] = [*contract["outputs"], domain.OUTPUT]
        model = tapped(model)
    metadata.pop(domain.METADATA, None)
    metadata["contract"] = storage.as_json(contract)
    place = arguments.out / source.name
    onnx_export.write(model, place, metadata)
    crops = np.load(arguments.films / "crops.npy", mmap_mode="r")
    parts = pl.read_parquet(arguments.films / "facts.parquet")["part"].to_numpy()
    rows = {part: np.flatnonzero(parts == part) for part in ("train", "tune", "test")}
    some = rows["train"][:: -(-len(rows["train"]) // MOST)]
    described = OnnxModel(place)
    fit_to, held = measured(described, crops, some), measured(described, crops, rows["tune"])
    if arguments.also:
        further = _of_parts(described, Path(arguments.also[0]), arguments.also[1])
        fit_to, held = (
            {domain.FEATURES: np.concatenate([one[domain.FEATURES], another[domain.FEATURES]])}
            for one, another in zip((fit_to, held), further, strict=True)
        )
    fitted = domain.fit(fit_to, held, inside=INSIDE)
    if fitted is None:
        raise SystemExit("too few films to describe")
    metadata[domain.METADATA] = storage.as_json(fitted.as_json())
    onnx_export.write(model, place, metadata)
    test = inside(fitted, measured(described, crops, rows["test"]))
    print(f"{place}: {place.stat().st_size:,} bytes; test part inside {test:.3f}")
    if arguments.others:
        _report_others(described, fitted, arguments.others)


def _of_parts(model: OnnxModel, films: Path, name: str) -> list[dict[str, np.ndarray]]:
    """Return the features of nine tenths of a set's patients, and of the last tenth."""
    crops = np.load(films / "crops.npy", mmap_mode="r")
    facts = pl.read_parquet(films / "facts.parquet")
    rows = np.flatnonzero((facts["set"] == name).to_numpy())
    held = dealt(facts["patient_id"].to_numpy()[rows], 10) == 0
    return [measured(model, crops, some) for some in (rows[~held], rows[held])]


def _report_others(model: OnnxModel, fitted: domain.Domain, films: Path) -> None:
    crops = np.load(films / "crops.npy", mmap_mode="r")
    sets = pl.read_parquet(films / "facts.parquet")["set"].to_numpy()
    for name in np.unique(sets):
        rows = np.flatnonzero(sets == name)[:400]
        print(f"{name}: inside {inside(fitted, measured(model, crops, rows)):.3f} of {len(rows)}")


if __name__ == "__main__":
    main()
