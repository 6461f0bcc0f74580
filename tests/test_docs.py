"""Every code block of the documentation runs: shell lines as commands, Python, recipes as TOML."""

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hilum.cli.verbs import app
from hilum.config import Recipe
from hilum.node import settings_file
from tools import make_reference

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if "reference" not in page.parts and "upstream" not in page.parts
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = "hilum run data/chest -o runs/chest --quick"
LONG = ("make ", "pip ", "hilum run ", "hilum classify", "hilum cross-evaluate") + tuple(
    f"hilum node {action}" for action in ("run", "status", "retry", "drop", "check")
)
NODE_FILES = (
    "orthanc.password",
    "pacs.token",
    "monitor.token",
    "hospital-ca.pem",
    "node.pem",
    "node.key",
)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_code_block_runs(page, request, tmp_path, monkeypatch):
    if page.stem == "dicom-results":
        pytest.importorskip("highdicom", reason="needs the extra [dicom]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HILUM_MIRRORS", str(tmp_path / "mirrors"))  # which a page may change
    names: dict = {}
    for language, text in blocks(page):
        if language == "sh":
            for line in filter(None, text.splitlines()):
                command(line.split("  #")[0].strip(), request)
        elif language == "python":
            if "torch" in text:
                pytest.importorskip("torch")
            exec(compile(text, str(page), "exec"), names)  # the documentation's own words
        elif language == "toml" and page.stem == "node":
            of_node(text, tmp_path)
        elif language == "toml":
            Recipe.from_sections(tomllib.loads(text))
        else:
            assert language == "text", f"{page}: a block of unknown language '{language}'"


def of_node(text: str, folder: Path) -> None:
    """Read the settings of a node, whose secrets and certificates are there."""
    for name in NODE_FILES:
        (folder / name).write_text("secret\n")
    (folder / "node.toml").write_text(text)
    settings_file.read(folder / "node.toml")


def command(line: str, request) -> None:
    """Run one line. The run of the tutorial is the suite's small run; other long ones
    are parsed.
    """
    if line == RUN:
        run = request.getfixturevalue("small_run")
        shutil.copytree(run.folder, "runs/chest")
        return
    words = shlex.split(line)
    if line.startswith(LONG):
        if words[0] == "hilum":
            assert CliRunner().invoke(app, [words[1], "--help"]).exit_code == 0, line
        return
    assert words[0] == "hilum", line
    done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
    assert done.exit_code == 0, f"{line}: {done.output}"


def test_the_reference_is_what_the_code_says():
    pytest.importorskip("torch")
    for name, page in make_reference.PAGES_OF.items():
        written = (make_reference.PAGES / name).read_text(encoding="utf-8")
        assert written == make_reference.NOTE + page().rstrip() + "\n", (
            f"{name}: run `python -m tools.make_reference`"
        )
