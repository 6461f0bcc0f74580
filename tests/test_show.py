"""`hilum inspect`: the account, the header's facts and the image, of any kind of file."""

import json
import subprocess
import sys

import imagecodecs
import numpy as np
import pytest
from conftest import hilum
from dicom_files import write
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.imaging.files import raster

RAMP = np.tile(np.arange(0, 4096, 16, dtype=np.uint16), (40, 1))


@pytest.fixture
def shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: (
        CliRunner().invoke(app, ["inspect", *map(str, arguments)], catch_exceptions=False).stdout
    )


def test_a_dicom_is_reported_and_drawn(tmp_path, shown):
    path = write(
        tmp_path / "a.dcm",
        RAMP,
        bits=12,
        PhotometricInterpretation="MONOCHROME1",
        ViewPosition="PA",
        PatientOrientation=["R", "F"],
        ImagerPixelSpacing=[0.2, 0.2],
    )
    text = shown(path, "--out", tmp_path / "p.png")
    for words in (
        "DICOM, 40x256",
        "view          PA",
        "inverted",
        "columns reversed",
        "PS3.3",
        "0.2 x 0.2 mm",
        "p.png",
        "not stated:",
    ):
        assert words in text, words
    drawn = imagecodecs.png_decode((tmp_path / "p.png").read_bytes())
    assert (
        drawn.dtype == np.uint8
        and drawn.shape == (40, 256)
        and drawn[0, 0] == 0
        and drawn[0, -1] == 255
    )  # inverted and mirrored


def test_json_has_the_same_and_the_image_is_drawn_below_shown_by_default(tmp_path, shown):
    (reported,) = json.loads(
        shown(
            write(tmp_path / "a.dcm", RAMP, bits=12, PatientSex="F", StudyDate="20210615"), "--json"
        )
    )
    assert reported["header"]["study_date"] == "2021-06-15"
    assert (
        reported["header"]["sex"] == "female"
        and reported["size"] == [40, 256]
        and reported["written_to"] == "shown/a.png"
        and any("decoded" in line for line in reported["account"])
    )
    assert (tmp_path / "shown/a.png").exists()


def test_other_images_are_reported_too(tmp_path, shown):
    raster.write_png(tmp_path / "b.png", RAMP.astype(np.uint8))
    text = shown(tmp_path / "b.png", "--out", tmp_path / "p.png")
    assert (
        "PNG, 40x256" in text and "0 to 255 become 0 to 1" in text and (tmp_path / "p.png").exists()
    )


def test_a_fault_is_one_line_and_exit_code_1(tmp_path):
    (tmp_path / "c.dcm").write_bytes(bytes(128) + b"DICMrubbish")
    for arguments in ((tmp_path / "c.dcm",), (tmp_path / "nothing.png",)):
        done = hilum("inspect", *arguments, "--out", tmp_path / "p.png")
        assert (
            done.returncode == 1
            and done.stderr.startswith("hilum: ")
            and done.stderr.count("\n") == 1
            and not done.stdout
        )
    assert not (tmp_path / "p.png").exists()
    raster.write_png(tmp_path / "b.png", RAMP.astype(np.uint8))
    assert hilum("inspect", tmp_path / "b.png", "--out", tmp_path / "b.png").returncode == 1


def test_it_needs_no_torch(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP, bits=12)
    program = f"import sys; sys.argv = ['hilum', 'inspect', {str(path)!r}, '--out', {str(tmp_path / 'p.png')!r}]\nfrom hilum.cli.verbs import app\ntry: app()\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("False") and (tmp_path / "p.png").exists()
