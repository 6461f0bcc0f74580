"""What every module of the checks shelf promises; a new one is tested by being there."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from hilum import plugins
from hilum.audit.issues import Issue, Rule
from hilum.config import Pixels
from hilum.dataset.manifest import SEVERITIES, Manifest
from hilum.dataset.readers import montgomery
from hilum.inference import orientation
from hilum.pipeline import cache, ingest
from hilum.plugins import Card

NAMES = plugins.names("checks")
RULES = [rule for name in NAMES for rule in plugins.load("checks", name).RULES]


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> tuple[Manifest, pl.DataFrame]:
    root = tmp_path_factory.mktemp("release")
    montgomery.example(root / "data", images=5)
    next((root / "data" / "CXR_png").iterdir()).write_text("no picture")
    manifest = ingest.ingest(root / "data")
    filled = cache.fill(manifest, Pixels(size=64), root / "cache")
    return manifest, orientation.describe_cache(filled, filled.index)


@pytest.mark.parametrize("name", NAMES)
def test_its_card_says_what_it_is_and_how_sure(name):
    card = plugins.load("checks", name).CARD
    assert isinstance(card, Card) and card.title and card.caveats


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_says_what_and_why_and_how_to_mend(rule):
    assert isinstance(rule, Rule)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name) and rule.severity in SEVERITIES
    assert all(
        text.endswith(".") and len(text) > 20 for text in (rule.what, rule.rationale, rule.remedy)
    )


def test_a_rule_stands_once_on_the_shelf():
    assert max(Counter(rule.name for rule in RULES).values()) == 1


@pytest.mark.parametrize("name", NAMES)
def test_it_yields_findings_of_its_own_rules_about_images_of_the_set(name, release):
    manifest, facts = release
    module, images = plugins.load("checks", name), {None, *manifest.table["image_id"]}
    for found in module.check(manifest, facts):
        assert isinstance(found, Issue) and found.message and found.severity in SEVERITIES
        assert found.rule in {rule.name for rule in module.RULES}
        assert {found.image_id, found.other_image_id} <= images


@pytest.mark.parametrize("name", NAMES)
def test_it_leaves_its_tables_as_they_were(name, release):
    manifest, facts = release
    before = manifest.digest, facts.clone()
    list(plugins.load("checks", name).check(manifest, facts))
    assert manifest.digest == before[0] and facts.equals(before[1])


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_set_has_no_findings(name):
    empty = Manifest.of(Path("/nowhere"), [], [], [])
    assert list(plugins.load("checks", name).check(empty, pl.DataFrame(schema=cache.FACTS))) == []
