"""The desk's pages and scripts: nothing from outside the machine, nothing inline, small modules."""

import hashlib
import re
from pathlib import Path

import pytest

import hilum
from tests.test_language import COLUMNS, private_words

SERVE = Path(hilum.__file__).parent / "serve"
HTMX = SERVE / "static" / "htmx.min.js"
PAGES = sorted((SERVE / "templates").glob("*.html"))
SCRIPTS = sorted(path for path in (SERVE / "static").glob("*.js") if path != HTMX)
STYLES = sorted((SERVE / "static").glob("*.css"))
LINES = 400
NAMESPACE = "http://www.w3.org/2000/svg"  # a name, which no browser ever fetches


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS, *STYLES], ids=lambda path: path.name)
def test_no_page_names_an_address_outside_the_machine(path):
    assert not re.findall(r"(?:https?:)?//[\w-]+\.\w+", text_of(path).replace(NAMESPACE, ""))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_runs_no_inline_script_and_has_no_inline_style(path):
    """The policy of the desk refuses both; data in `application/json` is not run."""
    page = text_of(path)
    scripts = re.findall(r"<script\b([^>]*)>", page)
    assert all("src=" in one or 'type="application/json"' in one for one in scripts)
    assert not re.search(r"<style\b|\sstyle=|\son[a-z]+=|javascript:", page)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_never_makes_markup_from_text(path):
    script = text_of(path)
    assert not re.search(
        r"innerHTML|outerHTML\s*=|insertAdjacentHTML|document\.write|\beval\(", script
    )


@pytest.mark.parametrize("path", [*SCRIPTS, *STYLES], ids=lambda path: path.name)
def test_scripts_and_styles_are_small_modules_of_short_lines(path):
    lines = text_of(path).split("\n")
    assert len(lines) <= LINES
    assert not [number for number, line in enumerate(lines, 1) if len(line) > COLUMNS]


@pytest.mark.parametrize("path", [*PAGES, *SCRIPTS], ids=lambda path: path.name)
def test_no_private_word_stands_in_pages_or_scripts(path):
    assert not private_words(text_of(path))


def test_every_static_file_that_is_named_is_there_and_every_one_is_named():
    named = set()
    for path in PAGES:
        page = text_of(path)
        named |= set(re.findall(r"/static/([\w.-]+\.\w+)", page))
        for listed in re.findall(r"for name in \[([^\]]*)\] %}<link rel=\"modulepreload\"", page):
            named |= {f"{name}.js" for name in re.findall(r'"(\w+)"', listed)}
    for path in SCRIPTS:
        named |= set(re.findall(r'from "\./([\w.-]+)"', text_of(path)))
    assert named == {path.name for path in (*SCRIPTS, *STYLES, HTMX, SERVE / "static/icon.svg")}


def test_the_viewer_fetches_at_once_every_module_that_it_imports():
    """A module that is named late costs a round trip before the image is shown."""
    wanted, waiting = set(), ["viewer.js", "desk.js"]
    while waiting:
        found = re.findall(r'from "\./([\w.-]+)"', text_of(SERVE / "static" / waiting.pop()))
        waiting += [name for name in found if name not in wanted]
        wanted |= set(found)
    page = text_of(SERVE / "templates" / "image.html")
    (listed,) = re.findall(r"for name in \[([^\]]*)\] %}<link rel=\"modulepreload\"", page)
    assert {f"{name}.js" for name in re.findall(r'"(\w+)"', listed)} >= wanted


def test_htmx_is_the_file_that_was_published():
    published = "d6fdc75f"  # of htmx 2.0.11 on npm; its licence lies beside it
    assert hashlib.sha256(HTMX.read_bytes()).hexdigest().startswith(published)
    assert HTMX.with_name("htmx.LICENSE.txt").exists()
