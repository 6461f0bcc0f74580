"""TorchXRayVision both ways: the view keeps the package's contract, and labels come back; against
the package itself where it is installed.

The package needs torchvision, pandas and scikit-image. torchvision is stubbed: nothing used here
calls it. Without the others the tests that need the package are skipped by name, and the rest still
holds the contract on made-up stand-ins.
"""

import importlib
import importlib.util
import random
import subprocess
import sys
import warnings
from dataclasses import replace
from unittest.mock import MagicMock

import numpy as np
import polars as pl
import pytest

from hilum import plugins
from hilum.annotations import shapes, vocabulary
from hilum.dataset.manifest import SHAPE_COLUMNS
from hilum.dataset.merge import merge
from hilum.dataset.writers import _xrv_pathologies
from hilum.dataset.writers.torchxrayvision import collatable, from_xrv, to_xrv, write
from hilum.errors import BadData
from hilum.imaging.files import image_file, raster
from hilum.pipeline import ingest

NAMES = ("montgomery", "nih14", "kermany", "folder", "kaggle_masks", "shenzhen", "unidata")
STUBBED = ("torchvision", "torchvision.transforms", "torchvision.models")
DEFAULT = [
    *[
        "Atelectasis",
        "Consolidation",
        "Infiltration",
        "Pneumothorax",
        "Edema",
        "Emphysema",
        "Fibrosis",
        "Effusion",
        "Pneumonia",
    ],
    *["Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass", "Hernia"],
    "Lung Lesion",
    "Fracture",
    "Lung Opacity",
    "Enlarged Cardiomediastinum",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name in NAMES:
        plugins.load("readers", name).example(folder / name, images=8, seed=2)
    return folder


@pytest.fixture(scope="module")
def given(data):
    """Two merged sets, some labels uncertain."""
    whole = merge([ingest.ingest(data / name) for name in ("montgomery", "nih14")])
    unsure = pl.when(pl.int_range(pl.len()) % 9 == 2).then(pl.lit(-1, pl.Int8)).otherwise("state")
    return replace(whole, labels=whole.labels.with_columns(unsure.alias("state")))


@pytest.fixture(scope="module")
def package():
    """The installed package, torchvision stubbed, its global switch of warnings undone."""
    for name in ("torchxrayvision", "torch", "pandas", "skimage"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    before = {name: sys.modules.get(name) for name in STUBBED}
    sys.modules.update({name: MagicMock() for name in STUBBED})
    try:
        with warnings.catch_warnings():
            yield importlib.import_module("torchxrayvision")
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class Foreign:
    """A data set of the package's form that is not Hilum's; its csv is of Polars, which has all
    that is needed of it.
    """

    def __init__(self, pathologies, labels, csv, radiographs=None):
        self.pathologies, self.labels, self.csv, self.radiographs = (
            pathologies,
            np.array(labels, np.float32),
            pl.DataFrame(csv),
            radiographs,
        )

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {"idx": index, "lab": self.labels[index], **self.radiographs[index]}


def known(labels: pl.DataFrame) -> dict[tuple[str, str], int]:
    return {
        (image, concept): state
        for image, concept, state in labels.select("image_id", "concept", "state").iter_rows()
        if state != -1
    }


# ------------------------------------------------------------------------------------- the contract


def test_the_view_has_the_members_of_the_contract(given):
    view = to_xrv(given)
    assert (
        type(view.pathologies) is list
        and view.labels.dtype == np.float32
        and view.labels.shape == (16, len(view.pathologies))
    )
    assert view.transform is None and view.data_aug is None and view.views == ["*"]
    assert (
        view.string() == repr(view)
        and "num_samples=16" in view.string()
        and "montgomery+nih14" in view.string()
    )
    assert len(list(view)) == 16
    with pytest.raises(IndexError):
        view[16]


def test_labels_are_one_zero_and_nan_and_uncertain_is_nan_and_reported(given):
    view = to_xrv(given)
    concepts = [_xrv_pathologies.concept_of(name) for name in view.pathologies]
    expected = {
        (image, concept): state
        for image, concept, state in given.labels.select("image_id", "concept", "state").iter_rows()
    }
    for image, row in zip(given.table["image_id"], view.labels, strict=True):
        for concept, value in zip(concepts, row, strict=True):
            state = expected.get((image, concept))
            assert (np.isnan(value) and state in (None, -1)) or value == state
    assert f"uncertain_as_nan={(given.labels['state'] == -1).sum()}" in view.string()


def test_findings_stand_in_the_models_order_and_others_behind_them(given):
    assert list(_xrv_pathologies.MODELS.values()) == DEFAULT
    pathologies = to_xrv(given).pathologies
    of_models = [name for name in DEFAULT if name in pathologies]
    assert (
        pathologies[: len(of_models)] == of_models
        and len(of_models) == 14
        and "Tuberculosis" in pathologies[14:]
    )


def test_totals_count_every_value_that_is_known(given):
    view = to_xrv(given)
    reported = view.totals()
    assert list(reported) == view.pathologies
    for name, column in zip(view.pathologies, view.labels.T, strict=True):
        assert reported[name] == {
            value: count for value in (0.0, 1.0) if (count := int((column == value).sum()))
        }


def test_a_sample_is_the_file_in_the_packages_range(given):
    view = to_xrv(given)
    for index in (0, 9):
        sample = view[np.int64(index)]
        values = raster.read(given.root / given.table["path"][index]).values
        assert (
            set(sample) == {"idx", "lab", "img"}
            and type(sample["idx"]) is int
            and sample["idx"] == index
        )
        assert sample["lab"].dtype == np.float32 and np.array_equal(
            sample["lab"], view.labels[index], equal_nan=True
        )
        assert sample["img"].dtype == np.float32 and sample["img"].shape == (1, *values.shape)
        np.testing.assert_allclose(sample["img"][0], (2 * (values / 255.0) - 1) * 1024, atol=1e-3)


def test_sixteen_bit_and_colour_images_fill_the_same_range(tmp_path):
    import imagecodecs

    ramp = np.linspace(0, 4095, 80 * 70).reshape(80, 70).astype(np.uint16)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(ramp))
    (tmp_path / "colour.png").write_bytes(
        imagecodecs.png_encode(np.stack([(ramp >> 4).astype(np.uint8)] * 3, axis=2))
    )
    for sample in to_xrv(ingest.ingest(tmp_path)):
        assert (
            sample["img"].shape == (1, 80, 70)
            and sample["img"].min() == -1024
            and abs(sample["img"].max() - 1024) < 1e-3
        )


def test_every_row_has_a_patient_that_carries_its_data_set(given):
    from hilum.dataset.writers.torchxrayvision import about

    table = about(given)
    assert table["patientid"].null_count() == 0 and all(
        patient.startswith(f"{name}/")
        for patient, name in table.select("patientid", "dataset").iter_rows()
    )
    assert (
        table["sex_male"].null_count()
        == table["sex_female"].null_count()
        == table["has_masks"].null_count()
        == 0
    )
    assert not (table["sex_male"] & table["sex_female"]).any() and set(table["view"]) <= {
        "PA",
        "AP",
        "L",
        "UNKNOWN",
    }
    assert table["image_id"].equals(given.table["image_id"])


def test_every_shipped_concept_and_local_ones_keep_their_meaning_through_the_names():
    for concept in (*vocabulary.concepts(), "local:odd-thing"):
        assert _xrv_pathologies.concept_of(_xrv_pathologies.name_for(concept)) == concept
    names = [_xrv_pathologies.name_for(concept) for concept in vocabulary.concepts()]
    assert len(names) == len(set(names))
    reported = {
        "Effusion": "effusion",
        "Pleural_Thickening": "pleural_thickening",
        "Lung Lesion": "lung_lesion",
        "Nodule/Mass": "lung_lesion",
    }
    reported |= {
        "Tuberculosis": "tuberculosis",
        "Support Devices": "support_device",
        "Pleural Effusion": "effusion",
        "Pulmonary Fibrosis": "fibrosis",
    }
    assert {name: _xrv_pathologies.concept_of(name) for name in reported} == reported


# ----------------------------------------------------------------------------- masks and transforms


def with_shapes(manifest, index, **drawn):
    image = manifest.table["image_id"][index]
    rows = [
        [image, concept, concept, shape.to_json(), "by hand", None]
        for concept, of_it in drawn.items()
        for shape in of_it
    ]
    return replace(manifest, shapes=pl.DataFrame(rows, schema=SHAPE_COLUMNS, orient="row"))


def test_masks_of_findings_stand_under_their_place_in_pathologies_all_of_one_finding_together(
    given,
):
    first, second = shapes.Box(10, 20, 5, 6), shapes.Box(40, 30, 7, 8)
    view = to_xrv(
        with_shapes(given, 9, nodule=[first, second], right_lung=[shapes.Box(0, 0, 9, 9)]),
        pathology_masks=True,
    )
    masks, size = view[9]["pathology_masks"], view[9]["img"].shape[1:]
    assert list(masks) == [view.pathologies.index("Nodule")] and type(next(iter(masks))) is int
    (mask,) = masks.values()
    assert mask.shape == (1, *size) and np.array_equal(
        mask[0], (first.to_mask(size) | second.to_mask(size)).astype(np.float32)
    )
    assert view[0]["pathology_masks"] == {}
    view.pathologies, view.labels = ["Mass", "Nodule"], np.zeros((16, 2))
    assert list(view[9]["pathology_masks"]) == [1], "recomputed after a relabelling"


def test_lungs_are_the_union_of_their_files_and_shapes(given):
    index = given.table["right_lung_mask"].is_not_null().arg_true()[0]
    row = given.table.row(index, named=True)
    both = np.logical_or(
        *(
            raster.read(given.root / row[f"{side}_lung_mask"]).values > 127
            for side in ("right", "left")
        )
    )
    mask = to_xrv(given, semantic_masks=True)[index]["semantic_masks"]["Lungs"]
    assert mask.dtype == np.float32 and np.array_equal(mask[0] > 0, both)
    bare = given.table["lung_mask"].is_null() & given.table["right_lung_mask"].is_null()
    assert "semantic_masks" not in to_xrv(given, semantic_masks=True)[bare.arg_true()[0]]


def test_a_mask_gets_the_random_numbers_of_its_image_and_no_generator_is_seeded(given):
    def shift(array):
        return np.roll(array, (random.randrange(50), int(np.random.randint(50))), (1, 2))

    index = given.table["right_lung_mask"].is_not_null().arg_true()[0]
    still = to_xrv(given, semantic_masks=True)[index]
    moving = to_xrv(given, semantic_masks=True, transform=shift, data_aug=shift)
    random.seed(3), np.random.seed(3)
    first, second = moving[index], moving[index]
    inside = still["semantic_masks"]["Lungs"] > 0
    for sample in (first, second):
        assert np.array_equal(
            np.sort(sample["img"][sample["semantic_masks"]["Lungs"] > 0]),
            np.sort(still["img"][inside]),
        )
    assert not np.array_equal(first["img"], second["img"]), "each sample draws new numbers"


def test_samples_with_different_masks_get_the_same_keys(given):
    view = to_xrv(
        with_shapes(given, 9, nodule=[shapes.Box(10, 20, 5, 6)]),
        pathology_masks=True,
        transform=lambda array: array[:, :100, :100],
    )
    batch = collatable([view[8], view[9]])
    place = view.pathologies.index("Nodule")
    assert [list(sample["pathology_masks"]) for sample in batch] == [[place], [place]]
    assert (
        np.isnan(batch[0]["pathology_masks"][place]).all()
        and batch[1]["pathology_masks"][place].sum() == 30
    )
    assert "pathology_masks" in view[8] and "pathology_masks" not in collatable([view[8]])[0]


# ----------------------------------------------------------------------------------------- and back


class Counted:
    """A view whose csv is of Polars, so that the way back needs no pandas."""

    def __new__(cls, manifest, **options):
        from hilum.dataset.writers.torchxrayvision import about

        view = to_xrv(manifest, **options)
        view.csv = about(manifest)
        return view


@pytest.mark.parametrize("name", NAMES)
def test_labels_patients_and_images_of_every_set_come_back(data, name):
    manifest = ingest.ingest(data / name)
    taken = from_xrv(Counted(manifest))
    assert known(taken.labels) == known(manifest.labels) and taken.remarks.height == 0
    columns = ["image_id", "dataset", "patient_id", "sex", "age_years", "view"]
    female_or_male = manifest.table.select(columns).with_columns(
        pl.when(pl.col("sex") != "other").then("sex")
    )
    assert taken.table.select(columns).equals(female_or_male)
    np.testing.assert_allclose(
        taken.radiograph(3).pixels,
        image_file.read(manifest.root / manifest.table["path"][3]).radiograph().pixels,
        atol=1e-6,
    )


def test_masks_come_back_by_name(given):
    drawn = with_shapes(given, 0, nodule=[shapes.Box(10, 20, 5, 6)])
    masks = from_xrv(Counted(drawn, pathology_masks=True, semantic_masks=True)).masks(0)
    size = raster.read(given.root / given.table["path"][0]).values.shape
    assert set(masks) == {"nodule", "lungs"} and np.array_equal(
        masks["nodule"], shapes.Box(10, 20, 5, 6).to_mask(size)
    )


def test_a_label_says_where_it_was_read_and_nan_has_no_row():
    taken = from_xrv(
        Foreign(
            ["Effusion", "Mass"],
            [[1, np.nan], [0, 1]],
            {"Image Index": ["a.png", "b.png"], "patientid": ["7", "7"]},
        )
    )
    assert known(taken.labels) == {
        ("foreign/a.png", "effusion"): 1,
        ("foreign/b.png", "effusion"): 0,
        ("foreign/b.png", "mass"): 1,
    }
    assert taken.labels["source"][0] == "Foreign.labels, column Effusion" and taken.labels[
        "term"
    ].to_list() == ["Effusion", "Effusion", "Mass"]
    assert taken.table["patient_id"].to_list() == ["foreign/7", "foreign/7"]


def remarks(taken) -> dict[str, str]:
    return {
        row["rule"]: f"{row['severity']}: {row['message']}"
        for row in taken.remarks.iter_rows(named=True)
    }


def test_what_is_unreliable_is_said():
    siim = Foreign(
        ["Pneumothorax", "Wide thing"], [[1, 0], [0, 0], [1, 1]], {"ImageId": ["x", "y", "x"]}
    )
    reported = remarks(from_xrv(siim))
    assert reported["no-patients"].startswith("warning: 3 of 3") and reported[
        "repeated-image"
    ].startswith("error: stands in 2 rows")
    assert "local:wide-thing" in reported["unknown-finding"]
    table = from_xrv(siim).table
    assert table["image_id"].to_list() == ["foreign/x", "foreign/y", "foreign/x#2"] and table[
        "patient_id"
    ].to_list() == ["foreign/x", "foreign/y", "foreign/x"]


@pytest.mark.parametrize(
    ("name", "rule", "patients"),
    [
        ("CheX_Dataset", "xrv-first-of-patient", "12"),
        ("MIMIC_Dataset", "xrv-first-of-patient", "12"),
        ("PC_Dataset", "xrv-parts-of-words", "11"),
        ("NIH_Dataset", "xrv-rows-left-out", "11"),
    ],
)
def test_known_faults_of_the_packages_classes_are_said_of_them_and_of_what_is_made_of_them(
    name, rule, patients
):
    one = type(name, (Foreign,), {})(["Mass"], [[1], [0]], {"patientid": list(patients)})
    merged = Foreign(["Mass"], [[1], [0], [1], [0]], {"patientid": list(patients) * 2})
    merged.datasets = [one, Foreign(["Mass"], [[1], [0]], {"patientid": list(patients)})]
    merged.which_dataset = np.array([0, 0, 1, 1])
    for dataset in (one, merged):
        assert rule in remarks(from_xrv(dataset))
    assert rule not in remarks(
        from_xrv(Foreign(["Mass"], [[1], [0]], {"patientid": list(patients)}))
    )


def test_a_chexpert_with_several_rows_a_patient_is_not_blamed():
    one = type("CheX_Dataset", (Foreign,), {})(["Mass"], [[1], [0]], {"patientid": ["1", "1"]})
    assert remarks(from_xrv(one)) == {}


def test_patients_of_merged_and_subset_sets_carry_the_set_they_are_of():
    one, two = (Foreign(["Mass"], [[1], [0]], {"patientid": ["1", "2"]}) for _ in range(2))
    merged = Foreign(["Mass"], [[1], [0], [1], [0]], {"patientid": ["1", "2", "1", "2"]})
    merged.datasets, merged.which_dataset = [one, two], np.array([0, 0, 1, 1])
    assert from_xrv(merged).table["patient_id"].to_list() == [
        "foreign-1/1",
        "foreign-1/2",
        "foreign-2/1",
        "foreign-2/2",
    ]
    part = Foreign(["Mass"], [[0], [0]], {"patientid": ["2", "2"]})
    part.dataset, part.idxs = merged, [1, 3]
    assert from_xrv(part).table["patient_id"].to_list() == ["foreign-1/2", "foreign-2/2"]


def test_all_faults_of_an_unsound_set_are_reported_at_once():
    bad = Foreign(
        ["Mass", "Effusion", "Pleural Effusion"],
        [[1, -1, 0], [0, 0.5, 0]],
        {"patientid": ["1", "2", "3"]},
    )
    with pytest.raises(BadData, match="3 faults") as raised:
        from_xrv(bad)
    assert all(
        words in str(raised.value)
        for words in (
            "labels of Effusion hold -1.0, 0.5",
            "csv has 3 rows for 2 items",
            "several pathologies are effusion",
        )
    )
    with pytest.raises(BadData, match=r"labels have shape \(2, 1\); expected \(2, 2\)"):
        from_xrv(Foreign(["Mass", "Hernia"], [[1], [0]], {"patientid": ["1", "2"]}))


@pytest.mark.parametrize(
    ("low", "high", "shape", "words"),
    [
        (0, 1, (1, 9, 9), "from 0 to 1"),
        (0, 255, (1, 9, 9), "from 0 to 255"),
        (-4096, 4096, (1, 9, 9), "from -4096 to 4096"),
        (-9, 9, (9, 9), r"shape \(9, 9\)"),
        (-9, np.nan, (1, 9, 9), "expected -1024 to 1024"),
    ],
)
def test_an_image_of_another_range_or_shape_is_refused(low, high, shape, words):
    pixels = np.full(shape, low, np.float32)
    pixels.flat[0] = high
    with pytest.raises(BadData, match=words):
        from_xrv(Foreign(["Mass"], [[1]], {"patientid": ["1"]}, [{"img": pixels}])).radiograph(0)


def test_an_item_whose_labels_are_not_its_rows_is_refused():
    one = Foreign(
        ["Mass"],
        [[1]],
        {"patientid": ["1"]},
        [{"img": np.zeros((1, 9, 9)), "lab": np.array([0.0])}],
    )
    with pytest.raises(BadData, match="relabel before SubsetDataset"):
        from_xrv(one).radiograph(0)


# ------------------------------------------------------------------------------- the written folder


def test_a_folder_whose_findings_are_called_like_its_columns_is_refused(tmp_path):
    for place in ("normal/a.png", "Study/b.png"):
        raster.write_png(tmp_path / "data" / place, np.full((70, 80), 9, np.uint8))
    with pytest.raises(BadData, match="study"):
        write(ingest.ingest(tmp_path / "data"), tmp_path / "out", split=None)


def test_the_folder_holds_the_same_labels_and_pixels_as_the_view(given, tmp_path):
    write(given, tmp_path / "out", split=None)
    table, view = pl.read_csv(tmp_path / "out" / "labels.csv"), to_xrv(given)
    assert table.columns[table.columns.index("part") + 1 :] == view.pathologies
    read = table.select(view.pathologies).cast(pl.Float32).fill_null(np.nan).to_numpy()
    assert (
        np.array_equal(read, view.labels, equal_nan=True)
        and table["patientid"].to_list() == given.table["patient_id"].to_list()
    )
    for index in (0, 12):
        values = raster.read(tmp_path / "out" / table["image"][index]).values
        assert values.dtype == np.uint8 and np.array_equal(
            values, raster.read(given.root / given.table["path"][index]).values
        )


# ------------------------------------------------------------------------------- the package itself


def test_hilum_does_not_import_the_package():
    program = "import sys; import hilum.dataset.writers.torchxrayvision; sys.exit(bool({'torchxrayvision', 'torch', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_package_relabels_merges_and_subsets_a_view(given, package):
    view = to_xrv(given)
    before, names = view.labels.copy(), list(view.pathologies)
    wanted = list(package.datasets.default_pathologies)
    package.datasets.relabel_dataset(wanted, view, silent=True)
    assert wanted == DEFAULT and view.pathologies is wanted and view.labels.shape == (16, 18)
    for name in set(names) & set(wanted):
        assert np.array_equal(
            view.labels[:, wanted.index(name)], before[:, names.index(name)], equal_nan=True
        )
    other = to_xrv(given.only(given.table["image_id"].head(5)))
    package.datasets.relabel_dataset(wanted, other, silent=True)
    merged = package.datasets.MergeDataset([view, other])
    subset = package.datasets.SubsetDataset(merged, [0, 17, 20])
    assert (
        len(merged) == 21
        and "├0 Hilum" in merged.string()
        and list(subset.csv["patientid"]) == [given.table["patient_id"][i] for i in (0, 1, 4)]
    )
    sample = subset[1]
    assert sample["source"] == 1 and np.array_equal(sample["lab"], view.labels[1], equal_nan=True)
    assert merged.csv["patientid"].notna().all() and merged.totals()["Effusion"] == {
        k: v for k, v in merged.totals()["Effusion"].items() if v
    }
    found = package.datasets.FilterDataset(view, labels=["Effusion"])
    assert (
        all(found[index]["lab"][wanted.index("Effusion")] == 1 for index in range(len(found)))
        and len(found) > 0
    )


def test_the_package_infers_with_its_own_crop_and_resize(given, package):
    import torch

    def prepare(array):
        return package.datasets.XRayResizer(64)(package.datasets.XRayCenterCrop()(array))

    view = to_xrv(given, transform=prepare)
    means = package.utils.infer(lambda batch: batch.mean(dim=(1, 2, 3))[:, None], view, threads=2)
    assert means.shape == (16, 1) and np.isfinite(means).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        package.utils.warn_normalization(torch.from_numpy(view[0]["img"]))
    assert package.utils.warning_log["norm_correct"]


def test_batches_with_masks_collate_in_torch(given, package):
    from torch.utils.data import DataLoader, default_collate

    view = to_xrv(
        given, pathology_masks=True, semantic_masks=True, transform=package.datasets.XRayResizer(32)
    )
    batches = list(
        DataLoader(
            view, batch_size=8, collate_fn=lambda samples: default_collate(collatable(samples))
        )
    )
    assert all(batch["img"].shape == (8, 1, 32, 32) for batch in batches) and batches[0][
        "semantic_masks"
    ]["Lungs"].shape == (8, 1, 32, 32)


def test_nih_read_by_the_package_and_by_hilum_is_one_data_set(data, package):
    manifest = ingest.ingest(data / "nih14")
    root = data / "nih14"
    table = next(root.glob("Data_Entry*.csv"))
    theirs = package.datasets.NIH_Dataset(
        root / "images", table, root / "BBox_List_2017.csv", views=["*"], unique_patients=False
    )
    ours = to_xrv(manifest)
    package.datasets.relabel_dataset(theirs.pathologies, ours, silent=True)
    order = [
        list(theirs.csv["Image Index"]).index(path.split("/")[-1])
        for path in manifest.table["path"]
    ]
    assert np.array_equal(theirs.labels[order], ours.labels)
    for index in (0, 5):
        np.testing.assert_array_equal(theirs[order[index]]["img"], ours[index]["img"])
        np.testing.assert_array_equal(theirs[order[index]]["lab"], ours[index]["lab"])
    merged = package.datasets.MergeDataset([ours, theirs])
    assert len(merged) == 16 and merged.csv["patientid"].notna().all() and merged[9]["source"] == 1
    taken = from_xrv(merged)
    assert (
        taken.table["patient_id"][8] == f"nih/{theirs.csv['patientid'][0]}"
        and taken.table["patient_id"][0] == manifest.table["patient_id"][0]
    )
    assert known(taken.labels).keys() >= known(
        manifest.labels
    ).keys() and "xrv-rows-left-out" in remarks(taken)


def test_montgomery_read_by_the_package_and_by_hilum_has_the_same_labels(data, package):
    manifest = ingest.ingest(data / "montgomery")
    theirs, ours = package.datasets.NLMTB_Dataset(data / "montgomery"), to_xrv(manifest)
    package.datasets.relabel_dataset(theirs.pathologies, ours, silent=True)
    assert np.array_equal(theirs.labels, ours.labels)
    np.testing.assert_array_equal(theirs[2]["img"], ours[2]["img"])
    assert "no-patients" in remarks(from_xrv(theirs)) and known(from_xrv(theirs).labels).keys()


def test_the_package_reads_the_written_folder_without_hilum(given, package, tmp_path, monkeypatch):
    split = given.table.select(
        "image_id",
        pl.when(pl.int_range(pl.len()) % 2 == 0)
        .then(pl.lit("train"))
        .otherwise(pl.lit("test"))
        .alias("part"),
    )
    write(given, tmp_path / "out", split=split)
    monkeypatch.syspath_prepend(tmp_path / "out")
    written = importlib.import_module("dataset").Exported(part="test")
    view = to_xrv(given.only(split.filter(pl.col("part") == "test")["image_id"]))
    assert written.pathologies == to_xrv(given).pathologies, "a part has the columns of the whole"
    package.datasets.relabel_dataset(written.pathologies, view, silent=True)
    assert np.array_equal(written.labels, view.labels, equal_nan=True)
    assert list(written.csv["patientid"]) == list(view.csv["patientid"])
    for index in (0, 7):
        np.testing.assert_array_equal(written[index]["img"], view[index]["img"])
    package.datasets.relabel_dataset(
        list(package.datasets.default_pathologies), written, silent=True
    )
    assert written.labels.shape == (8, 18)
    sys.modules.pop("dataset")
