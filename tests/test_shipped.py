"""The lung model that comes with Hilum, in a run: when it is used, what it must not be measured on,
and what regions do with unreliable masks.
"""

import json
from dataclasses import replace

import numpy as np
import onnx
import polars as pl
import pytest

from hilum import storage
from hilum.config import Data, Evaluate, LungCrop, Pixels, Recipe, Segment, Split
from hilum.dataset.manifest import Manifest
from hilum.dataset.readers import kaggle_masks
from hilum.errors import BadRecipe, NotFound
from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.imaging.perceptual_hash import decode
from hilum.inference import lung_crop, lung_finder, pretrained, training_hashes
from hilum.inference.onnx_model import TRAINING_LIST, OnnxModel
from hilum.pipeline import audit, cache, evaluate, ingest, segment, split
from hilum.pipeline import crop as region
from hilum.pipeline import lung_model as model_choice
from hilum.pipeline._training import TRAINING
from hilum.progress import quietly
from hilum.reporting.sections import lungs
from hilum.reporting.sections import split as parts
from hilum.run_folder import Run

SIZE = 128  # what the model made by hand wants


def do(run, recipe, name, step):
    made, summary = step.make(run, recipe, quietly)
    run.finish(name, step.made_from(run, recipe) or {}, made, summary)
    return summary


def begun(folder, data, **settings) -> tuple[Run, Recipe]:
    recipe = Recipe(
        data=Data(str(data)),
        pixels=Pixels(size=SIZE),
        crop=LungCrop(size=64),
        split=Split(0.5, 0.2, 0.3, min_per_class=1, **settings.pop("split", {})),
        evaluate=Evaluate(bootstrap=100),
        **settings,
    )
    run = Run(folder / "run")
    run.write_recipe(recipe)
    for name, step in {"ingest": ingest, "cache": cache, "audit": audit, "split": split}.items():
        do(run, recipe, name, step)
    return run, recipe


@pytest.fixture(scope="module")
def unmasked(tmp_path_factory):
    """Images of a class each, no mask among them."""
    data, rng = tmp_path_factory.mktemp("unmasked"), np.random.default_rng(1)
    for number in range(24):
        made = synthetic.draw(
            synthetic.anatomy(rng),
            rng,
            height=150,
            width=140,
            disease="effusion" if number % 2 else None,
        )
        raster.write_png(
            data / ("PNEUMONIA" if number % 2 else "NORMAL") / f"{number}.png", made.pixels
        )
    return data


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    data = tmp_path_factory.mktemp("masked")
    kaggle_masks.example(data, images=40, seed=5)
    return data


@pytest.fixture
def installed(lung_model, monkeypatch):
    monkeypatch.setattr(pretrained, "path", lambda name=pretrained.MODEL: lung_model)


def trained_on(model, folder, *, pixels=(), sources=()):
    """The model, as if it had been trained on these."""
    made = onnx.load(model)
    kept = {one.key: one.value for one in made.metadata_props}
    stated = json.dumps({TRAINING_LIST: list(pixels), "sources": list(sources)})
    onnx.helper.set_model_props(made, kept | {"trained_on": stated})
    onnx.save(made, folder / "other.onnx")
    return folder / "other.onnx"


def test_without_masks_the_shipped_model_finds_the_lungs(tmp_path, unmasked, installed):
    run, recipe = begun(tmp_path, unmasked)
    reported = do(run, recipe, "segment", segment)
    assert (
        reported["model"] == pretrained.NAME
        and "0 lung masks in the training part" in reported["reason"]
        and reported["images it was trained on"] == 0
    )
    found = storage.read_table(run / segment.INDEX)
    assert (
        set(found["model"]) == {pretrained.NAME}
        and found.schema == pl.Schema(segment.LUNGS)
        and found.height == 24
    )
    assert storage.read_table(run / "segment" / TRAINING).height == 0 == segment.seen(run).height
    assert OnnxModel(run / "segment/lungs.onnx").contract.task == "lungs", "a run stands alone"
    assert (
        do(run, recipe, "crop", region)["whole image in place of unreliable or missing lungs"] < 24
    )


def test_the_audit_lists_unreliable_lungs_worst_first_as_long_as_they_are_those_of_the_run(
    tmp_path, unmasked, installed
):
    run, recipe = begun(tmp_path, unmasked)
    before = segment.issues(run, recipe)
    do(run, recipe, "segment", segment)
    found = storage.read_table(run / segment.INDEX)
    reported = segment.issues(run, recipe).tail(-before.height)
    unreliable = found.filter(pl.col("quality") < lung_finder.GOOD).sort("quality", "image_id")
    assert (
        unreliable.height > 1 and reported["image_id"].to_list() == unreliable["image_id"].to_list()
    )
    assert (reported["severity"] == "warning").to_list() == (
        unreliable["quality"] < recipe.crop.min_mask_quality
    ).to_list()
    other = replace(recipe, split=replace(recipe.split, seed=5))
    do(run, other, "split", split)
    assert segment.issues(run, other).equals(before), (
        "lungs of another split are none of this run's"
    )


def test_without_a_model_regions_are_whole_images_and_asking_for_it_is_refused(
    tmp_path, unmasked, monkeypatch
):
    monkeypatch.setattr(pretrained, "path", lambda name=pretrained.MODEL: tmp_path / name)
    run, recipe = begun(tmp_path, unmasked)
    assert (
        "no lung model comes with this installation"
        in do(run, recipe, "segment", segment)["reason"]
    )
    assert (
        do(run, recipe, "crop", region)["whole image in place of unreliable or missing lungs"] == 24
    )
    with pytest.raises(NotFound, match="train_lungs"):
        model_choice.choose(
            Recipe(segment=Segment(model=pretrained.NAME)),
            pl.DataFrame({"image_id": ["a"], "fold": [None]}),
        )


def test_images_that_it_does_not_want_are_reported(tmp_path, unmasked, installed):
    _run, _recipe = begun(tmp_path, unmasked)
    radiographs = pl.DataFrame(
        {
            "image_id": ["a"],
            "source": ["x"],
            "pixel_digest": ["0"],
            "group": ["a"],
            "part": ["test"],
            "fold": [None],
        },
        schema_overrides={"fold": pl.Int64},
    )
    other = Recipe(pixels=Pixels(size=256))
    assert (
        "size must be 128, got 256" in model_choice.choose(other, radiographs).why
        and model_choice.choose(other, radiographs).model is None
    )
    with pytest.raises(BadRecipe, match="size must be 128, got 256"):
        model_choice.choose(
            Recipe(pixels=Pixels(size=256), segment=Segment(model=pretrained.NAME)), radiographs
        )


def test_it_is_not_used_by_default_where_it_was_trained_on_a_test_image(
    tmp_path, unmasked, lung_model, monkeypatch
):
    run, recipe = begun(tmp_path, unmasked)
    radiographs = cache.opened(run, recipe).index.join(
        storage.read_table(run / "split.parquet"), on="image_id"
    )
    test, train = (
        radiographs.filter(pl.col("part") == part)["pixel_digest"].to_list()
        for part in ("test", "train")
    )
    other = trained_on(lung_model, tmp_path, pixels=[test[0]], sources=[])
    monkeypatch.setattr(pretrained, "path", lambda name=pretrained.MODEL: other)
    reported = do(run, recipe, "segment", segment)
    assert (
        reported["model"] == "none"
        and "was trained on 1 of the tune and test images" in reported["reason"]
    )
    harmless = trained_on(lung_model, tmp_path, pixels=train[:3], sources=["elsewhere"])
    pretrained.opened.cache_clear()
    assert (
        harmless == other and do(run, recipe, "segment", segment)["images it was trained on"] == 3
    )


def test_a_changed_copy_of_an_image_that_it_was_trained_on_counts_as_such(
    tmp_path, unmasked, lung_model, monkeypatch
):
    run, recipe = begun(tmp_path, unmasked)
    radiographs = cache.opened(run, recipe).index.join(
        storage.read_table(run / "split.parquet"), on="image_id"
    )
    other = OnnxModel(trained_on(lung_model, tmp_path, pixels=["of the original"], sources=[]))
    hashes = decode(radiographs["fingerprint"][:2]).hashes
    monkeypatch.setattr(
        training_hashes,
        "_hashes",
        lambda of: hashes if of == other.training_list else hashes[:0],
    )
    assert (
        pretrained.training_sets(other, radiographs)["image_id"].to_list()
        == radiographs["image_id"][:2].to_list()
    )
    assert pretrained.training_sets(OnnxModel(lung_model), radiographs).height == 0


def test_on_request_it_is_measured_only_on_patients_it_has_not_seen(
    tmp_path, masked, lung_model, monkeypatch
):
    run, recipe = begun(tmp_path, masked, segment=Segment(model=pretrained.NAME))
    table = storage.read_table(run / "split.parquet")
    one, *_others = table.filter(pl.col("part") == "test")["image_id"]
    digest = dict(cache.opened(run, recipe).index.select("image_id", "pixel_digest").iter_rows())
    other = trained_on(lung_model, tmp_path, pixels=[digest[one]], sources=[])
    monkeypatch.setattr(pretrained, "path", lambda name=pretrained.MODEL: other)
    assert do(run, recipe, "segment", segment)["reason"] == "requested in the recipe"
    measured = evaluate.unseen(run, table)["image_id"]
    group = dict(table.select("image_id", "group").iter_rows())
    assert one not in measured and set(measured) == {
        image for image in group if group[image] != group[one]
    }
    masks = segment.found_masks(run, SIZE)
    rows = evaluate.overlaps(
        evaluate.unseen(run, table),
        cache.opened(run, recipe),
        storage.read_table(run / segment.INDEX),
        masks,
    )
    assert (
        one not in rows["image_id"] and rows.filter(pl.col("side") == "both")["dice"].median() > 0.8
    )
    everything = trained_on(
        lung_model, tmp_path, pixels=[], sources=table["source"].unique().to_list()
    )
    pretrained.opened.cache_clear()
    assert (
        everything == other
        and do(run, recipe, "segment", segment)["images it was trained on"] == table.height
    )
    assert evaluate.unseen(run, table).height == 0


def test_the_report_says_what_the_shipped_model_was_not_measured_on(
    tmp_path, masked, lung_model, monkeypatch
):
    run, recipe = begun(tmp_path, masked, segment=Segment(model=pretrained.NAME))
    table, cached = storage.read_table(run / "split.parquet"), cache.opened(run, recipe)
    monkeypatch.setattr(
        pretrained,
        "path",
        lambda name=pretrained.MODEL: trained_on(
            lung_model, tmp_path, sources=table["source"].unique().to_list()
        ),
    )
    do(run, recipe, "segment", segment)
    rows = evaluate.overlaps(
        evaluate.unseen(run, table),
        cached,
        storage.read_table(run / segment.INDEX),
        segment.found_masks(run, SIZE),
    )
    none = pl.DataFrame(schema=evaluate.ESTIMATE)
    test = table.filter(pl.col("part") == "test").height
    unseen = evaluate.unseen(run, table)
    assert table.filter(pl.col("part") == "test").join(unseen, on="image_id", how="semi").is_empty()
    assert lungs.figures(run, none, rows, cached, test) is None
    assert f"trained on {test} test images" in lungs.why_none(run, test)
    training = {
        "segment": segment.seen(run).select(model=pl.lit(pretrained.NAME), image_id="image_id")
    }
    fold = parts.Fold(table, training, storage.read_table(run / segment.INDEX))
    found = parts.single(fold, Manifest.read(run.folder), recipe.split, run.summary("split"))
    assert found.proof[0].model == "Lungs, the model that comes with Hilum"
    assert found.proof[0].test.images == test
    assert found.out_of_fold.seen == table.filter(pl.col("part") == "train").height


def test_the_shipped_model_takes_no_settings_and_is_of_the_lungs_only():
    with pytest.raises(BadRecipe, match="takes no epochs"):
        Recipe.from_sections({"segment": {"model": "pretrained", "epochs": 3}})
    with pytest.raises(BadRecipe, match="no model is called 'pretrained'"):
        Recipe.from_sections({"classify": {"model": "pretrained"}})
    assert (
        Recipe.from_sections({"segment": {"model": "pretrained"}}).quick().segment.model
        == "pretrained"
    )


# Regions of unreliable masks


def labels(top=30):
    made = np.zeros((64, 64), np.uint8)
    made[top : top + 20, 10:25], made[top : top + 20, 35:50] = 1, 2
    return made


def test_an_unreliable_mask_is_cut_by_the_typical_box_and_else_left_whole():
    image, settings = (
        np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8),
        LungCrop(size=64, margin=0.0, masked=True, min_mask_quality=0.7),
    )
    good = lung_crop.cut(image, labels(), settings, quality=0.8)
    assert good.how == lung_crop.LUNGS and (
        good.crop.top,
        good.crop.left,
        good.crop.bottom,
        good.crop.right,
    ) == (30, 10, 50, 50)
    typical = lung_crop.typical_box([(good.crop, (64, 64))] * lung_crop.FEWEST)
    assert lung_crop.typical_box([(good.crop, (64, 64))] * (lung_crop.FEWEST - 1)) == {}
    for of, reported in ((labels(), 0.6), (np.zeros((64, 64), np.uint8), 1.0)):
        boxed = lung_crop.cut(image, of, settings, quality=reported, typical=typical, size=(64, 64))
        assert boxed.how == lung_crop.BOX and boxed.crop == good.crop
        assert boxed.image[:, 25:35][boxed.image.any(1)].max() > 200, (
            "not blackened between the lungs"
        )
        assert lung_crop.cut(image, of, settings, quality=reported).how == lung_crop.WHOLE


def test_a_typical_box_follows_the_images_own_frame():
    crop = lung_crop.cut(
        np.zeros((64, 64), np.uint8), labels(), LungCrop(size=64, margin=0.0), size=(64, 64)
    ).crop
    typical = lung_crop.typical_box([(crop, (64, 64))] * 8)
    tall = lung_crop.cut(
        np.zeros((64, 64), np.uint8),
        labels() * 0,
        LungCrop(size=64),
        typical=typical,
        size=(200, 100),
    ).crop  # 32 of 64 columns wide
    assert (tall.top, tall.bottom) == (30, 50) and (tall.left, tall.right) == (16 + 5, 16 + 25)
