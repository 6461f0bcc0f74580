"""The contract of a check (`hilum.audit.checks`): each module is held to it by being there."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from inspect import signature
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from hilum import plugins
from hilum.audit import checks
from hilum.audit.issues import Issue, Rule
from hilum.config import Pixels
from hilum.dataset.corrections import ACTIONS, OF_PAIRS
from hilum.dataset.manifest import SEVERITIES, Manifest
from hilum.dataset.pixel_cache import Cache
from hilum.dataset.readers import montgomery
from hilum.inference import orientation
from hilum.pipeline import cache, ingest
from hilum.plugins import Card

NAMES = plugins.names("checks")
RULES = [rule for module in checks.modules() for rule in module.RULES]
Release = tuple[Manifest, pl.DataFrame, Cache]


@pytest.fixture(scope="module", params=(8, 16), ids=("8 bits", "16 bits"))
def release(request, tmp_path_factory) -> Release:
    root = tmp_path_factory.mktemp("release")
    montgomery.example(root / "data", images=5)
    next((root / "data" / "CXR_png").iterdir()).write_text("not an image")
    manifest = ingest.ingest(root / "data")
    filled = cache.fill(manifest, Pixels(size=64, depth=request.param), root / "cache")
    return manifest, orientation.describe_cache(filled, filled.index), filled


def issues_of(module: ModuleType, release: Release) -> list[Issue]:
    manifest, facts, filled = release
    more = {"cache": filled} if "cache" in signature(module.check).parameters else {}
    return list(module.check(manifest, facts, **more))


@pytest.mark.parametrize("name", NAMES)
def test_its_card_states_what_it_is_about_and_how_certain_its_issues_are(name):
    card = plugins.load("checks", name).CARD
    assert isinstance(card, Card) and card.title and card.caveats


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_states_what_is_wrong_why_it_matters_and_what_to_do(rule):
    assert isinstance(rule, Rule)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name) and rule.severity in SEVERITIES
    texts = (rule.what, rule.rationale, rule.remedy)
    assert all(text.endswith(".") and len(text) > 20 for text in texts)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_proposes_a_correction_that_can_be_made_or_none(rule):
    assert rule.correction is None or rule.correction in ACTIONS
    assert not rule.corrects_both or rule.correction in set(ACTIONS) - set(OF_PAIRS)


def test_no_two_checks_have_a_rule_of_one_name():
    assert max(Counter(rule.name for rule in RULES).values()) == 1
    assert checks.rules() == {rule.name: rule for rule in RULES}


@pytest.mark.parametrize("name", NAMES)
def test_it_yields_issues_of_its_own_rules_about_images_of_the_set(name, release):
    module, images = plugins.load("checks", name), {None, *release[0].table["image_id"]}
    for one in issues_of(module, release):
        assert isinstance(one, Issue) and one.message and one.severity in SEVERITIES
        assert one.rule in {rule.name for rule in module.RULES}
        assert {one.image_id, one.other_image_id} <= images


@pytest.mark.parametrize("name", NAMES)
def test_it_leaves_its_tables_as_they_were(name, release):
    manifest, facts, _ = release
    before = manifest.digest, facts.clone()
    issues_of(plugins.load("checks", name), release)
    assert manifest.digest == before[0] and facts.equals(before[1])


@pytest.mark.parametrize("name", NAMES)
def test_its_issues_do_not_depend_on_the_order_of_rows(name, release):
    manifest, facts, filled = release
    module = plugins.load("checks", name)
    reversed_rows = replace(manifest, table=manifest.table.reverse()), facts.reverse(), filled
    assert Counter(issues_of(module, reversed_rows)) == Counter(issues_of(module, release))


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_set_has_no_issues(name):
    empty = Manifest.of(Path("/nowhere"), [], [], [])
    assert list(plugins.load("checks", name).check(empty, pl.DataFrame(schema=cache.FACTS))) == []
