"""Tables of a million rows are the same tables: held and checked in pieces, nothing is lost."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hilum import storage
from hilum.dataset import image_columns, manifest_checks
from hilum.dataset.readers import nih14
from hilum.pipeline import ingest
from hilum.storage import stored_table


def test_columns_of_one_value_are_the_same_table_and_digest(tmp_path):
    table = pl.DataFrame(
        {
            "number": [1, 2, 3],
            "word": ["column"] * 3,
            "nothing": pl.Series([None] * 3, dtype=pl.String),
            "same_ends": ["a", "b", "a"],
            "with_gap": ["a", None, "a"],
        }
    )
    held = stored_table.constants_once(table)
    assert_frame_equal(held, table)
    storage.write_table(tmp_path / "table.parquet", held)
    again = storage.read_table(tmp_path / "table.parquet")
    assert_frame_equal(again, table)
    assert storage.digest_of_table(again) == storage.digest_of_table(table)


@pytest.mark.parametrize("piece", [1, 2, 3, 100])
def test_a_repeated_label_is_found_wherever_a_piece_ends(monkeypatch, piece):
    monkeypatch.setattr(manifest_checks, "PIECE", piece)
    images = pl.DataFrame({"image_id": ["a", "b", "c"]})
    labels = pl.DataFrame(
        {
            "image_id": ["a", "a", "b", "b", "c", "d"],
            "concept": ["effusion", "nodule", "nodule", "nodule", "nodule", "nodule"],
        }
    )
    assert list(manifest_checks.faults_of_labels(images, labels)) == [
        "b: several labels for one finding",
        "label for d, which is not in the table",
    ]
    assert manifest_checks.in_order(labels, ["image_id", "concept"])
    assert not manifest_checks.in_order(labels.reverse(), ["image_id", "concept"])


def test_a_table_read_in_pieces_is_the_same_manifest(tmp_path, monkeypatch):
    nih14.example(tmp_path / "data", images=12)
    whole = ingest.ingest(tmp_path / "data")
    monkeypatch.setattr(image_columns, "PIECE", 5)
    assert ingest.ingest(tmp_path / "data").digest == whole.digest
    key = whole.labels.select("image_id", "concept")
    assert_frame_equal(key, key.sort("image_id", "concept"))
