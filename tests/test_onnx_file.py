"""An untrusted model is data: what it may hold, how long it may take and how much it may use is
held.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from hilum.errors import BadData  # noqa: E402
from hilum.inference import pretrained  # noqa: E402
from hilum.inference.onnx_model import InputContract, OnnxModel  # noqa: E402
from hilum.safety import onnx_file, onnx_session  # noqa: E402

CONTRACT = asdict(InputContract("finding", 64, "crop", "percentiles", ("score",), ("effusion",)))
SHIPPED = sorted(pretrained.folder().glob("*.onnx"))


def weights(name: str, values: object) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values), name)


def scorer(
    *nodes: onnx.NodeProto, contract: object = CONTRACT, held=(), shape=("n", 64, 64)
) -> onnx.ModelProto:
    """A model whose score is the mean of `x`: of the image, or of what `nodes` make of the float
    image `f`.
    """
    whole = [
        helper.make_node("Cast", ["images"], ["f"], to=TensorProto.FLOAT),
        *(nodes or [helper.make_node("Identity", ["f"], ["x"])]),
        helper.make_node("ReduceMean", ["x"], ["score"], axes=[1, 2], keepdims=0),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, shape)
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph(whole, "g", [images], [score], list(held))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"contract": json.dumps(contract)})
    return model


def saved(folder: Path, model: onnx.ModelProto) -> OnnxModel:
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return OnnxModel(folder / "model.onnx")


IMAGE = np.full((1, 64, 64), 3, np.uint8)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_what_is_said_of_a_file_is_what_the_onnx_package_reads_in_it(path):
    found, model = onnx_file.examine(path.read_bytes(), path.name), onnx.load(path)
    assert found.operators == tuple(node.op_type for node in model.graph.node)
    assert found.metadata == {entry.key: entry.value for entry in model.metadata_props}
    for ours, theirs in ((found.inputs, model.graph.input), (found.outputs, model.graph.output)):
        sides = {
            one.name: tuple(
                dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim
            )
            for one in theirs
        }
        assert {name: value.shape for name, value in ours.items()} == sides
    stored = sum(numpy_helper.to_array(one).nbytes for one in model.graph.initializer)
    assert stored <= found.weight_bytes <= stored + 100_000  # and constants, attributes


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_by_name_or_read_as_the_onnx_package_reads_it(data):
    content = bytearray(
        scorer(held=[weights("w", np.ones((2, 3), np.float32))]).SerializeToString()
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        found = onnx_file.examine(bytes(content), "damaged.onnx")
    except BadData as error:
        assert str(error).startswith("damaged.onnx: is refused: ")
        return
    model = onnx.load_from_string(bytes(content))
    assert found.operators == tuple(node.op_type for node in model.graph.node)
    assert found.metadata == {entry.key: entry.value for entry in model.metadata_props}
    assert not model.functions and not model.training_info and not model.graph.sparse_initializer
    assert not any(one.external_data or one.data_location for one in model.graph.initializer)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_refused_by_name(content):
    with pytest.raises(BadData, match="^any: is refused: "):
        onnx_file.examine(content, "any")


def external(place: str) -> onnx.ModelProto:
    tensor = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL
    )
    tensor.external_data.add(key="location", value=place)
    return scorer(held=[tensor])


def branch(operator: str, **attributes: onnx.GraphProto) -> onnx.ModelProto:
    return scorer(helper.make_node(operator, ["f"], ["x"], **attributes))


BODY = helper.make_graph([helper.make_node("Identity", ["f"], ["y"])], "b", [], [])


def with_function() -> onnx.ModelProto:
    model = scorer()
    loop = helper.make_node("Loop", ["a"], ["b"], body=BODY)
    model.functions.append(
        helper.make_function("own", "hidden", ["a"], ["b"], [loop], [helper.make_opsetid("", 17)])
    )
    return model


def with_domain() -> onnx.ModelProto:
    model = scorer()
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def sparse() -> onnx.ModelProto:
    model = scorer()
    model.graph.sparse_initializer.add().dims.append(1 << 40)
    return model


HOSTILE = {
    "external data": (lambda: external("../secret"), "external data"),
    "external data, absolute": (lambda: external("/etc/hostname"), "external data"),
    "custom domain": (
        lambda: scorer(helper.make_node("Anything", ["f"], ["x"], domain="own")),
        "'Anything' of 'own'",
    ),
    "imported domain": (with_domain, "domain 'own'"),
    "loop": (lambda: branch("Loop", body=BODY), "'Loop'"),
    "scan": (lambda: branch("Scan", body=BODY), "'Scan'"),
    "if": (lambda: branch("If", then_branch=BODY, else_branch=BODY), "'If'"),
    "sequence map": (lambda: branch("SequenceMap", body=BODY), "'SequenceMap'"),
    "subgraph of a known operator": (lambda: branch("Identity", body=BODY), "a subgraph"),
    "function": (with_function, "a function of its own"),
    "sparse": (sparse, "a sparse tensor"),
    "more numbers than are stored": (
        lambda: scorer(held=[TensorProto(name="w", data_type=1, dims=[1 << 20, 1 << 20])]),
        "stores fewer",
    ),
    "random": (
        lambda: scorer(helper.make_node("RandomNormalLike", ["f"], ["x"])),
        "RandomNormalLike",
    ),
    "huge pads": (
        lambda: scorer(
            helper.make_node("MaxPool", ["f"], ["x"], kernel_shape=[3], pads=[1 << 40] * 2)
        ),
        "pads",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_an_untrusted_model_must_not_hold_is_refused_before_a_session_is_made(
    kind, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        onnx_session, "_made", lambda content, memory: pytest.fail("a session was made")
    )
    build, words = HOSTILE[kind]
    with pytest.raises(BadData, match="model.onnx: is refused: .*" + words):
        saved(tmp_path, build())(IMAGE[0])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"size": 10**9}, "size must be"),
        ({"size": True}, "size must be"),
        ({"size": 128}, r"take uint8 \(n, 128, 128\)"),
        ({"normalisation": "any"}, "normalisation must be"),
        ({"content": 3}, "content must be"),
        ({"task": "none"}, "task must be"),
        ({"outputs": ["other"]}, "no output other"),
        ({"outputs": "score"}, "outputs must be"),
        ({"outputs": []}, "outputs must be"),
        ({"concepts": ["a", "a"]}, "concepts must be"),
        ({"concepts": ["a\x1b[2J"]}, "concepts must be"),
        ({"depth": 16}, "depth must be"),
        ({"new": 1}, "new"),
        ({"task": "lungs"}, "must have the output lungs"),
    ],
)
def test_a_contract_that_cannot_be_kept_is_refused_before_a_session_is_made(
    changed, words, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        onnx_session, "_made", lambda content, memory: pytest.fail("a session was made")
    )
    with pytest.raises(BadData, match=words):
        saved(tmp_path, scorer(contract=CONTRACT | changed))(IMAGE[0])


def test_all_faults_of_a_contract_are_said_at_once_and_none_at_all_is_one(tmp_path):
    with pytest.raises(BadData, match="2 faults\n.*size must be.*\n.*normalisation must be"):
        _ = saved(tmp_path, scorer(contract=CONTRACT | {"size": 0, "normalisation": ""})).contract
    for contract in ([], None, "text", 3):
        with pytest.raises(BadData, match="must be an object"):
            _ = saved(tmp_path, scorer(contract=contract)).contract


@pytest.mark.parametrize("sides", [[25_000_000_000], [700_000, 4_000], [40_000, 40_000]])
def test_a_model_that_asks_for_more_memory_than_is_allowed_is_refused(sides, tmp_path):
    nodes = [
        helper.make_node("ConstantOfShape", ["sides"], ["big"]),
        helper.make_node("ReduceMax", ["big"], ["most"], keepdims=0),
        helper.make_node("Add", ["f", "most"], ["x"]),
    ]
    model = saved(tmp_path, scorer(*nodes, held=[weights("sides", np.array(sides, np.int64))]))
    with pytest.raises(BadData, match="cannot run this model"):
        model(IMAGE[0])


@pytest.mark.parametrize("operators", [1, 400], ids=["one huge operator", "many"])
def test_a_model_that_takes_too_long_is_left(operators, tmp_path, monkeypatch):
    side = 4000 if operators == 1 else 1500
    square = [
        helper.make_node("ReduceMean", ["f"], ["m"], keepdims=0),
        helper.make_node("Expand", ["m", "sides"], ["a0"]),
    ]
    square += [helper.make_node("MatMul", [f"a{i}", "a0"], [f"a{i + 1}"]) for i in range(operators)]
    last = [
        helper.make_node("ReduceMax", [f"a{operators}"], ["most"], keepdims=0),
        helper.make_node("Add", ["f", "most"], ["x"]),
    ]
    model = saved(
        tmp_path, scorer(*square, *last, held=[weights("sides", np.array([side, side], np.int64))])
    )
    monkeypatch.setattr(onnx_session, "CALL_SECONDS", 0.05)
    monkeypatch.setattr(onnx_session, "IMAGE_SECONDS", 0.0)
    with pytest.raises(BadData, match="had no answer after"):
        model(IMAGE[0])


def test_an_answer_that_is_not_as_the_contract_says_is_refused(tmp_path):
    with pytest.raises(BadData, match=r"score must be float32 \(1, 2\), got float32 \(1,\)"):
        saved(tmp_path, scorer(contract=CONTRACT | {"concepts": ["a", "b"]}))(IMAGE[0])
    nothing = (
        helper.make_node("Div", ["zero", "zero"], ["none"]),
        helper.make_node("Add", ["f", "none"], ["x"]),
    )
    with pytest.raises(BadData, match="not finite"):
        saved(tmp_path, scorer(*nothing, held=[weights("zero", np.float32(0))]))(IMAGE[0])


def test_a_model_of_a_run_is_not_followed_out_of_its_folder(tmp_path):
    (tmp_path / "run").mkdir()
    saved(tmp_path, scorer())
    os.symlink(tmp_path / "model.onnx", tmp_path / "run" / "model.onnx")
    with pytest.raises(BadData, match="leads out of"):
        _ = OnnxModel(tmp_path / "run" / "model.onnx", tmp_path / "run").contract


def test_a_right_model_answers(tmp_path):
    assert saved(tmp_path, scorer())(IMAGE[0])["score"] == pytest.approx(3.0)
