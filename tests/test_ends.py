"""A command ends well: one sentence and a code for whatever stops it, nothing half written, and the
same command ends as if nothing had happened.
"""

import ast
import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import hilum
from typer.testing import CliRunner

import hilum as package
from benchmarks.robustness.full_disk import Disk
from hilum import storage
from hilum.cli import exit_status
from hilum.cli.verbs import app
from hilum.errors import (
    BadData,
    CannotRead,
    CannotWrite,
    Interrupted,
    Notice,
    notice,
    refused,
    working_on,
)
from hilum.imaging import synthetic
from hilum.imaging.batch.each_image import for_each, unheard, unwatched
from hilum.imaging.batch.results_table import JOURNAL, Table
from hilum.imaging.files import raster
from hilum.imaging.files.find_images import collect
from hilum.imaging.files.output_folder import Output
from hilum.inference import segment_images
from hilum.safety import threads

SOURCE = Path(package.__file__).parent


@pytest.fixture
def films(tmp_path):
    for number in range(4):
        rng = np.random.default_rng(number)
        drawn = synthetic.draw(synthetic.anatomy(rng), rng, height=120, width=110)
        raster.write_png(tmp_path / "films" / f"{number}.png", drawn.pixels)
    return tmp_path / "films"


def said(capsys, command) -> tuple[int, str]:
    return exit_status.end(command), capsys.readouterr().err


def failing(error):
    def command():
        with working_on("d/x.png"):
            raise error

    return command


# ------------------------------------------------------------------------------ one sentence


@pytest.mark.parametrize(
    "error",
    [
        ValueError("so\nand so"),
        RecursionError("too deep"),
        KeyError(3),
        AssertionError(),
        pl.exceptions.ComputeError("parquet"),
        pl.exceptions.PanicException("rust"),
        RuntimeError("inline_container"),
        OSError("libgomp cannot be loaded"),
        UnicodeEncodeError("ascii", "é", 0, 1, "ordinal"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_anything_unforeseen_is_one_sentence_with_the_file_and_a_code(capsys, monkeypatch, error):
    monkeypatch.setattr(sys, "argv", ["hilum", "lungs", "d/x y.png"])
    code, reported = said(capsys, failing(error))
    assert code == 70 and reported.count("\n") == 1 and "Traceback" not in reported
    assert reported.startswith("hilum: something unforeseen happened while reading d/x.png: ")
    assert type(error).__name__ in reported and "`hilum --traceback lungs 'd/x y.png'`" in reported


def test_the_traceback_is_there_for_the_curious(capsys, monkeypatch):
    monkeypatch.setenv(exit_status.TRACEBACK, "1")
    code, reported = said(capsys, failing(BadData("x.png: is broken")))
    assert (
        code == 1
        and reported.startswith("Traceback")
        and reported.endswith("hilum: x.png: is broken\n")
    )


def test_the_option_shows_the_traceback_and_help_lists_the_codes(tmp_path):
    done = hilum("--traceback", "describe", tmp_path / "nowhere")
    assert done.returncode == 1 and done.stderr.startswith("Traceback")
    assert "70 something unforeseen" in CliRunner().invoke(app, ["--help"]).output


def test_too_little_memory_is_reported_with_the_file(capsys):
    code, reported = said(capsys, failing(MemoryError("Unable to allocate 90 GiB")))
    assert code == 1 and "not enough memory while reading d/x.png" in reported


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "cannot read d/x.png"),
        (errno.ENOSPC, "cannot write d/x.png"),
        (errno.EIO, "cannot read d/x.png"),
    ],
)
def test_what_could_not_be_read_is_not_reported_as_not_written(capsys, number, words):
    code, reported = said(capsys, failing(OSError(number, os.strerror(number), "d/x.png")))
    assert code == 1 and words in reported


def test_a_refusal_while_writing_that_names_another_file_is_one_to_read(tmp_path):
    there, elsewhere = tmp_path / "out/table.csv", tmp_path / "in/x.png"
    for place in (there, there.with_name(".table.csv.part"), there.parent, None):
        assert isinstance(refused(there, OSError(errno.EACCES, "no", place)), CannotWrite)
    assert isinstance(refused(there, PermissionError(errno.EACCES, "no", elsewhere)), CannotRead)
    assert isinstance(refused(there, OSError(errno.ENOSPC, "full", elsewhere)), CannotWrite)
    with pytest.raises(CannotRead, match="in/x.png"), storage.writing(there) as stream:
        stream.write(elsewhere.read_bytes())
    assert not list(there.parent.iterdir())


def test_a_notice_is_one_sentence_and_stops_nothing(capsys):
    code, reported = said(capsys, lambda: notice("so and so"))
    assert (code, reported) == (0, "hilum: so and so\n")
    with pytest.warns(Notice):
        notice("so and so")


def test_a_terminal_without_the_characters_shows_escapes(tmp_path):
    (tmp_path / "Thorax-Übersicht").mkdir()
    plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = hilum("describe", tmp_path / "Thorax-Übersicht", env=plain)
    assert done.returncode == 1 and r"Thorax-\xdcbersicht" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_ends_the_command_without_a_word():
    code = "from hilum.__main__ import main; main()"
    command = [sys.executable, "-c", code, "datasets"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child.stdout.close()
    assert child.stderr.read() == "" and child.wait() == 1
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "disk is full" in done.stderr and done.stderr.count("\n") == 1


# ------------------------------------------------------------------------------ Ctrl-C


def test_ctrl_c_says_what_is_kept_and_the_table_holds_it(films, tmp_path):
    for number in range(60):
        (films / f"more{number}.png").write_bytes((films / "1.png").read_bytes())
    out = tmp_path / "out"
    command = [sys.executable, "-m", "hilum", "lungs", films, "--out", out]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (out / "both/1.png").exists() and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    reported = child.stderr.read()
    assert child.wait() == 130 and reported.count("\n") == 1
    assert (
        "of 64 images are done and listed in" in reported
        and "the same command continues" in reported
    )
    with open(out / segment_images.TABLE, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert f"hilum: stopped: {len(rows)} of 64" in reported
    assert all((out / "both" / f"{row['name']}.png").exists() for row in rows)


def test_threads_drop_what_they_have_not_begun():
    done = []

    def work(number):
        time.sleep(0.02)
        done.append(number)

    with pytest.raises(Interrupted), threads.pool(1) as pool:
        for number in range(100):
            pool.submit(work, number)
        raise Interrupted(signal.SIGINT)
    assert len(done) < 100


# ------------------------------------------------------------------------------ going on


def table_of(films, out, *, made_by="model 1", stop_at=None):
    """Names that `work` was called for, on all films, with their first bytes as result."""
    worked = []

    def work(path, name):
        if name == stop_at:
            raise Interrupted(signal.SIGINT)
        worked.append(name)
        storage.write_bytes(output.path(f"{name}.txt"), path.read_bytes()[:9])
        return {"name": name, "bytes": path.stat().st_size, "share": 0.1 + 0.2}

    output = Output(out, "lungs")
    table = Table(output, "t.csv", ("name", "bytes", "share"), made_by)
    found = collect([films], output.folders)
    for_each(found, work, title="", watch=unwatched, say=unheard, table=table)
    return worked


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_command_goes_on_where_it_was_stopped_and_ends_the_same(films, tmp_path):
    table_of(films, tmp_path / "whole")
    with pytest.raises(Interrupted) as stopped:
        table_of(films, tmp_path / "out", stop_at="2")
    assert stopped.value.kept.startswith("2 of 4 images are done and listed in ")
    assert (tmp_path / "out/t.csv").read_text().count("\n") == 3
    assert table_of(films, tmp_path / "out") == ["2", "3"]
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("change", ["image", "output", "model", "journal"])
def test_what_changed_since_is_done_again(films, tmp_path, change):
    out, redone, made_by = tmp_path / "out", ["0", "2", "3"], "model 1"
    with pytest.raises(Interrupted):
        table_of(films, out, stop_at="2")
    if change == "image":
        os.utime(films / "0.png", ns=(1, 1))
    elif change == "output":
        (out / "0.txt").unlink()
    elif change == "model":
        redone, made_by = ["0", "1", "2", "3"], "model 2"
    else:  # its first bytes are zero, as after a power cut
        content, redone = (out / JOURNAL).read_bytes(), ["0", "1", "2", "3"]
        (out / JOURNAL).write_bytes(bytes(100) + content[100:])
    assert table_of(films, out, made_by=made_by) == redone
    assert not (out / JOURNAL).exists()


def test_another_image_of_the_same_name_is_not_taken_for_the_first(films, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "0.png").write_bytes((films / "3.png").read_bytes())
    with pytest.raises(Interrupted):
        table_of(films, tmp_path / "out", stop_at="2")
    assert table_of(other, tmp_path / "out") == ["0"]
    assert table_of(films, tmp_path / "out") == ["0", "1", "2", "3"]


def test_what_json_brings_back_of_a_result_writes_the_same_row(films, tmp_path, capsys):
    found, _ = segment_images.segment_images([films], tmp_path / "out")
    assert json.loads(json.dumps(found)) == found


# ------------------------------------------------------------------------------ a full disk


def test_a_disk_that_is_full_at_any_write_of_a_table_leaves_nothing_half_written(
    films, tmp_path, monkeypatch
):
    table_of(films, tmp_path / "whole")
    whole, calls = files(tmp_path / "whole"), 1
    while True:
        out = tmp_path / f"out{calls}"
        disk = Disk(out, calls, lasting=calls % 2 == 0)
        with monkeypatch.context() as patched:
            for module, name in PATCHED:
                patched.setattr(module, name, getattr(module, name))
            disk.install()
            try:
                table_of(films, out)
            except CannotWrite as error:
                assert "the disk is full" in str(error)
            else:
                break
        left = files(out) if out.exists() else {}
        assert all(whole[name] == left[name] for name in left if name in whole and name != "t.csv")
        table_of(films, out)
        assert files(out) == whole
        calls += 1
    assert calls > 20


def patched_by_disk():
    import builtins
    import io

    names = (
        "open",
        "write",
        "pwrite",
        "fsync",
        "ftruncate",
        "sendfile",
        "mkdir",
        "replace",
        "link",
        "symlink",
    )
    return [(builtins, "open"), (io, "open"), *((os, name) for name in names)]


PATCHED = patched_by_disk()


def test_a_sealed_file_with_any_byte_changed_is_not_believed(tmp_path):
    storage.write_sealed(tmp_path / "x", b"state of a training")
    assert storage.read_sealed(tmp_path / "x") == b"state of a training"
    content = (tmp_path / "x").read_bytes()
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1
        (tmp_path / "x").write_bytes(changed)
        assert storage.read_sealed(tmp_path / "x") is None


@pytest.mark.parametrize("length", [0, 1 << 12, (1 << 18) + 1, 3 << 20])
def test_the_identity_of_a_file_is_that_of_its_bytes_however_they_are_given(length, tmp_path):
    content = np.random.default_rng(0).bytes(length)
    (tmp_path / "file").write_bytes(content)
    given = {
        storage.content_digest(content),
        storage.content_digest(memoryview(content)[:7], memoryview(content)[7:]),
        storage.content_digest_of_file(tmp_path / "file"),
    }
    assert len(given) == 1 and len(given.pop()) == storage.DIGEST_CHARACTERS


def test_the_identity_of_bytes_is_the_published_xxh3():
    # The test vector of 128 bits without bytes and seed, of the reference implementation.
    assert storage.content_digest(b"") == "99aa06d3014798d8"
    assert storage.content_digest(b"film") != storage.content_digest(b"film\0")


def test_an_example_that_is_cut_short_leaves_no_data_set(tmp_path, monkeypatch):
    monkeypatch.setattr(
        storage, "write_text", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
    )
    done = CliRunner().invoke(app, ["synthesize", "folder", str(tmp_path / "data")])
    assert isinstance(done.exception, CannotWrite) and not list(tmp_path.iterdir())


WRITERS = {
    "storage/__init__": "the place for writing",
    "storage/flushing": "opens a written file to flush it",
    "api/datasets": "a temporary folder for a cache that nobody named",
    "training/training_state": "a stream in memory",
    "scale/journal": "makes the folder of a file that SQLite writes",
    "pipeline/cache": "makes the folder of a cache",
    "dataset/_transfer": "goes on behind the bytes that have come",
    "dataset/_unpack": "members of an archive, below a folder that is whole or gone",
    "dataset/remote/archives": "moves what was unpacked into a mirror, whole files alone",
    "dataset/remote/fetching": "a file of a mirror, beside its place until it is whole",
    "dataset/remote/mirror": "the names of a mirror, without bytes",
    "dataset/download": "shows what was fetched under its name",
    "dataset/writers/_output_folder": "copies below a folder that is whole or not there",
    "training/onnx_export": "a folder for temporary files, when a model is shrunk",
    "node/journal": "the folder of a journal, which SQLite writes",
    "node/inbox": "an object that is received, renamed when it is whole, and the folder of results",
    "node/service": "the folder of a node",
    "privacy/dicom/folder": "folders of a copy that is whole or not there",
}
CALLS = {
    "write_bytes",
    "write_text",
    "write_parquet",
    "sink_parquet",
    "tofile",
    "mkdir",
    "touch",
    "link",
    "symlink",
    "pwrite",
    "imwrite",
    "mkdtemp",
    "TemporaryDirectory",
    "NamedTemporaryFile",
    "copyfile",
    "copy2",
}


def writes(node: ast.Call) -> bool:
    """Whether a call writes to the disk by itself."""
    if isinstance(node.func, ast.Name):
        modes = [
            one.value
            for one in (*node.args[1:], *(key.value for key in node.keywords))
            if isinstance(one, ast.Constant)
        ]
        return node.func.id == "open" and any(
            isinstance(mode, str) and set(mode) & set("wax+") for mode in modes
        )
    if not isinstance(node.func, ast.Attribute):
        return False
    owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
    if owner == "storage":
        return False
    return node.func.attr in CALLS or (owner, node.func.attr) in {
        ("os", "replace"),
        ("os", "rename"),
        ("torch", "save"),
        ("onnx", "save"),
    }


def test_whatever_writes_does_so_in_one_place():
    """So that a full disk, a kill and a refusal are met in one place too."""
    found = {
        path.relative_to(SOURCE).with_suffix("").as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and writes(node)
    }
    assert not found - WRITERS.keys(), "write through hilum.storage"


def test_an_interruption_that_native_code_swallows_ends_as_one_all_the_same():
    program = """
import os, signal
from hilum.cli import exit_status
from hilum.errors import Interrupted
def command():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except Interrupted:
        raise TypeError("no answer") from None
raise SystemExit(exit_status.end(command))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 130 and done.stderr.startswith("hilum: stopped")
    assert "unforeseen" not in done.stderr


def test_zeros_are_written_only_over_what_is_not_zero(tmp_path, monkeypatch):
    written, pwrite = [], os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda *call: written.append(call[2]) or pwrite(*call))
    with storage.in_place(tmp_path / "x") as descriptor:
        storage.extend(descriptor, 64)
        storage.extend(descriptor, 8)
        for offset, data in ((0, bytes(8)), (8, b"a" * 8), (8, bytes(8)), (60, bytes(8))):
            storage.write_at(descriptor, data, offset, sparse=True)
    assert written == [8, 8, 60]  # the last goes beyond the end
    assert (tmp_path / "x").read_bytes() == bytes(68)
