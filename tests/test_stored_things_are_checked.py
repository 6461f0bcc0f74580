"""What a run has stored is what was written, or it is refused by name, or made again."""

import os
import shutil
import struct
import zlib

import numpy as np
import polars as pl
import pytest
from conftest import made_by
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hilum import storage
from hilum.cli.verbs import app
from hilum.dataset.manifest import Manifest
from hilum.errors import BadData, Damaged, HilumError, Mismatch
from hilum.imaging.image_stack import Checksums, ImageStack
from hilum.run_folder import Run
from hilum.storage import integrity

READ_BY_PREDICT = (
    "recipe.toml",
    "manifest.parquet",
    "labels.parquet",
    "root.json",
    "split.parquet",
    "segment/lungs.onnx",
    "segment/lungs.parquet",
    "segment/training.parquet",
    "crop/index.parquet",
    "crop/typical.json",
    "train/finding.onnx",
    "train/anomaly.onnx",
    "train/training.parquet",
    "calibration.json",
    "finished/recipe.json",
    "finished/ingest.json",
    "finished/segment.json",
    "finished/train.json",
    "finished/evaluate.json",
)


@pytest.fixture
def run(small_run, tmp_path) -> Run:
    """A copy of the small run that a test may spoil."""
    shutil.copytree(small_run.folder, tmp_path / "run")
    return Run(tmp_path / "run")


def said(*words: object) -> tuple[int, str]:
    """Exit code and all that the command line says, in this process."""
    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception and not isinstance(done.exception, SystemExit | HilumError):
        raise done.exception
    fault = str(done.exception) if isinstance(done.exception, HilumError) else ""
    return done.exit_code, done.output + fault


def flipped(path, at=None) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(data)


def as_pipe(path) -> None:
    path.unlink()
    os.mkfifo(path)


def as_folder(path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE = {
    "one bit": flipped,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "gone": lambda path: path.unlink(),
    "a pipe": as_pipe,
    "a folder": as_folder,
}


def image_of(run: Run):
    return min((Manifest.read(run.folder).root / "CXR_png").glob("*.png"))


@pytest.mark.parametrize("file", READ_BY_PREDICT)
def test_predict_refuses_a_run_with_a_damaged_part_by_name(run, file):
    image = image_of(run)
    flipped(run / file)
    code, reported = said("apply", run.folder, image)
    assert code == 1 and file.rpartition("/")[2] in reported


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize(
    ("file", "verb"),
    [
        ("train/finding.onnx", "explain"),
        ("train/anomaly.onnx", "reproduce"),
        ("calibration.json", "apply"),
        ("split.parquet", "reproduce"),
    ],
)
def test_no_kind_of_damage_is_read(run, file, verb, kind):
    more = ["--images", "1"] if verb == "reproduce" else [image_of(run)]
    DAMAGE[kind](run / file)
    code, reported = said(verb, run.folder, *more)
    assert code == 1 and file.rpartition("/")[2] in reported


@pytest.mark.parametrize(
    ("verb", "file"),
    [
        (["compare", "RUN", "RUN"], "scores.parquet"),
        (["datacard", "RUN"], "root.json"),
        (["export", "csv_tables", "RUN", "OUT"], "labels.parquet"),
        (["propose-fixes", "RUN"], "issues.parquet"),
    ],
)
def test_each_verb_refuses_what_it_reads(run, tmp_path, verb, file, monkeypatch):
    (run / file).unlink()
    places = {"RUN": run.folder, "OUT": tmp_path / "out"}
    code, reported = said(*(places.get(word, word) for word in verb))
    again = verb[0] in (
        "datacard",
        "propose-fixes",
    )  # it does the steps that it needs, and so makes the file again
    assert (code, file in reported) == (0 if again else 1, True)
    assert (run / file).exists() == again


@pytest.mark.parametrize(
    "file",
    [
        "issues.parquet",
        "cache/*/images.u8",
        "cache/*/index.parquet",
        "cache/*/meanings.json",
        "crop/images.u8",
        "scores.parquet",
        "finished/crop.json",
        "report.html",
    ],
)
def test_a_run_makes_again_what_is_damaged_and_says_so(small_run, run, file):
    (place,) = run.folder.glob(file)
    intact = {path: path.read_bytes() for path in run.folder.rglob("*.[pu]*") if path.is_file()}
    flipped(place)
    code, reported = said("run", run.folder)
    assert (
        code == 0
        and "note: " in reported
        and place.name in reported
        and "is done again" in reported
    )
    assert made_by(run) == made_by(small_run)
    assert not [
        path for path, data in intact.items() if path.suffix == ".u8" and path.read_bytes() != data
    ]


def test_the_file_of_another_run_is_another_file(small_run, run):
    scores = storage.read_table(run / "scores.parquet")
    storage.write_table(run / "scores.parquet", scores.with_columns(pl.col("score") / 2))
    with pytest.raises(Damaged, match=r"scores\.parquet is not what step 'predict' left"):
        run.table("predict", "scores.parquet")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"digest": "0"}', "[" * 10_000])
def test_what_is_no_marker_is_reported_and_its_step_done_again(run, text):
    (run / "finished/predict.json").write_text(text)
    with pytest.raises(Damaged, match=r"predict\.json.*hilum run"):
        run.made("predict")
    assert not run.finished("predict", {})


def test_a_marker_of_another_format_step_or_place_is_refused(run):
    reported = integrity.read_sealed(run / "finished/predict.json")
    for change in ({"format": 99}, {"step": "train"}, {"files": {"../x": ""}}, {"summary": []}):
        storage.write_json(run / "finished/predict.json", integrity.sealed({**reported, **change}))
        with pytest.raises(Damaged, match=r"predict\.json"):
            run.made("predict")


def test_a_changed_recipe_is_reported_with_what_was_changed(run):
    path = run / "recipe.toml"
    path.write_text(path.read_text().replace("bootstrap = 100", "bootstrap = 150"))
    with pytest.raises(Damaged, match=r"recipe\.toml"):
        run.recipe()
    assert "[evaluate] bootstrap is 150 and was 100" in run.recipe_changes()


def test_verify_names_what_no_step_made_and_what_lies_behind_the_last_image(run):
    (run / "thesis.txt").write_text("x")
    code, reported = said("reproduce", run.folder, "--images", "1")
    assert code == 0 and "not made by a step" in reported and "thesis.txt" in reported
    (images,) = run.folder.glob("cache/*/images.u8")
    with open(images, "ab") as stream:
        stream.write(b"more")
    code, reported = said("reproduce", run.folder, "--images", "1")
    assert code == 1 and "images.u8 has 163,844 bytes" in reported


def test_a_stack_names_the_row_that_is_not_what_was_written(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
    images.tofile(tmp_path / "images.u8")
    sums = Checksums.of(
        range(6), [zlib.crc32(image.tobytes()) for image in images], "make it again"
    )
    assert (ImageStack(tmp_path / "images.u8", 8, checksums=sums)[:] == images).all()
    flipped(tmp_path / "images.u8", 4 * 64 + 7)
    stack = ImageStack(tmp_path / "images.u8", 8, checksums=sums)
    assert (stack[[0, 5]] == images[[0, 5]]).all() and stack.damaged_rows() == [4]
    with pytest.raises(
        Damaged, match="row 4 does not hold the image that was written; make it again"
    ):
        stack[3:5]
    os.truncate(tmp_path / "images.u8", 5 * 64)
    with pytest.raises(Damaged, match="ends before image 5 of 6"):
        ImageStack(tmp_path / "images.u8", 8, checksums=sums)


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1),
        st.integers() | st.text() | st.lists(st.floats(allow_nan=False)) | st.none(),
    )
)
def test_a_sealed_object_is_read_back_and_a_changed_one_refused(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "sealed.json"
    value.pop("digest", None)
    path.write_text(storage.as_json(integrity.sealed(value)))
    assert integrity.read_sealed(path) == value
    path.write_text(storage.as_json({**integrity.sealed(value), "more": 1}))
    with pytest.raises(BadData, match=r"sealed\.json"):
        integrity.read_sealed(path)


def spoilt(table: str, **columns: object):
    return lambda run: storage.write_table(
        run / f"{table}.parquet",
        storage.read_table(run / f"{table}.parquet").with_columns(**columns),
    )


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (
            lambda run: (run / "labels.parquet").write_text("no table"),
            BadData,
            "labels.parquet: is not readable as Parquet",
        ),
        (
            lambda run: (run / "manifest.parquet").write_bytes(
                b"PAR1" + struct.pack("<I", 9) * 9 + b"PAR1"
            ),
            BadData,
            "manifest.parquet",
        ),
        (lambda run: (run / "root.json").write_text("[]"), BadData, "root.json: names no root"),
        (spoilt("manifest", path=pl.lit("/etc/passwd")), BadData, "leads out of the folder"),
        (spoilt("manifest", lung_mask=pl.lit("../../key")), BadData, "leads out of the folder"),
        (
            spoilt("manifest", age_years=pl.lit("old")),
            BadData,
            "age_years is String, expected Float64",
        ),
        (spoilt("labels", state=pl.lit(2.5)), BadData, "state is Float64, expected Int8"),
        (
            lambda run: storage.write_table(run / "shapes.parquet", pl.DataFrame({"x": [1]})),
            Mismatch,
            "shapes.parquet lacks image_id",
        ),
    ],
)
def test_a_table_that_is_none_of_ours_is_refused_in_one_sentence(run, spoil, error, words):
    spoil(run)
    with pytest.raises(error, match=words.replace(".", r"\.")):
        Manifest.read(run.folder)
