"""Rewrite a finished ONNX graph so that ONNX Runtime takes less time for the same outputs.

Each rewriting keeps every number that leaves the graph, to the bit:

    patches   the pixels of each patch as channels (`pixel_unshuffle`), which PyTorch exports as a
              transposition of six axes, by a convolution whose weights are 0 and 1
    padding   zeros around features, a copy of them, for which those of 8 bits were made float32
              and 8 bits again, by the padding of the convolution that follows
    doubling  of 8-bit features to the nearest, by putting each pixel, and then each row, beside
              itself, which ONNX Runtime copies as a whole; so it is done with channels last
    outputs   a last convolution with all outputs' channels, cut apart at the end, by one
              convolution for each output, so that a caller of one output does not wait for others

What is not of these forms stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

_UNSHUFFLED = [0, 1, 3, 5, 2, 4]  # axes of (n, channels, rows, patch, columns, patch)


def quicker(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with the rewritings above done; the given one stays as it is."""
    return _rewritten(
        model,
        _patches_by_convolution,
        _padding_in_convolution,
        _doubled_by_copies,
        _outputs_apart,
    )


def padded_in_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with the rewriting of padding alone done, as a quantisation may follow."""
    return _rewritten(model, _padding_in_convolution)


def _rewritten(model: onnx.ModelProto, *rewritings: Callable[[_Graph], None]) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for rewrite in rewritings:
        rewrite(_Graph(changed))  # whose sides are those of what was rewritten before
    _Graph(changed).drop_unused()
    return changed


class _Graph:
    """A graph whose nodes are looked up by what they give and take."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.proto, self.opsets = model.graph, model.opset_import
        bare = onnx.ModelProto()
        bare.CopyFrom(model)
        del bare.graph.value_info[:]
        self.sides = {  # of what is computed; 0 where they are free
            value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
            for value in onnx.shape_inference.infer_shapes(bare).graph.value_info
        }

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes, in their order."""
        return list(self.proto.node)

    def maker(self, name: str) -> onnx.NodeProto | None:
        """Return the node that gives the tensor `name`; None for inputs and weights."""
        return next((node for node in self.proto.node if name in node.output), None)

    def takers(self, name: str) -> list[onnx.NodeProto]:
        """Return the nodes that take the tensor `name`."""
        return [node for node in self.proto.node if name in node.input]

    def only_taker(self, name: str, operator: str) -> onnx.NodeProto | None:
        """Return the one node that takes `name`; None where it is another or not alone."""
        takers = self.takers(name)
        if len(takers) != 1 or takers[0].op_type != operator or self.is_output(name):
            return None
        return takers[0]

    def is_output(self, name: str) -> bool:
        """Say whether the tensor leaves the graph."""
        return any(output.name == name for output in self.proto.output)

    def value(self, name: str) -> Any:
        """Return the numbers of a tensor that no input changes, an array; None of any other."""
        nodes, needed = list[onnx.NodeProto](), {name}
        for node in reversed(self.proto.node):
            if needed & set(node.output):
                nodes.append(node)
                needed |= set(node.input)
        if any(one.name in needed for one in self.proto.input):
            return None
        weights = [one for one in self.proto.initializer if one.name in needed]
        for one in weights:
            if one.name == name:
                return numpy_helper.to_array(one)
        found = helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None)
        part = helper.make_graph(nodes[::-1], "constant", [], [found], weights)
        model = helper.make_model(part, opset_imports=self.opsets)
        answers: Any = ReferenceEvaluator(model).run(None, {})
        return np.asarray(answers[0])

    def add_weight(self, name: str, value: np.ndarray) -> str:
        """Add a weight and return its name."""
        self.proto.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def replace(self, old: Sequence[onnx.NodeProto], new: Sequence[onnx.NodeProto]) -> None:
        """Put `new` in the place of the last of `old`, which all go."""
        gone = {node.output[0] for node in old}
        last, nodes = old[-1].output[0], list[onnx.NodeProto]()
        for node in self.nodes:
            if node.output[0] == last:
                nodes += new
            elif node.output[0] not in gone:
                nodes.append(node)
        self._put(nodes)

    def drop_unused(self) -> None:
        """Remove nodes and weights that no output needs."""
        needed = {output.name for output in self.proto.output}
        nodes = list[onnx.NodeProto]()
        for node in reversed(self.nodes):
            if needed & set(node.output):
                nodes.append(node)
                needed |= set(node.input)
        self._put(nodes[::-1])
        for field in (self.proto.initializer, self.proto.value_info):
            for at in reversed(range(len(field))):
                if field[at].name not in needed:
                    del field[at]

    def _put(self, nodes: Sequence[onnx.NodeProto]) -> None:
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del self.proto.node[:]
        self.proto.node.extend(copies)


def _attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    for one in node.attribute:
        if one.name == name:
            return helper.get_attribute_value(one)
    return default


def _patches_by_convolution(graph: _Graph) -> None:
    """Make channels of the pixels of each patch by a convolution of one channel."""
    for apart in graph.nodes:
        if apart.op_type != "Reshape" or (sides := graph.value(apart.input[1])) is None:
            continue
        moved = graph.only_taker(apart.output[0], "Transpose")
        if len(sides) != 6 or sides[1] != 1 or sides[3] != sides[5] or moved is None:
            continue
        joined = graph.only_taker(moved.output[0], "Reshape")
        if joined is None or _attribute(moved, "perm") != _UNSHUFFLED:
            continue
        side = int(sides[3])
        expected = [-1, side * side, sides[2], sides[4]]
        if not np.array_equal(graph.value(joined.input[1]), expected):
            continue
        weight = np.eye(side * side, dtype=np.float32).reshape(-1, 1, side, side)
        name = joined.output[0]
        convolution = helper.make_node(
            "Conv",
            [apart.input[0], graph.add_weight(f"{name}_pixels", weight)],
            [name],
            f"{name}_patches",
            kernel_shape=[side, side],
            strides=[side, side],
        )
        graph.replace([apart, moved, joined], [convolution])


def _padding_in_convolution(graph: _Graph) -> None:
    """Pad features by the convolution that follows; those of 8 bits by it are padded in 8 bits."""
    for pad in graph.nodes:
        if pad.op_type != "Pad" or _attribute(pad, "mode", b"constant") != b"constant":
            continue
        gone, made = [pad], graph.maker(pad.input[0])
        stored = graph.only_taker(pad.output[0], "QuantizeLinear")
        again = stored and graph.only_taker(stored.output[0], "DequantizeLinear")
        if stored and again and made and made.op_type == "DequantizeLinear":
            steps = [[graph.value(one) for one in node.input[1:]] for node in (made, stored, again)]
            if all(np.array_equal(steps[0], one) for one in steps[1:]):
                gone += [stored, again]
        convolution = graph.only_taker(gone[-1].output[0], "Conv")
        around = _around(graph, pad)
        if convolution is None or around is None or _attribute(convolution, "auto_pad", b""):
            continue
        own = _attribute(convolution, "pads", [0, 0, 0, 0])
        wider = onnx.NodeProto()
        wider.CopyFrom(convolution)
        wider.input[0] = pad.input[0]
        del wider.attribute[:]
        wider.attribute.extend(one for one in convolution.attribute if one.name != "pads")
        pads = [int(a + b) for a, b in zip(own, around, strict=True)]
        wider.attribute.append(helper.make_attribute("pads", pads))
        graph.replace([*gone, convolution], [wider])


def _around(graph: _Graph, pad: onnx.NodeProto) -> list[int] | None:
    """Return the rows and columns of zeros before and behind; None where it pads otherwise."""
    pads = graph.value(pad.input[1])
    filled = graph.value(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.float32(0)
    if pads is None or len(pads) != 8 or filled is None or float(filled) != 0.0:
        return None
    before, behind = pads[:4], pads[4:]
    if before[:2].any() or behind[:2].any() or (pads < 0).any():
        return None
    return [int(one) for one in (*before[2:], *behind[2:])]


def _doubled_by_copies(graph: _Graph) -> None:
    """Double rows and columns of 8-bit features by copies of pixels and of rows."""
    for resize in graph.nodes:
        if resize.op_type != "Resize" or not _is_doubling(graph, resize):
            continue
        real = graph.maker(resize.input[0])
        stored = graph.only_taker(resize.output[0], "QuantizeLinear")
        if real is None or real.op_type != "DequantizeLinear" or stored is None:
            continue
        steps = [[graph.value(name) for name in node.input[1:]] for node in (real, stored)]
        sides = graph.sides.get(resize.input[0], ())
        if not np.array_equal(steps[0], steps[1]) or len(sides) != 4 or not all(sides[1:]):
            continue
        _, channels, height, width = sides
        features, name = real.input[0], stored.output[0]
        rows, whole = (
            graph.add_weight(f"{name}_{kind}", np.array(shape, np.int64))
            for kind, shape in (
                ("rows", [-1, height, 2 * width * channels]),
                ("whole", [-1, 2 * height, 2 * width, channels]),
            )
        )
        made, last = list[onnx.NodeProto](), features
        copies: list[tuple[str, int, str, Any]] = [
            ("Transpose", 1, "perm", [0, 2, 3, 1]),
            ("Concat", 2, "axis", 3),
            ("Reshape", 1, "", None),
            ("Concat", 2, "axis", 2),
            ("Reshape", 1, "", None),
            ("Transpose", 1, "perm", [0, 3, 1, 2]),
        ]
        for operator, inputs, attribute, of in copies:
            shape = [rows if len(made) == 2 else whole] if operator == "Reshape" else []
            output = name if len(made) == 5 else f"{name}_{len(made)}"
            made.append(helper.make_node(operator, [last] * inputs + shape, [output], output))
            if attribute:
                made[-1].attribute.append(helper.make_attribute(attribute, of))
            last = output
        graph.replace([resize, stored], made)


def _is_doubling(graph: _Graph, resize: onnx.NodeProto) -> bool:
    """Say whether a resizing gives each pixel twice, and each row."""
    given: list[Any] = [graph.value(name) if name else None for name in resize.input[1:]]
    return (
        len(given) == 2
        and np.array_equal(given[1], [1, 1, 2, 2])
        and _attribute(resize, "mode") == b"nearest"
        and _attribute(resize, "coordinate_transformation_mode") == b"asymmetric"
        and _attribute(resize, "nearest_mode") == b"floor"
    )


def _outputs_apart(graph: _Graph) -> None:
    """Give each output, cut from the channels of a last convolution, a convolution of its own."""
    for convolution in graph.nodes:
        if convolution.op_type != "Conv" or len(convolution.input) != 3:
            continue
        shuffled = graph.only_taker(convolution.output[0], "DepthToSpace")
        likely = shuffled and graph.only_taker(shuffled.output[0], "Sigmoid")
        if shuffled is None or likely is None or _attribute(shuffled, "mode") != b"CRD":
            continue
        cuts = graph.takers(likely.output[0])
        spans = [span for span in (_span(graph, cut) for cut in cuts) if span]
        weight, bias = (graph.value(name) for name in convolution.input[1:])
        whole = all(graph.is_output(cut.output[0]) for cut in cuts)
        if weight is None or bias is None or len(cuts) < 2 or len(spans) < len(cuts) or not whole:
            continue
        each = _attribute(shuffled, "blocksize") ** 2
        made = list[onnx.NodeProto]()
        for cut, (begin, end) in zip(cuts, spans, strict=True):
            made += _branch(graph, convolution, shuffled, cut.output[0], begin * each, end * each)
        graph.replace([convolution, shuffled, likely, *cuts], made)


def _span(graph: _Graph, cut: onnx.NodeProto) -> tuple[int, int] | None:
    """Return the first channel of a slice, and the one behind its last; None of other slices."""
    if cut.op_type != "Slice":
        return None
    values = [graph.value(name) for name in cut.input[1:]]
    if any(value is None or len(value) != 1 for value in values):
        return None
    begin, end, axis, step = (int(value[0]) for value in [*values, np.ones(1)][:4])
    return (begin, end) if axis == 1 and step == 1 and 0 <= begin < end else None


def _branch(
    graph: _Graph,
    convolution: onnx.NodeProto,
    shuffled: onnx.NodeProto,
    output: str,
    begin: int,
    end: int,
) -> list[onnx.NodeProto]:
    """Return the nodes that give `output` of some channels of a last convolution."""
    own = onnx.NodeProto()
    own.CopyFrom(convolution)
    own.name, own.output[0] = f"{output}_convolution", f"{output}_channels"
    for at in (1, 2):
        part = graph.value(convolution.input[at])[begin:end]
        own.input[at] = graph.add_weight(f"{convolution.input[at]}_{output}", part)
    pixels = onnx.NodeProto()
    pixels.CopyFrom(shuffled)
    pixels.name, pixels.input[0], pixels.output[0] = (
        f"{output}_shuffle",
        own.output[0],
        f"{output}_logits",
    )
    last = helper.make_node("Sigmoid", [pixels.output[0]], [output], f"{output}_likely")
    return [own, pixels, last]
