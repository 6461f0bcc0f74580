"""What the domain of the tuberculosis model is measured in, added to the graph of a trained model.

"features", float32 (n, 576): mean and logarithm of the standard deviation of the channels that the
first five stages end in (`hilum.training.staged_features`, 544 values), then grey levels, sharpness
by octave and noise of the image itself (`image_statistics`, 32 values). Of the features compared in
benchmarks/accuracy/domain.py these separate unseen hospitals best.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import onnx
import onnx.utils
import torch
from onnx import TensorProto, compose, helper
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.inference import domain
from hilum.training.onnx_export import INPUT, OPSET
from hilum.training.staged_features import EARLY, early_statistics
from tools.build_models.add_domain import stage_ends

LEVELS = 15  # grey levels above which the fraction of pixels is a feature
OCTAVES = 5  # of which gradients are features
FAINT = 1e-4  # so that the logarithm of nothing is finite
STAGES = ((16, 2), (24, 4), (40, 8), (80, 16), (112, 16))  # channels, and pixels per cell


class _Gate(nn.Module):
    """uint8 images (n, size, size) and the ends of the early stages -> features (n, 576)."""

    def forward(self, images: Tensor, *stages: Tensor) -> Tensor:
        """Compute the features."""
        return gate_features(images.unsqueeze(1).float() / 255, list(stages))


def gate_features(x: Tensor, stages: list[Tensor]) -> Tensor:
    """Compute the features of images (n, 1, s, s) in [0, 1] and of their first five stages."""
    early = early_statistics([*stages[:EARLY], stages[EARLY - 1]])  # it leaves out the last
    return torch.cat([early, image_statistics(x)], 1)


def image_statistics(x: Tensor) -> Tensor:
    """Compute grey levels, sharpness and noise, (n, 32), of images (n, 1, s, s) in [0, 1]."""
    above = [
        ((x - level / (LEVELS + 1)) * 25 + 0.5).clamp(0, 1).mean((2, 3))
        for level in range(1, LEVELS + 1)
    ]
    mean = x.mean((2, 3), keepdim=True)
    found = [*above, mean.flatten(1), (x - mean).square().mean((2, 3)).sqrt()]
    found += [(1 - 255 * x).clamp(0, 1).mean((2, 3)), (255 * x - 254).clamp(0, 1).mean((2, 3))]
    layer = x
    for octave in range(OCTAVES):
        down, across = layer[:, :, 1:] - layer[:, :, :-1], layer[..., 1:] - layer[..., :-1]
        found += [torch.log(one.abs().mean((2, 3)) + FAINT) for one in (down, across)]
        if octave < OCTAVES - 1:
            layer = F.avg_pool2d(layer, 2)
    noise = 4 * x[:, :, 1:-1, 1:-1] - x[:, :, :-2, 1:-1] - x[:, :, 2:, 1:-1]
    noise = noise - x[:, :, 1:-1, :-2] - x[:, :, 1:-1, 2:]
    found += [torch.log(noise.abs().mean((2, 3)) + FAINT)]
    found += [torch.log(noise.square().mean((2, 3)).sqrt() + FAINT)]
    found += [torch.log((noise.abs().sqrt()).mean((2, 3)) + FAINT)]
    return torch.cat(found, 1)


def tapped(model: onnx.ModelProto, size: int) -> onnx.ModelProto:
    """Add the output `features` to the graph of a classifier with images of `size`.

    Its stages are read after quantisation, so the 8-bit operators stay fused.
    """
    graph = model.graph
    known = {name for node in graph.node for name in node.output}
    ends = [f"{name}_DequantizeLinear_Output" for name in stage_ends(model)]
    ends = [end if end in known else end.removesuffix("_DequantizeLinear_Output") for end in ends]
    places = [INPUT, *ends]
    names = [f"tap{number}" for number in range(len(places))]
    sides = [torch.rand(2, channels, size // cell, size // cell) for channels, cell in STAGES]
    example = (torch.zeros(2, size, size, dtype=torch.uint8), *sides)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Gate(),
            example,
            content,
            input_names=names,
            output_names=[domain.OUTPUT],
            dynamic_axes={name: {0: "n"} for name in [*names, domain.OUTPUT]},
            opset_version=OPSET,
            dynamo=False,
        )
    made = onnx.load_from_string(content.getvalue())
    made = compose.add_prefix(made, "gate/", rename_inputs=False, rename_outputs=False)
    tensor_of = dict(zip(names, places, strict=True))
    for node in made.graph.node:
        for number, name in enumerate(node.input):
            node.input[number] = tensor_of.get(name, name)
    graph.node.extend(made.graph.node)
    graph.initializer.extend(made.graph.initializer)
    count = made.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    graph.output.append(
        helper.make_tensor_value_info(domain.OUTPUT, TensorProto.FLOAT, ["n", count])
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def retapped(model: onnx.ModelProto, outputs: Sequence[str], size: int) -> onnx.ModelProto:
    """Return the classifier with `outputs` and `features`, in place of any that it has."""
    return tapped(onnx.utils.Extractor(model).extract_model([INPUT], list(outputs)), size)
