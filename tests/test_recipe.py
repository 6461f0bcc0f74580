"""Every setting is checked at once, and a misspelt one gets the nearest name."""

import re
import tomllib
from dataclasses import fields

import pytest

from hilum import plugins
from hilum.config import Recipe, default_recipe_toml, describe_settings
from hilum.errors import BadRecipe, NotFound


def write(path, text):
    path.write_text(text)
    return path


def test_a_misspelt_key_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(
        BadRecipe, match=r"\[split\] no key is called 'trian': did you mean 'train'\?"
    ):
        Recipe.read(write(tmp_path / "r.toml", '[data]\nfolder = "d"\n[split]\ntrian = 0.7\n'))


def test_a_misspelt_section_model_or_setting_of_a_model_gets_the_nearest_name():
    for sections, near in (
        ({"segmant": {}}, "segment"),
        ({"segment": {"model": "u-net"}}, "unet"),
        ({"segment": {"model": "attention_unet", "epoch": 3}}, "epochs"),
    ):
        with pytest.raises(BadRecipe, match=f"did you mean '{near}'"):
            Recipe.from_sections(sections)


def test_all_faults_are_reported_at_once():
    with pytest.raises(BadRecipe, match="3 faults") as raised:
        Recipe.from_sections(
            {"pixels": {"size": "big"}, "crop": {"masked": 1}, "evaluate": {"resample": 10}}
        )
    assert all(
        words in str(raised.value)
        for words in (
            "size must be a whole number, got 'big'",
            "masked must be true or false",
            "bootstrap",
        )
    )


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("pixels", {"size": 250}),
        ("pixels", {"normalisation": "lung"}),
        ("split", {"train": 0.9}),
        ("split", {"official": "perhaps"}),
        ("segment", {"folds": 1}),
        ("crop", {"margin": -0.1}),
        ("evaluate", {"confidence": 1.0}),
        ("split", {"min_per_class": 0}),
        ("crop", {"area": "heart"}),
        ("classify", {"uncertain": "half"}),
        ("classify", {"other_findings": ["all", "effusion"]}),
    ],
)
def test_values_that_cannot_be_are_refused(section, values):
    with pytest.raises(
        BadRecipe, match=rf"\[{section}\] {next(iter(values))}|{section}\] train, tune and test"
    ):
        Recipe.from_sections({section: values})


def test_a_recipe_survives_being_written_and_read(tmp_path):
    recipe = Recipe.from_sections(
        {
            "data": {"folder": str(tmp_path)},
            "segment": {"model": "attention_unet", "epochs": 3, "width": 8},
            "crop": {"masked": True},
        }
    )
    assert Recipe.read(write(tmp_path / "r.toml", recipe.to_toml())) == recipe


def test_relative_paths_start_from_the_recipes_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    recipe = Recipe.read(write(tmp_path / "sub" / "r.toml", '[data]\nfolder = "../images"\n'))
    assert recipe.data.folder == str(tmp_path / "images")
    named = Recipe.read(
        write(
            tmp_path / "sub" / "w.toml",
            '[data]\nfolder = "../images"\n[classify]\nmodel = "densenet121"\nweights = "mine.pt"\n',
        )
    )
    assert named.classify.settings == {"weights": str(tmp_path / "sub" / "mine.pt")}


def test_a_recipe_that_is_not_there_not_toml_or_without_a_folder(tmp_path):
    with pytest.raises(NotFound, match="no recipe at"):
        Recipe.read(tmp_path / "r.toml")
    with pytest.raises(BadRecipe, match="is not TOML"):
        Recipe.read(write(tmp_path / "r.toml", "[data\n"))
    with pytest.raises(BadRecipe, match="folder is missing"):
        Recipe.read(write(tmp_path / "r.toml", "[crop]\nmasked = true\n"))


def test_quick_keeps_the_settings_that_were_given():
    quick = Recipe.from_sections({"segment": {"model": "unet", "epochs": 3}}).quick()
    assert quick.segment.settings["epochs"] == 3 and quick.segment.folds == 2


def test_every_setting_has_a_meaning_and_its_default():
    described = {(one.section, one.key): one for one in describe_settings()}
    for part in fields(Recipe()):
        section = getattr(Recipe(), part.name)
        for one in fields(section):
            assert one.metadata["meaning"].strip() == one.metadata["meaning"] != ""
            if one.name != "settings":
                assert described.pop((part.name, one.name)).default == getattr(section, one.name)
    assert not described


def test_the_complete_recipe_reads_back_as_the_default_one():
    text = default_recipe_toml()
    assert Recipe.from_sections(tomllib.loads(text)) == Recipe()
    assert all(f"{one.key} = " in text for one in describe_settings())
    assert max(map(len, text.splitlines())) <= 100


def test_the_complete_recipe_lists_the_settings_of_its_models():
    uncommented = re.sub(r"^# (\w+ = )", r"\1", default_recipe_toml(), flags=re.MULTILINE)
    recipe = Recipe.from_sections(tomllib.loads(uncommented))
    for section in (recipe.segment, recipe.classify, recipe.anomaly):
        assert section.settings == plugins.defaults("models", section.model, "Settings")
