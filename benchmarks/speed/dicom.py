"""Time reading DICOM files of every lossless form, and their headers, beside pydicom with
pylibjpeg.

    python -m venv --system-site-packages rivals          # or any environment that has hilum
    rivals/bin/pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg pylibjpeg-rle
    rivals/bin/python -m benchmarks.speed.dicom                      # on invented images
    rivals/bin/python -m benchmarks.speed.dicom --data FOLDER        # header index on real files as
    well

Images of 3000x2500 with 12 bits in 16, as a computed radiography plate gives, are invented from a
seed and written in each form. Ours and theirs read the same files in turn; the time is the
processor's, the best of all turns, because other work on the machine takes turns too. Decoding is
`_dicom_pixels.decode` beside pydicom's decoder on a parsed file; reading is from the path to
values, ours with both digests and the table of brightness, theirs `dcmread(path).pixel_array`
alone. Hilum keeps freed memory in the process, which pydicom then reuses too; what a read takes it
in a process of its own is measured there. Puts the table into benchmarks/results/speed.md.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_files

from benchmarks._lib.results import machine, record
from hilum import storage
from hilum.imaging.files import _dicom_layout, _dicom_parsing, _dicom_pixels, dicom, raster

RIVALS = ("pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle")
SIZE, BITS = (3000, 2500), 12
LOSSLESS = "1.2.840.10008.1.2.4."
TRIED = {  # name: transfer syntax, encoder, the ratio to reach in decoding
    "JPEG Lossless SV1": (
        f"{LOSSLESS}70",
        lambda values: imagecodecs.ljpeg_encode(values, bitspersample=BITS),
        4.0,
    ),
    "HTJ2K lossless": (f"{LOSSLESS}201", imagecodecs.htj2k_encode, 1.8),
    "RLE": ("1.2.840.10008.1.2.5", None, 1.3),
    "JPEG-LS lossless": (f"{LOSSLESS}80", imagecodecs.jpegls_encode, None),
    "JPEG 2000 lossless": (
        f"{LOSSLESS}90",
        lambda values: imagecodecs.jpeg2k_encode(
            values, level=0, codecformat="j2k", reversible=True
        ),
        None,
    ),
    "explicit little endian": ("1.2.840.10008.1.2.1", None, None),
    "deflated": ("1.2.840.10008.1.2.1.99", None, None),
}
INDEXED = (
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "PatientID",
    "PatientSex",
    "PatientAge",
    "ViewPosition",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "PatientOrientation",
    "ImageLaterality",
    "Modality",
    "BodyPartExamined",
    "SeriesDescription",
    "ProtocolName",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, help="a folder of DICOM files whose headers to index too"
    )
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--no-record", action="store_true", help="print only")
    arguments = parser.parse_args()
    if arguments.data and not arguments.data.is_dir():
        sys.exit(f"no data at {arguments.data}")
    try:
        import libjpeg  # noqa: F401
        import openjpeg  # noqa: F401
        import rle  # noqa: F401
    except ImportError as error:
        sys.exit(
            f"the rival {error.name} is not installed: pip install pylibjpeg pylibjpeg-libjpeg"
            " pylibjpeg-openjpeg pylibjpeg-rle"
        )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = [pixels_row(name, Path(folder), arguments.turns) for name in TRIED]
        headers = [header_row("invented", sorted(Path(folder).glob("*.dcm")), arguments.turns)]
        inside = [Path(path) for path in get_testdata_files("*.dcm")]
        headers.append(
            header_row(
                "pydicom's own test files",
                [path for path in inside if readable(path)],
                arguments.turns,
            )
        )
        if arguments.data:
            headers.append(
                header_row(
                    arguments.data.resolve().name,
                    sorted(arguments.data.glob("*.dcm")),
                    arguments.turns,
                )
            )
    reported = describe(rows, headers, arguments)
    if not arguments.no_record:
        record("DICOM: pixels and headers", reported)
    print(reported)


def plate(seed: int = 11) -> np.ndarray:
    """Return uint16 (height, width) below 4096: soft tissue, ribs and quantum noise, about as
    compressible as a plate of a chest.
    """
    import cv2

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32) / SIZE[0]
    soft = (
        cv2.resize(
            rng.normal(size=(12, 10)).astype(np.float32), SIZE[::-1], interpolation=cv2.INTER_CUBIC
        )
        * 250
    )
    ribs = 120 * np.sin(40 * y + 6 * np.abs(x - 0.42)) * (np.abs(x - 0.42) < 0.33)
    image = 1900 + soft + ribs + 900 * np.exp(-(((x - 0.42) / 0.09) ** 2))
    return np.clip(
        image + rng.normal(size=SIZE).astype(np.float32) * np.sqrt(np.maximum(image, 1)) * 0.25,
        0,
        (1 << BITS) - 1,
    ).astype(np.uint16)


def written(folder: Path, name: str) -> Path:
    """Return the plate as a file in the form called `name`."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import ComputedRadiographyImageStorage

    syntax, encode, _ = TRIED[name]
    values, made = plate(), Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1" if name == "RLE" else syntax
    made.SOPClassUID, made.SOPInstanceUID, made.StudyInstanceUID, made.SeriesInstanceUID = (
        ComputedRadiographyImageStorage,
        "1.2.3.4",
        "1.2.3.5",
        "1.2.3.6",
    )
    (
        made.Modality,
        made.PatientID,
        made.PatientSex,
        made.PatientAge,
        made.BodyPartExamined,
        made.ViewPosition,
    ) = (
        "CR",
        "nobody",
        "F",
        "041Y",
        "CHEST",
        "PA",
    )
    made.SeriesDescription, made.ProtocolName, made.PatientOrientation, made.ImagerPixelSpacing = (
        "Chest",
        "Chest PA",
        ["L", "F"],
        [0.143, 0.143],
    )
    made.Rows, made.Columns = values.shape
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = (
        1,
        "MONOCHROME2",
        0,
    )
    made.BitsAllocated, made.BitsStored, made.HighBit, made.WindowCenter, made.WindowWidth = (
        16,
        BITS,
        BITS - 1,
        2048,
        4096,
    )
    made.PixelData = encapsulate([encode(values)]) if encode else values.tobytes()
    made["PixelData"].VR, made["PixelData"].is_undefined_length = (
        ("OB", True) if encode else ("OW", False)
    )
    if name == "RLE":
        made.compress(syntax)
    path = folder / f"{name.replace(' ', '_')}.dcm"
    made.save_as(path, enforce_file_format=True)
    return path


def best(
    turns: int, *works: Callable[[], object], clock: Callable[[], float] = time.process_time
) -> list[float]:
    """Return the milliseconds of each work, of the processor unless `clock` is another, the best
    of `turns` taken in turn.
    """
    found = [float("inf")] * len(works)
    gc.disable()
    for _ in range(turns):
        for index, work in enumerate(works):
            begun = clock()
            work()
            found[index] = min(found[index], 1000 * (clock() - begun))
    gc.enable()
    return found


def pixels_row(name: str, folder: Path, turns: int) -> str:
    path = written(folder, name)
    data = path.read_bytes()
    with _dicom_parsing.quietly():
        parsed = _dicom_parsing.parsed(data)
        layout = _dicom_layout.layout(parsed, dicom.header(path), path)
        plain = dcmread(path)

    def theirs() -> np.ndarray:
        plain.convert_pixel_data()  # anew: `pixel_array` keeps its result
        return plain._pixel_array

    def ours() -> np.ndarray:
        return _dicom_pixels.decode(parsed, layout, path).values

    if not (np.array_equal(ours(), theirs()) and np.array_equal(dicom.read(path).values, plate())):
        sys.exit(f"{name}: the values differ, a time would mean nothing")
    decode, their_decode = best(turns, ours, lambda: (setattr(plain, "_pixel_id", None), theirs()))
    whole, their_whole = best(turns, lambda: dicom.read(path), lambda: dcmread(path).pixel_array)
    # By itself: it would leave other bytes than the file's in the processor's cache.
    (digests,) = best(
        turns, lambda: (storage.content_digest(data), raster.digest_of_pixels(plate_values))
    )
    wall = best(
        turns,
        lambda: dicom.read(path),
        lambda: dcmread(path).pixel_array,
        clock=time.perf_counter,
    )
    wanted = TRIED[name][2]
    goal = f" (to reach {wanted})" if wanted else ""
    return (
        f"| {name} | {len(data) / 1e6:.1f} | {decode:.1f} | {their_decode:.1f} |"
        f" {their_decode / decode:.2f}{goal} | {whole:.1f} | {their_whole:.1f} |"
        f" {their_whole / whole:.2f} | {digests:.1f} | {wall[1] / wall[0]:.2f} |"
        f" {alone(path, turns):.1f} |"
    )


def alone(path: Path, turns: int) -> float:
    """Return the least milliseconds of pydicom's whole read in a process without Hilum."""
    program = (
        "import sys, time, warnings; warnings.simplefilter('ignore')\n"
        "from pydicom import dcmread\n"
        "def once():\n"
        "    begun = time.process_time(); dcmread(sys.argv[1]).pixel_array\n"
        "    return time.process_time() - begun\n"
        "print(1000 * min(once() for _ in range(int(sys.argv[2]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path, str(turns)], check=True, capture_output=True
    )
    return float(done.stdout)


plate_values = plate()


def readable(path: Path) -> bool:
    try:
        dcmread(path, stop_before_pixels=True)
        dicom.header(path)
    except Exception:  # noqa: BLE001  # a file that one of the two refuses cannot be timed
        return False
    return True


def header_row(name: str, paths: list[Path], turns: int) -> str:
    """Return the seconds for all files together; theirs takes out the same attributes."""

    def theirs() -> None:
        for path in paths:
            plain = dcmread(path, stop_before_pixels=True)
            for keyword in INDEXED:
                plain.get(keyword)

    repeats = max(1, 200 // len(paths))
    ours, other = best(
        turns,
        lambda: [dicom.header(path) for _ in range(repeats) for path in paths],
        lambda: [theirs() for _ in range(repeats)],
    )
    files = repeats * len(paths) / 1000
    return (
        f"| {name} | {len(paths)} | {files / ours * 1e6:,.0f} | {files / other * 1e6:,.0f} |"
        f" {other / ours:.1f} (to reach 5) |"
    )


def describe(rows: list[str], headers: list[str], arguments: argparse.Namespace) -> str:
    command = (
        f"python -m benchmarks.speed.dicom{f' --data {arguments.data}' if arguments.data else ''}"
    )
    return "\n".join(
        [
            f"Command: `{command}`",
            f"Machine: {machine('imagecodecs', 'pydicom', *RIVALS)}",
            "",
            (
                f"Invented images of {SIZE[0]}x{SIZE[1]}, {BITS} bits in 16; processor"
                f" milliseconds, the best of {arguments.turns} turns each; values checked equal."
            ),
            (
                "`read` is the whole way with both digests and the table of brightness; pydicom's"
                " is `dcmread(path).pixel_array`, in the same process, where it reuses the freed"
                " memory that Hilum keeps; the last column is its time in a process of its own."
            ),
            "",
            (
                "| form | MB | decode | pydicom | ratio | read | pydicom | ratio | of ours, digests"
                " | ratio of wall time | pydicom alone |"
            ),
            "| --- | --: | --: | --: | --- | --: | --: | --: | --: | --: | --: |",
            *rows,
            "",
            "| headers of | files | files/s | pydicom `stop_before_pixels` | ratio |",
            "| --- | --: | --: | --: | --- |",
            *headers,
        ]
    )


if __name__ == "__main__":
    main()
