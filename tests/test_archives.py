"""Archives that are built to harm: each is refused by name, with bounded work, and nothing of it
stays.
"""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import tracemalloc
import zipfile
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilum.dataset import _unpack
from hilum.errors import BadData, CannotWrite, HilumError
from hilum.progress import quietly


@pytest.fixture
def unpacked(tmp_path):
    """Unpack bytes; what is refused leaves nothing."""

    def do(data: bytes):
        archive, folder = tmp_path / "archive", tmp_path / "out"
        archive.write_bytes(data)
        try:
            _unpack.unpack(archive, folder, quietly)
        except HilumError:
            assert [path.name for path in tmp_path.iterdir()] == ["archive"]
            raise
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    return do


def tarred(*members: tuple[str, bytes], mode="w:gz", **fields) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, format=tarfile.PAX_FORMAT) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def zipped(*members: tuple[str, bytes], method=zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


def header(kind: bytes, size: int, name: str = "a") -> bytes:
    """Return one header block of a tar archive."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def stated_size(data: bytes, size: int) -> bytes:
    """Return a zip archive of one member whose size is stated as `size` in both of its headers."""
    changed = bytearray(data)
    changed[22:26] = struct.pack("<I", size)
    at = changed.index(b"PK\1\2") + 24
    changed[at : at + 4] = struct.pack("<I", size)
    return bytes(changed)


SPARSE = {
    "GNU.sparse.major": "1",
    "GNU.sparse.minor": "0",
    "GNU.sparse.name": "a",
    "GNU.sparse.realsize": str(1 << 40),
}
ZEROS = bytes(2 << 20)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: tarred(("a", b"0\n" + bytes(510)), pax_headers=SPARSE), "stored with gaps"),
        (
            lambda: gzip.compress(header(tarfile.GNUTYPE_SPARSE, 0) + bytes(1024)),
            "stored with gaps",
        ),
        (lambda: tarred(("a", ZEROS)), "would grow to more than 1,048,576 bytes"),
        (lambda: tarred(("a", ZEROS), mode="w:bz2"), "would grow to more than"),
        (lambda: tarred(("a", ZEROS), mode="w:xz"), "would grow to more than"),
        (lambda: zipped(("a", b"a"), method=zipfile.ZIP_BZIP2), "is packed by bzip2"),
        (lambda: zipped(("a", ZEROS)), "would grow to more than"),
        (
            lambda: tarred(*((str(number), b"") for number in range(300))),
            "would grow to more than",
        ),
        (
            lambda: gzip.compress(header(tarfile.XHDTYPE, 1 << 30) + bytes(1 << 20)),
            "headers are longer than any name",
        ),
        (
            lambda: gzip.compress(header(tarfile.GNUTYPE_LONGNAME, 1 << 30) + bytes(1 << 20)),
            "headers are longer than any name",
        ),
        (
            lambda: header(tarfile.XHDTYPE, -512) + bytes(1 << 20),
            "headers are longer than any name",
        ),
        (lambda: header(tarfile.REGTYPE, -512) + bytes(1024), "has -512 bytes"),
        (lambda: tarred(("a", b""), pax_headers={"size": "-1024"}, mode="w"), "has -1024 bytes"),
        (
            lambda: gzip.compress(header(tarfile.XHDTYPE, 0) * 3000 + bytes(1024)),
            "headers are longer than any name|no whole zip or tar",
        ),
        (lambda: tarred(("a" * 256, b"")), "name of more than 255 bytes"),
        (lambda: zipped(("é" * 128, b"")), "name of more than 255 bytes"),
        (lambda: zipped(("d/" * 2000 + "a", b"")), "lies 2000 folders deep"),
        (lambda: tarred(("a", b"1"), ("a", b"2")), "two members in one place"),
        (lambda: tarred(("a", b"1"), ("a/b", b"2")), "two members in one place"),
        (lambda: tarred(("a", b"1"), mode="w")[:1024], "or no end"),
        (
            lambda: bz2.compress(tarred(("a", b"1"), mode="w"))[:-9] + bytes(9),
            "no whole zip or tar",
        ),
        (lambda: lzma.compress(tarred(("a", b"1"), mode="w"))[:-9], "no whole zip or tar"),
        (lambda: b"", "no whole zip or tar"),
    ],
)
def test_an_archive_built_to_harm_is_refused_by_name(unpacked, monkeypatch, data, words):
    monkeypatch.setattr(_unpack, "_ALWAYS", 1 << 20)
    with pytest.raises(BadData, match=words):
        unpacked(data())


def test_a_damaged_header_does_not_end_an_archive_in_silence(unpacked):
    data = bytearray(tarred(("a", b"1"), ("b", b"2"), mode="w"))
    data[1024] ^= 1
    with pytest.raises(BadData, match="a damaged header at byte 1,024"):
        unpacked(bytes(data))


def test_a_member_larger_than_it_states_costs_no_memory_and_is_refused(unpacked):
    data = stated_size(zipped(("a", bytes(64 << 20))), 1000)
    tracemalloc.start()
    with pytest.raises(BadData, match="no whole zip or tar"):
        unpacked(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_members_that_share_bytes_of_the_archive_are_refused(unpacked):
    """The kernel of one file is listed 1,000 times, as in the densest bombs."""
    one = zipped(("a", bytes(1 << 20)))
    start = one.index(b"PK\1\2")
    listed = one[start : one.index(b"PK\5\6")]
    names = (bytearray(listed) for _ in range(2))
    directory = b"".join(
        bytes(entry[:46]) + letter for entry, letter in zip(names, (b"a", b"b"), strict=True)
    )
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 2, 2, len(directory), start, 0)
    with pytest.raises(BadData, match="shares bytes with"):
        unpacked(one[:start] + directory + end)


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_member_that_does_not_fit_on_the_disk_any_more_is_refused_before_it_is_written(
    unpacked, monkeypatch, pack
):
    written = []
    monkeypatch.setattr(
        _unpack.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5500 - sum(written)})()
    )
    write = _unpack._write
    monkeypatch.setattr(
        _unpack,
        "_write",
        lambda stream, place, block: (
            write(stream, place, block),
            written.append(place.stat().st_size),
        ),
    )
    with pytest.raises(CannotWrite, match="bytes are to be unpacked, .* are free"):
        unpacked(pack(("a", bytes(3000)), ("b", bytes(3000))))
    assert sum(written) <= 5500


SOUND = [
    zipped(("set/a", b"a" * 900), ("b", b"b")),
    tarred(("set/a", b"a" * 900), ("b", b"b")),
    tarred(("set/a", b"a" * 900), ("b", b"b"), mode="w"),
]


@given(st.sampled_from(SOUND), st.data())
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_archive_is_unpacked_or_refused(unpacked, data, draw):
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = draw.draw(
            st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, damaged[at] ^ 1, ord("9"), ord("-")])
        )
    with suppress(HilumError):
        unpacked(bytes(damaged))
