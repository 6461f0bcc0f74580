"""What is made to be passed on names nobody: planted markers are searched in all that
verbs write.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import gzip
import io
import json
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import polars as pl
import pytest
from conftest import hilum
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from hilum import plugins, storage
from hilum.config import Share
from hilum.dataset import corrections
from hilum.dataset.corrections import Correction
from hilum.dataset.manifest import Manifest
from hilum.errors import BadData
from hilum.imaging import synthetic
from hilum.imaging.files import raster, without_metadata
from hilum.imaging.synthetic.dicom_file import write_dicom
from hilum.pipeline import ingest
from hilum.privacy.pseudonyms import Pseudonyms
from hilum.privacy.redaction import Wording
from hilum.privacy.release import pass_on
from hilum.run_folder import Run
from hilum.runs.export import export

KEY = Pseudonyms(bytes(range(32)))
IN_TAGS = {
    "PatientName": "ZQXJNAME^ZQXJFIRST",
    "OtherPatientIDs": "ZQXJOTHER01",
    "AccessionNumber": "ZQXJACC02",
    "StudyID": "ZQXJSTUDY03",
    "ReferringPhysicianName": "ZQXJREFER^DOC",
    "InstitutionName": "ZQXJINSTITUTE",
    "ImageComments": "ZQXJCOMMENT",
    "PatientAddress": "ZQXJSTREET",
    "OperatorsName": "ZQXJOPER^ATOR",
    "PatientComments": "ZQXJPATCOMM",
    "StationName": "ZQXJSTATION",
    "DeviceSerialNumber": "ZQXJSERIAL",
    "StudyDescription": "ZQXJDESCR",
    "RequestedProcedureDescription": "ZQXJREQUEST",
    "PatientTelephoneNumbers": "ZQXJPHONE",
    "MilitaryRank": "ZQXJRANK",
}
KINDS = ("headers", "rasters", "both")
STUDY = "1.2.826.0.1.3680043.9.4711"
MARKERS = (b"ZQXJ", b"MRN7", STUDY.encode(), b"Exif", b"http://ns.adobe.com")


def drawn(seed: int, *, ill: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    body = synthetic.anatomy(rng)
    return synthetic.draw(
        body, rng, height=96, width=90, disease="pneumonia" if ill else None
    ).pixels


@pytest.fixture(scope="module")
def hospital(tmp_path_factory) -> Path:
    """A folder as hospitals have them: DICOM by number and by name, rasters with
    metadata, a table.
    """
    root = tmp_path_factory.mktemp("hospital")
    for number in range(6):
        person = f"MRN70000{number // 2}" if number < 4 else f"ZQXJDOE_JANE{number}"
        instance = f"{STUDY}.{number}.1.7"
        path = root / "headers" / ("NORMAL", "PNEUMONIA")[number % 2] / person / f"{instance}.dcm"
        write_dicom(
            path,
            drawn(number, ill=number % 2 == 0).astype(np.uint16) * 16,
            f"{STUDY}.{number}",
            instance,
            PatientID=f"MRN70000{number // 2}",
            **IN_TAGS,
        )
        file = dcmread(path)
        file.add_new(0x00091010, "LO", "ZQXJPRIVATE")
        file.save_as(path)
    lines = ["image,patient,findings,reader,report"]
    for number, (ending, data) in enumerate(rasters()):
        name = f"MRN71000{number}_{number}.{ending}"
        storage.write_bytes(root / "rasters" / "images" / name, data)
        lines.append(
            f"images/{name},MRN71000{number},{('TB', 'normal')[number % 2]},ZQXJREADER,ZQXJ "
            f"lives at ZQXJROAD; seen by ZQXJSURGEON"
        )
    (root / "rasters" / "list.csv").write_text("\n".join(lines) + "\n")
    for kind in ("headers", "rasters"):
        shutil.copytree(root / kind, root / "both" / kind)
    return root


def rasters() -> list[tuple[str, bytes]]:
    """One file of each kind with all the metadata that its kind has room for."""
    pixels = [drawn(10 + number, ill=number % 2 == 0) for number in range(6)]
    png, jpeg = imagecodecs.png_encode(pixels[0]), imagecodecs.jpeg_encode(pixels[1], level=90)
    packed = zlib.compress(b"ZQXJPACKED")
    texts = [
        (b"tEXt", b"Author\0ZQXJTEXT"),
        (b"zTXt", b"Comment\0\0" + packed),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0ZQXJITXT"),
        (b"iCCP", b"ZQXJPROFILE\0\0" + packed),
        (b"eXIf", exif()),
        (b"tIME", b"\x07\xe4\1\1\0\0\0"),
        (b"prVt", b"ZQXJPRIVATE"),
    ]
    segments = [
        (0xE1, b"Exif\0\0" + exif()),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0ZQXJXMP"),
        (0xE2, b"ICC_PROFILE\0\1\1ZQXJICC"),
        (0xED, b"Photoshop 3.0\0ZQXJIPTC"),
        (0xFE, b"ZQXJCOMMENT"),
    ]
    extension = b"\x21\xfe\x0eZQXJGIFCOMMENT\0"
    gif = imagecodecs.gif_encode(pixels[3])
    at = 13 + 3 * (2 << (gif[10] & 7)) * (gif[10] >> 7)
    return [
        ("png", png[:33] + b"".join(chunk(*one) for one in texts) + png[33:] + b"ZQXJBEHIND"),
        (
            "jpg",
            jpeg[:2]
            + b"".join(segment(*one) for one in segments)
            + jpeg[2:]
            + b"ZQXJBEHIND"
            + jpeg,
        ),
        ("tif", tiff(pixels[2])),
        ("gif", gif[:at] + extension + gif[at:]),
        ("bmp", imagecodecs.bmp_encode(pixels[4]) + b"ZQXJBEHIND"),
        ("png", imagecodecs.png_encode(pixels[5])),
    ]


def chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def exif() -> bytes:
    """A TIFF head with an image description alone."""
    return b"II*\0" + struct.pack("<IHHHIII", 8, 1, 270, 2, 11, 26, 0) + b"ZQXJEXIF!!\0"


def tiff(pixels: np.ndarray) -> bytes:
    """A TIFF of one strip that names an artist and describes the image."""
    height, width = pixels.shape
    words, place = b"ZQXJTIFFWORDS\0", 8 + pixels.size
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (270, 2, len(words), place),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, pixels.size),
        (315, 2, len(words), place),
    ]
    table = (
        struct.pack("<H", len(tags))
        + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        + bytes(4)
    )
    return struct.pack("<2sHI", b"II", 42, place + len(words)) + pixels.tobytes() + words + table


EMBEDDED = re.compile(rb"base64,([A-Za-z0-9+/=]+)")


def contents(path: Path) -> bytes:
    """All that a file says: with what is packed, encoded or compressed in it."""
    data = path.read_bytes()
    # Decoded below: in the letters of base64 four of a marker meet by chance.
    plain = EMBEDDED.sub(b"", data)
    found = [plain, str(path).encode()]
    if path.suffix == ".parquet":
        found.append(pl.read_parquet(path).write_json().encode())
    if data[:2] == b"\x1f\x8b":
        found.append(gzip.decompress(data))
    if data[:2] == b"PK":
        found += [
            zipfile.ZipFile(io.BytesIO(data)).read(name)
            for name in zipfile.ZipFile(io.BytesIO(data)).namelist()
        ]
    found += [base64.b64decode(one) for one in EMBEDDED.findall(data)]
    if data.startswith(b"\x89PNG"):
        found += [name + content for name, content in chunks(data) if name != b"IDAT"]
    return b"\n".join(found)


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    at, found = 8, []
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + length]
        found.append(
            (
                name,
                zlib.decompress(content[content.index(b"\0") + 2 :])
                if name == b"zTXt"
                else content,
            )
        )
        at += 12 + length
    return found


def markers_in(*places: Path) -> list[str]:
    files = [
        file
        for place in places
        for file in ([place] if place.is_file() else sorted(place.rglob("*")))
        if file.is_file()
    ]
    assert files
    return [
        f"{file}: {marker!r}"
        for file in files
        for marker in MARKERS
        if marker.lower() in contents(file).replace(str(file.parents[0]).encode(), b"").lower()
    ]


@pytest.fixture(scope="module")
def runs(hospital, tmp_path_factory) -> dict[str, Run]:
    """Of DICOM alone, of a table and its images, and of both in one folder, whose DICOM the table
    does not name.
    """
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for name in KINDS:
        done = hilum("datacard", hospital / name, "--out", folder / name / "run", "--images")
        assert done.returncode == 0, done.stderr
        found[name] = Run(folder / name / "run")
    return found


@pytest.fixture(scope="module")
def run(runs) -> Run:
    return runs["rasters"]


# ------------------------------------------------------------------------------------ identifiers


@pytest.mark.parametrize("kind", KINDS)
def test_no_marker_of_thirty_is_in_the_card_the_audit_page_or_an_export(
    kind, runs, hospital, tmp_path
):
    run = runs[kind]
    assert Manifest.read(run.folder).table["patient_id"].str.contains("MRN7").all()
    for form in plugins.names("writers"):
        export(form, run.folder, tmp_path / form)
        export(form, hospital / kind, tmp_path / f"{form} of the folder")
    assert not markers_in(run / "card", run / "audit.html", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_with_pseudonyms_for_file_names_nothing_of_a_name_is_left(kind, runs, tmp_path):
    run, reported = runs[kind], {"file_names": "pseudonyms"}
    done = hilum("datacard", run.folder, "--file-names", "pseudonyms")
    assert done.returncode == 0, done.stderr
    for form in plugins.names("writers"):
        export(form, run.folder, tmp_path / form, reported)
    files = [
        file for place in (run / "card", tmp_path) for file in place.rglob("*") if file.is_file()
    ]
    pages = [
        file.read_text() for file in files if file.suffix in (".md", ".json", ".csv", ".jsonl")
    ]
    assert not [page for page in pages if re.search(r"MRN7|\.\d\.1\.7|headers/|images/[MP]", page)]


def test_who_asks_for_identifiers_gets_them(runs, tmp_path):
    for kind in ("headers", "rasters"):
        done = hilum(
            "export",
            "csv_tables",
            runs[kind].folder,
            tmp_path / kind,
            "--keep-identifiers",
            "--file-names",
            "keep",
            "--readings",
            "keep",
        )
        assert done.returncode == 0 and "identifiers: kept" in done.stdout, done.stderr
    headers, rasters = (
        (tmp_path / kind / "images.csv").read_text() for kind in ("headers", "rasters")
    )
    assert "MRN700001" in headers and f"{STUDY}.1" in headers and "ZQXJROAD" in rasters


def test_the_key_is_its_owners_alone_and_runs_have_other_pseudonyms(run, hospital, tmp_path):
    assert (run / "private/pseudonyms.key").stat().st_mode & 0o777 == 0o600
    assert (run / "private/pseudonyms.csv").stat().st_mode & 0o777 == 0o600
    for place in ("one", "two"):
        export("csv_tables", run.folder, tmp_path / place)
    export("csv_tables", hospital / "rasters", tmp_path / "other")
    one, two, other = (
        pl.read_csv(tmp_path / place / "images.csv") for place in ("one", "two", "other")
    )
    assert one.drop("part").equals(two.drop("part"))
    assert not set(one["patient_id"]) & set(other["patient_id"])


def test_the_mapping_in_the_run_leads_back(run, tmp_path):
    export("csv_tables", run.folder, tmp_path / "out")
    back = {
        row["passed on as"]: row["stands for"]
        for row in csv.DictReader((run / "private/pseudonyms.csv").open(encoding="utf-8"))
    }
    images = pl.read_csv(tmp_path / "out" / "images.csv")
    patients = Manifest.read(run.folder).table["patient_id"]
    assert {back[one] for one in images["patient_id"]} == set(patients)
    assert {back.get(one, one) for one in images["image_id"]} == set(
        Manifest.read(run.folder).table["image_id"]
    )


def test_a_damaged_key_is_refused(tmp_path):
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(BadData, match="expected the 32 of a key. Delete it"):
        Pseudonyms.kept(tmp_path / "key")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_one_patient_stay_one_patients_and_images_stay_apart(kind, hospital):
    manifest = ingest.ingest(hospital / kind)
    for share in (Share(), Share(file_names="pseudonyms")):
        passed = pass_on(manifest, share, KEY)
        passed.manifest.check()
        pairs = set(
            zip(manifest.table["patient_id"], passed.manifest.table["patient_id"], strict=True)
        )
        assert (
            len(pairs)
            == manifest.table["patient_id"].n_unique()
            == passed.manifest.table["patient_id"].n_unique()
        )
        assert all(
            passed.manifest.located(path)[0].is_file() for path in passed.manifest.table["path"]
        )


def test_an_exports_images_are_read_back_with_their_patients_and_labels(run, tmp_path):
    export("imagefolder", run.folder, tmp_path / "out")
    lines = [
        json.loads(line)
        for line in (tmp_path / "out/train/metadata.jsonl").read_text().splitlines()
    ]
    patients = {line["patient_id"] for line in lines}
    assert len(patients) == Manifest.read(run.folder).table["patient_id"].n_unique()
    assert all((tmp_path / "out/train" / line["file_name"]).is_file() for line in lines)


def test_annotators_go_by_pseudonyms(tmp_path):
    plugins.load("readers", "unidata").example(tmp_path / "data", images=4, seed=1)
    export("coco", tmp_path / "data", tmp_path / "out")
    reported = json.loads((tmp_path / "out/annotations/instances.json").read_text())
    authors = {one["author"] for one in reported["annotations"]} - {None}
    assert authors and all(re.fullmatch("R-[0-9a-f]{12}", one) for one in authors)


def test_who_corrected_goes_by_a_pseudonym_and_short_names_do_too(hospital):
    manifest = ingest.ingest(hospital / "rasters")
    first, second, third = manifest.table["image_id"].head(3)
    made = corrections.apply(
        manifest,
        [
            Correction(first, "mirror", author="Ann", revision=3),
            Correction(second, "leave out", author="Bo Zqxj", why="seen: by Ann"),
            Correction(
                third, "set label", concept="mass", state="present", author="Ann", revision=4
            ),
        ],
        "fixes.toml",
    )
    passed = pass_on(made, Share(), KEY).manifest
    (source,) = passed.labels.filter(pl.col("rule") == "corrected")["source"]
    assert re.fullmatch("corrections: revision 4 by R-[0-9a-f]{12}", source)
    messages = passed.remarks["message"].to_list()
    assert sum(source.removeprefix("corrections: revision 4") in text for text in messages) == 2
    assert not any("Bo" in text or "by Ann:" in text for text in messages)
    kept = pass_on(
        made, Share(identifiers="keep", file_names="keep", readings="keep"), KEY
    ).manifest
    assert kept.labels.equals(made.labels) and kept.remarks.equals(made.remarks)


def test_public_releases_keep_their_names_and_patients(tmp_path):
    plugins.load("readers", "nih14").example(tmp_path / "data", images=8, seed=2)
    manifest = ingest.ingest(tmp_path / "data")
    passed = pass_on(manifest, Share(), KEY).manifest
    assert passed.table.equals(manifest.table)
    hidden = pass_on(manifest, Share(file_names="pseudonyms"), KEY).manifest
    assert not set(hidden.table["patient_id"]) & set(manifest.table["patient_id"])


def test_names_that_become_one_are_distinguished(hospital):
    manifest = ingest.ingest(hospital / "rasters")
    two = manifest.table.head(2).with_columns(
        patient_id=pl.lit("folder/7"),
        image_id=pl.Series(["folder/7_a", "folder/07_a"]),
        path=pl.Series(["7_a.png", "07_a.png"]),
        study=None,
    )
    passed = pass_on(
        replace(
            manifest, table=two, labels=manifest.labels.clear(), shapes=manifest.shapes.clear()
        ),
        Share(),
        KEY,
    )
    passed.manifest.check()
    assert not [name for name in passed.manifest.table["image_id"] if re.search(r"/0?7_", name)]


# -------------------------------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("patient set/MRN12: female in 2", "patient set/P-1: female in 2"),
        ("a/b.png: joined with 12", "I-9.png: joined with P-2"),
        ("12 of 120 images", "12 of 120 images"),
        ("xa/b.png and a/b.png.bak stay", "xa/b.png and a/b.png.bak stay"),
        ("/data/root/a/b.png, mrn12_3", "I-9.png, P-1_3"),
        ("study 1.2.840.113619.2.55.3", "study U"),
    ],
)
def test_names_in_sentences_are_replaced_and_nothing_else(text, expected):
    words = Wording(
        "/data/root",
        {"set/MRN12": "set/P-1", "a/b.png": "I-9.png"},
        {"MRN12": "P-1", "12": "P-2"},
        uid=lambda _: "U",
    )
    assert words.of(text) == expected


# ----------------------------------------------------------------------------------------- pixels


def seen(path: Path) -> np.ndarray:
    """The pixels by a decoder that is not ours."""
    return cv2.imdecode(
        np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    )


@pytest.mark.parametrize("number", range(6))
def test_an_exported_image_has_the_pixels_of_its_file_and_nothing_else(
    number, run, hospital, tmp_path
):
    export("imagefolder", run.folder, tmp_path / "out", dict(file_names="keep", identifiers="keep"))
    source = next((hospital / "rasters/images").glob(f"*_{number}.*"))
    copy = next((tmp_path / "out").rglob(f"*_{number}.*"))
    assert copy.suffix == (source.suffix if source.suffix in (".png", ".jpg") else ".png")
    assert np.array_equal(raster.read(copy).values, raster.read(source).values)
    assert b"ZQXJ" in source.read_bytes() or number == 5
    assert b"ZQXJ" not in contents(copy).replace(str(copy).encode(), b"")
    if source.suffix != ".gif":
        grey = cv2.imdecode(np.fromfile(source, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(cv2.imdecode(np.fromfile(copy, np.uint8), cv2.IMREAD_GRAYSCALE), grey)


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pngs_keep_their_pixels_and_their_kind(kind, channels, tmp_path):
    values = np.random.default_rng(channels).integers(
        0, np.iinfo(kind).max, (40, 30, channels), kind
    )
    data = imagecodecs.png_encode(values.squeeze())
    (tmp_path / "a.png").write_bytes(data[:33] + chunk(b"tEXt", b"Author\0ZQXJ") + data[33:])
    (tmp_path / "b.png").write_bytes(without_metadata.copied(tmp_path / "a.png"))
    assert np.array_equal(seen(tmp_path / "b.png"), seen(tmp_path / "a.png"))
    assert b"ZQXJ" not in (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        [],
        [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
        [cv2.IMWRITE_JPEG_RST_INTERVAL, 2],
        [cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_jpegs_of_all_kinds_keep_their_pixels(options, channels, tmp_path):
    values = np.random.default_rng(3).integers(0, 255, (70, 50, channels), np.uint8)
    data = cv2.imencode(".jpg", values, options)[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(data[:2] + segment(0xFE, b"ZQXJ") + data[2:] + b"ZQXJ")
    (tmp_path / "b.jpg").write_bytes(without_metadata.copied(tmp_path / "a.jpg"))
    assert np.array_equal(seen(tmp_path / "b.jpg"), seen(tmp_path / "a.jpg"))
    assert b"ZQXJ" not in (tmp_path / "b.jpg").read_bytes()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_copied_readably_or_refused(data):
    ending, whole = data.draw(st.sampled_from(rasters()[:2]))
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = data.draw(
        st.sampled_from([whole[:at], whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]])
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{ending}"
        path.write_bytes(broken)
        with contextlib.suppress(BadData):
            copy = without_metadata.copied(path)
            assert b"ZQXJCOMMENT" not in copy and b"ZQXJTEXT" not in copy


def test_what_is_hidden_behind_the_rows_of_a_png_is_left_out(tmp_path):
    rows = zlib.compress(b"".join(b"\0" + bytes(20) for _ in range(20))) + b"ZQXJBEHINDROWS"
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 20, 20, 8, 0, 0, 0, 0)),
        (b"IDAT", rows),
        (b"IDAT", b"ZQXJMORE"),
        (b"IEND", b""),
    ]
    data = b"".join(chunk(*part) for part in parts)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data + b"ZQXJBEHIND")
    (tmp_path / "b.png").write_bytes(without_metadata.copied(tmp_path / "a.png"))
    assert b"ZQXJ" not in (tmp_path / "b.png").read_bytes()
    assert seen(tmp_path / "b.png").shape == (20, 20)


def test_a_run_folder_apart_nothing_names_the_users_folder(run):
    home = str(Path(storage.read_json(run / "root.json")["root"]).parent)
    pages = [run / "audit.html", *(run / "card").rglob("*.*")]
    assert not [page for page in pages if home.encode() in page.read_bytes()]


def test_a_damaged_key_is_refused_and_no_other_pseudonyms_are_given(tmp_path):
    first = Pseudonyms.kept(tmp_path / "key")
    assert Pseudonyms.kept(tmp_path / "key") == first
    whole = (tmp_path / "key").read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        (tmp_path / "key").write_bytes(damaged)
        with pytest.raises(BadData, match="holds other bytes than were written"):
            Pseudonyms.kept(tmp_path / "key")
