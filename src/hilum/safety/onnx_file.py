"""Check an ONNX file before ONNX Runtime sees it, without the package `onnx`.

A model may come from an untrusted source, and ONNX Runtime trusts a model: it opens files that it
names, repeats what it states and allocates what it requests. So only a part of ONNX is let in,
which holds everything that Hilum exports: one graph of nodes whose operators are in `OPERATORS`,
without subgraphs, local functions, external data, sparse tensors, text tensors or training
information, within the bounds below. `hilum.safety.onnx_schema` lists the fields that are allowed.

Source: the Protocol Buffers wire format, https://protobuf.dev/programming-guides/encoding. A field
of a message that must come once and comes twice is refused: parsers merge the two, each in its own
way.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hilum.errors import BadData, on_one_line
from hilum.safety.onnx_schema import DOMAINS, FIXED32, LENGTH, MESSAGES, OPERATORS, VARINT

MAX_BYTES = 512 << 20  # of the file
MAX_WEIGHT_BYTES = 1 << 30  # of all weights and constants together, in memory
MAX_NODES = 20_000
MAX_FIELDS = 500_000  # of all messages: bounds the time of the check
MAX_RANK = 8  # of a stored tensor
MAX_METADATA_BYTES = 64 << 20
MAX_INTEGER = 1 << 16  # of a pad, stride, dilation or kernel side

_GRAPH = bytes([7 << 3 | LENGTH])  # how the field of a model begins that holds its graph
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


@dataclass(frozen=True)
class Value:
    """An input or output of the graph: its TensorProto.DataType and its shape."""

    element: int
    shape: tuple[int | str, ...]  # a name, or "" for none, where the side is not fixed


@dataclass(frozen=True)
class OnnxFile:
    """What a checked file states of itself."""

    inputs: Mapping[str, Value]
    outputs: Mapping[str, Value]
    metadata: Mapping[str, str]
    operators: tuple[str, ...]  # of its nodes, in their order
    weight_bytes: int  # of its weights and constants, in memory


def examine(data: bytes, name: str) -> OnnxFile:
    """Return what the ONNX file `data` states of itself; `name` is what errors call it.

    Raises `BadData` where it is no ONNX file, or holds what is not let in.
    """
    try:
        return _Walk(data).model()
    except _Refused as error:
        raise BadData(
            f"{on_one_line(name)}: is refused: {error}. Expected a model exported by Hilum; "
            f"train it again, or copy it anew"
        ) from None


def of_outputs(data: bytes, names: Collection[str]) -> bytes:
    """Return the checked file `data` with the outputs `names` alone, and the nodes they need.

    ONNX Runtime computes every node of a file, whatever outputs a call requests.
    """
    return _Walk(data).of_outputs(names)


class _Refused(Exception):
    pass


@dataclass
class _Walk:
    """One pass over the bytes of a file, which counts fields, nodes and weights."""

    data: bytes
    fields: int = 0
    nodes: list[str] = field(default_factory=list)
    weight_bits: int = 0

    def model(self) -> OnnxFile:
        """Return what the file states of itself. Raises `_Refused`."""
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

    def of_outputs(self, names: Collection[str]) -> bytes:
        """Return the file with these outputs alone. Raises `_Refused`."""
        parts = list[bytes]()
        for what, value, begin, end in self._placed("model", (0, len(self.data))):
            if what == "graph":
                kept = b"".join(self._kept(value, set(names)))
                parts += [_GRAPH, _as_varint(len(kept)), kept]
            else:
                parts.append(self.data[begin:end])
        return b"".join(parts)

    def _kept(self, graph: tuple[int, int], needed: set[str]) -> list[bytes]:
        """Return the fields of a graph, without outputs and nodes that are not `needed`."""
        kept = list[bytes]()
        placed = list(self._placed("graph", graph))
        outputs = set(needed)
        for what, value, begin, end in reversed(placed):  # a node comes behind those it needs
            if what == "output":
                name = self._text(dict(self._of("value", value)).get("name", (0, 0)))
                if name not in outputs:
                    continue
            if what == "node":
                names: dict[str, set[str]] = {"input": set(), "output": set()}
                for of, one in self._of("node", value):
                    if of in names:
                        names[of].add(self._text(one))
                if not needed & names["output"]:
                    continue
                needed |= names["input"]
            kept.append(self.data[begin:end])
        return kept[::-1]

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
        found: dict[str, tuple[int, int]] = {}
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
        """Bound a stored tensor by the bytes stored for it; return its name."""
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
        for name, value, _, _ in self._placed(message, span):
            yield name, value

    def _placed(self, message: str, span: tuple[int, int]) -> Iterator[tuple[str, Any, int, int]]:
        """Yield the same with the first byte of each field, and the one behind its last."""
        known, seen, at = MESSAGES[message], set(), span[0]
        while at < span[1]:
            self._count()
            begin = at
            tag, at = self._varint(at, span[1])
            number, wire = tag >> 3, tag & 7
            if (one := known.get(number)) is None:
                raise _Refused(f"field {number} of a {message} is unknown")
            if one.refused:
                raise _Refused(f"it holds {one.refused}")
            if wire != one.wire and not (one.packed and wire == LENGTH):
                raise _Refused(f"field {number} of a {message} is not encoded as ONNX says")
            if one.once and number in seen:
                raise _Refused(f"field {number} of a {message} comes twice")
            seen.add(number)
            value, at = self._payload(wire, at, span[1])
            yield one.name, value, begin, at

    def _payload(self, wire: int, at: int, end: int) -> tuple[Any, int]:
        if wire == VARINT:
            return self._varint(at, end)
        if wire == LENGTH:
            length, at = self._varint(at, end)
        else:
            length = 4 if wire == FIXED32 else 8
        if length > end - at:
            raise _Refused(
                f"it ends within a field, at byte {at:,}: it is cut short or no ONNX file"
            )
        return ((at, at + length) if wire == LENGTH else length), at + length

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


def _as_varint(number: int) -> bytes:
    """Encode a number that is not negative."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _signed(number: int) -> int:
    """Return the int64 that a varint encodes."""
    return number - (1 << 64) if number >> 63 else number


def _shown(text: str) -> str:
    return on_one_line(text[:80])
