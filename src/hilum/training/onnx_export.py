"""Export a trained network to one ONNX file with its own description in the metadata.

uint8 images in, named float32 outputs out. The bytes depend on the weights and the metadata only,
so equal trainings give equal files. `to_int8` quantises such a file to 8 bits: a third of its size,
and faster where the processor has 8-bit multiply instructions (VNNI, AMX).
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from hilum.errors import HilumError
from hilum.safety import onnx_file
from hilum.safety.onnx_session import Session
from hilum.storage import write_bytes
from hilum.training import quicker_graph

INPUT = "images"
OPSET = 17
QUANTISED = ("Conv", "MaxPool", "Concat", "Resize", "Relu")
QUANTISED_WITH_SUMS = (*QUANTISED, "Clip", "Add")  # of networks with ReLU6 and residual blocks
# How the ranges of features are chosen: all values, or all but 1 in 100,000 at either end.
RANGES = ("MinMax", "Percentile")
LARGE = 4096  # numbers of a tensor, from which 16 bits are worth what they round off
TOLERANCE = 1e-4  # of the largest value in an output, or of 1 where that is smaller


def to_onnx(
    network: nn.Module,
    path: Path,
    *,
    size: int,
    outputs: Sequence[str],
    metadata: Mapping[str, str],
) -> None:
    """Export `network` to `path`, whole or not at all.

    `network` takes uint8 (n, size, size) and returns one float32 tensor or a tuple of them. Its
    operators must be among `hilum.safety.onnx_file.OPERATORS`, or the model could not be loaded:
    `squeeze` becomes an `If` where the tracer does not know a size, indexing does not.

    The input is called "images", the outputs as given; their first axis, the number of images, is
    free. Raises `HilumError` when ONNX Runtime and PyTorch disagree, and then writes nothing.
    """
    network = network.cpu().eval()
    model = onnx.load_from_string(traced(network, size, outputs))
    onnx.helper.set_model_props(model, dict(sorted(metadata.items())))
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    onnx_file.examine(content, path.name)
    compare(network, content, size, outputs)
    write_bytes(path, content)


def to_int8(
    source: Path,
    path: Path,
    images: np.ndarray,
    *,
    operators: Sequence[str] = QUANTISED,
    ranges: str = RANGES[0],
    weight_bits: int = 8,
) -> None:
    """Quantise the model at `source` to 8-bit weights and features and write it to `path`.

    Input, outputs and metadata stay the same. `images`, uint8 (n, size, size), resemble the
    training images: their features' ranges calibrate the quantisation (static quantisation, Jacob
    et al. 2018, arXiv:1712.05877). The first and the last convolution stay in float32: they cost
    little, and the image's own grey levels and the borders of the outputs suffer most from coarse
    steps. `operators` are the ONNX operators to quantise. With `weight_bits` 7 the sum of two
    products fits 16 bits, so that processors with and without VNNI give the same result: those
    without saturate there. The graph is rewritten by `hilum.training.quicker_graph`.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        """The calibration images, one at a time."""

        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """Return the next input, None at the end."""
            image = next(self.left, None)
            return None if image is None else {INPUT: image[None]}

    model = onnx.load(source)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    with tempfile.TemporaryDirectory() as temporary, _quiet():
        whole, small = Path(temporary) / "whole.onnx", Path(temporary) / "small.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model), whole)
        quantize_static(
            whole,
            small,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(operators),
            nodes_to_exclude=[convolutions[0], convolutions[-1]],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=weight_bits == 7,
            calibrate_method=CalibrationMethod[ranges],
        )
        model = onnx.load(small)
    write(quicker_graph.quicker(model), path, metadata)


def to_half_weights(source: Path, path: Path) -> None:
    """Write the model at `source` with its large float32 weights stored in 16 bits.

    Half the size; computed in float32 as before. Vectors stay: among them are the scales of 8-bit
    tensors, which 16 bits do not hold. Both paths may be the same.
    """
    model = onnx.load(source)
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < LARGE or values.ndim < 2:
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(
            onnx.helper.make_node(
                "Cast", [f"{name}.half"], [name], f"{name}.cast", to=onnx.TensorProto.FLOAT
            )
        )
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    write(model, path, {entry.key: entry.value for entry in model.metadata_props})


def describe(source: Path, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the model at `source` to `path` with `metadata` in place of its own.

    So what is fitted to a finished model's scores, such as its calibration, travels with it.
    """
    write(onnx.load(source), path, metadata)


def write(model: onnx.ModelProto, path: Path, metadata: Mapping[str, str]) -> None:
    """Check a model and write it with `metadata` in place of its own, whole or not at all."""
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(sorted(metadata.items())))
    onnx.checker.check_model(model, full_check=True)
    write_bytes(path, model.SerializeToString(deterministic=True))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence onnxruntime's advice to preprocess the model, which was done already."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


def traced(network: nn.Module, size: int, outputs: Sequence[str]) -> bytes:
    """Return the content of an ONNX file without metadata of `network`, as in `to_onnx`."""
    free = {name: {0: "n"} for name in (INPUT, *outputs)}
    with (
        tempfile.TemporaryDirectory() as temporary,
        warnings.catch_warnings(),
        torch.no_grad(),
    ):
        # PyTorch warns that this exporter is the older one, and of every shape that it traces.
        warnings.simplefilter("ignore")
        path = Path(temporary) / "traced.onnx"
        torch.onnx.export(
            network,
            (torch.zeros((2, size, size), dtype=torch.uint8),),
            path,
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_axes=free,
            opset_version=OPSET,
            dynamo=False,
        )
        model = onnx.load_from_string(path.read_bytes())
    model = quicker_graph.padded_in_convolutions(model)
    return model.SerializeToString(deterministic=True)


def compare(network: nn.Module, content: bytes, size: int, outputs: Sequence[str]) -> None:
    """Compare PyTorch and ONNX Runtime on three random images, one more than were traced.

    Raises `HilumError` where they differ by more than `TOLERANCE`.
    """
    images = np.random.default_rng(0).integers(0, 256, (3, size, size), np.uint8)
    with torch.no_grad():
        expected = network(torch.from_numpy(images))
    expected = expected if isinstance(expected, tuple) else (expected,)
    answers = Session(content, "the exported model", size, trusted=True).run(
        outputs, {INPUT: images}
    )
    for name, ours, theirs in zip(outputs, expected, answers, strict=True):
        largest = max(1.0, float(ours.abs().max()))
        difference = (
            float(np.abs(ours.numpy() - theirs).max())
            if ours.shape == theirs.shape
            else float("inf")
        )
        if not difference <= TOLERANCE * largest:
            raise HilumError(
                f"the exported model's output '{name}' differs by {difference:.2g} from the "
                f"trained network's; expected at most {TOLERANCE * largest:.2g}. Nothing was "
                f"written: update torch, onnx and onnxruntime, and export again"
            )
