"""Corrections: proposed from issues, written for people, made when the folder is read, and undone
by taking the file away.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import hilum
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum import storage
from hilum.audit.issues import FOUND, decided
from hilum.config import Data, Recipe
from hilum.dataset import corrections
from hilum.dataset.corrections import Correction
from hilum.dataset.manifest import Manifest
from hilum.dataset.readers import kaggle_masks, montgomery
from hilum.errors import BadData, HilumError, NotFound
from hilum.imaging.files import raster
from hilum.pipeline import ingest
from hilum.revisions import uptake
from hilum.run_folder import Run
from hilum.runs import propose_corrections


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    montgomery.example(tmp_path / "data", images=6)
    return ingest.ingest(tmp_path / "data")


def images_of(manifest: Manifest) -> list[str]:
    return manifest.table["image_id"].to_list()


def issues(*rows: tuple[str | None, ...]) -> pl.DataFrame:
    found = pl.DataFrame(
        [
            (rule, severity, first, second, f"seen in {first}", "Mend it.", *(value or [None]))
            for rule, severity, first, second, *value in rows
        ],
        schema=FOUND,
        orient="row",
    )
    return decided(found, uptake.empty())


def test_each_action_does_what_it_says_and_nothing_else(manifest):
    first, second, third, fourth, fifth, sixth = images_of(manifest)
    done = corrections.apply(
        manifest,
        [
            Correction(first, "leave out", rule="image-constant"),
            Correction(second, "keep one of pair", third, "duplicate-file"),
            Correction(fourth, "leave out mask"),
            Correction(fifth, "exchange mask sides"),
            Correction(sixth, "same patient as", third),
        ],
        "fixes.toml",
    )
    assert images_of(done) == [third, fourth, fifth, sixth]
    before, after = (
        dict(zip(images_of(one), one.table.iter_rows(named=True), strict=True))
        for one in (manifest, done)
    )
    assert after[fourth] == before[fourth] | {"right_lung_mask": None, "left_lung_mask": None}
    assert after[fifth] == before[fifth] | {
        "right_lung_mask": before[fifth]["left_lung_mask"],
        "left_lung_mask": before[fifth]["right_lung_mask"],
    }
    assert after[sixth] == before[sixth] | {"patient_id": before[third]["patient_id"]}
    assert after[third] == before[third]
    assert set(done.labels["image_id"]) <= set(images_of(done))


def test_each_correction_is_a_remark_that_names_the_file(manifest):
    first, second, third, *_ = images_of(manifest)
    done = corrections.apply(
        manifest,
        [
            Correction(first, "leave out", rule="image-constant"),
            Correction(second, "same patient as", third, why="one scar"),
        ],
        "fixes.toml",
    )
    reported = (
        done.remarks.filter(pl.col("message").str.contains("fixes.toml"))
        .select("path", "rule", "message")
        .rows()
    )
    path = dict(manifest.table.select("image_id", "path").iter_rows())
    assert reported == [
        (path[first], "dropped", "left out by fixes.toml: image-constant"),
        (path[second], "corrected", f"same patient as {third}, by fixes.toml: one scar"),
    ]


def test_the_order_of_entries_makes_no_difference_and_a_doubled_one_counts_once(manifest):
    first, second, third, fourth, *_ = images_of(manifest)
    entries = [
        Correction(first, "same patient as", second),
        Correction(third, "same patient as", second),
        Correction(fourth, "leave out"),
    ]
    straight = corrections.apply(manifest, entries, "f.toml")
    assert (
        corrections.apply(manifest, entries[::-1] + entries[:1], "f.toml").digest == straight.digest
    )
    assert (
        straight.table.filter(pl.col("image_id").is_in([first, second, third]))[
            "patient_id"
        ].n_unique()
        == 1
    )
    assert corrections.counts([*entries, *entries]) == {"leave out": 1, "same patient as": 2}


def set_label(image: str, concept: str, state: str, **more) -> Correction:
    return Correction(image, "set label", concept=concept, state=state, **more)


def states_of(manifest: Manifest, image: str) -> dict[str, int]:
    of_image = manifest.labels.filter(pl.col("image_id") == image)
    return dict(of_image.select("concept", "state").iter_rows())


def test_a_label_is_set_added_or_taken_away_and_names_who_decided(manifest):
    first, second, third, *_ = images_of(manifest)
    before = {image: states_of(manifest, image) for image in (first, second, third)}
    (stated,) = before[third]
    done = corrections.apply(
        manifest,
        [
            set_label(first, "edema", "present", author="Ann", revision=12),
            set_label(first, "mass", "uncertain"),
            set_label(second, "local:ring", "absent", author="Bo"),
            set_label(third, stated, "not mentioned"),
        ],
        "fixes.toml",
    )
    assert states_of(done, first) == before[first] | {"edema": 1, "mass": -1}
    assert states_of(done, second) == before[second] | {"local:ring": 0}
    assert states_of(done, third) == {}
    made = done.labels.filter(pl.col("rule") == "corrected").select("concept", "term", "source")
    assert set(made.rows()) == {
        ("edema", "edema", "corrections: revision 12 by Ann"),
        ("mass", "mass", "corrections: fixes.toml"),
        ("local:ring", "local:ring", "corrections: fixes.toml by Bo"),
    }
    assert done.digest != manifest.digest
    assert done.remarks.filter(pl.col("message").str.contains("revision 12 by Ann")).height == 1


def test_side_and_zone_of_a_finding_stay_unless_it_is_absent(manifest):
    first, second = images_of(manifest)[:2]
    row = {"term": "mass", "source": "a.csv", "rule": "column", "words": "mass, left upper zone"}
    labels = pl.DataFrame(
        [
            {"image_id": image, "concept": "mass", "state": -1, **row, "side": "left"}
            | {"zone": "upper", "activity": None}
            for image in (first, second)
        ],
        schema=manifest.labels.schema,
    )
    stated = Manifest.of(manifest.root, manifest.table.rows(), labels, [])
    done = corrections.apply(
        stated, [set_label(first, "mass", "present"), set_label(second, "mass", "absent")], "f.toml"
    )
    assert done.labels.select("state", "words", "side", "zone").rows() == [
        (1, None, "left", "upper"),
        (0, None, None, None),
    ]


def test_a_patient_is_named_within_the_data_set_before_patients_are_joined(manifest):
    first, second, third, *_ = images_of(manifest)
    done = corrections.apply(
        manifest,
        [
            Correction(second, "same patient as", third),
            Correction(first, "set patient", value="A 7"),
            Correction(second, "set patient", value="A 7"),
        ],
        "f.toml",
    )
    patients = dict(done.table.select("image_id", "patient_id").iter_rows())
    assert patients[first] == patients[second] == patients[third] == "montgomery/A 7"


def test_display_is_stated_in_columns_that_count_in_the_digest_once_one_is_set(manifest, tmp_path):
    first, second, *_ = images_of(manifest)
    done = corrections.apply(
        manifest,
        [
            Correction(first, "rotate", value="270"),
            Correction(first, "mirror"),
            Correction(second, "invert"),
        ],
        "f.toml",
    )
    shown = done.table.select("image_id", "rotated", "mirrored", "inverted").rows()
    assert shown[:3] == [
        (first, 270, True, None),
        (second, None, None, True),
        (images_of(manifest)[2], None, None, None),
    ]
    assert done.digest != manifest.digest
    # Runs of before these columns existed are read, and their steps stay finished.
    manifest.write(tmp_path / "old")
    table = manifest.table.drop("rotated", "mirrored", "inverted")
    storage.write_table(tmp_path / "old" / "manifest.parquet", table)
    assert Manifest.read(tmp_path / "old").digest == manifest.digest
    tables = (table, manifest.labels, manifest.remarks, manifest.shapes)
    assert manifest.digest == storage.digest([*map(storage.digest_of_table, tables)])


def test_corrections_that_contradict_each_other_are_reported_at_once(manifest):
    first, second, third, *_ = images_of(manifest)
    wrong = [
        set_label(first, "mass", "present"),
        set_label(first, "mass", "absent"),
        Correction(first, "rotate", value="90"),
        Correction(first, "rotate", value="180"),
        Correction(second, "set patient", value="A"),
        Correction(second, "set patient", value="B"),
        Correction(second, "set patient", value="B", author="Ann"),
        set_label(third, "consolidation", "present"),
        set_label(third, "airspace_opacity", "absent"),
        Correction(third, "set patient", value="montgomery/C"),
    ]
    with pytest.raises(BadData) as raised:
        corrections.apply(manifest, wrong, "fixes.toml")
    for part in (
        "5 faults",
        f"{first}: 'set label mass' to 'absent', 'present'; keep one",
        f"{first}: 'rotate' to '180', '90'",
        f"{second}: 'set patient' to 'A', 'B'",
        "consolidation is set present and airspace_opacity, which contains it, absent",
        "write 'C'",
    ):
        assert part in str(raised.value)


def test_every_fault_of_an_untrusted_entry_is_found():
    for entry, fault in (
        ({"image_id": "a", "action": "rotate", "value": "45"}, "one of 90, 180, 270"),
        ({"image_id": "a", "action": "rotate"}, "needs what to set"),
        ({"image_id": "a", "action": "mirror", "value": "x"}, "'mirror' has no value"),
        ({"image_id": "a", "action": "leave out", "other": "b"}, "'leave out' has no other"),
        ({"image_id": "a", "action": "set patient", "value": " "}, "got an empty one"),
        ({"image_id": "a", "action": "set label", "concept": "mass"}, "needs one of present"),
        (
            {"image_id": "a", "action": "set label", "concept": "edem", "state": "absent"},
            "did you mean 'edema'",
        ),
        (
            {"image_id": "a", "action": "set label", "concept": "mass", "state": "yes"},
            "no state is called 'yes'",
        ),
        ({"image_id": "a", "action": "mirror", "revision": "3"}, "must be a whole number"),
        (["mirror"], "expected keys and values"),
    ):
        assert any(fault in found for found in corrections.faults_of(entry)), entry
    with pytest.raises(BadData, match="one of 90"):
        corrections.of_entries([{"image_id": "a", "action": "rotate", "value": "45"}], "journal")


IMAGES = [f"montgomery/MCUCXR_{name}" for name in ("0003_0", "0006_1", "0008_1", "0012_1")]
ENTRIES = st.lists(
    st.one_of(
        st.builds(
            set_label,
            st.sampled_from(IMAGES),
            st.sampled_from(["mass", "edema", "tuberculosis"]),
            st.sampled_from(list(corrections.STATES)),
            author=st.sampled_from([None, "Ann", "Bo"]),
            revision=st.sampled_from([None, 1, 2]),
            why=st.sampled_from([None, "seen"]),
        ),
        st.builds(
            Correction,
            st.sampled_from(IMAGES),
            st.sampled_from(["mirror", "invert", "leave out mask", "exchange mask sides"]),
            author=st.sampled_from([None, "Ann", "Bo"]),
        ),
        st.builds(
            Correction,
            st.sampled_from(IMAGES),
            st.just("rotate"),
            value=st.sampled_from(corrections.ROTATIONS),
        ),
        st.builds(
            Correction,
            st.sampled_from(IMAGES),
            st.just("set patient"),
            value=st.sampled_from(["A", "B"]),
            revision=st.sampled_from([None, 1, 2]),
        ),
        st.builds(
            Correction,
            st.sampled_from(IMAGES),
            st.just("same patient as"),
            st.sampled_from(IMAGES),
        ),
    ),
    max_size=8,
)


@pytest.fixture(scope="module")
def montgomery_set(tmp_path_factory) -> Manifest:
    folder = tmp_path_factory.mktemp("montgomery")
    montgomery.example(folder, images=6)
    return ingest.ingest(folder)


def test_the_images_of_made_up_entries_are_in_the_data(montgomery_set):
    assert set(IMAGES) <= set(images_of(montgomery_set))


@settings(max_examples=50, deadline=None)
@given(entries=ENTRIES, shuffled=st.randoms())
def test_no_order_of_entries_makes_a_difference(montgomery_set, entries, shuffled):
    def outcome(given: list[Correction]) -> str:
        try:
            return corrections.apply(montgomery_set, given, "f.toml").digest
        except BadData as fault:
            return str(fault)

    other = [*entries, *entries[:2]]
    shuffled.shuffle(other)
    assert outcome(other) == outcome(entries)


def test_lungs_that_are_drawn_are_left_out_or_exchanged_like_files(manifest):
    first, second = images_of(manifest)[:2]
    drawn = [
        [image, f"{side}_lung", f"{side} lung", "{}", "a.json", None]
        for image in (first, second)
        for side in ("right", "left")
    ]
    shaped = Manifest.of(
        manifest.root, manifest.table.rows(), manifest.labels, manifest.remarks.rows(), drawn
    )
    done = corrections.apply(
        shaped,
        [Correction(first, "leave out mask"), Correction(second, "exchange mask sides")],
        "f.toml",
    )
    assert done.shapes.select("image_id", "concept", "term").sort("concept").rows() == [
        (second, "left_lung", "right lung"),
        (second, "right_lung", "left lung"),
    ]


def test_all_that_does_not_fit_the_data_is_reported_at_once_with_the_nearest_names(manifest):
    first, second, *_ = images_of(manifest)
    wrong = [
        Correction(first[:-1] + "9", "leave out"),
        Correction(first, "same patient as", first),
        Correction(first, "keep one of pair", second),
        Correction(second, "leave out"),
    ]
    with pytest.raises(BadData) as raised:
        corrections.apply(manifest, wrong, "fixes.toml")
    assert (
        "3 faults" in str(raised.value)
        and "did you mean" in str(raised.value)
        and "names the image itself" in str(raised.value)
    )
    assert f"{second} is kept, but that is left out too" in str(raised.value)


def test_a_file_of_wrong_form_is_reported_whole(tmp_path):
    (tmp_path / "f.toml").write_text(
        'extra = 1\n[[correction]]\nimage_id = "a"\naction = "leav out"\n[[correction]]\naction = "same patient as"\nimage = "b"\n[[correction]]\nimage_id = 3\naction = "leave out"\n'
    )
    with pytest.raises(BadData) as raised:
        corrections.read(tmp_path / "f.toml")
    for part in (
        "no key is called 'extra'",
        "did you mean 'leave out'?",
        "entry 2: image_id is missing",
        "needs the second image",
        "image_id must be text",
    ):
        assert part in str(raised.value)
    (tmp_path / "f.toml").write_text("[[correction]\n")
    with pytest.raises(BadData, match="is not TOML"):
        corrections.read(tmp_path / "f.toml")
    with pytest.raises(NotFound, match="hilum propose-fixes"):
        corrections.read(tmp_path / "nowhere.toml")


def test_a_single_bracket_is_reported(tmp_path):
    (tmp_path / "f.toml").write_text('[correction]\nimage_id = "a"\naction = "leave out"\n')
    with pytest.raises(BadData, match="write the brackets twice"):
        corrections.read(tmp_path / "f.toml")


def test_issues_become_one_correction_for_each_image_worst_first():
    found = issues(
        ("image-constant", "error", "a", None),
        ("image-flat", "warning", "a", None),
        ("mask-empty", "warning", "a", None),
        ("mask-pieces", "warning", "b", None),
        ("mask-missing", "info", "c", None),
        ("no-patients", "warning", None, None),
        ("duplicate-patients", "warning", "d", "e"),
    )
    assert {
        (one.image_id, one.action, one.other, one.rule)
        for one in propose_corrections.proposed(found)
    } == {
        ("a", "leave out", None, "image-constant"),
        ("b", "leave out mask", None, "mask-pieces"),
        ("d", "same patient as", "e", "duplicate-patients"),
    }


def test_of_copies_that_chain_up_all_but_one_are_left_out():
    chain = issues(
        ("duplicate-file", "warning", "b", "a"),
        ("duplicate-file", "warning", "c", "b"),
        ("duplicate-pixels", "warning", "d", "c"),
    )
    assert {(one.image_id, one.other) for one in propose_corrections.proposed(chain)} == {
        ("b", "a"),
        ("c", "a"),
        ("d", "a"),
    }
    broken = issues(
        ("image-constant", "error", "a", None), ("duplicate-pixels", "warning", "b", "a")
    )
    assert [(one.image_id, one.action) for one in propose_corrections.proposed(broken)] == [
        ("a", "leave out")
    ]


def test_choices_are_by_rule_and_image_and_unknown_ones_are_refused():
    found = issues(
        ("image-flat", "warning", "set/a", None),
        ("image-flat", "warning", "set/b", None),
        ("mask-empty", "warning", "set/b", None),
    )
    assert len(propose_corrections.proposed(found, ["image-flat"])) == 2
    assert [one.rule for one in propose_corrections.proposed(found, ["mask-empty"], ["set/b"])] == [
        "mask-empty"
    ]
    with pytest.raises(NotFound, match="did you mean 'image-flat'"):
        propose_corrections.proposed(found, ["image-flatt"])
    with pytest.raises(NotFound, match="no image with issues"):
        propose_corrections.proposed(found, [], ["set/zzzz"])


def test_what_is_written_is_what_is_read(tmp_path):
    entries = [
        Correction('set/ü "quoted"', "keep one of pair", "set/b\\c", "duplicate-file", "a\nb"),
        Correction("set/a", "leave out"),
        Correction("set/a", "rotate", value="90", rule="image-rotated", author="Ann", revision=3),
        Correction("set/a", "set label", concept="mass", state="not mentioned"),
    ]
    text = propose_corrections.to_toml(entries, Path("data"), Path("data"), Path("fixes.toml"))
    (tmp_path / "f.toml").write_text(text)
    assert set(corrections.read(tmp_path / "f.toml")) == set(entries)
    assert all(action in text.partition("[[correction]]")[0] for action in corrections.ACTIONS)


def test_a_file_that_is_there_or_lies_in_the_data_is_not_written(tmp_path):
    montgomery.example(tmp_path / "data", images=4)
    run = Run(tmp_path / "run")
    run.write_recipe(Recipe(data=Data(folder=str(tmp_path / "data"))))
    storage.write_table(run / "issues.parquet", issues(("image-flat", "warning", "a", None)))
    run.finish("audit", {}, {"issues.parquet": ""}, {})
    (tmp_path / "mine.toml").write_text("# by hand\n")
    for place, words in (
        (tmp_path / "mine.toml", "by hand"),
        (tmp_path / "data" / "f.toml", "never written to"),
    ):
        with pytest.raises(HilumError, match=words):
            propose_corrections.propose_corrections(run, run.folder, ["image-flat"], [], place)
    assert (tmp_path / "mine.toml").read_text() == "# by hand\n"
    assert propose_corrections.propose_corrections(run, run.folder, [], [], None)[
        "action"
    ].to_list() == ["leave out"]


def test_corrections_that_the_run_was_made_with_are_kept(tmp_path):
    montgomery.example(tmp_path / "data", images=4)
    first = [Correction("set/b", "leave out mask", why="seen by hand")]
    (tmp_path / "first.toml").write_text(
        propose_corrections.to_toml(first, Path("data"), Path("data"), Path("first.toml"))
    )
    run = Run(tmp_path / "run")
    run.write_recipe(
        Recipe(data=Data(folder=str(tmp_path / "data"))).corrected_by(tmp_path / "first.toml")
    )
    storage.write_table(run / "issues.parquet", issues(("image-flat", "warning", "set/a", None)))
    run.finish("audit", {}, {"issues.parquet": ""}, {})
    propose_corrections.propose_corrections(
        run, run.folder, ["image-flat"], [], tmp_path / "second.toml"
    )
    assert [(one.image_id, one.action) for one in corrections.read(tmp_path / "second.toml")] == [
        ("set/a", "leave out"),
        ("set/b", "leave out mask"),
    ]


def test_from_audit_to_file_to_run_and_back(tmp_path):
    """The command line: what is left out is counted and reported, the data are untouched, and
    without the file all is as before.
    """
    data, run, file = tmp_path / "data", tmp_path / "run", tmp_path / "fixes.toml"
    kaggle_masks.example(data, images=12)
    spoilt = sorted((data / "CXR_png").iterdir())[1]
    raster.write_png(spoilt, np.full((300, 300), 7, np.uint8))
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    (tmp_path / "recipe.toml").write_text('[data]\nfolder = "data"\n[pixels]\nsize = 64\n')
    assert hilum("audit", tmp_path / "recipe.toml", "--out", run).returncode == 0
    plain = storage.read_json(run / "finished" / "ingest.json")
    listed = hilum("propose-fixes", run)
    assert (
        listed.returncode == 0
        and "image-constant" in listed.stdout
        and "leave out" in listed.stdout
    )
    assert hilum("propose-fixes", run, "--rule", "image-constant", "--out", file).returncode == 0
    assert [entry["image_id"] for entry in tomllib.loads(file.read_text())["correction"]] == [
        f"kaggle_masks/{spoilt.stem}"
    ]
    fixed = hilum("audit", tmp_path / "recipe.toml", "--out", run, "--corrections", file)
    assert (
        fixed.returncode == 0
        and "corrected by fixes.toml: leave out 1" in fixed.stdout
        and "error: image-constant" not in fixed.stdout
    )
    assert f"kaggle_masks/{spoilt.stem}" not in images_of(Manifest.read(run))
    assert hilum("audit", tmp_path / "recipe.toml", "--out", run).returncode == 0
    again = storage.read_json(run / "finished" / "ingest.json")
    assert (again["made"], again["summary"]) == (plain["made"], plain["summary"])
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_a_recipe_names_its_corrections_from_its_own_place(tmp_path):
    (tmp_path / "recipe.toml").write_text('[data]\nfolder = "data"\ncorrections = "fixes.toml"\n')
    assert Recipe.read(tmp_path / "recipe.toml").data.corrections == str(tmp_path / "fixes.toml")
    assert Recipe.from_sections({"data": {"folder": "x"}}).data.corrections == ""


def test_proposals_for_an_image_that_is_corrected_already_are_of_what_is_displayed():
    before = [
        Correction("a", "rotate", value="90", why="first"),
        Correction("b", "invert", author="Ann"),
        Correction("c", "mirror"),
        Correction("d", "mirror"),
        Correction("e", "leave out mask", why="by hand"),
    ]
    found = [
        Correction("a", "rotate", value="180", why="second"),
        Correction("b", "invert"),
        Correction("c", "rotate", value="90", rule="image-rotated"),
        Correction("e", "mirror", rule="image-mirrored"),
    ]
    assert set(corrections.together(before, found)) == {
        Correction("a", "rotate", value="270", why="second"),
        # First mirrored and then by 90 degrees is first by 270 and then mirrored.
        Correction("c", "rotate", value="270", rule="image-rotated"),
        Correction("c", "mirror"),
        Correction("d", "mirror"),
        Correction("e", "leave out mask", why="by hand"),
        Correction("e", "mirror", rule="image-mirrored"),
    }


def test_an_issue_without_the_degrees_that_its_correction_needs_is_listed_and_not_proposed():
    found = issues(
        ("image-rotated", "warning", "a", None, "270"), ("image-rotated", "warning", "b", None)
    )
    assert [(one.image_id, one.value) for one in propose_corrections.proposed(found)] == [
        ("a", "270")
    ]
    assert propose_corrections.listing(found).select("issues", "fixable", "action").rows() == [
        (2, 1, "rotate")
    ]
    earlier = found.drop("value")  # as an audit of before wrote it
    assert propose_corrections.proposed(earlier) == []
