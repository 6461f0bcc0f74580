"""A step that is done with other settings says what it leaves behind in a run."""

from contextlib import nullcontext
from dataclasses import replace

import pytest

import hilum
from hilum.config import Data, Pixels, Recipe, Split
from hilum.progress import quietly
from hilum.run_folder import Run
from hilum.runs import run_all


def notes(run, recipe, until):
    done = run_all.perform(run, recipe, lambda _: nullcontext(quietly), until=until)
    return [one.text for one in done if isinstance(one, run_all.Note)]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "films"
    hilum.synthesize("kermany", folder, images=8, seed=1, size=96)
    split = Split(train=0.5, tune=0.25, test=0.25, min_per_class=1, official="ignore", folds=1)
    return Recipe(data=Data(folder=str(folder)), pixels=Pixels(size=64), split=split)


def test_an_earlier_step_with_other_settings_says_that_later_ones_had_others(recipe, tmp_path):
    run = Run(tmp_path / "run")
    assert not notes(run, recipe, "split")
    other = replace(recipe, split=replace(recipe.split, seed=7))
    (note,) = notes(run, other, "ingest")
    assert "[split] seed is 7 and was 0" in note and "--out" in note and "what follows" in note
    assert not notes(run, other, "ingest"), "it is said once, as the settings change"
    assert not notes(run, run.edited_recipe(), "ingest"), "nor where a run goes on"
    assert len(notes(run, recipe, "ingest")) == 1
    assert run.finished("split", run_all.STEPS["split"].made_from(run, recipe)), "and it is kept"
    assert not notes(run, other, "split"), "a step that is made again is no surprise"
