"""Rewritten graphs answer the same to the bit, and take no slow operator any more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from hilum.safety import onnx_file  # noqa: E402
from hilum.safety.onnx_session import Session  # noqa: E402
from hilum.training import onnx_export, quicker_graph  # noqa: E402

SIDE, OUTPUTS = 32, ("lungs", "lungs_full")
SLOW = {"Pad", "Resize", "Slice"}


class Network(nn.Module):
    """All forms that are rewritten: padding, doubling, patches, and outputs cut apart."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 4, stride=4)
        self.down = nn.Conv2d(8, 8, 3, stride=2)
        self.up = nn.Conv2d(8 + 16, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 4 * 16, 3, padding=1)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        image = images.unsqueeze(1).float() / 255
        x = F.relu(self.stem(image))
        x = F.relu(self.down(F.pad(x, (0, 1, 0, 1))))
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = F.relu(self.up(torch.cat([x, F.pixel_unshuffle(image, 4)], 1)))
        likely = torch.sigmoid(F.pixel_shuffle(self.head(x), 4))
        return likely[:, :2], likely[:, 2:]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The 8-bit network as it is quantised, and rewritten."""
    folder = tmp_path_factory.mktemp("models")
    whole = folder / "whole.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quicker_graph, "padded_in_convolutions", lambda model: model)
        exported(whole)
    return quantised(whole, folder / "before.onnx", rewritten=False), quantised(
        whole, folder / "after.onnx", rewritten=True
    )


def exported(path: Path) -> bytes:
    torch.manual_seed(0)
    onnx_export.to_onnx(Network().eval(), path, size=SIDE, outputs=OUTPUTS, metadata={"a": "b"})
    return path.read_bytes()


def quantised(whole: Path, path: Path, *, rewritten: bool) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        if not rewritten:
            patch.setattr(quicker_graph, "quicker", lambda model: model)
        onnx_export.to_int8(whole, path, images(8), operators=(*onnx_export.QUANTISED, "Pad"))
    return path.read_bytes()


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE), np.uint8)


def answers(content: bytes, names: tuple[str, ...], given: np.ndarray) -> list[np.ndarray]:
    session = Session(content, "a model", SIDE, trusted=True)
    return session.run(names, {onnx_export.INPUT: given})


def test_a_rewritten_graph_answers_the_same_to_the_bit(models: tuple[bytes, bytes]) -> None:
    for count in (1, 3):
        before, after = (answers(one, OUTPUTS, images(count)) for one in models)
        for ours, theirs in zip(after, before, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_it_has_no_slow_operator_and_is_as_quick_as_it_can_be(
    models: tuple[bytes, bytes],
) -> None:
    before, after = (onnx.load_from_string(one) for one in models)
    assert {node.op_type for node in before.graph.node} >= SLOW
    assert not SLOW & {node.op_type for node in after.graph.node}
    axes = [len(node.attribute[0].ints) for node in after.graph.node if node.op_type == "Transpose"]
    assert axes and max(axes) == 4
    assert quicker_graph.quicker(after) == after
    assert {one.key: one.value for one in after.metadata_props} == {"a": "b"}


def test_exports_pad_in_their_convolutions_with_the_same_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = exported(tmp_path / "after.onnx")
    monkeypatch.setattr(quicker_graph, "padded_in_convolutions", lambda model: model)
    before = exported(tmp_path / "before.onnx")
    operators = [
        {node.op_type for node in onnx.load_from_string(one).graph.node} for one in (before, after)
    ]
    assert operators[0] - operators[1] >= {"Pad"} and not operators[1] - operators[0]
    for ours, theirs in zip(
        *(answers(one, OUTPUTS, images(3)) for one in (after, before)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_padding_with_another_number_stays(models: tuple[bytes, bytes]) -> None:
    model = onnx.load_from_string(models[0])
    pad = next(node for node in model.graph.node if node.op_type == "Pad")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1), "one"))
    del pad.input[2:]
    pad.input.append("one")
    assert "Pad" in {node.op_type for node in quicker_graph.quicker(model).graph.node}


def test_only_what_some_outputs_need_is_left_of_a_file(models: tuple[bytes, bytes]) -> None:
    content = models[1]
    alone = onnx_file.of_outputs(content, ("lungs_full",))
    assert list(onnx_file.examine(alone, "a model").outputs) == ["lungs_full"]
    assert len(onnx_file.examine(alone, "").operators) < len(
        onnx_file.examine(content, "").operators
    )
    given = images(2)
    np.testing.assert_array_equal(
        answers(alone, ("lungs_full",), given)[0], answers(content, OUTPUTS, given)[1]
    )
    assert onnx_file.of_outputs(content, OUTPUTS) == content
