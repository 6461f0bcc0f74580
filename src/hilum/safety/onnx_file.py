"""Check an ONNX file before ONNX Runtime sees it, without the package `onnx`.

A model may come from a stranger, and ONNX Runtime believes a model: it opens files that it names,
repeats what it says and allocates what it asks for. So only a part of ONNX is let in, which holds
everything that Hilum exports: one graph of nodes whose operators are in `OPERATORS`, without
subgraphs, local functions, external data, sparse tensors, text tensors or training information,
within the bounds below. Whatever `_MESSAGES` does not name is refused, so that a field added to
ONNX later is not overlooked.

Source: ONNX IR, onnx/onnx.proto (IR version 13); the Protocol Buffers wire format,
https://protobuf.dev/programming-guides/encoding. A field of a message that must come once and comes
twice is refused: parsers merge the two, each in its own way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hilum.errors import BadData, on_one_line

MAX_BYTES = 512 << 20  # of the file
MAX_WEIGHT_BYTES = 1 << 30  # of all weights and constants together, in memory
MAX_NODES = 20_000
MAX_FIELDS = 500_000  # of all messages: bounds the time of the check
MAX_RANK = 8  # of a stored tensor
MAX_METADATA_BYTES = 64 << 20
MAX_INTEGER = 1 << 16  # of a pad, stride, dilation or kernel side

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

FLOAT, UINT8 = 1, 2  # TensorProto.DataType
_BITS = {
    1: 32,
    2: 8,
    3: 8,
    4: 16,
    5: 16,
    6: 32,
    7: 64,
    9: 8,
    10: 16,
    11: 64,
    12: 32,
    13: 64,
    16: 16,
}
_BITS |= {21: 4, 22: 4}
_SPATIAL = ("pads", "strides", "dilations", "kernel_shape", "output_padding", "output_shape")

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class _Field:
    name: str
    wire: int = _LENGTH
    message: str = ""  # the kind of message that it holds
    once: bool = False
    packed: bool = False  # numbers that may also come together in one field
    refused: str = ""  # what it would be, in words


def _text(name: str) -> _Field:
    return _Field(name, once=True)


def _number(name: str) -> _Field:
    return _Field(name, _VARINT, once=True)


def _many(name: str, wire: int = _VARINT) -> _Field:
    return _Field(name, wire, packed=True)


def _refused(words: str) -> _Field:
    return _Field("", refused=words)


_NOTE = _Field("note")  # names, documentation and annotations, which nothing is computed from
_SUBGRAPH, _SPARSE = _refused("a subgraph"), _refused("a sparse tensor")
_OTHER_TYPE = _refused("a value that is no tensor")
_MESSAGES: Mapping[str, Mapping[int, _Field]] = {
    "model": {
        1: _number("ir_version"),
        2: _NOTE,
        3: _NOTE,
        4: _NOTE,
        5: _number("model_version"),
        6: _NOTE,
        7: _Field("graph", message="graph", once=True),
        8: _Field("opset", message="opset"),
        14: _Field("metadata", message="entry"),
        20: _refused("training information"),
        25: _refused("a function of its own"),
        26: _refused("a configuration of devices"),
    },
    "opset": {1: _text("domain"), 2: _number("version")},
    "entry": {1: _text("key"), 2: _text("value")},
    "graph": {
        1: _Field("node", message="node"),
        2: _NOTE,
        5: _Field("initializer", message="tensor"),
        10: _NOTE,
        11: _Field("input", message="value"),
        12: _Field("output", message="value"),
        13: _NOTE,
        14: _NOTE,
        15: _SPARSE,
        16: _NOTE,
    },
    "node": {
        1: _Field("input"),
        2: _Field("output"),
        3: _text("name"),
        4: _text("op_type"),
        5: _Field("attribute", message="attribute"),
        6: _NOTE,
        7: _text("domain"),
        8: _text("overload"),
        9: _NOTE,
        10: _refused("a configuration of devices"),
    },
    "attribute": {
        1: _text("name"),
        2: _Field("f", _FIXED32),
        3: _number("i"),
        4: _text("s"),
        5: _Field("t", message="tensor", once=True),
        6: _SUBGRAPH,
        7: _many("floats", _FIXED32),
        8: _many("ints"),
        9: _Field("strings"),
        10: _Field("tensors", message="tensor"),
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
        4: _many("data", _FIXED32),
        5: _many("data"),
        6: _refused("a tensor of text"),
        7: _many("data"),
        8: _text("name"),
        9: _Field("raw_data", once=True),
        10: _many("data", _FIXED64),
        11: _many("data"),
        12: _NOTE,
        13: _refused("weights in another file (external data)"),
        14: _number("data_location"),
        16: _NOTE,
    },
    "value": {1: _text("name"), 2: _Field("type", message="type", once=True), 3: _NOTE, 4: _NOTE},
    "type": {
        1: _Field("tensor_type", message="tensor_type", once=True),
        4: _OTHER_TYPE,
        5: _OTHER_TYPE,
        6: _NOTE,
        7: _OTHER_TYPE,
        8: _OTHER_TYPE,
        9: _OTHER_TYPE,
    },
    "tensor_type": {1: _number("elem_type"), 2: _Field("shape", message="shape", once=True)},
    "shape": {1: _Field("dim", message="dim")},
    "dim": {1: _number("size"), 2: _text("name"), 3: _NOTE},
}


@dataclass(frozen=True)
class Value:
    """An input or output of the graph: its TensorProto.DataType, and its sides where it has any."""

    element: int
    shape: tuple[int | str, ...]  # a name, or "" for none, where the side is not fixed


@dataclass(frozen=True)
class OnnxFile:
    """What a checked file says of itself."""

    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    metadata: Mapping[str, str]
    operators: tuple[str, ...]  # of its nodes, in their order
    weight_bytes: int  # of its weights and constants, in memory


def examine(data: bytes, name: str) -> OnnxFile:
    """Return what the ONNX file `data` holds; `name` is what errors call it.

    Raises `BadData` where it is no ONNX, or holds what is not let in.
    """
    try:
        return _Walk(data).model()
    except _Refused as error:
        raise BadData(
            f"{on_one_line(name)}: is refused: {error}. Expected a model exported by Hilum; "
            f"train it again, or copy it anew"
        ) from None


class _Refused(Exception):
    pass


@dataclass
class _Walk:
    data: bytes
    fields: int = 0
    nodes: list[str] = field(default_factory=list)
    weight_bits: int = 0

    def model(self) -> OnnxFile:
        if len(self.data) > MAX_BYTES:
            raise _Refused(f"it has {len(self.data):,} bytes, more than {MAX_BYTES:,}")
        metadata: dict[str, str] = {}
        graph: tuple[int, int] | None = None
        for what, value in self._of("model", (0, len(self.data))):
            if what == "opset":
                self._opset(value)
            elif what == "metadata":
                self._entry(value, metadata)
            elif what == "graph":
                graph = value
        if graph is None:
            raise _Refused("it holds no graph, so it is no ONNX file")
        inputs, outputs = self._graph(graph)
        return OnnxFile(inputs, outputs, metadata, tuple(self.nodes), self.weight_bits // 8)

    def _opset(self, span: tuple[int, int]) -> None:
        domain = self._text(dict(self._of("opset", span)).get("domain", (0, 0)))
        if domain not in DOMAINS:
            raise _Refused(f"it imports operators of the domain '{_shown(domain)}'")

    def _entry(self, span: tuple[int, int], metadata: dict[str, str]) -> None:
        found = dict(self._of("entry", span))
        key = self._text(found.get("key", (0, 0)))
        if key in metadata:
            raise _Refused(f"its metadata say '{_shown(key)}' twice")
        metadata[key] = self._text(found.get("value", (0, 0)))
        if sum(map(len, metadata.values())) > MAX_METADATA_BYTES:
            raise _Refused(f"its metadata have more than {MAX_METADATA_BYTES:,} characters")

    def _graph(self, span: tuple[int, int]) -> tuple[dict[str, Value], dict[str, Value]]:
        values: dict[str, dict[str, Value]] = {"input": {}, "output": {}}
        weights = set()
        for what, value in self._of("graph", span):
            if what == "node":
                self._node(value)
            elif what == "initializer":
                weights.add(self._tensor(value))
            elif what in values:
                self._value(value, values[what])
        inputs = {name: value for name, value in values["input"].items() if name not in weights}
        return inputs, values["output"]

    def _node(self, span: tuple[int, int]) -> None:
        found: dict[str, Any] = {}
        attributes = []
        for what, value in self._of("node", span):
            attributes += [value] if what == "attribute" else []
            if what in ("input", "output"):
                self._text(value)
            found[what] = value
        operator, domain = (self._text(found.get(what, (0, 0))) for what in ("op_type", "domain"))
        if domain not in DOMAINS:
            raise _Refused(f"it uses the operator '{_shown(operator)}' of '{_shown(domain)}'")
        if operator not in OPERATORS:
            raise _Refused(f"it uses the operator '{_shown(operator)}', which no image model needs")
        self.nodes.append(operator)
        if len(self.nodes) > MAX_NODES:
            raise _Refused(f"it has more than {MAX_NODES:,} nodes")
        for attribute in attributes:
            self._attribute(attribute)

    def _attribute(self, span: tuple[int, int]) -> None:
        name, numbers = "", []
        for what, value in self._of("attribute", span):
            if what == "name":
                name = self._text(value)
            elif what in ("t", "tensors"):
                self._tensor(value)
            elif what == "ints":
                numbers += self._numbers(value)
            elif what in ("floats", "strings"):
                self.weight_bits += 64 if isinstance(value, int) else 8 * (value[1] - value[0])
        self._weigh(64 * len(numbers))
        if name in _SPATIAL and any(abs(_signed(number)) > MAX_INTEGER for number in numbers):
            raise _Refused(f"its {name} have a number beyond {MAX_INTEGER:,}")

    def _tensor(self, span: tuple[int, int]) -> str:
        """Bound a stored tensor by what is stored of it; returns its name."""
        name, kind, stored, dims = (0, 0), 0, 0, []
        for what, value in self._of("tensor", span):
            if what == "name":
                name = value
            elif what == "data_type":
                kind = value
            elif what == "data_location" and value != 0:
                raise _Refused("it holds weights in another file (external data)")
            elif what == "dims":
                dims += [_signed(number) for number in self._numbers(value)]
            elif what in ("data", "raw_data"):
                stored += 1 if isinstance(value, int) else value[1] - value[0]
        title = _shown(self._text(name))
        if kind not in _BITS:
            raise _Refused(f"the tensor '{title}' has numbers of the unknown kind {kind}")
        if len(dims) > MAX_RANK or any(not 0 <= side < 1 << 31 for side in dims):
            raise _Refused(f"the tensor '{title}' has impossible sides, {dims[: MAX_RANK + 1]}")
        elements = math.prod(dims)
        if elements > 2 * stored:  # two 4-bit numbers to a byte
            raise _Refused(f"the tensor '{title}' says {elements:,} numbers and stores fewer")
        self._weigh(elements * _BITS[kind])
        return self._text(name)

    def _weigh(self, bits: int) -> None:
        self.weight_bits += bits
        if self.weight_bits > 8 * MAX_WEIGHT_BYTES:
            raise _Refused(f"its weights need more than {MAX_WEIGHT_BYTES:,} bytes")

    def _value(self, span: tuple[int, int], values: dict[str, Value]) -> None:
        found = dict(self._of("value", span))
        name = self._text(found.get("name", (0, 0)))
        kind = dict(self._of("type", found.get("type", (0, 0)))).get("tensor_type", (0, 0))
        tensor = dict(self._of("tensor_type", kind))
        if name in values:
            raise _Refused(f"'{_shown(name)}' is an input or output twice")
        dims = (
            dict(self._of("dim", one)) for _, one in self._of("shape", tensor.get("shape", (0, 0)))
        )
        sides = tuple(
            _signed(dim["size"]) if "size" in dim else self._text(dim.get("name", (0, 0)))
            for dim in dims
        )
        values[name] = Value(tensor.get("elem_type", 0), sides)

    # ------------------------------------------------------------------------------ the wire

    def _of(self, message: str, span: tuple[int, int]) -> Iterator[tuple[str, Any]]:
        """Yield the fields of a message by name: a number, or the span of the bytes."""
        known, seen, at = _MESSAGES[message], set(), span[0]
        while at < span[1]:
            self._count()
            tag, at = self._varint(at, span[1])
            number, wire = tag >> 3, tag & 7
            if (one := known.get(number)) is None:
                raise _Refused(f"field {number} of a {message} is unknown")
            if one.refused:
                raise _Refused(f"it holds {one.refused}")
            if wire != one.wire and not (one.packed and wire == _LENGTH):
                raise _Refused(f"field {number} of a {message} is not encoded as ONNX says")
            if one.once and number in seen:
                raise _Refused(f"field {number} of a {message} comes twice")
            seen.add(number)
            value, at = self._payload(wire, at, span[1])
            yield one.name, value

    def _payload(self, wire: int, at: int, end: int) -> tuple[Any, int]:
        if wire == _VARINT:
            return self._varint(at, end)
        if wire == _LENGTH:
            length, at = self._varint(at, end)
        else:
            length = 4 if wire == _FIXED32 else 8
        if length > end - at:
            raise _Refused(
                f"it ends within a field, at byte {at:,}: it is cut short or no ONNX file"
            )
        return ((at, at + length) if wire == _LENGTH else length), at + length

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 70:
            byte = self.data[at]
            value |= (byte & 0x7F) << shift
            at += 1
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, at
            shift += 7
        raise _Refused(f"byte {at:,} is not as ONNX says: it is cut short or no ONNX file")

    def _numbers(self, value: int | tuple[int, int]) -> list[int]:
        if isinstance(value, int):
            return [value]
        at, found = value[0], []
        while at < value[1]:
            self._count()
            number, at = self._varint(at, value[1])
            found.append(number)
        return found

    def _count(self) -> None:
        self.fields += 1
        if self.fields > MAX_FIELDS:
            raise _Refused(f"it has more than {MAX_FIELDS:,} fields")

    def _text(self, span: tuple[int, int]) -> str:
        try:
            return self.data[span[0] : span[1]].decode()
        except UnicodeDecodeError:
            raise _Refused("one of its names is no UTF-8 text") from None


def _signed(number: int) -> int:
    """Return the int64 that a varint stands for."""
    return number - (1 << 64) if number >> 63 else number


def _shown(text: str) -> str:
    return on_one_line(text[:80])
