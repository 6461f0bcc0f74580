"""Run a trained model: one ONNX file with its input contract and card, run by ONNX Runtime alone.

Metadata of the file, JSON text each: `contract` (what goes in and comes out), `card` (what it is,
licence, limits), `trained_on` (digest and number of the training images, see the run's training
lists), `domain` (what the training images are like, see `hilum.inference.domain`).

Such a file may come from an untrusted source: it is read once, as a whole, and checked by
`hilum.safety.onnx_file`; its contract is compared with the graph's inputs and outputs; only then is
it loaded by ONNX Runtime, see `hilum.safety.onnx_session`. Its outputs are checked against the
contract too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hilum import storage
from hilum.annotations import lung_masks
from hilum.errors import BadData, Mismatch, NotFound, on_one_line, unknown
from hilum.inference import domain
from hilum.safety import onnx_file, untrusted_files
from hilum.safety.onnx_session import Session
from hilum.safety.untrusted_files import parse_json
from hilum.storage import JsonObject

INPUT = "images"
ORIENTATION = "frontal chest, upright, the patient's right on the image's left"
LUNG_OUTPUTS = {lung_masks.AIR: "lungs", lung_masks.FULL: "lungs_full"}  # by protocol
TASKS = ("lungs", "finding", "anomaly", "orientation", "age_group")
CONTENTS = ("whole", "crop", "ranks")
NORMALISATIONS = ("percentiles", "full", "ranks")
TRAINING_LIST = "pixels_xxh3"  # key of the pixel digests of training and tuning images
EARLIER_LIST = "pixels"  # of their SHA-256, by which no image would be recognised
SIZES = (16, 1024)  # the least and the largest side of an image, pixels
MAX_NAMES = 1000  # of a contract's outputs or concepts
_AT_ONCE = 512**2  # pixels of the images of one call: on a CPU more are no faster
_OWN = Path(__file__).parents[1] / "resources"  # the models there came with Hilum


@dataclass(frozen=True)
class InputContract:
    """The input that a model requires and the outputs that it gives.

    The input is uint8 (n, size, size), made by `content` and `normalisation`.
    """

    task: str  # one of TASKS
    size: int
    content: str  # "whole": the letterboxed image; "crop": see `hilum.inference.lung_crop`
    normalisation: str  # see `hilum.config.Pixels`
    outputs: tuple[str, ...]
    concepts: tuple[str, ...] = ()  # of the scores, in their order
    depth: int = 8  # bits of a pixel; 0 is the lowest value and 2^depth - 1 the highest
    bright: str = "dense"  # bones are bright, air is dark
    orientation: str = ORIENTATION  # checked by `hilum.inference.orientation`

    def mismatches(self, *, content: str, size: int, normalisation: str) -> list[str]:
        """Return in words how images made this way differ from the contract."""
        made = {"content": content, "size": size, "normalisation": normalisation}
        return [
            f"{name} must be {getattr(self, name)!r}, got {value!r}"
            for name, value in made.items()
            if getattr(self, name) != value
        ]


@dataclass(frozen=True)
class OnnxModel:
    """The model at `path`, read when first needed.

    With `root`, the folder of its run, a link out of that folder is refused.
    """

    path: Path
    root: Path | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Be one object in each process that it is sent to, so that the file is read there once."""
        status = self.path.stat() if self.path.exists() else None
        state = (status.st_size, status.st_mtime_ns) if status else None
        return _shared, (self.path, self.root, state)

    @cached_property
    def _file(self) -> tuple[bytes, onnx_file.OnnxFile]:
        if not self.path.exists():
            raise NotFound(f"no model at {self.path}: train it with `hilum train`")
        content = untrusted_files.read_bytes(self.path, root=self.root, limit=onnx_file.MAX_BYTES)
        return content, onnx_file.examine(content, str(self.path))

    @cached_property
    def _sessions(self) -> dict[tuple[str, ...], Session]:
        return {}

    def _session(self, outputs: tuple[str, ...]) -> Session:
        """Return the session that computes these outputs alone, made when first needed."""
        if outputs not in self._sessions:
            # The contract is checked first: a model that must not be called is not loaded.
            size, trusted = self.contract.size, self.path.parent == _OWN
            content = onnx_file.of_outputs(self._file[0], outputs)
            name = on_one_line(str(self.path))
            self._sessions[outputs] = Session(content, name, size, trusted=trusted)
        return self._sessions[outputs]

    @cached_property
    def metadata(self) -> JsonObject:
        """The file's metadata, parsed. Raises `BadData` where an entry is not JSON."""
        stored = self._file[1].metadata
        return {key: parse_json(value, f"{self.path}, its {key}") for key, value in stored.items()}

    @cached_property
    def contract(self) -> InputContract:
        """The input contract. Raises `BadData` listing its faults and where the graph breaks it."""
        if "contract" not in self.metadata:
            raise BadData(
                f"{self.path} carries no input contract, so nothing says what may be fed to it: "
                f"use a model exported by Hilum"
            )
        stored = self.metadata["contract"]
        faults = faults_of(stored)
        if not faults:
            names = {name: tuple(stored.get(name, ())) for name in ("outputs", "concepts")}
            contract = InputContract(**(stored | names))
            if not (faults := _unkept(contract, self._file[1])):
                return contract
        raise BadData.listing(
            f"{on_one_line(str(self.path))}: its input contract cannot be kept; "
            f"use a model exported by Hilum",
            faults,
        )

    @cached_property
    def trained_on(self) -> frozenset[str]:
        """The pixel digests of its training and tuning images; empty where it lists none."""
        return frozenset(self._listed)

    @cached_property
    def training_list(self) -> str:
        """The digest of that list, by which `hilum.inference.training_hashes` knows it."""
        return storage.digest(sorted(self._listed))

    @property
    def _listed(self) -> Sequence[str]:
        stated = self.metadata.get("trained_on", {})
        if EARLIER_LIST in stated:
            raise BadData(
                f"{on_one_line(str(self.path))}: trained_on lists its images by SHA-256 "
                f"({EARLIER_LIST!r}), expected {TRAINING_LIST!r}; build the model again"
            )
        return stated.get(TRAINING_LIST, ())

    @cached_property
    def domain(self) -> domain.Domain | None:
        """What its training images are like; None where the file does not say so.

        Raises `BadData` listing the faults of what it says.
        """
        if domain.METADATA not in self.metadata:
            return None
        where = on_one_line(str(self.path))
        found = domain.Domain.from_json(self.metadata[domain.METADATA], where)
        if found.needs_features and domain.OUTPUT not in self.contract.outputs:
            raise BadData(
                f"{where}: its domain needs the output '{domain.OUTPUT}', which its contract does "
                f"not list; export it again"
            )
        return found

    def place(self, image: np.ndarray, outputs: Mapping[str, np.ndarray]) -> domain.Placement:
        """Place an image, uint8 (size, size), in the model's domain by the model's own outputs."""
        if self.domain is None:
            return domain.UNPLACED
        return self.domain.place(image, outputs.get(domain.OUTPUT))

    def lung_output(self, protocol: str) -> str:
        """Return the name of the output that follows `protocol`, one of lung_masks.PROTOCOLS.

        A model with one output follows the protocol of the masks that it was trained on, which is
        called "air" here. Raises `Mismatch` where the model has no such output.
        """
        if protocol not in LUNG_OUTPUTS:
            raise Mismatch(unknown("protocol of lung masks", protocol, LUNG_OUTPUTS))
        if LUNG_OUTPUTS[protocol] not in self.contract.outputs:
            raise Mismatch(
                f"{on_one_line(str(self.path))} has no output '{LUNG_OUTPUTS[protocol]}', so it "
                f"segments no lungs by the protocol '{protocol}': it has "
                f"{', '.join(self.contract.outputs)}; use a model that comes with Hilum"
            )
        return LUNG_OUTPUTS[protocol]

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Evaluate one uint8 (size, size) image; return outputs by name, without the batch axis.

        One image at a time: on a CPU a batch is no faster, and a score then never depends on the
        other images.
        """
        return {name: output[0] for name, output in self.many(image[None]).items()}

    def many(self, images: np.ndarray, outputs: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Evaluate uint8 (n, size, size) images; return outputs by name, each (n, ...).

        Where `outputs` of the contract are named, these alone are computed.
        Raises `ValueError` for another shape or type than the contract's, `BadData` where the model
        fails, takes too long, or breaks its contract.
        """
        expected = (self.contract.size, self.contract.size)
        if images.dtype != np.uint8 or images.shape[1:] != expected:
            raise ValueError(
                f"{self.path.name} takes uint8 {expected}, got {images.dtype} {images.shape[1:]}"
            )
        step = max(1, _AT_ONCE // self.contract.size**2)
        names = tuple(outputs) or self.contract.outputs
        parts = [
            self._few(images[at : at + step], names) for at in range(0, max(1, len(images)), step)
        ]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _few(self, images: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        answers = self._session(names).run(names, {INPUT: images})
        found = dict(zip(names, answers, strict=True))
        faults = []
        for name, output in found.items():
            faults += _misanswered(self.contract, name, output, len(images))
        if faults:
            raise BadData.listing(
                f"{on_one_line(str(self.path))}: its outputs break its contract; "
                f"train it again or copy it anew",
                faults,
            )
        return found


@lru_cache(maxsize=16)
def _shared(path: Path, root: Path | None, state: object) -> OnnxModel:
    """Return the model of a file in a `state`, its size and time, the same one each time."""
    return OnnxModel(path, root)


def faults_of(stored: object) -> list[str]:
    """Return the faults of a contract's JSON, without regard to the graph."""
    if not isinstance(stored, dict):
        return [f"it must be an object, got {_shown(stored)}"]
    known = {part.name: part.default for part in fields(InputContract)}
    faults = [
        unknown("part of a contract", on_one_line(name), known)
        for name in stored
        if name not in known
    ]
    faults += [
        f"{name} is missing"
        for name, default in known.items()
        if default is MISSING and name not in stored
    ]
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "task": (lambda value: value in TASKS, f"one of {', '.join(TASKS)}"),
        "size": (
            lambda value: type(value) is int and SIZES[0] <= value <= SIZES[1],
            f"a whole number from {SIZES[0]} to {SIZES[1]}",
        ),
        "content": (lambda value: value in CONTENTS, f"one of {', '.join(CONTENTS)}"),
        "normalisation": (
            lambda value: value in NORMALISATIONS,
            f"one of {', '.join(NORMALISATIONS)}",
        ),
        "outputs": (lambda value: bool(value) and _are_names(value), "a list of different names"),
        "concepts": (lambda value: _are_names(value), "a list of different names"),
        "depth": (lambda value: type(value) is int and value == 8, "8"),
        "bright": (lambda value: value == "dense", "'dense'"),
        "orientation": (
            lambda value: isinstance(value, str) and len(value) <= 200,
            "text of at most 200 characters",
        ),
    }
    return faults + [
        f"{name} must be {words}, got {_shown(stored[name])}"
        for name, (holds, words) in rules.items()
        if name in stored and not holds(stored[name])
    ]


def _are_names(value: object) -> bool:
    if (
        not isinstance(value, list)
        or len(value) > MAX_NAMES
        or not all(isinstance(one, str) for one in value)
    ):
        return False
    return len(set(value)) == len(value) and all(
        one.isprintable() and 0 < len(one) <= 100 for one in value
    )


def _shown(value: object) -> str:
    return on_one_line(repr(value)[:80])


def _unkept(contract: InputContract, file: onnx_file.OnnxFile) -> list[str]:
    """Return where the graph breaks a contract that is valid by itself."""
    size, sides = contract.size, file.inputs[INPUT].shape if INPUT in file.inputs else ()
    faults = []
    if set(file.inputs) != {INPUT}:
        faults.append(
            f"the graph must take '{INPUT}' alone, it takes {_shown(sorted(file.inputs))}"
        )
    elif (
        file.inputs[INPUT].element != onnx_file.UINT8
        or len(sides) != 3
        or isinstance(sides[0], int)
        or sides[1:] != (size, size)
    ):
        faults.append(
            f"the graph must take uint8 (n, {size}, {size}), "
            f"it takes {_shown(sides)} of type {file.inputs[INPUT].element}"
        )
    if missing := [name for name in contract.outputs if name not in file.outputs]:
        faults.append(
            f"the graph has no output {', '.join(missing)}; it has {_shown(sorted(file.outputs))}"
        )
    for name in contract.outputs:
        output = file.outputs.get(name)
        if output and output.element != onnx_file.FLOAT:
            faults.append(f"the output {name} must be float32, it is of type {output.element}")
    needed = {
        "lungs": tuple(LUNG_OUTPUTS.values()),
        "finding": ("score",),
        "anomaly": ("score",),
        "age_group": ("child",),
    }.get(contract.task, ())
    if needed and not any(name in contract.outputs for name in needed):
        faults.append(f"a model of {contract.task} must have the output {' or '.join(needed)}")
    return faults


def _misanswered(contract: InputContract, name: str, output: np.ndarray, count: int) -> list[str]:
    """Return the faults of one output for `count` images."""
    size, shape, many = contract.size, output.shape, max(1, len(contract.concepts))
    if name in LUNG_OUTPUTS.values():
        fits, expected = shape == (count, 2, size, size), f"({count}, 2, {size}, {size})"
    elif name == "map":
        fits, expected = (
            3 <= len(shape) <= 4 and shape[0] == count and max(shape[-2:]) <= size,
            f"({count}, …, at most {size}, at most {size})",
        )
    elif name == domain.OUTPUT:
        fits, expected = len(shape) == 2 and shape[0] == count, f"({count}, any number)"
    elif contract.task == "orientation":
        fits, expected = shape == (count,), f"({count},)"
    else:
        fits, expected = (
            shape == (count, many) or (many == 1 and shape == (count,)),
            f"({count}, {many})",
        )
    if not fits or output.dtype != np.float32:
        return [f"{name} must be float32 {expected}, got {output.dtype} {shape}"]
    # A sum is finite only of finite numbers, and is quicker; large ones can overflow it.
    finite = np.isfinite(output.sum()) or np.isfinite(output).all()
    return [] if finite else [f"{name} holds numbers that are not finite"]
