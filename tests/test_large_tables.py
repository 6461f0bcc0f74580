"""Tables of a million rows are the same tables: held and checked in pieces, nothing is lost, and
what is damaged is refused where it is first used.
"""

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hilum import storage
from hilum.dataset import image_columns, label_states, manifest_checks
from hilum.dataset.manifest import COLUMNS, LABEL_COLUMNS, Manifest
from hilum.dataset.readers import nih14
from hilum.errors import BadData
from hilum.pipeline import ingest
from hilum.storage import stored_table
from hilum.storage.stored_table import StoredTable


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


@pytest.mark.parametrize(("rows", "at_once"), [(100, 3), (100_000, 1)])
def test_a_large_table_is_unpacked_a_column_at_a_time(tmp_path, monkeypatch, rows, at_once):
    table = pl.DataFrame({name: range(rows) for name in "abcd"})
    storage.write_table(tmp_path / "table.parquet", table)
    unpack, together = pl.read_parquet, []

    def noted(source, columns):
        together.append(len(columns))
        return unpack(source, columns=columns)

    monkeypatch.setattr(pl, "read_parquet", noted)
    assert_frame_equal(storage.read_table(tmp_path / "table.parquet"), table)
    assert max(together) == at_once and sum(together) == table.width


@pytest.mark.parametrize("words", [["mass", None, "a", "mass"], [None, None], []])
def test_words_that_are_held_as_numbers_are_stored_as_text(tmp_path, words):
    kind = pl.Enum(["a", "mass", "of no row"])
    table = pl.DataFrame({"row": range(len(words)), "word": words}, schema_overrides={"word": kind})
    text = table.cast({"word": pl.String})
    storage.write_table(tmp_path / "table.parquet", table, {"key": "value"})
    assert_frame_equal(storage.read_table(tmp_path / "table.parquet"), text)
    assert_frame_equal(pl.read_parquet(tmp_path / "table.parquet"), text)
    assert StoredTable.read(tmp_path / "table.parquet").metadata["key"] == "value"
    assert_frame_equal(stored_table.words_as_text(table), text)


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


# ------------------------------------------------------------------------------ labels as numbers

IMAGES = ["a", "b", "c", "d", "e"]
LABELLED = st.sampled_from([*IMAGES, "unknown", None])
STATED = st.tuples(
    LABELLED, st.sampled_from(["effusion", "mass", "nodule"]), st.sampled_from([1, 0, -1, None])
)


@settings(max_examples=50, deadline=None)
@given(st.permutations(IMAGES), st.lists(STATED, max_size=12), st.booleans(), st.integers(1, 5))
def test_label_states_are_those_of_the_labels_in_any_order(images, rows, in_order, piece):
    known = [row for row in rows if None not in row]
    if in_order:
        images, rows = sorted(images), sorted(set(known))
        known = rows
    labels = pl.DataFrame(
        rows, schema={name: LABEL_COLUMNS[name] for name in label_states.KEY}, orient="row"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_states, "PIECE", piece)
        found = label_states.of(pl.Series(images), labels.lazy())
    for concept in ("effusion", "mass", "nodule"):
        stated = [(image, state) for image, of, state in known if of == concept]
        expected = [(images.index(image), state) for image, state in stated if image in images]
        of_concept = found.of.get(concept)
        got = [] if of_concept is None else [*zip(*map(list, of_concept), strict=True)]
        assert got == expected
        if len(dict(expected)) == len(expected):  # no image twice
            states = dict(expected)
            assert found.column(concept).to_list() == [states.get(row) for row in range(5)]
            assert found.column(concept).dtype == pl.Int8
    if images == IMAGES:
        keys = [row[:2] for row in rows]
        of_table = rows == known and "unknown" not in {image for image, _ in keys}
        assert found.sound == (of_table and keys == sorted(set(keys)))


def same_states(found, expected):
    assert found.images == expected.images and found.sound == expected.sound
    assert list(found.of) == list(expected.of)
    for concept in expected.of:
        for got, wanted in zip(found.of[concept], expected.of[concept], strict=True):
            assert got.dtype == wanted.dtype and got.tolist() == wanted.tolist()


@pytest.fixture
def written(tmp_path):
    nih14.example(tmp_path / "data", images=12)
    manifest = ingest.ingest(tmp_path / "data")
    manifest.write(tmp_path / "run")
    return tmp_path / "run", manifest


def test_states_are_read_without_the_labels(written, monkeypatch):
    folder, manifest = written
    expected = label_states.of(manifest.table["image_id"], manifest.labels.lazy())
    monkeypatch.setattr(label_states, "of", None)
    same_states(Manifest.read(folder).label_states, expected)


def test_states_are_those_of_labels_that_were_changed_since(written):
    folder, manifest = written
    labels = manifest.labels.with_columns(state=(1 - pl.col("state")).cast(pl.Int8))
    storage.write_table(folder / "labels.parquet", labels)
    expected = label_states.of(manifest.table["image_id"], labels.lazy())
    same_states(Manifest.read(folder).label_states, expected)
    unlisted = pl.col("image_id").str.replace("$", " of another set")
    storage.write_table(folder / "labels.parquet", labels.with_columns(unlisted))
    with pytest.raises(BadData, match="which is not in the table"):
        Manifest.read(folder)


def test_a_manifest_of_before_states_were_stored_is_read_as_it_was(written):
    folder, manifest = written
    storage.write_table(folder / "manifest.parquet", manifest.table)
    again = Manifest.read(folder)
    same_states(again.label_states, manifest.label_states)
    assert again.digest == manifest.digest


def test_states_are_not_stored_where_they_would_be_larger_than_the_labels(written, monkeypatch):
    folder, manifest = written
    monkeypatch.setattr(label_states, "SPARSEST", 0)
    manifest.write(folder)
    assert pl.read_parquet(folder / "manifest.parquet").columns == list(COLUMNS)
    same_states(Manifest.read(folder).label_states, manifest.label_states)


# ----------------------------------------------------------------------------- written and damaged


def label(image, concept, state, words, side):
    return [image, concept, state, concept.title(), "table.csv", "column", words, side, None, None]


@settings(max_examples=12, deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(IMAGES), st.sampled_from(["effusion", "local:x", "nodule"])),
        st.tuples(
            st.sampled_from([1, 0, -1]), st.none() | st.text(), st.sampled_from([None, "left"])
        ),
    )
)
def test_a_written_manifest_is_read_as_it_was(tmp_path_factory, labels):
    folder = tmp_path_factory.mktemp("run")
    place = pl.Series([f"set/{image}" for image in IMAGES])
    known = dict.fromkeys(("image_id", "patient_id", "path"), place)
    images = (
        pl.DataFrame(schema=COLUMNS)
        .clear(len(IMAGES))
        .with_columns(**known, dataset=pl.lit("set"), source=pl.lit("set"))
    )
    rows = [label(f"set/{image}", concept, *one) for (image, concept), one in labels.items()]
    written = Manifest.of(folder, images, rows, [["set/a", "info", "rule", "message"]])
    written.write(folder)
    again = Manifest.read(folder)
    for concept in ("effusion", "local:x", "nodule"):  # before the table of labels is unpacked
        assert again.states(concept).equals(written.states(concept))
    present = pl.col("state") == 1
    expected = written.labels.filter(present)
    assert again.query_labels(lambda stated: stated.filter(present)).equals(expected)
    assert again.digest == written.digest
    for name in ("table", "labels", "remarks", "shapes"):
        assert_frame_equal(getattr(again, name), getattr(written, name))


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


USES = {
    "labels": lambda manifest: manifest.labels,
    "a query": lambda manifest: manifest.query_labels(lambda labels: labels),
    "a few images": lambda manifest: manifest.only(manifest.table["image_id"][:3]),
    "the digest": lambda manifest: manifest.digest,
    "states": lambda manifest: manifest.states("mass"),
}


def test_damaged_labels_are_refused_wherever_they_are_used(tmp_path):
    nih14.example(tmp_path / "data", images=6)
    folder = tmp_path / "run"
    ingest.ingest(tmp_path / "data").write(folder)
    path = folder / "labels.parquet"
    whole, refused = path.read_bytes(), set()
    damaged = [changed(whole, at) for at in range(0, len(whole), len(whole) // 25)]
    cut = [whole[: len(whole) * fifth // 5] for fifth in range(5)]
    filled = [
        whole[:at] + random.Random(at).randbytes(40) + whole[at + 40 :]
        for at in range(0, len(whole) - 40, len(whole) // 8)
    ]
    for data in (*damaged, *cut, *filled):
        path.write_bytes(data)
        for use, do in USES.items():
            try:
                manifest = Manifest.read(folder)
            except BadData as error:
                refused.add("reading")
                fault = str(error)
            else:
                try:
                    do(manifest)
                    continue
                except BadData as error:
                    refused.add(use)
                    fault = str(error)
            assert "labels.parquet" in fault or "is not sound" in fault
            assert "expected" in fault or "fault" in fault
            if "Parquet" in fault:
                assert f"got {len(data):,} bytes" in fault and "hilum ingest" in fault
    assert refused >= {"reading", "labels", "a query", "a few images", "the digest"}
