"""Checks of an audit: one module for each family of rules, found by its file name.

To add a check, add one module to this package. It holds:

    CARD                       `hilum.plugins.Card`: what the family is about; `caveats` states
                               how certain its issues are
    RULES                      tuple of `hilum.audit.issues.Rule` with names that no other check
                               has; a rule also declares the correction that it proposes
    check(manifest, facts)     yields issues of these rules

`facts` is the index of the cache, one row for each image (`hilum.dataset.pixel_cache.FACTS`),
joined with what was measured on the cached images (`hilum.inference.orientation.FEATURES`); where
these columns are missing, the images were not measured. `check` may take further arguments, which
it receives by their names:

    cache      the opened `hilum.dataset.pixel_cache.Cache`, or None, of which nothing can be said
    include    the recipe's `[split] include`, see `hilum.annotations.eligibility`, for a check
               that depends on which images may enter a split

A module may also hold `afterwards(manifest, found)`. It receives the issues of all checks and
yields more, such as that two images which another check found to be the same are in two parts
of a split.

A check decodes no file, changes no table and yields the same issues for any order of rows. Page,
report, proposed corrections and the split take what they need from `RULES` and `CARD`, and
`tests/test_every_check.py` holds every module to this contract.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from hilum import plugins, storage
from hilum.audit.issues import Rule
from hilum.plugins import Card


def modules() -> list[ModuleType]:
    """Return the modules of all checks, by name."""
    return [plugins.load("checks", name) for name in plugins.names("checks")]


def rules() -> dict[str, Rule]:
    """Return the rules of all checks by their names."""
    return {rule.name: rule for module in modules() for rule in module.RULES}


def cards() -> list[Card]:
    """Return the cards of all checks, by the checks' names."""
    return [module.CARD for module in modules()]


def source_digest() -> str:
    """Return the digest of all check modules' source text.

    The audit is made again when it differs, so an added or changed check needs no version number.
    """
    files = sorted(Path(__file__).parent.glob("*.py"))
    return storage.digest("\n".join(f"{file.name}\n{file.read_text('utf-8')}" for file in files))
