"""The walks in the documentation are walks through the code as it is."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from test_layers import ORDER

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "walks.md"
LINE = re.compile(r"^( *)- `([\w.]+)`", re.MULTILINE)
INDENT = 4
CALLED_THROUGH = {"make": "step.make", "dice": "overlap.METRICS"}


def found(name: str) -> Any:
    """Import what a dotted name below `hilum` stands for."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(["hilum", *parts[:count]]))
        except ModuleNotFoundError:
            continue
        value: Any = module
        for part in parts[count:]:
            value = getattr(value, part)
        return value
    raise AssertionError(f"there is no hilum.{name}")


def calls() -> list[tuple[str | None, str]]:
    """Return (caller, called) of each line of the page; a caller of None begins a walk."""
    above: list[str] = []
    pairs = []
    for indent, name in LINE.findall(PAGE.read_text(encoding="utf-8")):
        depth = len(indent) // INDENT
        assert len(indent) % INDENT == 0 and depth <= len(above), f"{name} is indented too far"
        above = above[:depth]
        pairs.append((above[-1] if above else None, name))
        above.append(name)
    return pairs


CALLS = calls()


def test_the_page_has_walks():
    assert len(CALLS) > 100


def test_each_function_of_a_walk_exists():
    assert all(found(name) is not None for _, name in CALLS)


def test_no_call_goes_up_the_order_of_packages():
    up = [
        f"{caller} calls {name}"
        for caller, name in CALLS
        if caller and ORDER.index(name.split(".")[0]) > ORDER.index(caller.split(".")[0])
    ]
    assert not up


def test_each_function_names_those_that_it_calls():
    """The last word of the called function, or what it is called through, is in the source."""
    unnamed = []
    for caller, name in CALLS:
        if caller:
            word = name.rpartition(".")[2]
            source = inspect.getsource(found(caller))
            if not re.search(rf"\b{CALLED_THROUGH.get(word, word)}\b", source):
                unnamed.append(f"{caller} never names {word}")
    assert not unnamed
