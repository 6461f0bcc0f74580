"""An address has one spelling, names one folder, and never holds credentials."""

import os
import re
import string
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import hilum
from hilum.errors import BadRecipe
from hilum.safety import addresses

PART = st.text(string.ascii_letters + string.digits + "-_. %[]*é", min_size=1, max_size=12)
PARTS = st.lists(PART, min_size=1, max_size=4).filter(lambda parts: not {".", ".."} & set(parts))
PREFIX = st.sampled_from(["s3://", "gs://", "https://", "zip::s3://", "tar::https://", "tar:///"])


@given(PREFIX, PARTS)
def test_an_address_parses_to_itself_and_can_be_read_off_every_path_below_its_mirror(start, parts):
    text = start + "/".join(parts)
    address = addresses.parse(text)
    assert addresses.parse(address.text) == address
    assume(address.name not in ("", ".", ".."))
    assert addresses.of_path(address.mirror) == (address, "")
    assert addresses.of_path(address.mirror / "a" / "b.png") == (address, "a/b.png")
    assert addresses.shown(address.mirror / "a" / "b.png") == f"{address.text}/a/b.png"
    assert addresses.located(address.text) == address.mirror
    assert address.mirror.parent.parent == addresses.mirrors()


@settings(max_examples=60)
@given(st.text(max_size=60))
def test_whatever_the_text_it_is_an_address_with_one_spelling_or_refused(text):
    try:
        address = addresses.parse(text)
    except BadRecipe as error:
        str(error).encode()
        return
    assert addresses.parse(address.text) == address
    assert not {"", "..", "."} & set(address.rest.split("/")[address.protocol == "file" :])


@pytest.mark.parametrize(
    "text",
    [
        "https://user:secret@host/films",
        "s3://key:secret@bucket/films",
        "https://host/films?X-Amz-Signature=secret",
        "tar::https://host/films#secret",
    ],
)
def test_an_address_with_credentials_is_refused_without_repeating_them(text):
    with pytest.raises(BadRecipe) as refused:
        addresses.parse(text)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3://a//b",
        "https://a/../b",
        "s3://a\\b",
        "zip::tar://a",
        "s3://a\nb",
        "zip://",
        "s3://",
        "zip::tar::https://host/a",
        "tar::a.tar",
    ],
)
def test_an_address_that_leads_elsewhere_is_refused(text):
    with pytest.raises(BadRecipe):
        addresses.parse(text)


@pytest.mark.parametrize("text", ["data/chest", "/data/chest", "C:\\data", "a:b", "./s3:/bucket"])
def test_a_path_is_no_address(text):
    assert not addresses.is_address(text)
    assert addresses.located(text) == Path(text)


def test_an_archive_on_this_disk_starts_from_the_folder_of_the_recipe(tmp_path):
    assert addresses.parse("zip://a.zip", tmp_path).text == f"zip://{tmp_path}/a.zip"
    assert addresses.parse("zip://a.zip").rest == os.path.abspath("a.zip")
    assert addresses.parse("tar::s3://b/images_001.tar.gz").name == "images_001"


def test_a_folder_in_an_archive_is_stored_behind_a_number_sign_and_found_again():
    root = addresses.located("zip::s3://bucket/chest.zip#chest/films")
    assert root == addresses.parse("zip::s3://bucket/chest.zip").mirror / "chest" / "films"
    assert addresses.stored(root) == "zip::s3://bucket/chest.zip#chest/films"
    with pytest.raises(BadRecipe, match="no folder in it"):
        addresses.located("zip::s3://bucket/chest.zip#../films")


def test_a_path_that_only_resembles_a_mirror_has_no_address():
    top = addresses.mirrors()
    for path in (top, top / "x", top / "s3%3A%2F%2Fa%2Fb" / "other" / "c", Path("/s3%3A%2F%2Fa/a")):
        assert addresses.of_path(path) is None


@pytest.mark.parametrize(
    ("name", "given"), [("a#b.zip", "zip://a#b.zip"), ("a?b.zip", "zip://a?b.zip")]
)
def test_an_archive_on_this_disk_with_such_a_name_is_to_be_renamed(name, given, tmp_path):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(BadRecipe, match=f"{re.escape(name)} has a name with .* rename"):
        addresses.located(given, tmp_path)


@pytest.mark.parametrize("place", ["s3://bucket/out", Path("s3://bucket/out"), "zip://out.zip"])
@pytest.mark.parametrize(
    "call",
    [
        lambda place: hilum.run("films", out=place),
        lambda place: hilum.open_run(place),
        lambda place: hilum.synthesize("montgomery", place, images=4),
        lambda place: hilum.read_image(place),
    ],
    ids=["run", "open_run", "synthesize", "read_image"],
)
def test_a_call_that_takes_a_path_refuses_an_address_and_makes_no_folder_of_that_name(
    call, place, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadRecipe, match="is an address"):
        call(place)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["s3:", "a:/b", "x/s3:/b", "/tmp", "C", "1:2/x"])
def test_a_path_that_is_no_address_stays_as_it_is(text):
    assert addresses.on_this_disk(text) == Path(text)
