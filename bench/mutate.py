"""Thousands of damaged PNG, JPEG, TIFF and DICOM files: each is read or refused by name, whatever was done to it.

    python bench/mutate.py
    python bench/mutate.py --files 300 --seed 1 --keep damaged

The files are made up here: small pictures of every kind, bits flipped, pieces cut, inserted and doubled, numbers replaced by extreme
ones, checksums of PNG mended half of the time so that the damage gets past them. File `n` of seed `s` is always the same. They are read
in a process of its own with 1 GiB more address space than it began with. A fault is any error but `BadData` naming the file, a file that
takes over 5 s of processor time or more memory, and the end of the process; it is told with its number, and `--keep` puts such files into a folder.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import selectors
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np

from hilum.errors import BadData
from hilum.files import picture
from results import machine, record

MOST_SECONDS, MOST_BYTES = 5.0, 1 << 30
PATIENCE = 30.0  # seconds by the clock until a file counts as never ending: the machine may be busy with other things
EXTREME = (0, 1, 2, 3, 8, 12, 16, 32, 255, 256, 4096, 32767, 65500, 65535, 60000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PIXELS = (np.add.outer(np.arange(48) * 2, np.arange(56)) + np.random.default_rng(0).integers(0, 9, (48, 56))).astype(np.uint8)
DEEP = PIXELS.astype(np.uint16) * 16
COLOUR = np.stack([PIXELS, 255 - PIXELS, PIXELS], -1)

# ------------------------------------------------------------------------------------------------------------------- the sound files


@cache
def sound() -> dict[str, bytes]:
    """A small file of every kind, by name."""
    return {**rasters(), **dicoms()}


def rasters() -> dict[str, bytes]:
    png, jpeg, tiff = imagecodecs.png_encode, imagecodecs.jpeg8_encode, imagecodecs.tiff_encode
    alpha = np.full_like(PIXELS, 255)
    return {
        "grey.png": png(PIXELS), "deep.png": png(DEEP), "colour.png": png(COLOUR), "alpha.png": png(np.dstack([COLOUR, alpha])),
        "grey_alpha.png": png(np.dstack([PIXELS, alpha])), "palette.png": hand_png(4, 3, 0), "bits.png": hand_png(1, 0, 0), "interlaced.png": hand_png(8, 0, 1),
        "grey.jpg": jpeg(PIXELS), "colour.jpg": jpeg(COLOUR), "twelve.jpg": jpeg(DEEP >> 4, bitspersample=12), "lossless.jpg": jpeg(DEEP, lossless=True),
        "exif.jpg": with_exif(jpeg(PIXELS)), "grey.tif": tiff(PIXELS), "deep.tif": tiff(DEEP.copy(), byteorder=">"), "colour.tif": tiff(COLOUR),
        "lzw.tif": tiff(PIXELS, compression=5), "deflate.tif": tiff(DEEP, compression=8, predictor=True), "tiles.tif": tiff(DEEP, tile=(16, 16)),
        "packbits.tif": tiff(PIXELS, compression=32773), "jpeg.tif": tiff(PIXELS, compression=7), "zstd.tif": tiff(PIXELS, compression=50000),
        "big.tif": tiff(PIXELS, bigtiff=True), "white.tif": tiff(PIXELS, photometric=0),
    }  # fmt: skip


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def hand_png(bits: int, kind: int, interlaced: int) -> bytes:
    """A form of PNG that the encoder does not write. All bytes are below 5, so that each could say a row's filter: where the rows of an
    interlaced one begin is left to the decoder."""
    rows = np.random.default_rng(1).integers(0, 5, (100, 1 + 56 * bits // 8)).astype(np.uint8)
    palette = chunk(b"PLTE", bytes(range(48))) if kind == 3 else b""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 56, 48, bits, kind, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + palette + chunk(b"tIME", bytes(7)) + chunk(b"IDAT", zlib.compress(rows.tobytes())) + chunk(b"IEND", b"")


def with_exif(jpeg: bytes) -> bytes:
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 274, 3, 1, 6, 0, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def dicoms() -> dict[str, bytes]:
    from pydicom import uid

    stored, grey = DEEP.tobytes(), PIXELS.tobytes()
    return {
        "explicit.dcm": dicom(uid.ExplicitVRLittleEndian, stored, 16, 12),
        "implicit.dcm": dicom(uid.ImplicitVRLittleEndian, stored, 16, 12, WindowCenter=1000, WindowWidth=1500, RescaleSlope=2, RescaleIntercept=-1024),
        "big_endian.dcm": dicom(uid.ExplicitVRBigEndian, DEEP.byteswap().tobytes(), 16, 12),
        "deflated.dcm": dicom(uid.DeflatedExplicitVRLittleEndian, stored, 16, 12, PhotometricInterpretation="MONOCHROME1"),
        "signed.dcm": dicom(uid.ExplicitVRLittleEndian, stored, 16, 16, PixelRepresentation=1, PixelPaddingValue=-5),
        "rle.dcm": dicom(uid.RLELossless, rle(PIXELS), 8, 8),
        "jpeg.dcm": dicom(uid.JPEGBaseline8Bit, imagecodecs.jpeg8_encode(PIXELS), 8, 8),
        "jpeg_lossless.dcm": dicom(uid.JPEGLosslessSV1, imagecodecs.jpeg8_encode(DEEP, lossless=True), 16, 16),
        "jpeg_ls.dcm": dicom(uid.JPEGLSLossless, imagecodecs.jpegls_encode(DEEP), 16, 16),
        "jpeg_2000.dcm": dicom(uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode(DEEP, codecformat="j2k", reversible=True), 16, 16),
        "htj2k.dcm": dicom(uid.HTJ2KLossless, imagecodecs.htj2k_encode(PIXELS), 8, 8),
        "plain.dcm": dicom(uid.ExplicitVRLittleEndian, grey, 8, 8, VOILUTSequence=True),
    }


def rle(pixels: np.ndarray) -> bytes:
    """One segment of DICOM's run lengths (PS3.5 G), of literal runs only."""
    data = pixels.tobytes()
    runs = b"".join(bytes([len(run) - 1]) + run for run in (data[at : at + 128] for at in range(0, len(data), 128)))
    return struct.pack("<16I", 1, 64, *[0] * 14) + runs + b"\0" * (len(runs) % 2)


def dicom(syntax: str, pixels: bytes, allocated: int, stored: int, **more: object) -> bytes:
    from pydicom import Dataset, Sequence
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.PatientID, data.Modality, data.PatientAge = "1.2.3", "1.2.5", "made up", "CR", "045Y"
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 48, 56, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = allocated, stored, stored - 1, 0
    data.PixelSpacing = [0.2, 0.2]
    if more.pop("VOILUTSequence", None):
        item = Dataset()
        item.LUTDescriptor, item.LUTData = [256, 0, 8], bytes(range(256))
        item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
        data.VOILUTSequence = Sequence([item])
    for keyword, value in more.items():
        setattr(data, keyword, value)
    data.PixelData = encapsulate([pixels]) if UID(syntax).is_encapsulated else pixels
    data["PixelData"].VR = "OW" if allocated == 16 or UID(syntax).is_encapsulated else "OB"
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


# ------------------------------------------------------------------------------------------------------------------------- the damage


def damaged(number: int, seed: int) -> tuple[str, bytes]:
    """Name and bytes of one damaged file."""
    rng, files = np.random.default_rng([seed, number]), sound()
    name = list(files)[number % len(files)]
    data = bytearray(files[name])
    if name.endswith(".png") and rng.random() < 0.4:
        return f"{number:05d}_{name}", within(bytes(data), rng)
    hurt(data, rng)
    if name.endswith(".png") and rng.random() < 0.5:
        mend(data)
    return f"{number:05d}_{name}", bytes(data)


def hurt(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 5))):
        if data:
            WAYS[int(rng.integers(len(WAYS)))](data, rng)


def somewhere(data: bytearray, rng: np.random.Generator) -> int:
    """Half of the time in the first quarter, where headers are."""
    return int(rng.integers(max(1, len(data) // 4 if rng.random() < 0.5 else len(data))))


def flip(data: bytearray, rng: np.random.Generator) -> None:
    data[somewhere(data, rng)] ^= 1 << int(rng.integers(8))


def overwrite(data: bytearray, rng: np.random.Generator) -> None:
    data[somewhere(data, rng)] = int(rng.integers(256))


def extreme(data: bytearray, rng: np.random.Generator) -> None:
    """A number of two or four bytes in either order, where numbers stand."""
    size, order = int(rng.choice([2, 4])), "little" if rng.random() < 0.5 else "big"
    at = somewhere(data, rng) & ~1
    data[at : at + size] = (int(rng.choice(EXTREME)) & ((1 << 8 * size) - 1)).to_bytes(size, order)


def cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[max(somewhere(data, rng), 1) :]


def take_out(data: bytearray, rng: np.random.Generator) -> None:
    at = somewhere(data, rng) + 1
    del data[at : at + int(rng.integers(1, 64))]


def insert(data: bytearray, rng: np.random.Generator) -> None:
    at = somewhere(data, rng)
    data[at:at] = rng.bytes(int(rng.integers(1, 64)))


def double(data: bytearray, rng: np.random.Generator) -> None:
    at = somewhere(data, rng)
    data[at:at] = data[at : at + int(rng.integers(1, 512))]


WAYS: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (flip, overwrite, extreme, extreme, cut, take_out, insert, double)


def mend(data: bytearray) -> None:
    """Put the right checksums behind all chunks that can be found."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4


def within(png: bytes, rng: np.random.Generator) -> bytes:
    """A PNG with its rows hurt before they were compressed, and now and then a byte of its header: all checksums are right."""
    start = png.index(b"IDAT") - 4
    stream, at = b"", start
    while png[at + 4 : at + 8] == b"IDAT":
        length = int.from_bytes(png[at : at + 4])
        stream, at = stream + png[at + 8 : at + 8 + length], at + 12 + length
    rows, head = bytearray(zlib.decompress(stream)), bytearray(png[:start])
    if rng.random() < 0.7:
        hurt(rows, rng)
    if rng.random() < 0.5:
        head[int(rng.integers(16, 29))] = int(rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 56, 255]))
    data = head + chunk(b"IDAT", zlib.compress(bytes(rows))) + chunk(b"IEND", b"")
    mend(data)
    return bytes(data)


# ------------------------------------------------------------------------------------------------------------------------ the reading


def verdict(path: Path) -> str:
    """"read", "refused", or what is wrong."""
    try:
        values = picture.read(path).values
    except BadData as refusal:
        if isinstance(refusal.__cause__, MemoryError):
            return f"more than {MOST_BYTES >> 20} MiB wanted"
        return "refused" if path.name in str(refusal) else f"refused without the file's name: {refusal}"
    except BaseException as error:  # noqa: BLE001 - any other error is what is looked for
        return f"{type(error).__name__}: {error}"
    return "read" if values.ndim == 2 and values.dtype in (np.uint8, np.uint16) else f"read as {values.dtype} {values.shape}"


def work(start: int, stop: int, seed: int) -> None:
    """In a process of its own: a line when a file is begun, and one with what became of it."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in sound().items():  # once, so that what is loaded only once is not counted
            (Path(folder) / name).write_bytes(data)
            verdict(Path(folder) / name)
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MOST_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for number in range(start, stop):
            name, data = damaged(number, seed)
            path = Path(folder) / name
            path.write_bytes(data)
            print(json.dumps(["begun", number, name]), flush=True)
            begun = time.process_time()
            told = verdict(path)
            print(json.dumps([told, time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]), flush=True)
            path.unlink()


def outcomes(count: int, seed: int) -> Iterator[tuple[int, str, str, float, int]]:
    """Number, name, verdict, seconds of processor time and largest resident KiB of each file; a process that ends or hangs is begun anew behind its file."""
    following = 0
    while following < count:
        command = [sys.executable, __file__, "--work", str(following), str(count), str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}) as child:
            name = "before the first file"
            for line in lines(child):
                told = json.loads(line)
                if told[0] == "begun":
                    following, name = told[1] + 1, told[2]
                else:
                    yield following - 1, name, *told
                    name = ""
            hung = child.poll() is None and not finished(child)
            child.kill()
        if name == "before the first file":
            sys.exit(f"the reading process does not start; run it yourself: {' '.join(command)}")
        if name:
            became = f"over {PATIENCE:g} s by the clock" if hung else f"the process ended with {child.returncode}"
            yield following - 1, name, became, PATIENCE if hung else 0.0, 0


def lines(child: subprocess.Popen) -> Iterator[bytes]:
    """What the child says, until it ends or says nothing for too long; it may take longer to begin."""
    waiting, left, patience = selectors.DefaultSelector(), b"", 60.0
    waiting.register(child.stdout, selectors.EVENT_READ)
    while waiting.select(patience):
        if not (said := os.read(child.stdout.fileno(), 1 << 16)):
            return
        *whole, left = (left + said).split(b"\n")
        yield from whole
        patience = PATIENCE


def finished(child: subprocess.Popen) -> bool:
    """Whether it ends by itself, having closed its output."""
    try:
        child.wait(0.5)
    except subprocess.TimeoutExpired:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="put the files with faults into this folder")
    parser.add_argument("--json", action="store_true", help="print counts and faults as JSON and record nothing")
    parser.add_argument("--work", nargs=3, type=int, metavar=("START", "STOP", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(*arguments.work)
    counts, faults, slowest, most = Counter(), [], 0.0, 0
    for number, name, told, seconds, resident in outcomes(arguments.files, arguments.seed):
        slowest, most = max(slowest, seconds), max(most, resident)
        fine = told in ("read", "refused") and seconds <= MOST_SECONDS
        counts[name.rpartition(".")[2], told if fine else "fault"] += 1
        if not fine:
            faults.append(f"{name}: {told} ({seconds:.1f} s)")
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                (arguments.keep / name).write_bytes(damaged(number, arguments.seed)[1])
    if arguments.json:
        print(json.dumps({"counts": {" ".join(key): value for key, value in counts.items()}, "faults": faults, "slowest": slowest, "most": most}))
    else:
        told = page(arguments, counts, faults, slowest, most)
        record("Damaged files", told)
        print(told)
    return None


def page(arguments: argparse.Namespace, counts: Counter, faults: list[str], slowest: float, most: int) -> str:
    kinds = sorted({kind for kind, _ in counts})
    return "\n".join(
        [
            f"Command: `python bench/mutate.py --files {arguments.files} --seed {arguments.seed}`",
            f"Machine: {machine('imagecodecs', 'pydicom', 'numpy')}",
            "",
            f"{arguments.files:,} files; the slowest took {slowest:.2f} s of processor time, the reading process held at most {most / 2**20:.2f} GiB.",
            "",
            "| kind | read | refused by name | faults |",
            "| --- | --: | --: | --: |",
            *(f"| {kind} | {counts[kind, 'read']} | {counts[kind, 'refused']} | {counts[kind, 'fault']} |" for kind in kinds),
            *(f"\n- {fault}" for fault in faults[:50]),
        ]
    )


if __name__ == "__main__":
    main()
