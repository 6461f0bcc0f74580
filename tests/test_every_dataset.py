"""The contract of the data-set plug-ins: every module keeps it by being there."""

import json

import pytest

from hilum import plugins
from hilum.annotations import lung_masks, vocabulary
from hilum.errors import HilumError
from hilum.imaging.files import image_file
from hilum.pipeline.ingest import FALLBACK, ingest, recognise

NAMES = plugins.names("readers")


@pytest.fixture(scope="module", params=NAMES)
def dataset(request, tmp_path_factory):
    """Name, module and a made-up copy."""
    folder = tmp_path_factory.mktemp(request.param)
    module = plugins.load("readers", request.param)
    module.example(folder, images=16, seed=3)
    return request.param, module, folder


def test_its_card_says_what_it_is_and_whose(dataset):
    _, module, _ = dataset
    assert (
        module.CARD.title
        and module.CARD.licence
        and module.CARD.caveats
        and len(module.__doc__) > 100
    )


def test_its_terms_are_concepts(dataset):
    _, module, _ = dataset
    assert module.TERMS is None or set(module.TERMS.values()) <= {
        *vocabulary.concepts(),
        *lung_masks.REFERENCE,
    }


def test_it_recognises_its_own_layout_and_no_other_named_set_does(dataset):
    name, _, folder = dataset
    assert recognise(folder) == (folder, name)
    assert not [
        other
        for other in NAMES
        if other not in (name, FALLBACK) and plugins.load("readers", other).detect(folder)
    ]


def test_its_example_becomes_a_valid_manifest_whose_images_open(dataset):
    name, _, folder = dataset
    manifest = ingest(folder)
    manifest.check()
    assert manifest.table.height == 16 and manifest.table["dataset"].unique().to_list() == [name]
    for column in ("path", "lung_mask", "right_lung_mask", "left_lung_mask"):
        for place in manifest.table[column].drop_nulls():
            assert min(image_file.read(folder / place).values.shape) > 64


def test_its_example_holds_what_trips_readers(dataset):
    """A patient with several images and masks, unless the reader says that the release lacks them;
    a missing mask; both states.
    """
    _, module, folder = dataset
    lacks = getattr(module, "LACKS", frozenset())
    assert lacks <= {"patients", "masks"}
    manifest = ingest(folder)
    assert (manifest.table["patient_id"].n_unique() < manifest.table.height) == (
        "patients" not in lacks
    )
    assert {0, 1} <= set(manifest.labels["state"])
    drawn = manifest.shapes.filter(manifest.shapes["concept"].is_in(list(lung_masks.REFERENCE)))[
        "image_id"
    ]
    files = manifest.table.select(
        "image_id", "lung_mask", "right_lung_mask", "left_lung_mask"
    ).rows()
    masked = {image for image, both, *sides in files if both or all(sides)} | set(drawn)
    assert bool(masked) == ("masks" not in lacks) and masked < set(manifest.table["image_id"])


def test_reading_it_twice_gives_one_digest_and_writing_it_twice_gives_one_copy(dataset, tmp_path):
    _, module, folder = dataset
    module.example(tmp_path, images=16, seed=3)
    assert ingest(folder).digest == ingest(folder).digest == ingest(tmp_path).digest
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes()


def test_another_seed_gives_other_images(dataset, tmp_path):
    _, module, folder = dataset
    module.example(tmp_path, images=16, seed=4)
    first = next(path for path in sorted(folder.rglob("*")) if path.suffix in image_file.ENDINGS)
    twin = tmp_path / first.relative_to(folder)
    assert not twin.exists() or twin.read_bytes() != first.read_bytes()


def test_its_example_can_be_made_at_another_size(dataset, tmp_path):
    _, module, _ = dataset
    module.example(tmp_path, images=5, seed=3, size=100)
    images = [path for path in tmp_path.rglob("*") if path.suffix in image_file.ENDINGS]
    assert images and {max(image_file.pose(path).source) for path in images} <= {*range(64, 112)}


def test_an_empty_folder_says_what_was_expected(dataset, tmp_path):
    name, _, _ = dataset
    with pytest.raises(HilumError, match="holds no (images of its layout|radiographs)") as raised:
        ingest(tmp_path, name)
    assert ".png" in str(raised.value) or ".dcm" in str(raised.value)


def test_every_label_says_where_it_stands(dataset):
    _, _, folder = dataset
    assert ingest(folder).labels["source"].null_count() == 0


def test_its_card_is_json(dataset):
    from dataclasses import asdict

    _, module, _ = dataset
    assert json.loads(json.dumps(asdict(module.CARD)))
