"""A node writes what the commands write, to the byte, and calls nothing outside a model's domain."""

from pathlib import Path

import pytest
from dicom_sources import made
from node_films import found

from hilum.dicom_out.write import DicomWriter
from hilum.imaging.files import dicom
from hilum.inference import classify_images
from hilum.node.reader import Reader, present
from hilum.node.settings import Models, Results, Settings
from hilum.runs import predict_images

pytest.importorskip("highdicom", reason="needs the extra [dicom]")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.dcm")}


def written(settings: Settings, film: Path, to: Path) -> dict[str, bytes]:
    reader = Reader.of(settings)
    uids = reader.write(film, reader.findings(film), to)
    objects = files(to)
    assert len(objects) == len(set(uids)) == len(uids)
    return objects


def test_the_objects_of_a_node_are_those_of_classify(tmp_path):
    film = made(tmp_path / "film", "DX")
    writer = DicomWriter(tmp_path / "classify", "classify")
    classify_images.classify_images([film], delivery=writer)
    objects = written(Settings(), film, tmp_path / "node")
    assert objects == files(tmp_path / "classify") and "findings.dcm" in objects


def test_the_objects_of_a_node_with_a_run_are_those_of_apply(tmp_path, small_run):
    film = made(tmp_path / "film", "DX")
    writer = DicomWriter(tmp_path / "apply", "apply")
    predict_images.predict_images(small_run.folder, [film], delivery=writer)
    of_run = Settings(models=Models(run=str(small_run.folder)))
    objects = written(of_run, film, tmp_path / "node")
    assert objects == files(tmp_path / "apply") and "findings.dcm" in objects


def test_options_and_models_change_the_digest_of_a_reader():
    usual = Reader.of(Settings()).digest
    assert usual == Reader.of(Settings()).digest
    others = [
        Settings(results=Results(labelmap=True)),
        Settings(results=Results(presentation_state=True)),
        Settings(models=Models(names=("tuberculosis",))),
    ]
    assert len({usual, *(Reader.of(one).digest for one in others)}) == 4


@pytest.mark.parametrize(
    ("call", "urgent"), [("present", "tuberculosis"), ("absent", ""), (None, "")]
)
def test_a_film_is_urgent_only_where_a_model_calls_a_finding_present(call, urgent, tmp_path):
    film = made(tmp_path, "DX")
    assert present(found(film, dicom.read(film), call)) == urgent
