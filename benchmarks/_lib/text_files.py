"""Make small tables, settings, annotations, models and markers, and damage them, for
`damaged_texts`.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.robustness.damaged_images import hurt
from hilum import config
from hilum.annotations import shapes
from hilum.dataset import manifest as schema
from hilum.run_folder import FORMAT
from hilum.storage import integrity

ROWS = [("Image Index", "Patient ID", "Age", "Finding Labels", "BBox")] + [
    (f"{n:08d}_000.png", f"p{n // 2}", f"{30 + n},5", "Pneumonia|Effusion", f"[1, {n}, 30.5, 4]")
    for n in range(12)
]
VALUE = re.compile(rb'"(?:[^"\\\n]|\\.)*"|-?\d+(?:\.\d+)?|true|false|null|\[|\{')
EXTREME = (
    *(b'""', b"null", b"true", b"{}", b"[]", b"[[1]]", b"-1", b"0", b"1e999", b"NaN", b"-Infinity"),
    *(b"9" * 30, b"9" * 5000, b"1e-400", b"0x10", b'"\\ud800"', b'"\\u0000"', b'"\xff\xfe"'),
    *(b"[" * 3000, b'{"a":' * 3000, b'"' + b"a" * 100_000 + b'"', b'"=1+1"', b'"../../x"'),
    *(b'"(?P<patient>(a+)+)X"', b'"{0.__class__}"', b'"' + b"**/" * 200 + b'"', b"1979-05-27"),
)
TEXTS = (".csv", ".tsv", ".toml", ".json", ".jsonl")


# ------------------------------------------------------------------------------- the sound files


@cache
def sound() -> dict[str, bytes]:
    """Return a small file of every kind, by name; what stands before a dash says how it is read."""
    comma, semicolon, tab = (written(mark) for mark in (",", ";", "\t"))
    return {
        "csv-comma.csv": comma.encode(),
        "csv-semicolon.csv": semicolon.encode("utf-16"),
        "csv-tab.tsv": tab.encode("cp1252"),
        "csv-packed.csv.gz": gzip.compress(comma.encode(), mtime=0),
        "xlsx-table.xlsx": xlsx(),
        "parquet-table.parquet": parquet(),
        "json-records.json": (
            json.dumps([dict(zip(ROWS[0], r, strict=True)) for r in ROWS[1:]]).encode()
        ),
        "json-columns.json": (
            json.dumps(dict(zip(ROWS[0], zip(*ROWS[1:], strict=True), strict=True))).encode()
        ),
        "json-lines.jsonl": b"\n".join(
            json.dumps({"image": a, "tags": [b, {"x": 1}]}).encode() for a, b, *_ in ROWS
        ),
        "coco-annotations.json": json.dumps(coco()).encode(),
        "supervisely-annotation.json": json.dumps(supervisely()).encode(),
        "unidata-9.8.7.6.1.json": json.dumps(supervisely()).encode(),
        "recipe-run.toml": (
            config.Recipe.from_sections({"data": {"folder": "data"}}).to_toml().encode()
        ),
        "settings-hilum.toml": SETTINGS,
        "corrections-fix.toml": CORRECTIONS,
        "onnx-model.onnx": model(),
        "marker-split.json": json.dumps(integrity.sealed(MARKER)).encode(),
        "manifest-manifest.parquet": manifest("manifest.parquet"),
        "manifest-labels.parquet": manifest("labels.parquet"),
        "manifest-root.json": manifest("root.json"),
    }


SETTINGS = b"""tables = ["list.csv"]
patient_pattern = "^(?P<patient>p[0-9]+)_"
image = "Image Index"
folders = ["{part}/{label}"]
masks = ["{folder}/{stem}_mask.png", "masks/**/*.png"]
blank = "not mentioned"
[terms]
sick = "pneumonia"
[mask_values]
3 = "left"
"""
CORRECTIONS = b"""[[correction]]
image_id = "folder/a"
action = "leave out"
why = "not a radiograph"
[[correction]]
image_id = "folder/b"
action = "same patient as"
other = "folder/c"
"""
MARKER = {
    "format": FORMAT,
    "step": "split",
    "made_from": {"hilum": "0", "recipe": {"a": 1}},
    "made": {"a": "b" * 64},
    "files": {"a": "b" * 64},
    "summary": {"images": 4, "parts": {"train": 3}},
}


def written(mark: str) -> str:
    quoted = [[f'"{cell}"' if mark in cell else cell for cell in row] for row in ROWS]
    return "\r\n".join(map(mark.join, quoted))


def xlsx() -> bytes:
    import openpyxl

    book, stream = openpyxl.Workbook(), io.BytesIO()
    for row in ROWS:
        book.active.append(row)
    book.active.merge_cells("A3:A4")
    book.create_sheet("second").append(("a", 1, True, 2.5))
    book.save(stream)
    return stream.getvalue()


def parquet() -> bytes:
    frame = pl.DataFrame(ROWS[1:], schema=list(ROWS[0]), orient="row").with_columns(
        lists=pl.Series([[1, 2]] * 12),
        structs=pl.Series([{"a": 1, "b": "x"}] * 12),
        n=pl.int_range(12),
    )
    stream = io.BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()


def coco() -> dict:
    mask = np.zeros((20, 30), bool)
    mask[3:9, 4:20] = True
    runs = shapes.RunLengths.of(mask)
    drawn = [[1, 1, 9, 1, 9, 9, 1, 9]], runs.to_coco(), runs.to_coco(compressed=False)
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 30, "height": 20} for n in range(3)],
        "categories": [{"id": 1, "name": "lung"}, {"id": 2, "name": "nodule"}],
        "annotations": [
            {
                "id": n,
                "image_id": n,
                "category_id": 1,
                "bbox": [1, 1, 8, 8],
                "area": 64.0,
                "iscrowd": 0,
                "segmentation": one,
            }
            for n, one in enumerate(drawn)
        ],
    }


def supervisely() -> dict:
    bitmap = shapes.Bitmap(2, 3, np.eye(9, dtype=bool))
    polygon = shapes.Polygon(((1, 1), (1, 9), (9, 9)), (((2, 5), (2, 8), (4, 8)),))
    drawn = [
        {"classTitle": "lung", "labelerLogin": "x", **shapes.to_supervisely(one)}
        for one in (bitmap, polygon)
    ]
    return {
        "description": "",
        "size": {"height": 20, "width": 30},
        "tags": [{"name": "Normal", "value": None}],
        "objects": drawn,
    }


def model() -> bytes:
    """Return a model of one convolution, with a contract as Hilum writes it."""
    from onnx import TensorProto, helper

    image = helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 16, 16])
    lungs = helper.make_tensor_value_info("lungs", TensorProto.FLOAT, ["n", 2, 16, 16])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 1, 3, 3], np.arange(18.0))
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["cast", "axes"], ["channel"]),
        helper.make_node("Conv", ["channel", "w"], ["logits"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["logits"], ["lungs"]),
    ]
    graph = helper.make_graph(nodes, "lungs", [image], [lungs], [weight, axes])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    contract = {
        "task": "lungs",
        "size": 16,
        "content": "whole",
        "normalisation": "full",
        "outputs": ["lungs"],
    }
    helper.set_model_props(
        made, {"contract": json.dumps(contract), "card": json.dumps({"licence": "CC0"})}
    )
    return made.SerializeToString()


@cache
def manifests() -> dict[str, bytes]:
    """Return the files of a manifest of two images and a label, by name."""
    images = [
        dict.fromkeys(schema.COLUMNS)
        | {
            "image_id": f"own/{n}",
            "path": f"{n}.png",
            "patient_id": n,
            "dataset": "own",
            "source": "x",
        }
        for n in "ab"
    ]
    label = dict.fromkeys(schema.LABEL_COLUMNS) | {
        "image_id": "own/a",
        "concept": "pneumonia",
        "state": 1,
    }
    tables_of = {
        "labels": pl.DataFrame([label], schema=schema.LABEL_COLUMNS),
        "remarks": pl.DataFrame(schema=schema.REMARK_COLUMNS),
        "shapes": pl.DataFrame(schema=schema.SHAPE_COLUMNS),
    }
    with tempfile.TemporaryDirectory() as folder:
        table = pl.DataFrame(images, schema=schema.COLUMNS)
        schema.Manifest(Path("data"), table, **tables_of).write(Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


def manifest(name: str) -> bytes:
    return manifests()[name]


# ------------------------------------------------------------------------------------- the damage


def damaged(number: int, seed: int, names: list[str]) -> tuple[str, bytes]:
    """Return name and bytes of one damaged file."""
    rng = np.random.default_rng([seed, number])
    name = names[number % len(names)]
    data = bytearray(sound()[name])
    if name.endswith(".xlsx") and rng.random() < 0.7:
        return name, within_zip(bytes(data), rng)
    if name.endswith(".onnx") and rng.random() < 0.7:
        return name, within_model(bytes(data), rng)
    if name.endswith(".gz") and rng.random() < 0.5:
        data = bytearray(gzip.decompress(bytes(data)))
        hurt(data, rng)
        return name, gzip.compress(bytes(data), mtime=0)
    if name.endswith(TEXTS) and rng.random() < 0.6:
        return name, replaced(bytes(data), rng)
    hurt(data, rng)
    return name, bytes(data)


def replaced(data: bytes, rng: np.random.Generator) -> bytes:
    """Return text with one to three of its values replaced by extreme ones."""
    for _ in range(int(rng.integers(1, 4))):
        found = list(VALUE.finditer(data))
        if found:
            one = found[int(rng.integers(len(found)))]
            data = (
                data[: one.start()] + EXTREME[int(rng.integers(len(EXTREME)))] + data[one.end() :]
            )
    return data


def within_zip(data: bytes, rng: np.random.Generator) -> bytes:
    """Return an archive packed anew, one of its parts damaged."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = list(parts)[int(rng.integers(len(parts)))]
    part = bytearray(parts[name])
    hurt(part, rng)
    parts[name] = replaced(bytes(part), rng) if rng.random() < 0.5 else bytes(part)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for part_name, content in parts.items():
            archive.writestr(part_name, content)
    return stream.getvalue()


def within_model(data: bytes, rng: np.random.Generator) -> bytes:
    """Return a sound protobuf of a model that says something extreme in one to three places."""
    import onnx

    made = onnx.load_from_string(data)
    for _ in range(int(rng.integers(1, 4))):
        WITHIN_MODELS[int(rng.integers(len(WITHIN_MODELS)))](made, rng)
    return made.SerializeToString()


NUMBERS = (-1, 0, 1, 3, 17, 65536, 2**31 - 1, 2**31, 2**62, -(2**31))
OPERATORS = (
    "Loop",
    "If",
    "Scan",
    "Unusual",
    "Expand",
    "Resize",
    "Tile",
    "Reshape",
    "Identity",
    "ConstantOfShape",
)


def any_of(values, rng: np.random.Generator):
    return values[int(rng.integers(len(values)))]


def in_contract(made, rng: np.random.Generator) -> None:
    entry = any_of(made.metadata_props, rng)
    entry.value = replaced(entry.value.encode(), rng).decode("utf-8", "replace")


def in_node(made, rng: np.random.Generator) -> None:
    node = any_of(made.graph.node, rng)
    change = int(rng.integers(3))
    if change == 0:
        node.op_type = any_of(OPERATORS, rng)
    elif change == 1:
        node.domain = any_of(("", "ai.onnx.ml", "com.microsoft", "unusual"), rng)
    else:
        node.input[0] = any_of((*node.output, "nothing", "images"), rng)


def in_attribute(made, rng: np.random.Generator) -> None:
    attributes = [one for node in made.graph.node for one in node.attribute if one.ints]
    one = any_of(attributes, rng)
    one.ints[int(rng.integers(len(one.ints)))] = any_of(NUMBERS, rng)


def in_weight(made, rng: np.random.Generator) -> None:
    weight = any_of(made.graph.initializer, rng)
    change = int(rng.integers(3))
    if change == 0 and weight.dims:
        weight.dims[int(rng.integers(len(weight.dims)))] = any_of(NUMBERS, rng)
    elif change == 1:
        weight.data_location = 1  # in a file beside the model
        weight.external_data.add(
            key="location", value=any_of(("../../etc/passwd", "/dev/zero", "x"), rng)
        )
    else:
        weight.data_type = int(rng.integers(0, 24))


def in_signature(made, rng: np.random.Generator) -> None:
    one = any_of([*made.graph.input, *made.graph.output], rng)
    one.type.tensor_type.shape.dim.add().dim_value = any_of(NUMBERS, rng)


WITHIN_MODELS = (in_contract, in_contract, in_node, in_attribute, in_weight, in_signature)
