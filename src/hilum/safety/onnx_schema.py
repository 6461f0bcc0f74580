"""The part of ONNX that is let in: its operators, and the fields of its Protocol Buffers messages.

Whatever `MESSAGES` does not name is refused by `hilum.safety.onnx_file`, so that a field added to
ONNX later is not overlooked.

Source: ONNX IR, onnx/onnx.proto (IR version 13).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_FEED_FORWARD = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
    BitShift Cast CastLike Ceil Celu CenterCropPad Clip Col2Im Concat Constant ConstantOfShape Conv
    ConvInteger ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Det Div Dropout
    DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements
    GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual
    GridSample GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf
    IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool
    MatMul MatMulInteger Max MaxPool MaxUnpool Mean MeanVarianceNormalization Min Mish Mod Mul Neg
    Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear Range Reciprocal ReduceL1
    ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Shrink Sigmoid
    Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan
    Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
OPERATORS = frozenset(_FEED_FORWARD.split())  # of ai.onnx: sizes follow from sizes, nothing loops
DOMAINS = ("", "ai.onnx")

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Field:
    """A field of a message: its name here, encoding, and what is allowed of it."""

    name: str
    wire: int = LENGTH
    message: str = ""  # the kind of message that it holds
    once: bool = False
    packed: bool = False  # numbers that may also come together in one field
    refused: str = ""  # what it would be, in words


def _text(name: str) -> Field:
    return Field(name, once=True)


def _number(name: str) -> Field:
    return Field(name, VARINT, once=True)


def _many(name: str, wire: int = VARINT) -> Field:
    return Field(name, wire, packed=True)


def _refused(words: str) -> Field:
    return Field("", refused=words)


_NOTE = Field("note")  # names, documentation and annotations, which nothing is computed from
_SUBGRAPH, _SPARSE = _refused("a subgraph"), _refused("a sparse tensor")
_OTHER_TYPE = _refused("a value that is no tensor")
MESSAGES: Mapping[str, Mapping[int, Field]] = {
    "model": {
        1: _number("ir_version"),
        2: _NOTE,
        3: _NOTE,
        4: _NOTE,
        5: _number("model_version"),
        6: _NOTE,
        7: Field("graph", message="graph", once=True),
        8: Field("opset", message="opset"),
        14: Field("metadata", message="entry"),
        20: _refused("training information"),
        25: _refused("a function of its own"),
        26: _refused("a configuration of devices"),
    },
    "opset": {1: _text("domain"), 2: _number("version")},
    "entry": {1: _text("key"), 2: _text("value")},
    "graph": {
        1: Field("node", message="node"),
        2: _NOTE,
        5: Field("initializer", message="tensor"),
        10: _NOTE,
        11: Field("input", message="value"),
        12: Field("output", message="value"),
        13: _NOTE,
        14: _NOTE,
        15: _SPARSE,
        16: _NOTE,
    },
    "node": {
        1: Field("input"),
        2: Field("output"),
        3: _text("name"),
        4: _text("op_type"),
        5: Field("attribute", message="attribute"),
        6: _NOTE,
        7: _text("domain"),
        8: _text("overload"),
        9: _NOTE,
        10: _refused("a configuration of devices"),
    },
    "attribute": {
        1: _text("name"),
        2: Field("f", FIXED32),
        3: _number("i"),
        4: _text("s"),
        5: Field("t", message="tensor", once=True),
        6: _SUBGRAPH,
        7: _many("floats", FIXED32),
        8: _many("ints"),
        9: Field("strings"),
        10: Field("tensors", message="tensor"),
        11: _SUBGRAPH,
        13: _NOTE,
        14: _OTHER_TYPE,
        15: _OTHER_TYPE,
        20: _number("type"),
        21: _refused("an attribute of a function"),
        22: _SPARSE,
        23: _SPARSE,
    },
    "tensor": {
        1: _many("dims"),
        2: _number("data_type"),
        3: _refused("a part of a tensor"),
        4: _many("data", FIXED32),
        5: _many("data"),
        6: _refused("a tensor of text"),
        7: _many("data"),
        8: _text("name"),
        9: Field("raw_data", once=True),
        10: _many("data", FIXED64),
        11: _many("data"),
        12: _NOTE,
        13: _refused("weights in another file (external data)"),
        14: _number("data_location"),
        16: _NOTE,
    },
    "value": {1: _text("name"), 2: Field("type", message="type", once=True), 3: _NOTE, 4: _NOTE},
    "type": {
        1: Field("tensor_type", message="tensor_type", once=True),
        4: _OTHER_TYPE,
        5: _OTHER_TYPE,
        6: _NOTE,
        7: _OTHER_TYPE,
        8: _OTHER_TYPE,
        9: _OTHER_TYPE,
    },
    "tensor_type": {1: _number("elem_type"), 2: Field("shape", message="shape", once=True)},
    "shape": {1: Field("dim", message="dim")},
    "dim": {1: _number("size"), 2: _text("name"), 3: _NOTE},
}
