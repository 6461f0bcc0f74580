"""The contract of the catalogue, `resources/catalog.toml` and the files beside the readers:
complete, numeric where numbers are due.
"""

import json
import re
import tomllib
from dataclasses import asdict
from importlib import resources
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hilum import plugins
from hilum.cli.verbs import app
from hilum.dataset import catalog, download
from hilum.dataset.catalog import ACCESS, CatalogEntry
from hilum.errors import NotFound

UNREAD = resources.files("hilum").joinpath("resources/catalog.toml")
BESIDE = [
    file
    for file in resources.files("hilum.dataset.readers").iterdir()
    if file.name.endswith(f".{catalog.FACTS}")
]
TEXT = "\n".join(file.read_text(encoding="utf-8") for file in (UNREAD, *BESIDE))
EXPECTED = {  # the sets that a user asks for without Hilum reading them
    "brax",
    "chexmask",
    "chexpert",
    "jsrt",
    "mimic_cxr",
    "mimic_cxr_jpg",
    "openi",
    "padchest",
    "rsna_pneumonia",
    "siim_acr",
    "tbx11k",
    "vindr_cxr",
}
TEXTS = (
    "title",
    "licence",
    "views",
    "labels",
    "labels_made",
    "marks",
    "format",
    "size",
    "population",
    "ages",
    "page",
)
every_set = pytest.mark.parametrize("name", catalog.names())
every_described_set = pytest.mark.parametrize(
    "name", [name for name in catalog.names() if catalog.entries()[name]]
)


def test_every_set_that_is_read_is_known_and_so_are_those_that_users_ask_for():
    assert (
        set(plugins.names("readers")) <= set(catalog.names()) and set(catalog.names()) >= EXPECTED
    )
    assert [name for name in catalog.names() if catalog.entry(name).read] == plugins.names(
        "readers"
    )


def test_facts_stand_beside_a_reader_or_in_the_list_of_sets_that_are_not_read():
    beside = {file.name.removesuffix(f".{catalog.FACTS}") for file in BESIDE}
    unread = set(tomllib.loads(UNREAD.read_text(encoding="utf-8")))
    assert beside and beside <= set(plugins.names("readers")) and not unread & beside
    assert not unread & set(plugins.names("readers"))


def test_a_reader_without_a_file_of_facts_has_an_entry_from_its_card(monkeypatch):
    facts = {name: {} if name == "kermany" else catalog.entries()[name] for name in catalog.names()}
    monkeypatch.setattr(catalog, "entries", lambda: facts)
    about = catalog.entry("kermany")
    assert about.title == plugins.load("readers", "kermany").CARD.title and about.images is None
    assert about.views == about.page == "not stated" and about.access in ACCESS
    assert "put them into data/x" in download.by_hand(about, Path("data/x"))[0]
    assert "kermany" in download.line(about) and "not stated" in download.describe(about)


@every_described_set
def test_every_fact_is_there(name):
    about = catalog.entry(name)
    assert all(getattr(about, field).strip() for field in TEXTS)
    assert about.access in ACCESS and (about.steps or about.files)
    assert about.faults or about.read
    assert about.citation or about.access == "own"
    assert json.loads(json.dumps(asdict(about)))["name"] == name


@every_described_set
def test_numbers_are_whole_and_not_texts(name):
    about = catalog.entry(name)
    numbers = [about.images, about.patients, *(file.bytes for file in about.files)]
    assert all(number is None or (type(number) is int and number >= 0) for number in numbers)
    assert about.images is not None or about.access == "own"
    assert about.patients is None or 0 < about.patients <= about.images


@every_set
def test_a_set_that_is_read_says_its_card_once(name):
    reported = catalog.entries()[name].keys() & {"title", "licence", "citation", "faults"}
    assert len(reported) == (0 if name in plugins.names("readers") else 4)


@every_set
def test_numbers_of_patients_and_images_are_the_cards(name):
    """Where the card of a module states them, in whatever words."""
    images = catalog.entry(name).images
    if name not in plugins.names("readers") or images is None:
        pytest.skip("has no reader, or no number")
    counts = plugins.load("readers", name).CARD.counts
    assert f"{images:,}" in counts


def test_sets_that_share_images_name_one_another():
    for name in catalog.names():
        for other in catalog.entry(name).overlaps:
            assert name in catalog.entry(other).overlaps, (
                f"{name} names {other}, not the other way round"
            )


@every_set
def test_addresses_are_encrypted_say_where_they_are_documented_and_lead_to_one_place_each(name):
    about = catalog.entry(name)
    assert bool(about.files) == bool(about.addresses_from)
    places = [file.unpack or file.name for file in about.files]
    assert len(set(places)) == len(places)
    for file in about.files:
        assert (
            file.url.startswith("https://")
            and ".." not in file.name
            and not file.name.startswith(("/", "."))
        )
        assert not file.hash or (
            file.hash_from and re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", file.hash)
        )
        assert bool(file.unpack) == file.name.endswith((".zip", ".tar.gz", ".tgz"))


def test_no_person_can_be_written_to_and_no_key_is_reported():
    assert not re.search(r"[\w.+-]+@[\w-]+\.\w+", TEXT)
    assert not re.search(r"(?i)password=|token=|auth_token|api_key", TEXT)


@every_set
def test_no_key_of_the_file_is_unknown(name):
    assert catalog.entries()[name].keys() <= set(CatalogEntry.__dataclass_fields__)


def test_a_misspelt_set_gets_the_nearest_name():
    with pytest.raises(NotFound, match="did you mean 'chexpert'"):
        catalog.entry("chexprt")


def test_the_list_has_a_line_a_set_and_one_set_is_reported_in_full():
    listing = CliRunner().invoke(app, ["datasets"]).stdout
    assert all(re.search(rf"^{name} ", listing, re.MULTILINE) for name in catalog.names())
    assert "112,120" in listing and "credentialed" in listing
    one = " ".join(CliRunner().invoke(app, ["datasets", "tbx11k"]).stdout.split())
    assert (
        "montgomery (its release holds all of it)" in one
        and "boxes of active and latent tuberculosis" in one
    )
    reported = json.loads(CliRunner().invoke(app, ["datasets", "--json"]).stdout)
    assert (
        list(reported) == catalog.names()
        and reported["mimic_cxr"]["patients"] == 65379
        and reported["shenzhen"]["patients"] is None
    )
    assert list(json.loads(CliRunner().invoke(app, ["datasets", "brax", "--json"]).stdout)) == [
        "brax"
    ]
