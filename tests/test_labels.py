"""The source of every label can be shown; two sets can be laid side by side; a change of mapping
says what it changes.
"""

import json

import polars as pl
import pytest
from made_up import manifest
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.dataset import label_provenance
from hilum.dataset.manifest import LABEL_COLUMNS, Manifest
from hilum.dataset.readers import kaggle_masks
from hilum.errors import BadRecipe, NotFound
from hilum.pipeline import ingest


def labelled(*rows: tuple[int, str, str, int]) -> Manifest:
    """Four images with labels (image, term, concept, state)."""
    from dataclasses import replace

    bare = manifest([(str(n), str(n), "east", None) for n in range(4)])
    reported = [
        {
            "image_id": f"made/{n}",
            "term": term,
            "concept": concept,
            "state": state,
            "source": "t.csv line 2",
            "rule": "column",
        }
        for n, term, concept, state in rows
    ]
    return replace(bare, labels=pl.DataFrame(reported, schema=LABEL_COLUMNS))


def test_the_ledger_counts_every_state_and_what_is_not_mentioned():
    reported = label_provenance.ledger(
        labelled(
            (0, "TB", "tuberculosis", 1),
            (1, "TB", "tuberculosis", 0),
            (2, "TB", "tuberculosis", -1),
        )
    )
    assert reported.row(0, named=True) == {
        "concept": "tuberculosis",
        "term": "TB",
        "rule": "column",
        "present": 1,
        "absent": 1,
        "uncertain": 1,
        "not mentioned": 1,
        "example": "t.csv line 2",
    }


def test_a_cell_read_from_a_reading_gives_its_sentence(tmp_path):
    kaggle_masks.example(tmp_path, images=12, seed=1)
    reported = ingest.ingest(tmp_path)
    ill = reported.labels.filter(
        (pl.col("concept") == "tuberculosis") & pl.col("words").is_not_null()
    )["image_id"][0]
    cell = (
        label_provenance.cells(reported, ill)
        .filter(pl.col("concept") == "tuberculosis")
        .row(0, named=True)
    )
    assert (
        cell["rule"] == "file name"
        and "PTB" in cell["words"]
        and cell["source"] == "file name ends in _1"
    )
    with pytest.raises(NotFound, match=f"did you mean '{ill}'"):
        label_provenance.cells(reported, ill + "x")


def test_a_crosswalk_names_terms_on_both_sides_and_the_wider_concept_where_one_is_silent():
    first = labelled((0, "PTB", "tuberculosis", 1), (1, "fluid", "effusion", 1))
    second = labelled(
        (0, "INF", "infection", 1), (1, "Effusion", "effusion", 1), (2, "Effusion", "effusion", 1)
    )
    reported = {
        row["concept"]: row
        for row in label_provenance.crosswalk(first, second).iter_rows(named=True)
    }
    assert (
        reported["effusion"]["first terms"],
        reported["effusion"]["second terms"],
        reported["effusion"]["second present"],
    ) == ("fluid", "Effusion", 2)
    assert (
        reported["tuberculosis"]["second terms"] is None
        and reported["tuberculosis"]["wider"] == "infection"
    )


def test_a_change_of_mapping_says_what_changes_and_writes_nothing():
    before = labelled((0, "nodule", "nodule", 1), (0, "mass", "mass", 0), (1, "mass", "mass", 1))
    reported = label_provenance.remapped(before, {"nodule": "mass"})
    assert reported.rows() == [
        ("mass", "absent", 1, 0),
        ("mass", "present", 1, 2),
        ("nodule", "present", 1, 0),
    ]
    assert before.labels["concept"].to_list() == ["nodule", "mass", "mass"]


def test_an_unknown_term_or_concept_gets_the_nearest_name():
    with pytest.raises(NotFound, match="did you mean 'nodule'"):
        label_provenance.remapped(labelled((0, "nodule", "nodule", 1)), {"nodul": "mass"})
    with pytest.raises(BadRecipe, match="did you mean 'mass'"):
        label_provenance.remapped(labelled((0, "nodule", "nodule", 1)), {"nodule": "maas"})


def test_the_verb_prints_ledger_crosswalk_cell_and_change(tmp_path):
    for name in "ab":
        kaggle_masks.example(tmp_path / name, images=8, seed=1)
    run = lambda *arguments: CliRunner().invoke(app, ["labels", *map(str, arguments)])  # noqa: E731
    table = json.loads(run(tmp_path / "a", "--json").stdout)
    assert {"tuberculosis", "abnormality"} <= {row["concept"] for row in table}
    assert "first terms" in run(tmp_path / "a", tmp_path / "b", "--json").stdout
    assert "before" in run(tmp_path / "a", "--map", "tuberculosis=pneumonia").stdout
    assert run(tmp_path / "a", "--map", "tuberculosis").exit_code == 2
