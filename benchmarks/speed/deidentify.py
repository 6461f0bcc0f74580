"""Time `hilum deidentify` on made-up headers: cleaning, searching, writing and searching again.

    python -m benchmarks.speed.deidentify --files 100000 [--no-record]

Each file is a computed radiograph of some 70 elements with names, numbers, sequences, private
elements and an overlay, and of 32 x 32 pixels, so that the time is that of headers. Ten files are
of one patient. The time is the wall clock's of the whole command with one process a core, the
start of the processes and the second search of all files included. Puts the table into
benchmarks/results/speed.md.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from benchmarks._lib.results import machine, record
from hilum.privacy.dicom import folder
from hilum.scale.executor import PROCESSES, Executor, executing

OF_ONE_PATIENT = 10
IN_A_FOLDER = 1000
GOAL_FILES = 100_000  # in ten minutes
NAMES = ("Quillfeather", "Bramblewick", "Thistlewood", "Umberleigh", "Vanderquist", "Wigglesworth")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=GOAL_FILES)
    parser.add_argument("--work", type=Path, help="where to write; a temporary folder")
    parser.add_argument("--no-record", action="store_true", help="print only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        place = Path(work)
        size = write_headers(place / "in", arguments.files)
        before = time.perf_counter(), os.times()
        with executing(Executor(PROCESSES)):  # as the command does
            done = folder.deidentify(place / "in", place / "out", place / "keys" / "site.key")
        seconds = time.perf_counter() - before[0]
    after = os.times()
    used = sum(after[:4]) - sum(before[1][:4])
    written = done.report["files"]["written"]
    whole = seconds * GOAL_FILES / arguments.files
    free = used * GOAL_FILES / arguments.files / (os.cpu_count() or 1)
    text = (
        "| files | bytes each | written | wall s | processor s | files/s | 100,000 files | by "
        "processor time, all cores free |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
        f"| {arguments.files:,} | {size:,} | {written:,} | {seconds:.0f} | {used:.0f} | "
        f"{arguments.files / seconds:.0f} | {whole / 60:.1f} min"
        f"{'' if arguments.files == GOAL_FILES else ' (extrapolated)'} | {free / 60:.1f} min |\n\n"
        f"Faults: {len(done.faults)}. Other work on the machine while it ran: load average "
        f"{os.getloadavg()[1]:.0f}. `python -m benchmarks.speed.deidentify --files "
        f"{arguments.files}` on {machine('pydicom', 'dicom-anonymizer')}."
    )
    print(text, *done.faults[:5], sep="\n")
    if not arguments.no_record:
        record("De-identification of headers", text)


def write_headers(to: Path, count: int) -> int:
    """Write `count` files and return the bytes of one: a template with other numbers in it."""
    template = _file()
    for number in range(count):
        patient = number // OF_ONE_PATIENT
        data = template.replace(b"P0000000", b"P%07d" % patient)
        data = data.replace(b"9999999", b"%07d" % (1_000_000 + number))
        data = data.replace(b"Quillfeather", NAMES[patient % len(NAMES)].ljust(12).encode())
        place = to / f"{number // IN_A_FOLDER}"
        if number % IN_A_FOLDER == 0:
            place.mkdir(parents=True)
        (place / f"{number}.dcm").write_bytes(data)
    return len(template)


def _file() -> bytes:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SpecificCharacterSet, made.ImageType = "ISO_IR 100", ["ORIGINAL", "PRIMARY"]
    made.SOPClassUID, made.SOPInstanceUID = ComputedRadiographyImageStorage, "1.2.826.0.9999999.3"
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.826.0.9999999.1", "1.2.826.0.9999999.2"
    made.StudyDate = made.SeriesDate = made.AcquisitionDate = made.ContentDate = "20190305"
    made.StudyTime = made.SeriesTime = made.AcquisitionTime = made.ContentTime = "142209"
    made.AccessionNumber, made.StudyID, made.AdmissionID = "ACC9999999", "S9999999", "A-9999999"
    made.Modality, made.Manufacturer, made.ManufacturerModelName = "CR", "Acme", "Plate 2"
    made.InstitutionName, made.InstitutionAddress = "Saint Crumpet Infirmary", "1 Crumpet Hill"
    made.ReferringPhysicianName, made.PerformingPhysicianName = "Oakenshaw^A", "Pemberton^B"
    made.OperatorsName, made.StationName, made.DeviceSerialNumber = "Rumbelow^C", "XR7A", "SN-8842"
    made.StudyDescription, made.SeriesDescription = "XR chest 2 views", "CHEST PA"
    made.PatientName, made.PatientID = "Quillfeather^Ottoline", "P0000000"
    made.PatientBirthDate, made.PatientSex, made.PatientAge = "19610417", "F", "057Y"
    made.PatientAddress, made.PatientTelephoneNumbers = "14 Marrowbone Passage", "01632 960983"
    made.PatientComments, made.ImageComments = "seen by Oakenshaw", "repeat of 20190304"
    made.BodyPartExamined, made.ViewPosition, made.PatientOrientation = "CHEST", "PA", ["L", "F"]
    made.KVP, made.ExposureTime, made.Exposure, made.PlateID = "120", "10", "2", "PL-77"
    made.SoftwareVersions, made.ProtocolName, made.DetectorID = "V1.2", "Chest adult", "D-12"
    made.SeriesNumber, made.InstanceNumber, made.AcquisitionNumber = 1, 1, 1
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns, made.BitsAllocated, made.BitsStored, made.HighBit = 32, 32, 16, 12, 11
    made.PixelRepresentation, made.PixelSpacing = 0, [0.2, 0.2]
    made.ImagerPixelSpacing, made.BurnedInAnnotation = [0.2, 0.2], "NO"
    made.RescaleIntercept, made.RescaleSlope, made.RescaleType = 0, 1, "US"
    made.WindowCenter, made.WindowWidth = 2048, 4096
    inner = Dataset()
    inner.RequestedProcedureID, inner.ScheduledProcedureStepID = "RP9999999", "SP9999999"
    made.RequestAttributesSequence = [inner]
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "399208008", "SCT", "Chest"
    made.ProcedureCodeSequence = [code]
    block = made.private_block(0x0029, "ACME 1.0", create=True)
    for number in range(12):
        block.add_new(number, "LO", f"private {number} 9999999")
    made.add_new(0x60003000, "OW", bytes(128))
    rng = np.random.default_rng(5)
    made.PixelData = rng.integers(0, 4096, (32, 32)).astype("<u2").tobytes()
    made["PixelData"].VR = "OW"
    stream = io.BytesIO()
    dcmwrite(stream, made, enforce_file_format=True)
    return stream.getvalue()


if __name__ == "__main__":
    main()
