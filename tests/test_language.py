"""The source is written in the field's words and in short, plain lines."""

import ast
import re
from pathlib import Path

import pytest

import hilum

SOURCE = Path(hilum.__file__).parent
FILES = sorted(path for path in SOURCE.rglob("*") if path.suffix in (".py", ".j2"))
MODULES = [path for path in FILES if path.suffix == ".py"]
COLUMNS = 100
ANY = 5  # places where a dictionary of anything may stand: where JSON and TOML are read
PRIVATE = {  # word: what the field says
    "told": "reported, stated, summary",
    "learnt": "trained",
    "picture": "image, radiograph",
    "pictures": "images, radiographs",
    "posture": "orientation",
    "likeness": "nearest neighbours",
    "doubles": "near duplicates",
    "doubts": "quality flags",
    "doubted": "flagged",
    "lettering": "burned-in text",
    "foretold": "predicted",
    "taught": "trained",
    "strangers": "others, unknown",
    "shelf": "plug-ins",
    "shelves": "plug-ins",
}
DATA = {  # file: words that are the users' own there, such as names of folders, or a library's
}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def words(text: str) -> set[str]:
    """Return the words of a text, those within identifiers too, in small letters."""
    apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", text).replace("_", " ")
    return {word.lower() for word in re.findall(r"[A-Za-z]+", apart)}


def depth(node: ast.AST) -> int:
    """Return how deep comprehensions are nested below and with a node."""
    below = max(map(depth, ast.iter_child_nodes(node)), default=0)
    return below + isinstance(node, COMPREHENSIONS)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_private_word_stands_in_the_source(path):
    found = words(path.read_text(encoding="utf-8")) & PRIVATE.keys() - DATA.get(name(path), set())
    assert not found, {word: f"say {PRIVATE[word]}" for word in found}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_line_is_longer_than_100_columns(path):
    lines = path.read_text(encoding="utf-8").split("\n")
    assert not [number for number, line in enumerate(lines, 1) if len(line) > COLUMNS]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_expression_is_a_puzzle(path):
    """Comprehensions are nested two deep at most, and no conditional expression holds another."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, COMPREHENSIONS):
            assert depth(node) <= 2 and len(node.generators) <= 2, node.lineno
        if isinstance(node, ast.IfExp):
            assert not isinstance(node.body, ast.IfExp), node.lineno
            assert not isinstance(node.orelse, ast.IfExp), node.lineno


def test_dictionaries_of_anything_stand_at_the_edges_only():
    counts = {
        name(path): len(re.findall(r"\b[dD]ict\[str, Any\]", path.read_text(encoding="utf-8")))
        for path in MODULES
    }
    assert sum(counts.values()) <= ANY, {file: count for file, count in counts.items() if count}
