"""`hilum lungs`: what it writes, that nothing depends on anything else, and that what is no chest
never gets a confident mask.
"""

import csv
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import hilum
from dicom_files import write as write_dicom

from hilum.annotations import lung_masks
from hilum.errors import BadData, Mismatch, NotFound
from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.inference import lung_finder, orientation, pretrained
from hilum.inference import segment_images as step
from hilum.statistics.metrics.overlap import dice

WITHOUT = """
import sys
sys.modules |= dict.fromkeys(("torch", "onnx", "scipy", "jinja2", "pandas"))
from hilum.__main__ import main
main()
"""


def chest(seed=7, height=300, width=280):
    rng = np.random.default_rng(seed)
    return synthetic.draw(synthetic.anatomy(rng), rng, height=height, width=width)


def hand():
    """A drawn hand: a palm and five fingers, bright on black."""
    image = np.zeros((300, 280), np.uint8)
    cv2.ellipse(image, (140, 210), (60, 70), 0, 0, 360, 170, -1)
    for x, top in ((90, 90), (120, 50), (150, 40), (180, 60)):
        cv2.line(image, (x, top), (140 + (x - 140) // 2, 200), 190, 24)
    cv2.line(image, (50, 160), (110, 230), 190, 26)
    return cv2.GaussianBlur(image, (0, 0), 2)


def quality_of(folder, image, model):
    raster.write_png(folder / "one.png", np.ascontiguousarray(image))
    (row,), faults = step.segment_images([folder / "one.png"], model=model)
    assert not faults
    return row


@pytest.fixture
def images(tmp_path):
    made = [chest(seed, 240 + 20 * seed, 300) for seed in range(3)]
    for number, one in enumerate(made):
        raster.write_png(tmp_path / "in" / "ward" / f"{number}.png", one.pixels)
    return tmp_path / "in", made


def written(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_masks_are_in_the_files_own_pixels_and_the_table_counts_them(images, tmp_path, lung_model):
    folder, made = images
    rows, faults = step.segment_images([folder], tmp_path / "out", model=lung_model)
    assert not faults and [row["name"] for row in rows] == [f"ward/{number}" for number in range(3)]
    for row, one in zip(rows, made, strict=True):
        both, right, left = (
            raster.read(tmp_path / "out" / side / f"{row['name']}.png").values
            for side in ("both", "right", "left")
        )
        assert both.shape == one.pixels.shape == (row["height"], row["width"]) and set(
            np.unique(both)
        ) == {0, 255}
        assert np.array_equal(both, right | left) and not (right & left).any()
        assert ((right > 0).sum(), (left > 0).sum()) == (row["right_pixels"], row["left_pixels"])
        assert dice(both > 0, one.right_lung | one.left_lung) > 0.8 and dice(
            right > 0, one.right_lung
        ) > dice(right > 0, one.left_lung)
        assert (
            raster.read(tmp_path / "out" / "overlay" / f"{row['name']}.jpg").values.shape
            == one.pixels.shape
        )
        assert row["right_mm2"] is None and 0 < row["width_ratio"] < 1 and 0 < row["quality"] < 1
    reported = list(csv.DictReader((tmp_path / "out" / step.TABLE).open()))
    assert [row["right_pixels"] for row in reported] == [
        str(row["right_pixels"]) for row in rows
    ] and list(reported[0]) == list(step.COLUMNS)


@pytest.fixture
def model_of_both_protocols(lung_model, tmp_path):
    """The model made by hand with a second output, whose lungs are some pixels wider."""
    import onnx

    model = onnx.load(lung_model)
    wider = onnx.helper.make_node(
        "MaxPool", ["lungs"], ["lungs_full"], kernel_shape=[9, 9], pads=[4] * 4
    )
    model.graph.node.append(wider)
    sides = ["n", 2, 128, 128]
    model.graph.output.append(onnx.helper.make_tensor_value_info("lungs_full", 1, sides))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    contract = json.loads(metadata["contract"])
    metadata["contract"] = json.dumps({**contract, "outputs": ["lungs", "lungs_full"]})
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, tmp_path / "both.onnx")
    return tmp_path / "both.onnx"


def test_each_protocol_is_an_output_of_its_own_and_the_full_one_measures_no_heart(
    images, tmp_path, model_of_both_protocols
):
    folder, _ = images
    air, full = (
        step.segment_images(
            [folder], tmp_path / protocol, model=model_of_both_protocols, protocol=protocol
        )[0]
        for protocol in lung_masks.PROTOCOLS
    )
    assert {row["protocol"] for row in air} == {"air"}
    assert {row["protocol"] for row in full} == {"full"}
    for one, other in zip(air, full, strict=True):
        assert other["right_pixels"] > one["right_pixels"] > 0
        assert one["heart_width_pixels"] and other["heart_width_pixels"] is None
        assert other["thorax_width_pixels"] >= one["thorax_width_pixels"]


def test_a_protocol_that_a_model_does_not_have_is_refused_by_name(images, tmp_path, lung_model):
    folder, _ = images
    with pytest.raises(Mismatch, match="no output 'lungs_full'.*'full'"):
        step.segment_images([folder], tmp_path / "out", model=lung_model, protocol="full")
    with pytest.raises(Mismatch, match="protocol"):
        step.segment_images([folder], tmp_path / "out", model=lung_model, protocol="fulll")
    assert not (tmp_path / "out").exists()


def test_the_order_and_the_neighbours_change_nothing(images, tmp_path, lung_model):
    folder, _ = images
    files = sorted(folder.rglob("*.png"))
    step.segment_images(files, tmp_path / "a", model=lung_model)
    step.segment_images(
        [*files[::-1], str(folder / "ward" / "[01].png")], tmp_path / "b", model=lung_model
    )
    assert written(tmp_path / "a") == written(tmp_path / "b")
    for path in files:
        step.segment_images([path], tmp_path / "alone", model=lung_model)
    alone = {name: data for name, data in written(tmp_path / "alone").items() if name != step.TABLE}
    assert alone == {
        name: data for name, data in written(tmp_path / "a").items() if name != step.TABLE
    }


def test_a_bad_file_among_many_is_named_and_the_others_are_done(images, tmp_path, lung_model):
    folder, _ = images
    (folder / "broken.png").write_bytes((folder / "ward" / "0.png").read_bytes()[:500])
    done = hilum(
        "lungs",
        folder,
        tmp_path / "absent.png",
        tmp_path / "no*.dcm",
        "--out",
        tmp_path / "out",
        "--model",
        lung_model,
        "--json",
    )
    assert done.returncode == 1 and len(json.loads(done.stdout)) == 3
    assert (
        all(name in done.stderr for name in ("broken.png", "absent.png", "no*.dcm"))
        and "Traceback" not in done.stderr
    )
    assert len(list((tmp_path / "out" / "both" / "ward").glob("*.png"))) == 3


def test_it_needs_neither_torch_nor_scipy(images, tmp_path, lung_model):
    arguments = ("lungs", images[0], "--out", tmp_path / "out", "--model", lung_model)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "quality" in done.stdout and str(tmp_path / "out") in done.stdout


def test_a_dicom_has_millimetres_and_its_masks_lie_as_its_pixels_do(tmp_path, lung_model):
    stored = (chest().pixels.astype(np.uint16) * 16).copy()
    path = write_dicom(tmp_path / "a.dcm", stored, bits=12, ImagerPixelSpacing=[0.5, 0.25])
    (row,), _ = step.segment_images([path], tmp_path / "out", model=lung_model)
    assert row["right_mm2"] == pytest.approx(
        row["right_pixels"] * 0.125, rel=0.01
    )  # as it stands its pixels are square
    assert row["thorax_width_mm"] == pytest.approx(
        row["thorax_width_pixels"] * row["column_spacing_mm"]
    )
    assert raster.read(tmp_path / "out" / "both" / "a.png").values.shape == stored.shape


def test_files_of_one_name_keep_apart_whatever_the_order(images, tmp_path, lung_model):
    twins = [tmp_path / "x" / "a.png", tmp_path / "y" / "a.png"]
    for path, seed in zip(twins, (1, 2), strict=True):
        raster.write_png(path, chest(seed).pixels)
    step.segment_images(twins, tmp_path / "1", model=lung_model)
    step.segment_images(twins[::-1], tmp_path / "2", model=lung_model)
    assert (
        written(tmp_path / "1") == written(tmp_path / "2")
        and len(list((tmp_path / "1" / "both").iterdir())) == 2
    )


def test_an_image_below_the_output_folder_is_refused(images, tmp_path, lung_model):
    folder, _ = images
    with pytest.raises(BadData, match="choose another folder with --out"):
        step.segment_images([folder / "ward" / "0.png"], folder, model=lung_model)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.zeros((256, 256), np.uint8), id="black"),
        pytest.param(np.full((256, 256), 255, np.uint8), id="white"),
        pytest.param(np.random.default_rng(0).integers(0, 256, (256, 256), np.uint8), id="noise"),
        pytest.param(hand(), id="hand"),
        pytest.param(255 - chest().pixels, id="inverted"),
        pytest.param(np.rot90(chest().pixels), id="rotated"),
        pytest.param(chest().pixels[:, ::-1], id="mirrored"),
        pytest.param(
            np.tile(np.linspace(0, 255, 20_000).astype(np.uint8), (3500, 1)), id="20,000 columns"
        ),
    ],
)
def test_what_is_no_upright_frontal_chest_is_never_trusted(image, tmp_path, lung_model):
    row = quality_of(tmp_path, image, lung_model)
    assert (
        row["quality"] <= 0.2
        and not row["trusted"]
        and row["quality_flags"]
        and "appears" in row["warning"]
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 100), (31, 31)])
def test_what_cannot_show_a_chest_is_refused(size, tmp_path, lung_model):
    raster.write_png(
        tmp_path / "small.png",
        np.arange(size[0] * size[1], dtype=np.uint32).astype(np.uint8).reshape(size),
    )
    rows, (fault,) = step.segment_images(
        [tmp_path / "small.png"], tmp_path / "out", model=lung_model
    )
    assert (
        rows == []
        and "small.png" in fault
        and "cannot show a chest" in fault
        and not (tmp_path / "out").exists()
    )


def test_an_image_of_one_value_has_no_lungs(tmp_path, lung_model):
    row = quality_of(tmp_path, np.full((90, 80), 77, np.uint8), lung_model)
    assert (
        row["right_pixels"] == row["left_pixels"] == row["quality"] == 0
        and "no lungs were found" in row["warning"]
    )


def test_without_a_model_the_remedy_is_reported_and_another_models_task_is_refused(
    tmp_path, monkeypatch, lung_model
):
    monkeypatch.setattr(pretrained, "path", lambda name=pretrained.MODEL: tmp_path / name)
    assert not pretrained.is_bundled()
    with pytest.raises(NotFound, match="--model"):
        step.segment_images([tmp_path / "a.png"])
    monkeypatch.setattr(pretrained, "path", lambda name=pretrained.MODEL: lung_model)
    assert pretrained.is_bundled() and pretrained.lung_model().contract.task == "lungs"
    with pytest.raises(Mismatch, match="expected one of lungs"):
        step.segment_images([tmp_path / "a.png"], model=orientation._network().path)


# The estimate


def test_an_estimate_never_falls_with_a_better_sign():
    signs = dict.fromkeys(lung_finder.FRACTIONS, 0.9) | {"shape": -0.6}
    before = lung_finder.estimate(signs, lung_finder.rule())
    for name in lung_finder.SIGNS:
        assert (
            lung_finder.estimate({**signs, name: signs[name] + 0.09}, lung_finder.rule()) >= before
        )
    assert before > lung_finder.estimate(
        dict.fromkeys(lung_finder.FRACTIONS, 0.1) | {"shape": -2.0}, lung_finder.rule()
    )
    assert min(lung_finder.rule()["weights"].values()) >= 0


class Answer:
    """A model that reads its answer off the image: 100 and above is right lung, 200 and above left.
    `spoil` changes what it says.
    """

    def __init__(self, spoil=lambda likely, radiograph: likely):
        self.spoil = spoil

    def lung_output(self, protocol):
        return "lungs"

    def __call__(self, radiograph):
        return {"lungs": self.many(radiograph[None])["lungs"][0]}

    def many(self, images, outputs=()):
        reported = []
        for radiograph in images:
            level = np.median([cv2.blur(radiograph, (3, 3)), radiograph], axis=0)
            likely = np.stack([(level > 60) & (level < 160), level >= 160]).astype(np.float32)
            reported.append(self.spoil(likely, radiograph))
        return {"lungs": np.stack(reported)}


def fixed(likely, radiograph):
    """The same whatever is seen."""
    return np.stack(
        [
            np.pad(np.ones((100, 50), np.float32), ((60, 96), (50, 156))),
            np.pad(np.ones((100, 50), np.float32), ((60, 96), (150, 56))),
        ]
    )


def torn(likely, radiograph):
    holes = np.random.default_rng(int(radiograph.sum()) % 1000).random(likely.shape[1:]) < 0.3
    return np.where(holes, 0.1, likely).astype(np.float32)


@pytest.mark.parametrize(
    "spoil",
    [
        fixed,
        torn,
        lambda likely, radiograph: 0.45 + 0.1 * likely,
        lambda likely, radiograph: likely * (np.arange(256) < 100),
    ],
)
def test_the_estimate_falls_where_masks_do_not_follow_or_are_torn_or_unreliable_or_one_sided(spoil):
    one = chest(3, 256, 256)
    radiograph = (one.right_lung * np.uint8(100) + one.left_lung * np.uint8(220)).astype(np.uint8)
    good, bad = (
        lung_finder.segment_lungs(Answer(*some), radiograph, (256, 256)) for some in ((), (spoil,))
    )
    assert good.quality > lung_finder.GOOD > 0.85 > bad.quality
    assert (
        lung_finder.segment_lungs(
            Answer(lambda likely, radiograph: likely * 0), radiograph, (256, 256)
        ).quality
        == 0
    )


def test_a_mask_is_the_mean_over_the_image_and_its_changes():
    one = chest(3, 256, 256)
    radiograph = (one.right_lung * np.uint8(100) + one.left_lung * np.uint8(220)).astype(np.uint8)

    def slipped(likely, seen):
        """The lower half is missed in the image as it is, and in none of its changes."""
        return (
            likely * (np.arange(256) < 128)[:, None] if np.array_equal(seen, radiograph) else likely
        )

    drawn = one.right_lung | one.left_lung
    once = lung_masks.from_probabilities(Answer(slipped)(radiograph)["lungs"])
    found = lung_finder.segment_lungs(Answer(slipped), radiograph, (256, 256))
    assert dice(drawn, once > 0) < 0.8 and dice(drawn, found.labels > 0) > 0.98
    assert (
        found.likely.shape == (2, 256, 256)
        and found.likely.dtype == np.float32
        and found.likely.min() >= 0
        and found.likely.max() <= 1
    )
    assert (
        found.quality < lung_finder.segment_lungs(Answer(), radiograph, (256, 256)).quality
    )  # that it was unsure is reported all the same


@pytest.mark.parametrize(("spoil", "evaluated"), [(lambda likely, seen: likely, 3), (torn, 5)])
def test_later_changes_are_evaluated_only_where_the_first_ones_disagree(spoil, evaluated):
    one, seen = chest(3, 256, 256), []
    radiograph = (one.right_lung * np.uint8(100) + one.left_lung * np.uint8(220)).astype(np.uint8)

    def counted(likely, image):
        seen.append(image)
        return spoil(likely, image)

    found = lung_finder.segment_lungs(Answer(counted), radiograph, (256, 256))
    assert len(seen) == evaluated
    every = lung_finder.segment_lungs(
        Answer(counted), radiograph, (256, 256), clear=lung_finder.ALWAYS
    )
    assert len(seen) == evaluated + 5
    assert dice(found.labels > 0, every.labels > 0) > 0.98
    assert found.quality == pytest.approx(every.quality, abs=0.01)


def test_shapes_of_lungs_are_near_and_other_shapes_far():
    shapes = lung_finder.rule()["shapes"]
    assert set(shapes) == set(lung_masks.PROTOCOLS)
    assert all(set(of) == set(lung_finder.SHAPES) for of in shapes.values())
    drawn = shapes[lung_masks.AIR]
    inside = (slice(None), slice(None))
    near = []
    for seed in range(8):
        one = chest(seed, 256, 256)
        labels = np.where(
            one.right_lung, lung_masks.RIGHT, np.where(one.left_lung, lung_masks.LEFT, 0)
        ).astype(np.uint8)
        near.append(lung_finder.distance(lung_finder.shape(labels, labels, inside), drawn))
    boxes = np.zeros((256, 256), np.uint8)
    boxes[:80, :100], boxes[200:, 150:] = lung_masks.RIGHT, lung_masks.LEFT
    assert (
        np.median(near) < 2 < lung_finder.distance(lung_finder.shape(boxes, boxes, inside), drawn)
    )
    one_lung = np.where(labels == lung_masks.LEFT, 0, labels)
    assert (
        lung_finder.shape(one_lung, one_lung, inside) is None
        and lung_finder.distance(None, drawn) == 10
    )


def test_grown_outlines_follow_the_probabilities_between_pixels():
    likely = np.zeros((2, 32, 32), np.float32)
    likely[0, 8:24, 4:12], likely[1, 8:24, 20:28] = 1, 1
    likely[0, 8:24, 12] = 0.4  # the outline lies within this column
    labels = lung_masks.from_probabilities(likely)
    large = lung_masks.upsample_labels(
        labels,
        likely,
        lambda square: cv2.resize(square, (320, 320), interpolation=cv2.INTER_LINEAR),
    )
    sharp = lung_masks.upsample_labels(
        labels,
        (labels[None] == np.array([1, 2])[:, None, None]).astype(np.float32),
        lambda square: cv2.resize(square, (320, 320)),
    )
    assert set(np.unique(large)) == {0, 1, 2}
    assert (large == lung_masks.RIGHT).sum() > (sharp == lung_masks.RIGHT).sum() and (
        large == lung_masks.LEFT
    ).sum() == (sharp == lung_masks.LEFT).sum()
