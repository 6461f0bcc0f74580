"""Files from outside come in by one door: it is the only one, and it lets in nothing but whole
regular files below their folder.
"""

import ast
import contextlib
import json
import os
import re
import shutil
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_up import two_classes

import hilum
from hilum.config import Recipe
from hilum.dataset import corrections
from hilum.errors import BadData, BadRecipe, CannotRead, HilumError, NotFound
from hilum.imaging.files import image_file, output_folder
from hilum.safety import untrusted_files

SOURCE = Path(hilum.__file__).parent
OPENS = re.compile(
    r"(^|\.)(open|read_text|read_bytes|copyfile|copy2|copytree|fromfile|memmap|genfromtxt|loadtxt|read_csv|scan_csv|read_parquet|scan_parquet|"
    r"read_ndjson|scan_ndjson|read_excel|ZipFile|TarFile|InferenceSession|imread|dcmread|link|symlink)$|^shutil\.(copy|move)$|^np\.load$|^pl\.read_json$"
)
# Modules that open files by themselves, and why.
OWN_FILES = {
    "safety/untrusted_files": "the door itself",
    "audit/checks/__init__": "the source of the checks of the package",
    "training/onnx_export": "a file that it wrote into a temporary folder",
    "plugins": "the source and the facts of a plug-in of the package",
    "storage/__init__": "what Hilum writes into its own folders, and reads of them",
    "storage/flushing": "what Hilum has written into its own folders",
    "pipeline/cache": "journal and pixels of a run's cache",
    "pipeline/segment": "masks and models of a run",
    "dataset/_transfer": "the part of a file that is being fetched",
    "dataset/remote/fetching": "the part of a file that is being fetched, and the file itself",
    "dataset/download": "the same file under its final name",
    "dataset/_unpack": "an archive whose digest was compared, and what is unpacked from it",
    "safety/onnx_session": "the bytes of a model that came in and were examined",
    "cli/large_pages": "what the system says of its large pages",
    "cli/exit_status": "nothing, where standard output is gone",
    "errors": "where the package was installed from",
    "imaging/files/_dicom_parsing": "bytes that came in",
    "dataset/tables/_xlsx": "a part of bytes that came in",
    "annotations/report_parser/_terms": "a table of the package",
    "node/inbox": "an object that is being received, under a name of its own",
    "node/health": "what the system says of this process's memory",
    "serve/static_files": "static files of the package",
    "serve/incoming": "a film that is written to a temporary folder of its own",
    "serve/film_images": "an archive that is written into memory",
    "dataset/writers/_xrv_dataset": "a file that is written out, for other programs",
}
DOORS = ("untrusted_files.", "storage.", "Journal.")  # the last opens by its own module alone
RESOURCES = ("resources", "Path(__file__)")  # files of the package
OF_BYTES = ("io.BytesIO", "fileobj=")  # of what came through the door already


def openers(path: Path) -> list[str]:
    """Calls in a module that open a file by its name."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if OPENS.search(called) and not called.startswith(DOORS):
                whole = ast.unparse(node)
                if any(words in whole for words in (*RESOURCES, *OF_BYTES)):
                    continue
                found.append(f"line {node.lineno}: {whole[:80]}")
    return found


def test_no_module_opens_a_file_from_outside_by_itself():
    own = {
        path.relative_to(SOURCE).with_suffix("").as_posix(): openers(path)
        for path in SOURCE.rglob("*.py")
    }
    offenders = {name: found for name, found in own.items() if found and name not in OWN_FILES}
    assert not offenders


def test_the_modules_that_open_files_by_themselves_are_no_more_than_these():
    assert not [
        name
        for name in OWN_FILES
        if name != "safety/untrusted_files" and not openers(SOURCE / f"{name}.py")
    ]


# ----------------------------------------------------------------------------------------- one file


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return two_classes(tmp_path)


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def bound(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(path))
    return path


def made_folder(path: Path) -> Path:
    path.mkdir()
    return path


def device(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


SPECIAL = {"a pipe": pipe, "a socket": bound, "a folder": made_folder, "a device": device}
READERS = (
    untrusted_files.read_bytes,
    untrusted_files.read_text,
    untrusted_files.read_json,
    untrusted_files.read_toml,
    lambda path: untrusted_files.read_head(path, 9),
    image_file.read,
    image_file.kind,
    Recipe.read,
    corrections.read,
)


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_refused_by_every_reader_and_never_waited_for(
    kind, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    path = SPECIAL[kind](tmp_path / "x")
    for read in READERS:
        with pytest.raises((BadData, BadRecipe), match=f"x: is {kind} and is never read"):
            read(path)


def test_nothing_a_link_to_nothing_and_a_link_to_itself_are_distinguished(tmp_path):
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "itself").symlink_to("itself")
    with pytest.raises(NotFound, match="there is no such file"):
        untrusted_files.read_bytes(tmp_path / "none")
    with pytest.raises(NotFound, match="gone: is a link to nothing"):
        untrusted_files.read_bytes(tmp_path / "gone")
    with pytest.raises(CannotRead, match="itself .*link that leads to itself"):
        untrusted_files.read_bytes(tmp_path / "itself")
    for name in ("zero\0byte", "n" * 300):
        with pytest.raises(CannotRead):
            untrusted_files.read_bytes(tmp_path / name)


def test_a_file_out_of_its_folder_is_refused_however_its_name_leads_there(data):
    (data / "link.png").symlink_to(data.parent / "elsewhere" / "secret.png")
    (data / "folder").symlink_to(data.parent / "elsewhere")
    (data / "inside.png").symlink_to(data / "NORMAL" / "a.png")
    for name in (
        "link.png",
        "folder/secret.png",
        "../elsewhere/secret.png",
        str(data.parent / "elsewhere" / "secret.png"),
    ):
        with pytest.raises(
            BadData, match=r"leads out of .*secret\.png, and is not followed.*links = true"
        ):
            untrusted_files.read_bytes(data / name, root=data)
        with pytest.raises(BadData, match="leads out of"):
            image_file.read(data / name, data)
    assert image_file.read(data / "inside.png", data).values.shape == (40, 36)


def test_a_name_that_becomes_a_link_while_it_is_opened_shows_nothing(data, monkeypatch):
    path, opened = data / "NORMAL" / "a.png", os.open

    def swapped(name, flags, *more, **named):
        if Path(name) == path:
            (data / "NORMAL").rename(data / "OLD")
            (data / "NORMAL").symlink_to(data.parent / "elsewhere")
            shutil.copy(
                data.parent / "elsewhere" / "secret.png", data.parent / "elsewhere" / "a.png"
            )
        return opened(name, flags, *more, **named)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(BadData, match="leads out of"):
        untrusted_files.read_bytes(path, root=data)


def test_a_file_that_changes_while_it_is_read_is_a_fault(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("begun")
    with (
        pytest.raises(BadData, match="was changed while it was read"),
        untrusted_files.opened(path) as stream,
    ):
        stream.read(2)
        path.write_text("begun and ended")


def test_a_file_larger_than_its_limit_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "sparse.json"
    with open(path, "wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(BadData, match="expected at most"):
        untrusted_files.read_json(path)
    assert untrusted_files.read_head(path, 4) == bytes(4)


def test_no_file_is_left_open(data):
    def held() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux lists open files")
    before = held()
    (data / "out").symlink_to(data.parent / "elsewhere")
    for name in ("NORMAL/a.png", "out/secret.png", "NORMAL", "none"):
        with contextlib.suppress(HilumError):
            untrusted_files.read_bytes(data / name, root=data)
    assert held() == before


BROKEN_TEXT = {
    "nested": ("[" * 100_000, "a = " + "[" * 100_000),
    "long number": ('{"a": ' + "1" * 5000 + "}", "a = " + "1" * 5000),
    "long negative fraction": ("[-0." + "1" * 5000 + "]", "a = -0." + "1" * 5000),
    "zero byte": ("\0", "\0"),
    "not whole": ('{"a": [1', "a = [1"),
    "a key twice": (None, "a = 1\na = 2"),
    "date out of range": (None, "a = 2020-13-45"),
    "half a character": ('{"a": "\\ud800"}', 'a = "\\ud800"'),
}


@pytest.mark.parametrize("kind", BROKEN_TEXT)
def test_broken_json_and_toml_are_one_sentence_with_the_name(kind, tmp_path):
    for text, name, read in zip(
        BROKEN_TEXT[kind],
        ("a.json", "a.toml"),
        (untrusted_files.read_json, untrusted_files.read_toml),
        strict=True,
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
            with pytest.raises(BadData, match=name):
                read(tmp_path / name)


def test_text_may_begin_with_a_byte_order_mark_and_must_be_utf8(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + '{"ä": "\\ud83d\\ude00"}'.encode())
    assert untrusted_files.read_json(tmp_path / "a.json") == {"ä": "\U0001f600"}
    (tmp_path / "b.json").write_bytes("{}".encode("utf-16"))
    with pytest.raises(BadData, match=r"b\.json: is not UTF-8"):
        untrusted_files.read_json(tmp_path / "b.json")


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(st.sampled_from("[]{}=\"'\\\n.,:-+eE0123456789abu_ "), max_size=80).map(str.encode),
    )
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_the_bytes_reading_text_raises_its_own_errors_alone(tmp_path, data):
    path = tmp_path / "a"
    path.write_bytes(data)
    for read in (
        untrusted_files.read_json,
        untrusted_files.read_toml,
        Recipe.read,
        corrections.read,
    ):
        try:
            json.dumps(read(path), ensure_ascii=False, default=str).encode()
        except HilumError as error:
            str(error).encode()
    output_folder.written_by(tmp_path)


@pytest.mark.parametrize(
    "folder",
    ['"a\\u0000b"', '"a\\U00000000b"', '"a\\\\\\u0000b"'],
    ids=["short", "long", "behind a backslash"],
)
def test_a_zero_character_in_settings_is_refused_by_name(tmp_path, folder):
    (tmp_path / "run.toml").write_text(f"[data]\nfolder = {folder}\n")
    with pytest.raises(BadRecipe, match=r"run\.toml: a text in it holds a zero character"):
        Recipe.read(tmp_path / "run.toml")


@pytest.mark.parametrize("folder", ["'a\\u0000b'", '"a\\\\u0000b"'])
def test_what_only_resembles_a_zero_character_is_none(tmp_path, folder):
    (tmp_path / "run.toml").write_text(f"[data]\nfolder = {folder}\n")
    assert Recipe.read(tmp_path / "run.toml").data.folder.endswith("a\\u0000b")
