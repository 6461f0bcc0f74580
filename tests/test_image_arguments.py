"""Files, folders and patterns as arguments: the bytes decide what is an image, nothing is passed
over in silence, and odd names are no hindrance.
"""

import os
import socket
from pathlib import Path, PurePosixPath

import imagecodecs
import numpy as np
import pytest
from dicom_files import write as write_dicom
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import BadData, HilumError, on_one_line
from hilum.imaging.files import output_folder
from hilum.imaging.files.find_images import SHOWN, collect
from hilum.imaging.files.portable_names import Found, unique_names
from hilum.safety.path_names import as_text

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)
PNG = imagecodecs.png_encode(GREY)


def put(path: Path, data: bytes = PNG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def names(*arguments, to=()) -> list[str]:
    """Names of what is found, where nothing is wrong."""
    found = collect(arguments, to)
    assert not found.faults, found.faults
    return [name for _, name in found.names]


@pytest.fixture
def ward(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ward/a.png", "ward/b.PNG", "ward/deep/er/c.png"):
        put(tmp_path / name)
    return tmp_path / "ward"


def test_files_folders_and_patterns_name_the_same_images(ward):
    expected = ["a", "b", "deep/er/c"]
    assert (
        names("ward")
        == names(ward)
        == names("ward/")
        == names("ward", "ward/a.png")
        == names("ward/**")
        == expected
    )
    assert (
        names("ward/a.png", "ward/b.PNG", "ward/deep/er/c.png")
        == names("ward/**/*")
        == names("**/*.[pP][nN][gG]")
        == ["a", "b", "c"]
    )
    assert (
        names("w?rd/[!b].png") == ["a"]
        and names("ward/*") == ["a", "b", "er/c"]
        and names("*") == expected
    )


def test_the_same_file_given_twice_is_done_once(ward):
    (ward / "link.png").symlink_to(ward / "a.png")
    assert (
        len(names("ward", "./ward/a.png", ward / "a.png", "ward/../ward/a.png", "ward/*.png")) == 3
    )


def test_bytes_decide_what_is_an_image_and_not_the_ending(tmp_path):
    (
        put(tmp_path / "png"),
        put(tmp_path / "image.txt"),
        put(tmp_path / "tiff.dat", imagecodecs.tiff_encode(GREY)),
    )
    put(tmp_path / "jpeg.1", imagecodecs.jpeg_encode(GREY))
    write_dicom(tmp_path / "IM0001", GREY.astype(np.uint16), bits=12)
    put(tmp_path / "table.csv", b"image,label\n"), put(tmp_path / "page.html", b"<html>")
    found = collect([tmp_path])
    assert {path.name for path, _ in found.names} == {
        "png",
        "image.txt",
        "tiff.dat",
        "jpeg.1",
        "IM0001",
    } and not found.faults
    (note,) = found.notes
    assert "2 files that are no images" in note and "table.csv" in note and "page.html" in note


def test_a_file_that_only_its_ending_calls_an_image_is_kept_so_that_reading_names_the_damage(
    tmp_path,
):
    (
        put(tmp_path / "zeros.png", bytes(500)),
        put(tmp_path / "empty.dcm", b""),
        put(tmp_path / "page.jpg", b"<html>"),
    )
    assert len(names(tmp_path)) == 3


def test_dicom_without_pixels_is_no_image(tmp_path):
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID, report.Modality = (
        "1.2.840.10008.5.1.4.1.1.88.11",
        generate_uid(),
        "SR",
    )
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.file_meta.MediaStorageSOPClassUID, report.file_meta.MediaStorageSOPInstanceUID = (
        report.SOPClassUID,
        report.SOPInstanceUID,
    )
    report.save_as(tmp_path / "SR0001", enforce_file_format=True)
    write_dicom(tmp_path / "IM0001", GREY.astype(np.uint16), bits=12)
    found = collect([tmp_path])
    assert [path.name for path, _ in found.names] == ["IM0001"] and "SR0001" in found.notes[0]


@pytest.mark.parametrize(
    "clutter",
    [
        ".hidden.png",
        "._a.png",
        ".DS_Store",
        "Thumbs.db",
        "__MACOSX/a.png",
        ".git/a.png",
        "Desktop.ini",
    ],
)
def test_hidden_files_and_what_systems_leave_behind_are_passed_over_and_named(ward, clutter):
    put(ward / clutter)
    found = collect([ward])
    assert [name for _, name in found.names] == ["a", "b", "deep/er/c"] and clutter.split("/")[
        0
    ] in found.notes[0]
    assert names("ward/*") == ["a", "b", "er/c"]


def test_what_is_passed_over_is_counted_beyond_the_names_that_are_shown(tmp_path):
    put(tmp_path / "a.png")
    for number in range(SHOWN + 5):
        put(tmp_path / f"{number}.txt", b"words")
    (note,) = collect([tmp_path]).notes
    assert f"passed over {SHOWN + 5} files" in note and "and 5 more" in note


@pytest.mark.parametrize(
    "argument",
    [
        "nothing.png",
        "ward/*.dcm",
        "empty",
        "no/such/**/*.png",
        "",
        "ward/deep/*.png",
        "texts",
        "texts/*",
    ],
)
def test_an_argument_that_means_no_image_is_an_error_that_names_it(ward, argument):
    Path("empty").mkdir()
    put(Path("texts/a.txt"), b"words")
    found = collect(["ward/a.png", argument])
    (fault,) = found.faults
    assert (
        (argument or "empty") in fault
        and "name a PNG, JPEG, TIFF or DICOM file" in fault
        and len(found.names) == 1
    )


@pytest.mark.parametrize(
    "name",
    [
        "a b.png",
        "a[1].png",
        "[x]*.png",
        'it\'s "so".png',
        "-rf.png",
        "new\nline.png",
        "\x1b[31mred.png",
        "ü.png",
        os.fsdecode(b"caf\xe9.png"),
    ],
)
def test_odd_names_are_taken_as_they_are(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / name), put(tmp_path / "a1.png")
    found = collect([name if not name.startswith("-") else f"./{name}"])
    ((path, plain),) = found.names
    assert path.name == name and plain.isprintable() and plain.encode() and not found.faults
    assert (
        on_one_line(as_text(path)).isprintable()
        and "\n" not in on_one_line(as_text(path))
        and as_text(path).encode()
    )
    assert len(names(tmp_path)) == 2


def test_a_pattern_below_a_folder_with_brackets_in_its_name_is_met(tmp_path):
    put(tmp_path / "set [a]" / "1.png"), put(tmp_path / "set [a]" / "2.png")
    assert names(tmp_path / "set [a]" / "?.png") == ["1", "2"]


def test_links_in_a_circle_come_to_an_end(ward):
    for number in range(3):
        (ward / f"up{number}").symlink_to(ward)
        (ward / "deep" / f"top{number}").symlink_to(ward)
    assert (
        names("ward") == names("ward/**") == ["a", "b", "deep/er/c"]
        and len(names("ward/**/*.png")) == 2
    )


def test_links_inside_a_folder_are_searched_and_files_keep_the_name_of_their_place(ward):
    (ward / "0_link").symlink_to(ward / "deep")
    (ward / "z_link.png").symlink_to(ward / "b.PNG")
    assert names("ward") == ["a", "b", "deep/er/c"]


@pytest.mark.parametrize("argument", ["ward", "ward/*", "ward/**/*.png", "ward/*_link*"])
def test_a_link_out_of_a_searched_folder_is_passed_over_by_name_and_followed_where_it_is_named(
    ward, tmp_path, argument
):
    secret = put(tmp_path / "elsewhere" / "d.png")
    (ward / "a_link").symlink_to(secret.parent)
    (ward / "a_link.png").symlink_to(secret)
    found = collect([argument])
    assert not any(name.endswith(("d", "a_link")) for _, name in found.names)
    assert any(
        ("a_link.png" in note and "leads out" in note) or "lead out" in note for note in found.notes
    )
    assert names("ward/a_link") == ["d"] and names("ward/a_link.png") == ["a_link"]


@pytest.mark.parametrize("name", ["gone.png", "itself.png"])
def test_a_link_that_leads_nowhere_is_named(ward, name):
    (ward / "gone.png").symlink_to("nowhere.png")
    (ward / "itself.png").symlink_to("itself.png")
    for argument in (ward, f"ward/{name}"):
        assert any(
            name in fault and "where it leads to" in fault for fault in collect([argument]).faults
        )


def test_pipes_sockets_and_devices_are_never_opened(ward):
    os.mkfifo(ward / "pipe.png")
    (ward / "device.png").symlink_to("/dev/zero")  # leads out of the folder besides
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(ward / "socket"))
        found = collect([ward])
        assert (
            len(found.names) == 3
            and not found.faults
            and all(name in found.notes[0] for name in ("pipe.png", "socket"))
            and "device.png" in found.notes[1]
        )
        for name, words in {
            "pipe.png": "a pipe",
            "device.png": "a device",
            "socket": "a socket",
        }.items():
            (fault,) = collect([ward / name]).faults
            assert words in fault and name in fault


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may read everything")
def test_what_may_not_be_read_is_named_and_the_rest_is_found(ward):
    (ward / "deep").chmod(0)
    (ward / "b.PNG").chmod(0)
    found = collect([ward])
    (ward / "deep").chmod(0o700)
    assert (
        [name for _, name in found.names] == ["a"]
        and len(found.faults) == 2
        and "may be read" in found.faults[0]
    )


# Output


def test_the_output_of_an_earlier_call_is_passed_over_and_said_to_be(ward):
    output_folder.mark(ward / "out", "lungs")
    put(ward / "out" / "both" / "a.png")
    for argument in ("ward", "ward/**", "ward/*"):
        found = collect([argument])
        assert len(found.names) == 3 and any(
            "output" in note and "out" in note for note in found.notes
        )
    assert len(names("ward/**/*.png")) == 2 and collect(["ward/*/both/*"]).names == ()
    for argument in ("ward/out", "ward/out/both"):
        (fault,) = collect([argument]).faults
        assert "`hilum lungs` wrote" in fault


def test_a_folder_that_is_searched_is_never_written_to_and_the_remedy_lies_outside(ward, tmp_path):
    for arguments, to in (
        (["ward"], ward / "out"),
        (["ward"], ward),
        (["ward/**/*.png"], ward / "deep" / "x"),
        (["ward/a.png", "."], Path("out")),
    ):
        with pytest.raises(HilumError, match="never written to; use --out") as refusal:
            collect(arguments, [to])
        assert collect(arguments, [Path(str(refusal.value).rsplit("--out ", 1)[1])]).names
    (ward / "link").symlink_to(tmp_path / "store")
    put(tmp_path / "store" / "e.png")
    with pytest.raises(HilumError, match="never written to"):
        collect(["ward/link"], [tmp_path / "store" / "out"])
    with pytest.raises(BadData, match="lies below"):
        collect(["ward/a.png"], [ward])
    assert names("ward/a.png", "ward/*.png", to=[ward / "out"]) == ["a"]


# Names of what is written


def test_files_of_one_name_are_distinguished_readably_and_whatever_the_order(tmp_path):
    given_files = [
        put(tmp_path / name)
        for name in ("a/x.png", "b/x.png", "b/x.jpg", "a/y.png", "a/y.tif", "a/z.png")
    ]
    found = dict(collect(given_files).names)
    assert [found[path] for path in given_files] == ["a/x", "b/x", "x_jpg", "y_png", "y_tif", "z"]
    assert dict(collect(given_files[::-1]).names) == found


def test_names_differ_in_more_than_case_or_accents_spelt_otherwise(tmp_path):
    for name in ("x.png", "X.png", "\u00e9.png", "e\u0301.png"):
        put(tmp_path / name)
    found = names(tmp_path)
    assert len({name.casefold() for name in found}) == 4


def test_a_name_is_short_enough_to_be_written_beside_its_place(tmp_path):
    for letters in ("A" * 250, "A" * 251, "é" * 125):
        put(tmp_path / f"{letters}.png")
    found = names(tmp_path)
    assert len(set(found)) == 3 and max(len(name.encode()) for name in found) < 200


def test_a_folder_called_like_an_image_does_not_stand_where_a_file_is_to_be_written(tmp_path):
    put(tmp_path / "x.png" / "y.png"), put(tmp_path / "x")
    assert names(tmp_path) == ["x", "x_png/y"]


parts = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=6
).filter(lambda part: part.strip(".") != "")


@settings(max_examples=200, deadline=None)
@given(
    st.sets(
        st.lists(parts, min_size=1, max_size=4).map(lambda found: "/".join(found)),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 3),
)
def test_names_are_unique_relative_and_fit_for_every_file_system(paths, depth):
    files = [
        Found(Path("/data") / path, PurePosixPath(*PurePosixPath(path).parts[-depth:]))
        for path in paths
    ]
    found = unique_names(files)
    assert found == unique_names(files[::-1]) and len(
        {name.casefold() for name in found.values()}
    ) == len(files)
    for name in found.values():
        assert not name.startswith("/") and all(
            part not in ("", ".", "..") and len(part.encode()) < 200 and part.isprintable()
            for part in name.split("/")
        )
