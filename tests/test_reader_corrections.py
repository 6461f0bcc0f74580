"""What readers corrected is taken up by the next run, with author and revision, and nothing of it is
lost or passed over in silence.
"""

import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from conftest import hilum

from hilum.annotations import lung_masks
from hilum.audit.issues import dismissed, standing
from hilum.config import Data, Pixels, Recipe
from hilum.dataset import corrections
from hilum.dataset.corrections import Correction
from hilum.errors import BadRecipe, Damaged, NotFound
from hilum.imaging.files import image_file, raster
from hilum.pipeline import audit, cache, ingest, reference_masks
from hilum.pipeline.evaluation import segmentation
from hilum.privacy import run_release
from hilum.progress import quietly
from hilum.reporting.sections import data
from hilum.revisions import uptake
from hilum.revisions.changes import Correct, DecideIssue, Read, SetLabel, SetMask, issue_key
from hilum.revisions.journal import FOLDER, Journal
from hilum.run_folder import Run
from hilum.runs import run_all, verify_files

ANN, BOB = "Ann Reader", "Bob"
IMAGES, MISSING = 24, 10


@contextmanager
def watch(_):
    yield quietly


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A made-up release of which ten images have lost their mask; the masks by the image's name."""
    folder = tmp_path_factory.mktemp("release") / "data"
    ingest.example("kaggle_masks", folder, images=IMAGES, seed=1)
    truth = {}
    for path in sorted((folder / "masks").glob("*.png"))[:MISSING]:
        whole = raster.read(path).values > 127
        truth[path.stem.removesuffix("_mask")] = lung_masks.split_left_right(whole)
        path.unlink()
    return folder, truth


@pytest.fixture
def run(release, tmp_path) -> Run:
    return Run(tmp_path / "run")


def recipe(release, **data) -> Recipe:
    return Recipe(data=Data(folder=str(release[0]), **data), pixels=Pixels(size=64))


def do(run: Run, given: Recipe, until: str = "ingest") -> dict:
    done = list(run_all.perform(run, given, watch, until=until))
    return {one.step: one.summary for one in done if isinstance(one, run_all.Done)}


def image_of(run: Run, name: str) -> str:
    [found] = [one for one in run.manifest().table["image_id"] if one.endswith(name)]
    return found


def opened(run: Run) -> Journal:
    return Journal.open(run / FOLDER)


def draw(run: Run, truth, author: str = ANN) -> dict[str, np.ndarray]:
    """Correct the masks of all images in `truth` from its lungs, with a band that is ignored."""
    drawn = {}
    with opened(run) as journal:
        for name, mask in truth.items():
            labels = mask.copy()
            labels[:20] = lung_masks.IGNORE
            image_id = image_of(run, name)
            drawn[image_id] = labels
            change = SetMask(image_id, journal.put_mask(labels))
            journal.append(change, author=author, expected=0, reason="proposal, edited")
    return drawn


def test_ten_masks_that_a_reader_drew_are_the_reference_of_the_next_run(release, run):
    do(run, recipe(release), "cache")
    before = cache.opened(run, recipe(release)).with_mask.height
    drawn = draw(run, release[1])
    done = do(run, recipe(release), "split")
    assert done["ingest"]["annotations"] == {"from": FOLDER, "revision": MISSING, "masks": MISSING}
    shapes = run.manifest().shapes
    assert set(shapes["image_id"]) == set(drawn) and set(shapes["author"]) == {ANN}
    assert set(shapes["source"]) == {f"annotations: revision {n + 1}" for n in range(MISSING)}
    assert set(shapes["concept"]) == {"right_lung", "left_lung", "ignored"}
    taken = uptake.of_run(run)
    assert taken["author"].unique().to_list() == [ANN] and taken["used"].all()
    cached = cache.opened(run, recipe(release))
    assert cached.with_mask.height == before + MISSING == done["cache"]["usable lung masks"]
    assert cached.index["mask_error"].null_count() == IMAGES
    remarks = run.manifest().remarks.filter(pl.col("rule") == corrections.CORRECTED)
    assert remarks.height == MISSING
    assert all(f"by {ANN}: proposal, edited" in one for one in remarks["message"])
    split = run.table("split", "split.parquet")
    assert set(drawn) & set(split["image_id"])


def test_pixels_that_a_reader_ignores_count_neither_as_lung_nor_as_background(release, run):
    """In the cached reference, which trains and is measured against, and in the file's pixels."""
    do(run, recipe(release))
    name, whole = next(iter(release[1].items()))
    labels, band = whole.copy(), slice(120, 180)
    labels[band] = lung_masks.IGNORE
    image_id = image_of(run, name)
    with opened(run) as journal:
        change = SetMask(image_id, journal.put_mask(labels))
        journal.append(change, author=ANN, expected=0)
    do(run, recipe(release), "cache")
    cached = cache.opened(run, recipe(release))
    reference = cached.known_masks[cached.rows([image_id])[0]]
    fraction = (reference == lung_masks.IGNORE).mean()
    assert fraction == pytest.approx((labels == lung_masks.IGNORE).mean(), abs=0.04)
    row = next(one for one in reference_masks.images(run.manifest()) if one["image_id"] == image_id)
    file = image_file.read(*run.manifest().located(row["path"]))
    in_file = reference_masks.read(run.manifest().folder, row, file, None).labels
    assert np.array_equal(in_file, labels)
    wrong = whole.copy()
    wrong[band] = lung_masks.RIGHT
    for expected, found in ((in_file, whole), (in_file, wrong)):
        sides = segmentation.measured_sides(expected, found, None, lambda *_: [])
        assert [dice for _, dice, *_ in sides] == [1.0, 1.0, 1.0]


def test_labels_and_corrections_name_revision_and_author(release, run):
    do(run, recipe(release))
    first, second, third = run.manifest().table["image_id"][:3]
    with opened(run) as journal:
        journal.append(SetLabel(first, "tuberculosis", "uncertain"), author=ANN, expected=0)
        journal.append(SetLabel(second, "consolidation", "present"), author=ANN, expected=0)
        journal.append(Read(first, "tuberculosis", "absent"), author=BOB, expected=0)
        away = Correct(third, (Correction(third, "leave out"),))
        journal.append(away, author=BOB, expected=0, reason="not a chest")
    done = do(run, recipe(release))
    manifest = run.manifest()
    made = manifest.labels.filter(pl.col("rule") == corrections.CORRECTED)
    assert made.select("image_id", "concept", "state", "source").rows() == [
        (first, "tuberculosis", -1, f"corrections: revision 1 by {ANN}"),
        (second, "consolidation", 1, f"corrections: revision 2 by {ANN}"),
    ]
    assert third not in manifest.table["image_id"]
    said = "2 labels and 1 image, by 2 readers, up to revision 4"
    assert data.corrected(uptake.of_run(run)) == said and data.corrected(uptake.empty()) == ""
    assert done["ingest"]["annotations"] == {
        "from": FOLDER,
        "revision": 4,
        "labels": 2,
        "corrected images": 1,
    }
    with opened(run) as journal:
        journal.undo(1, ANN)
    do(run, recipe(release))
    left = run.manifest().labels.filter(pl.col("rule") == corrections.CORRECTED)
    assert left["image_id"].to_list() == [second]


def test_a_run_without_a_journal_is_as_it_was(release, run):
    do(run, recipe(release))
    assert uptake.REVISIONS not in run.files("ingest") and not uptake.of_run(run).height
    assert run.manifest().digest == ingest.ingest(release[0]).digest


def test_the_latest_of_leaving_out_and_drawing_a_mask_counts_and_exchanged_sides_are_exchanged(
    release, run
):
    do(run, recipe(release))
    with_mask = run.manifest().table.filter(pl.col("lung_mask").is_not_null())["image_id"]
    first, second, third = with_mask[:3]
    labels = np.zeros((30, 40), np.uint8)
    labels[5:20, 5:15], labels[5:20, 20:30] = 1, 2
    with opened(run) as journal:
        mask = journal.put_mask(labels)
        for image_id in (first, second, third):
            journal.append(SetMask(image_id, mask), author=ANN, expected=0)
        for image_id, action in ((first, "leave out mask"), (second, "exchange mask sides")):
            change = Correct(image_id, (Correction(image_id, action),))
            journal.append(change, author=BOB, expected=0)
    do(run, recipe(release))
    manifest = run.manifest()
    gone = manifest.table.filter(pl.col("image_id") == first)
    assert gone["lung_mask"].to_list() == [None] and first not in manifest.shapes["image_id"]
    at = {
        (image_id, concept): int(
            np.flatnonzero(uptake.shapes.from_json(shape).to_mask((30, 40)).any(0))[0]
        )
        for image_id, concept, shape in manifest.shapes.select(
            "image_id", "concept", "shape"
        ).iter_rows()
    }
    assert at == {
        (second, "right_lung"): 20,
        (second, "left_lung"): 5,
        (third, "right_lung"): 5,
        (third, "left_lung"): 20,
    }


def test_a_mask_of_a_file_that_has_another_size_by_now_is_refused_by_name(release, run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(release[0], folder)
    own = Recipe(data=Data(folder=str(folder)), pixels=Pixels(size=64))
    do(run, own)
    [image_id, *_] = draw(run, dict([next(iter(release[1].items()))]))
    path = folder / dict(run.manifest().table.select("image_id", "path").iter_rows())[image_id]
    import imagecodecs

    larger = np.pad(raster.read(path).values, ((0, 40), (0, 40)))
    path.write_bytes(imagecodecs.png_encode(larger))
    do(run, own, "audit")
    issues = run.table("audit", audit.ISSUES).filter(pl.col("rule") == "mask-unusable")
    assert issues["image_id"].to_list() == [image_id]
    assert "annotations: revision 1" in issues["message"][0]
    assert "draw them again" in issues["message"][0]


def test_what_is_about_an_image_that_is_gone_leaves_a_remark_and_is_counted(release, run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(release[0], folder)
    own = Recipe(data=Data(folder=str(folder)), pixels=Pixels(size=64))
    do(run, own)
    gone, other = run.manifest().table["image_id"][:2]
    with opened(run) as journal:
        journal.append(SetLabel(gone, "tuberculosis", "absent"), author=ANN, expected=0)
        pair = DecideIssue(
            issue_key("duplicate-file", other, gone),
            "mended",
            "the same",
            (Correction(other, "keep one of pair", gone),),
        )
        journal.append(pair, author=ANN, expected=0)
    (folder / run.manifest().table["path"][0]).unlink()
    done = do(run, own, "audit")
    assert done["ingest"]["annotations"]["not used"] == 2
    remarks = run.manifest().remarks.filter(pl.col("rule") == uptake.UNUSED)
    assert remarks["severity"].unique().to_list() == ["warning"] and remarks.height == 2
    assert all(f"by {ANN}" in one and gone in one for one in remarks["message"])
    assert uptake.UNUSED in run.table("audit", audit.ISSUES)["rule"]
    assert other in run.manifest().table["image_id"]


# ----------------------------------------------------------------------------------------- issues


def test_a_dismissed_issue_is_kept_apart_with_its_reason_and_counts_no_more(release, run):
    before = do(run, recipe(release), "audit")["audit"]
    issues = run.table("audit", audit.ISSUES)
    warning = standing(issues).filter(pl.col("severity") == "warning").row(-1, named=True)
    key = issue_key(warning["rule"], warning["image_id"], warning["other_image_id"])
    with opened(run) as journal:
        journal.append(DecideIssue(key, "dismissed", "a <b>known</b> case"), author=ANN, expected=0)
    after = do(run, recipe(release), "audit")["audit"]
    assert after["warning"] == before["warning"] - 1 and after["dismissed by readers"] == 1
    now = run.table("audit", audit.ISSUES)
    [row] = dismissed(now).iter_rows(named=True)
    assert (row["rule"], row["decision_reason"], row["decision_author"]) == (
        warning["rule"],
        "a <b>known</b> case",
        ANN,
    )
    assert audit.failing(now, "warning") == audit.failing(issues, "warning") - 1
    assert sorted(audit.duplicates(now)) == sorted(audit.duplicates(issues))  # still in one part
    page = (run / audit.PAGE).read_text()
    assert "1 issue dismissed by readers" in page and "a &lt;b&gt;known&lt;/b&gt; case" in page
    assert ANN not in page and "revision 1 by R-" in page
    assert do(run, recipe(release), "audit")["audit"] == after
    shown = hilum("audit", run.folder)
    assert shown.returncode == 0 and "dismissed by readers: 1" in shown.stdout
    with opened(run) as journal:
        journal.undo(1, ANN)
    assert do(run, recipe(release), "audit")["audit"] == before


def test_an_issue_that_was_mended_is_found_no_more(release, run):
    do(run, recipe(release), "audit")
    pairs = run.table("audit", audit.ISSUES).filter(pl.col("other_image_id").is_not_null())
    rule, image_id, other = pairs.select("rule", "image_id", "other_image_id").row(0)
    mend = (Correction(image_id, "keep one of pair", other),)
    change = DecideIssue(issue_key(rule, image_id, other), "mended", "a copy", mend)
    with opened(run) as journal:
        journal.append(change, author=ANN, expected=0)
    do(run, recipe(release), "audit")
    issues = run.table("audit", audit.ISSUES)
    assert image_id not in {*issues["image_id"], *issues["other_image_id"]}
    left_out = run.manifest().remarks.filter(pl.col("rule") == "dropped")["message"]
    assert f"left out by revision 1 by {ANN}: {rule}" in left_out.to_list()


def test_one_that_is_found_though_it_was_mended_still_counts_and_says_so(release, run):
    before = do(run, recipe(release), "audit")["audit"]
    row = run.table("audit", audit.ISSUES).filter(pl.col("rule") == "class-rare").row(0, named=True)
    key = issue_key(row["rule"], row["image_id"], row["other_image_id"])
    with opened(run) as journal:
        journal.append(DecideIssue(key, "mended", "more are coming"), author=ANN, expected=0)
    assert do(run, recipe(release), "audit")["audit"] == before
    assert "corrected in revision 1 by R-" in (run / audit.PAGE).read_text()


# ------------------------------------------------------------------------------ one run, one journal


def test_a_recipe_may_name_the_journal_of_another_run_but_not_beside_its_own(
    release, run, tmp_path
):
    do(run, recipe(release))
    draw(run, release[1])
    other = Run(tmp_path / "other")
    for named in (run.folder, run / FOLDER):
        done = do(other, recipe(release, annotations=str(named)))
        assert done["ingest"]["annotations"]["masks"] == MISSING
    assert ingest.read(recipe(release, annotations=str(run.folder)).data)[0].shapes.height
    with opened(other) as journal:
        change = SetLabel(run.manifest().table["image_id"][0], "edema", "absent")
        journal.append(change, author=BOB, expected=0)
    with pytest.raises(BadRecipe, match="annotations import"):
        do(other, recipe(release, annotations=str(run.folder)))
    with pytest.raises(NotFound, match="hilum serve"):
        do(Run(tmp_path / "third"), recipe(release, annotations=str(tmp_path)))


def test_a_path_in_a_recipe_starts_from_its_file_and_is_left_out_of_what_is_passed_on(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text('[data]\nfolder = "data"\nannotations = "runs/mine"\n')
    read = Recipe.read(file)
    assert read.data.annotations_path == tmp_path / "runs" / "mine"
    assert run_release.placeless(read).data.annotations == "mine"


def test_corrections_that_are_gone_stop_the_next_run_and_say_what_to_do(release, run):
    do(run, recipe(release))
    draw(run, release[1])
    do(run, recipe(release))
    away = run.folder.parent / "away"
    shutil.move(run / FOLDER, away)
    with pytest.raises(Damaged, match=f"revision 1 by {ANN}.*{uptake.REVISIONS}"):
        do(run, recipe(release))
    with Journal.open(run / FOLDER):  # an empty one is no replacement
        pass
    with pytest.raises(Damaged, match="does not hold any more"):
        do(run, recipe(release))
    shutil.rmtree(run / FOLDER)
    shutil.move(away, run / FOLDER)
    assert do(run, recipe(release))["ingest"]["annotations"]["masks"] == MISSING
    shutil.rmtree(run / FOLDER)
    (run / uptake.REVISIONS).unlink()
    assert "annotations" not in do(run, recipe(release))["ingest"]


def test_a_mask_that_is_damaged_stops_the_next_run_by_name(release, run):
    do(run, recipe(release))
    image_id = next(iter(draw(run, release[1])))
    for mask in (run / FOLDER / "masks").iterdir():
        mask.write_bytes(mask.read_bytes()[:-9])
    with pytest.raises(Damaged, match=f"{image_id}, revision 1 by {ANN}"):
        do(run, recipe(release))


def test_reproduce_checks_the_journal_and_counts_its_files_as_known(release, run):
    do(run, recipe(release), "audit")
    draw(run, release[1])
    do(run, recipe(release), "audit")
    faults, report = verify_files.check([(run, "")])
    assert not faults and FOLDER not in report
    next(iter((run / FOLDER / "masks").iterdir())).write_bytes(b"")
    faults, _ = verify_files.check([(run, "")])
    assert len(faults) == 1 and "has other bytes than were written" in faults[0]


def test_authors_go_by_pseudonyms_in_what_is_passed_on(release, run):
    do(run, recipe(release))
    first = run.manifest().table["image_id"][0]
    draw(run, release[1])
    with opened(run) as journal:
        journal.append(SetLabel(first, "tuberculosis", "absent"), author=BOB, expected=0)
    do(run, recipe(release))
    given = recipe(release)
    passed = run_release.of_run(run, given.share).manifest
    texts = "\n".join(
        table.write_csv() for table in (passed.shapes.drop("shape"), passed.labels, passed.remarks)
    )
    assert ANN not in texts and BOB not in texts and "revision 11 by R-" in texts
    kept = run_release.of_run(run, replace(given.share, identifiers="keep")).manifest
    assert set(kept.shapes["author"]) == {ANN}


def test_revisions_that_stood_are_read_as_of_any_number(release, run):
    do(run, recipe(release))
    draw(run, release[1])
    plain = ingest.ingest(release[0])
    with opened(run) as journal:
        sizes = [
            uptake.apply(plain, journal, until=n).shapes["image_id"].n_unique() for n in (0, 3, 10)
        ]
    assert sizes == [0, 3, 10]
