"""The source is written in the field's words and in short, plain lines."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import hilum

SOURCE = Path(hilum.__file__).parent
ROOT = Path(__file__).parents[1]
FILES = sorted(path for path in SOURCE.rglob("*") if path.suffix in (".py", ".j2"))
MODULES = [path for path in FILES if path.suffix == ".py"]
SCRIPTS = sorted(
    path for folder in ("benchmarks", "tools") for path in (ROOT / folder).rglob("*.py")
)
PROSE = [
    *FILES,
    *SCRIPTS,
    *(path for path in sorted((ROOT / "tests").rglob("*.py")) if path != Path(__file__)),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.md")),
    *(ROOT / page for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
]
COLUMNS = 100
ANY = 5  # places where a dictionary of anything may stand: where JSON and TOML are read
PRIVATE = {  # word, or words: what the field says
    "asked": "requested, evaluated, used",
    "doubles": "near duplicates",
    "doubt": "uncertainty, quality flag",
    "doubted": "flagged",
    "doubtful": "unreliable",
    "doubts": "quality flags",
    "drawn lungs": "reference masks",
    "foretold": "predicted",
    "learnt": "trained",
    "lettering": "burned-in text",
    "likeness": "similarity, nearest neighbours",
    "look": "appearance, evaluate, search",
    "looks": "features, attends, seems",
    "picture": "image, radiograph",
    "pictured": "shown",
    "pictures": "images, radiographs",
    "posture": "orientation",
    "postures": "orientations",
    "share of": "fraction of",
    "shares of": "fractions of",
    "shelf": "plug-ins",
    "shelves": "plug-ins",
    "strange": "unknown, out of distribution",
    "stranger": "untrusted, unknown",
    "strangers": "others, unknown",
    "taught": "trained",
    "tells": "states, reports",
    "told": "reported, stated, summary",
    "turned": "rotated, inverted",
}
EXEMPT = {  # file: words that are there the user's own, another program's, or a title
    "src/hilum/dataset/plan/patterns.py": {"look"},  # a word of the pattern engine's messages
    "src/hilum/training/models/attention_unet.py": {"look"},  # a paper's title
    "tests/test_report_language.py": {"doubt", "doubtful"},  # reports as radiologists write them
    "benchmarks/accuracy/same_results.py": {  # names of earlier versions, to be translated
        *("doubts", "look", "looks", "picture", "strange", "turned")
    },
    "benchmarks/speed/tree_programs.py": {  # names of earlier versions
        *("doubles", "likeness", "look", "picture", "pictures", "posture")
    },
    "benchmarks/accuracy/result_tables.py": {"doubts", "picture", "told"},
}
PHRASES = [word for word in PRIVATE if " " in word]
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def name(path: Path) -> str:
    return path.relative_to(ROOT if path.is_relative_to(ROOT) else SOURCE.parents[1]).as_posix()


def private_words(text: str) -> set[str]:
    """Return the private words of a text, those within identifiers and over line ends too."""
    apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", text).replace("_", " ")
    words = re.findall(r"[a-z]+|[^a-z\s]+", apart.lower())
    line = f" {' '.join(words)} "
    return PRIVATE.keys() & set(words) | {word for word in PHRASES if f" {word} " in line}


def faults(paths: list[Path], found: Callable[[Path, str], object]) -> dict[str, object]:
    """Return what `found` finds in the text of each file where it finds anything."""
    texts = ((path, path.read_text(encoding="utf-8")) for path in paths)
    return {name(path): fault for path, text in texts if (fault := found(path, text))}


def depth(node: ast.AST) -> int:
    """Return how deep comprehensions are nested below and with a node."""
    below = max(map(depth, ast.iter_child_nodes(node)), default=0)
    return below + isinstance(node, COMPREHENSIONS)


def test_no_private_word_stands_in_code_or_prose():
    def private(path: Path, text: str) -> dict[str, str]:
        found = private_words(text) - EXEMPT.get(name(path), set())
        return {word: f"say {PRIVATE[word]}" for word in found}

    assert not faults(PROSE, private)


def test_no_line_is_longer_than_100_columns():
    def long(_: Path, text: str) -> list[int]:
        return [number for number, line in enumerate(text.split("\n"), 1) if len(line) > COLUMNS]

    assert not faults([*MODULES, *SCRIPTS], long)


def is_puzzle(node: ast.AST) -> bool:
    if isinstance(node, COMPREHENSIONS):
        return depth(node) > 2 or len(node.generators) > 2
    return isinstance(node, ast.IfExp) and (
        isinstance(node.body, ast.IfExp) or isinstance(node.orelse, ast.IfExp)
    )


def test_no_expression_is_a_puzzle():
    """Comprehensions are nested two deep at most, and no conditional expression holds another."""

    def puzzles(_: Path, text: str) -> list[int]:
        return [node.lineno for node in ast.walk(ast.parse(text)) if is_puzzle(node)]

    assert not faults([*MODULES, *SCRIPTS], puzzles)


def test_dictionaries_of_anything_stand_at_the_edges_only():
    counts = {
        name(path): len(re.findall(r"\b[dD]ict\[str, Any\]", path.read_text(encoding="utf-8")))
        for path in MODULES
    }
    assert sum(counts.values()) <= ANY, {file: count for file, count in counts.items() if count}


def exists(dotted: str) -> bool:
    """Return whether a dotted name is a package, a module, or a word of a module."""
    place, parts = SOURCE.parent, dotted.split(".")
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    module = place / f"{parts[0]}.py" if parts else place / "__init__.py"
    if parts and module.is_file():
        parts.pop(0)
    elif parts:
        module = place / "__init__.py"
    return not parts or bool(re.search(rf"\b{parts[0]}\b", module.read_text(encoding="utf-8")))


def test_modules_and_functions_that_prose_names_exist():
    def missing(_: Path, text: str) -> list[str]:
        named = set(re.findall(r"`(hilum(?:\.\w+)+)`", text)) - {"hilum.toml"}
        return [one for one in sorted(named) if not exists(one)]

    assert not faults(PROSE, missing)
