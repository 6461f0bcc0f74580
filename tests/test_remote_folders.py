"""Data in a bucket, at a web server or in archives are the same data as in a folder."""

import os
import re
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from remote_sources import BUCKET, web
from typer.testing import CliRunner

import hilum
from hilum.cli.verbs import app
from hilum.config import Pixels, Recipe
from hilum.dataset.manifest import Manifest
from hilum.dataset.readers import montgomery, nih14
from hilum.dataset.remote import eviction, fetching, mirror, zip_members
from hilum.errors import (
    BadData,
    BadRecipe,
    CannotWrite,
    HilumError,
    Mismatch,
    NotFound,
    Unreachable,
)
from hilum.pipeline import cache
from hilum.safety import addresses, untrusted_files

pytest_plugins = ["remote_sources"]
refresh = mirror.refresh
MADE_OF = ("signature", "facts_crc32")  # of the cache's index: they hold the files' times


@pytest.fixture(autouse=True)
def mirrors(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(addresses.PLACE, str(tmp_path / "mirrors"))
    monkeypatch.setattr(fetching, "WAITS_SECONDS", (0.0, 0.0))
    return tmp_path / "mirrors"


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "nih"
    nih14.example(folder, images=10, seed=3)
    return folder


def same(address: str, folder: Path, tmp_path: Path) -> None:
    """Check that an address and a folder give one manifest and one cache, to the byte."""
    there, here = hilum.open_dataset(address), hilum.open_dataset(folder)
    assert there.manifest.digest == here.manifest.digest
    assert there.remarks.equals(here.remarks)
    caches = [
        cache.fill(one.manifest, Pixels(size=64), tmp_path / name)
        for name, one in (("there", there), ("here", here))
    ]
    first, second = (one.index.drop(MADE_OF) for one in caches)
    assert first.equals(second)
    for name in ("images.u8", "masks.u8"):
        files = [next((tmp_path / where).rglob(name)) for where in ("there", "here")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_bucket_gives_the_manifest_and_the_cache_of_a_folder_though_connections_fail(
    bucket, films, tmp_path
):
    bucket.put_folder(films, "nih")
    bucket.proxy.plan += ["cut", "busy", None, "wrong", "cut", "busy", "cut"]
    same(f"s3://{BUCKET}/nih", films, tmp_path)
    assert not bucket.proxy.plan


def test_images_are_fetched_when_they_are_read_and_once(bucket, films, tmp_path, monkeypatch):
    bucket.put_folder(films, "nih")
    monkeypatch.setattr(mirror, "AHEAD", 0)
    dataset = hilum.open_dataset(f"s3://{BUCKET}/nih")
    boxed = set(dataset.images.join(dataset.shapes, on="image_id", how="semi")["path"])
    read = {key.removeprefix("nih/") for key, _ in bucket.proxy.fetched if key.endswith(".png")}
    assert read == boxed < set(dataset.images["path"])  # the sizes of those with boxes are needed
    cache.fill(dataset.manifest, Pixels(size=64), tmp_path / "cache")
    names = [key for key, _ in bucket.proxy.fetched]
    assert len(names) == len(set(names)) == sum(path.is_file() for path in films.rglob("*"))
    cache.fill(
        hilum.open_dataset(f"s3://{BUCKET}/nih").manifest, Pixels(size=64), tmp_path / "cache"
    )
    assert [key for key, _ in bucket.proxy.fetched] == names


def test_what_was_read_can_be_read_offline(bucket, films, tmp_path, recwarn):
    bucket.put_folder(films, "nih")
    address = f"s3://{BUCKET}/nih"
    before = hilum.open_dataset(address)
    cache.fill(before.manifest, Pixels(size=64), tmp_path / "cache")
    bucket.proxy.offline = True
    after = hilum.open_dataset(address)
    assert after.manifest.digest == before.manifest.digest
    assert any("what was listed before is read" in str(one.message) for one in recwarn)
    again = cache.fill(after.manifest, Pixels(size=64), tmp_path / "other")
    assert again.readable.height == len(before)


def test_a_source_that_is_lost_stops_the_reading_and_no_image_is_called_broken(
    bucket, films, tmp_path, monkeypatch
):
    bucket.put_folder(films, "nih")
    monkeypatch.setattr(mirror, "AHEAD", 0)
    dataset = hilum.open_dataset(f"s3://{BUCKET}/nih")
    bucket.proxy.offline = True
    with pytest.raises(Unreachable, match="run the same command again"):
        cache.fill(dataset.manifest, Pixels(size=64), tmp_path / "cache")
    bucket.proxy.offline = False
    mirror.refresh(dataset.manifest.root)
    filled = cache.fill(dataset.manifest, Pixels(size=64), tmp_path / "cache")
    assert filled.readable.height == len(dataset)


def test_a_source_that_is_lost_while_a_folder_is_understood_stops_it(bucket, films, monkeypatch):
    bucket.put_folder(films, "nih")
    monkeypatch.setattr(mirror, "AHEAD", 0)
    bucket.proxy.plan += [None, lambda: setattr(bucket.proxy, "offline", True)]
    with pytest.raises(HilumError):
        hilum.open_dataset(f"s3://{BUCKET}/nih")


def test_an_object_that_changes_between_two_readings_is_read_anew(bucket, films, tmp_path):
    bucket.put_folder(films, "nih")
    address = f"s3://{BUCKET}/nih"
    dataset = hilum.open_dataset(address)
    first, second = dataset.images["path"][:2].to_list()
    filled = cache.fill(dataset.manifest, Pixels(size=64), tmp_path / "cache")
    bucket.put(f"nih/{first}", (films / second).read_bytes())
    again = cache.fill(hilum.open_dataset(address).manifest, Pixels(size=64), tmp_path / "cache")
    digests = again.index.sort("image_id")["file_digest"]
    assert digests[0] == digests[1] != filled.index.sort("image_id")["file_digest"][0]


def test_an_object_that_changes_after_it_was_listed_is_refused_by_its_address(bucket, films):
    bucket.put_folder(films, "nih")
    dataset = hilum.open_dataset(f"s3://{BUCKET}/nih")
    place = dataset.images["path"][-1]
    bucket.put(f"nih/{place}", b"other bytes")
    path = dataset.manifest.root / place
    if fetching.is_absent(path):
        with pytest.raises(Mismatch, match="changed since it was listed; run"):
            untrusted_files.read_bytes(path)
    mirror.refresh(dataset.manifest.root)
    assert untrusted_files.read_bytes(path) == b"other bytes"


def test_a_large_object_goes_on_where_it_was_cut(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "BLOCK", 1000)
    data = os.urandom(10_500)
    bucket.put("one/a.bin", data)
    root = addresses.located(f"s3://{BUCKET}/one")
    mirror.refresh(root)
    bucket.proxy.plan += [None, None, "cut", "busy", None]
    assert untrusted_files.read_bytes(root / "a.bin", root) == data
    ranges = [wanted for _, wanted in bucket.proxy.fetched]
    assert ranges.count("bytes=0-999") == 1
    assert len(ranges) <= 14


def test_a_file_to_be_fetched_has_its_size_takes_no_room_and_opens_by_the_door_alone(bucket):
    bucket.put("one/a.bin", bytes(3_000_000))
    root = addresses.located(f"s3://{BUCKET}/one")
    mirror.refresh(root)
    status = (root / "a.bin").stat()
    assert status.st_size == 3_000_000
    assert status.st_blocks == 0
    assert stat.S_IMODE(status.st_mode) == untrusted_files.ABSENT
    assert len(untrusted_files.read_bytes(root / "a.bin", root)) == 3_000_000
    assert stat.S_IMODE((root / "a.bin").stat().st_mode) == 0o600


def test_the_disk_is_bounded_and_nothing_is_taken_from_under_a_reader(bucket, monkeypatch):
    monkeypatch.setenv(eviction.BOUND, "0.0001")  # 100 kB
    files = {f"{number:02d}.bin": os.urandom(40_000) for number in range(12)}
    for name, data in files.items():
        bucket.put(f"one/{name}", data)
    root = addresses.located(f"s3://{BUCKET}/one")
    mirror.refresh(root)
    with untrusted_files.opened(root / "00.bin", root) as held:
        for _ in range(2):
            for name, data in files.items():
                assert untrusted_files.read_bytes(root / name, root) == data
        assert held.read() == files["00.bin"]
    blocks = sum(512 * path.stat().st_blocks for path in root.iterdir())
    assert blocks <= 100_000 + 2 * 40_960


def test_a_bound_that_is_no_number_is_refused_by_name(monkeypatch):
    monkeypatch.setenv(eviction.BOUND, "much")
    with pytest.raises(HilumError, match="HILUM_MIRROR_GB is 'much'; expected a number"):
        eviction.bound()


def test_a_run_keeps_the_address_and_no_credentials(bucket, films, tmp_path):
    bucket.put_folder(films, "nih")
    address = f"s3://{BUCKET}/nih"
    made = hilum.run(address, tmp_path / "run", until="ingest")
    assert made.recipe.data.folder == address
    assert Recipe.read(tmp_path / "run" / "recipe.toml").data.folder == address
    assert Manifest.read(tmp_path / "run").root == addresses.located(address)
    assert f'"{address}"' in (tmp_path / "run" / "root.json").read_text()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"a-secret-key" not in written
    assert b"an-access-key" not in written


def test_names_that_lead_out_of_the_folder_are_refused(bucket):
    bucket.put("one/x/../../out.png", b"1")
    with pytest.raises(BadData, match=r"cannot be laid out as a folder: \d fault"):
        hilum.open_dataset(f"s3://{BUCKET}/one")
    assert not list(addresses.mirrors().rglob("out.png"))


def test_an_empty_address_and_an_unknown_protocol_are_said(bucket):
    with pytest.raises(NotFound, match=f"s3://{BUCKET}/none"):
        hilum.open_dataset(f"s3://{BUCKET}/none")
    with pytest.raises(NotFound, match="nosuch is no protocol that fsspec knows"):
        hilum.open_dataset("nosuch://a/b")


# ---------------------------------------------------------------------------- web servers, archives


def test_a_web_server_without_ranges_gives_the_manifest_and_the_cache_of_a_folder(films, tmp_path):
    pytest.importorskip("aiohttp")
    with web(films.parent) as url:
        same(f"{url}/nih", films, tmp_path)


def test_names_that_a_url_quotes_are_those_of_the_folder_when_a_web_server_lists_them(tmp_path):
    folder = tmp_path / "our set"
    montgomery.example(folder, images=4, seed=2)
    for number, name in enumerate(("ü a+b.png", "50%25 (1).png", "q?x#1.png")):
        image = sorted((folder / "CXR_png").iterdir())[number]
        shutil.copy(image, folder / name)
    with web(tmp_path) as address:
        for start in (f"{address}/our set", f"{address}/our%20set"):
            root = addresses.located(start)
            mirror.refresh(root)
            found = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
            assert found == {
                path.relative_to(folder) for path in folder.rglob("*") if path.is_file()
            }
            for place in found:
                with untrusted_files.opened(root / place, root) as stream:
                    assert stream.read() == (folder / place).read_bytes()


def packed(films: Path, to: Path) -> Path:
    """Write NIH's layout as released: tables, and archives of the images."""
    to.mkdir()
    for path in films.iterdir():
        if path.is_file():
            shutil.copy(path, to)
    images = sorted((films / "images").iterdir())
    for number in range(3):
        with tarfile.open(to / f"images_{number + 1:03d}.tar.gz", "w:gz") as archive:
            for path in images[number::3]:
                archive.add(path, f"images/{path.name}")
    return to


def unpacked(films: Path, to: Path) -> Path:
    shutil.copytree(films, to, ignore=shutil.ignore_patterns("images"))
    images = sorted((films / "images").iterdir())
    for number, path in enumerate(images):
        folder = to / f"images_{number % 3 + 1:03d}" / "images"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    return to


@pytest.mark.filterwarnings("ignore::hilum.errors.Notice")
def test_the_archives_of_nih_beside_its_table_are_read_as_if_unpacked(films, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "shut").mkdir()
    local = unpacked(films, tmp_path / "open" / "nih")
    same(f"tar://{packed(films, tmp_path / 'shut' / 'nih')}", local, tmp_path)


@pytest.mark.filterwarnings("ignore::hilum.errors.Notice")
def test_archives_in_a_bucket_are_fetched_once_and_unpacked_again_only_where_they_were_evicted(
    bucket, films, tmp_path, monkeypatch
):
    bucket.put_folder(packed(films, tmp_path / "nih"), "nih")
    address = f"tar::s3://{BUCKET}/nih"
    dataset = hilum.open_dataset(address)

    def whole() -> list[str]:
        """Return the archives that were fetched, apart from their first bytes alone."""
        fetched = bucket.proxy.fetched
        return [key for key, wanted in fetched if key.endswith(".tar.gz") and not wanted]

    assert len(whole()) == 3
    hilum.open_dataset(address)
    assert len(whole()) == 3
    root, listing = dataset.manifest.root, mirror.Listing.read(dataset.manifest.root.parent)
    eviction.evict(root, listing, 1)
    first = root / dataset.images["path"][0]
    assert fetching.is_absent(first)
    assert untrusted_files.read_bytes(first, root) == (films / "images" / first.name).read_bytes()
    assert len(whole()) == 4


def test_of_a_zip_archive_in_a_bucket_only_the_directory_and_the_files_that_are_read_are_fetched(
    bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr(mirror, "AHEAD", 0)
    monkeypatch.setattr(zip_members, "_BUFFER", 8192)
    files = {f"films/{number}.bin": os.urandom(100_000) for number in range(20)}
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    bucket.put("a.zip", (tmp_path / "a.zip").read_bytes())
    root = addresses.located(f"zip::s3://{BUCKET}/a.zip")
    mirror.refresh(root)
    bucket.proxy.plan += ["cut", "busy"]
    for name in ("films/3.bin", "films/17.bin"):
        assert untrusted_files.read_bytes(root / name, root) == files[name]
    ranges = [re.findall(r"\d+", wanted) for _, wanted in bucket.proxy.fetched]
    assert sum(int(end) - int(start) + 1 for start, end in ranges) < 600_000


@pytest.mark.parametrize("at", [100, -60])
def test_a_damaged_zip_archive_is_refused_and_never_read_as_other_bytes(at, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("films/a.bin", bytes(1000))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[at] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    root = addresses.located(f"zip://{tmp_path}/a.zip")
    with pytest.raises(BadData):
        mirror.refresh(root)
        untrusted_files.read_bytes(root / "films" / "a.bin", root)


@pytest.mark.filterwarnings("ignore::hilum.errors.Notice")
def test_a_zip_archive_is_read_as_the_folder_in_it(tmp_path):
    montgomery.example(tmp_path / "in" / "set", images=6, seed=2)
    place = shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "in")
    same(f"zip://{place}", tmp_path / "in" / "set", tmp_path)
    made = hilum.run(f"zip://{place}", tmp_path / "run", until="cache")
    assert Manifest.read(tmp_path / "run").root == addresses.located(f"zip://{place}#set")
    assert made.recipe.data.folder == f"zip://{place}"


@pytest.mark.filterwarnings("ignore::hilum.errors.Notice")
def test_verbs_that_read_a_folder_of_radiographs_read_that_of_an_address(tmp_path):
    montgomery.example(tmp_path / "set", images=6, seed=2)
    address = f"zip://{shutil.make_archive(str(tmp_path / 'set'), 'zip', tmp_path / 'set')}"
    films, run = str(tmp_path / "set"), tmp_path / "run"
    for words in (["describe", address], ["labels", address, films]):
        found = CliRunner().invoke(app, words)
        assert found.exit_code == 0, found.output
    merged = CliRunner().invoke(app, ["merge", address, films, "--out", str(run)])
    # Which only a verb that has read both can say.
    assert "hold the same images" in str(merged.exception)
    assert address in str(merged.exception)


@pytest.mark.filterwarnings("ignore::hilum.errors.Notice")
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_mirror_that_was_deleted_after_a_run_is_fetched_again_when_it_is_read(
    kind, tmp_path, mirrors
):
    montgomery.example(tmp_path / "set", images=4, seed=2)
    place = shutil.make_archive(str(tmp_path / "set"), kind, tmp_path / "set")
    hilum.run(f"{kind}://{place}", tmp_path / "run", until="ingest")
    shutil.rmtree(mirrors)
    to = tmp_path / "out"
    words = ["export", "imagefolder", str(tmp_path / "run"), str(to)]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output or found.exception
    assert len(list(to.rglob("*.png"))) >= 4


@pytest.mark.filterwarnings("ignore::hilum.errors.Notice")
def test_a_source_that_is_gone_with_its_mirror_is_requested_once_and_not_for_every_image(
    tmp_path, mirrors, monkeypatch
):
    montgomery.example(tmp_path / "set", images=4, seed=2)
    place = Path(shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "set"))
    root = hilum.open_dataset(f"zip://{place}").manifest.root
    films = list(root.rglob("*.png"))
    shutil.rmtree(mirrors)
    place.unlink()
    requests = []
    monkeypatch.setattr(mirror, "refresh", lambda root: requests.append(root) or refresh(root))
    for film in films:
        with pytest.raises(NotFound, match=re.escape(str(place))):
            untrusted_files.descriptor(film, root)
    assert len(films) >= 4 and len(requests) == 1


def test_a_verb_that_reads_files_says_that_an_address_is_none_and_repeats_no_secret(tmp_path):
    found = CliRunner().invoke(app, ["inspect", "https://user:secret@host/a.png?key=secret"])
    assert found.exit_code and "is an address" in found.output and "secret" not in found.output


@pytest.mark.parametrize(
    "words",
    [
        ["lungs", "a.png", "--out", "s3://bucket/out"],
        ["deidentify", "s3://bucket/a", "b"],
        ["synthesize", "montgomery", "s3://bucket/a"],
        ["export", "coco", ".", "zip://a.zip"],
        ["apply", "run", "a.png", "--masks", "s3://bucket/a"],
    ],
)
def test_an_address_where_a_path_is_expected_is_refused_and_makes_no_folder_of_that_name(
    words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, [*words, "--key", "k"] if "b" in words else words)
    assert isinstance(found.exception, BadRecipe) and "is an address" in str(found.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::hilum.errors.Notice")
def test_an_archive_with_a_name_that_is_no_text_is_refused_by_that_name(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a/\udcff.png"))
    with pytest.raises(BadData, match="no UTF-8; rename"):
        hilum.open_dataset(f"tar://{tmp_path}/a.tar")


def test_a_folder_that_an_archive_lacks_is_reported_by_its_address(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.txt", "a.txt")
    with pytest.raises(NotFound, match=re.escape(f"no folder at zip://{tmp_path}/a.zip/b")):
        hilum.open_dataset(f"zip://{tmp_path}/a.zip#b")


def test_a_mirror_that_cannot_be_written_says_how_to_choose_another_place(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(addresses.PLACE, str(tmp_path / "file" / "mirrors"))
    with pytest.raises(CannotWrite, match=f"choose another folder by {addresses.PLACE}"):
        hilum.open_dataset(f"zip://{tmp_path}/a.zip")


@pytest.mark.filterwarnings("ignore::hilum.errors.Notice")
@pytest.mark.parametrize("kind", ["link", "out"])
def test_a_hostile_archive_is_refused_and_nothing_of_it_stays(kind, tmp_path, mirrors):
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("../out.png" if kind == "out" else "a.png")
        member.type, member.linkname = (
            (tarfile.SYMTYPE, "/etc/passwd") if kind == "link" else (tarfile.REGTYPE, "")
        )
        archive.addfile(member)
    with pytest.raises(BadData, match="not safe to unpack"):
        hilum.open_dataset(f"tar://{tmp_path}/bad.tar.gz")
    assert not list(mirrors.rglob("*.png"))


def test_an_archive_that_is_cut_off_is_refused_by_its_address(films, tmp_path):
    whole = packed(films, tmp_path / "nih") / "images_002.tar.gz"
    whole.write_bytes(whole.read_bytes()[:-200])
    with (
        pytest.warns(match="unpacking"),
        pytest.raises(BadData, match=r"images_002\.tar\.gz is no whole zip or tar archive"),
    ):
        hilum.open_dataset(f"tar://{tmp_path / 'nih'}")
