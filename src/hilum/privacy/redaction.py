"""Replace names and identifiers in sentences, wherever they stand, in time linear in the text.

Names (of images, files, folders) count as they are written and end where a name ends; identifiers
count in any case and as whole words. Of several that begin at one place the longest is taken.
"""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from hilum.safety import addresses

UID = re.compile(r"(?<![\d.])\d+(?:\.\d+){4,}(?![\d])")  # DICOM PS3.5, 9.1, of five parts or more
SHORT, SHORT_NUMBER = 4, 5  # characters of an identifier that many sentences hold by chance
_WORD = re.compile(r"[^\W_]+")
_NAMED = re.compile(
    r"\b(?:patients?|persons?|study|studies|examinations?|joined with|and|revision \d+ by) "
    r"['“\"]?$",
    re.IGNORECASE,
)
_BEFORE = 32  # characters that hold the longest of these words
_FILE = re.compile(
    r"[^\s,;:()\"'“”]+/[^\s,;:()\"'“”]+|[^\s,;:()\"'“”]+\.(?:png|jpe?g|tiff?|bmp|gif|dcm|dicom|csv"
    r"|tsv|txt|jsonl?|xlsx|parquet|xml|nii|gz|zip)\b",
    re.IGNORECASE,
)
_TEXT_IN_MARKUP = re.compile(r'(?<=aria-label=")[^"]+|(?<=>)[^<]+')

Found = tuple[int, int, str]  # start, end, what is to stand there
Pass = Callable[[str], Iterator[Found]]


class Lexicon:
    """Find the keys of a mapping in a text. `fits(text, start, end)` says where one may stand."""

    def __init__(self, words: Mapping[str, str], fits: Callable[[str, int, int], bool]) -> None:
        self._words, self._fits = dict(words), fits
        places: dict[str, set[tuple[int, int]]] = defaultdict(set)
        for one in self._words:
            if first := _WORD.search(one):
                places[first[0]].add((first.start(), len(one)))
        self._places = {
            word: sorted(found, key=lambda it: -it[1]) for word, found in places.items()
        }

    def found(self, text: str, shown: str) -> Iterator[Found]:
        """Yield what is found in `text`, which is `shown` in the case of the keys."""
        end = 0
        for word in _WORD.finditer(shown):
            for before, length in self._places.get(word[0], ()):
                start = word.start() - before
                new = self._words.get(shown[start : start + length]) if start >= end else None
                if new is not None and self._fits(text, start, start + length):
                    end = start + length
                    yield start, end, new
                    break


class Wording:
    """`names` and `identifiers` by what replaces each; `root`, the data's folder, is left out.

    `uid` makes a pseudonym of a DICOM UID, `file` one of whatever has the form of a path or of a
    file's name; None leaves these as they are.
    """

    def __init__(
        self,
        root: str,
        names: Mapping[str, str],
        identifiers: Mapping[str, str],
        *,
        uid: Callable[[str], str] | None = None,
        file: Callable[[str], str] | None = None,
    ) -> None:
        self._root = root.rstrip("/")
        known = Lexicon(names, _is_name)
        folded = {one.casefold(): new for one, new in identifiers.items()}
        people = Lexicon(folded, _is_identifier)
        self._passes: list[Pass] = [lambda text: known.found(text, text)]
        if file:
            self._passes.append(lambda text: _each(_FILE, file, text))
        self._passes.append(lambda text: people.found(text, _folded(text)))
        if uid:
            self._passes.append(lambda text: _each(UID, uid, text))

    def of(self, text: str) -> str:
        """Return a sentence as it may be passed on."""
        if self._root:
            text = addresses.without_root(text, Path(self._root))
            for root in {self._root, addresses.shown(self._root)}:
                text = text.replace(root, root.rpartition("/")[2])
        return _replaced(text, self._passes)

    def anything(self, value: Any) -> Any:
        """Return a value with the texts in it, however deep they stand; what is no text stays."""
        if isinstance(value, Markup):
            return Markup(_TEXT_IN_MARKUP.sub(self._of_markup, value))
        if isinstance(value, str):
            return self.of(value)
        if isinstance(value, dict):
            return {key: self.anything(one) for key, one in value.items()}
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            return type(value)(map(self.anything, value))
        if isinstance(value, tuple):
            return type(value)(*map(self.anything, value))
        if is_dataclass(value) and not isinstance(value, type):
            changed = {one.name: self.anything(getattr(value, one.name)) for one in fields(value)}
            return replace(value, **changed)
        return value

    def _of_markup(self, found: re.Match[str]) -> str:
        return html.escape(self.of(html.unescape(found[0])))


def _replaced(text: str, passes: Sequence[Pass]) -> str:
    """Return the text after all passes; what one has replaced no later one sees."""
    if not passes or not text:
        return text
    parts, at = [], 0
    for start, end, new in passes[0](text):
        parts += [_replaced(text[at:start], passes[1:]), new]
        at = end
    return "".join([*parts, _replaced(text[at:], passes[1:])])


def _each(pattern: re.Pattern[str], new: Callable[[str], str], text: str) -> Iterator[Found]:
    for found in pattern.finditer(text):
        yield found.start(), found.end(), new(found[0])


def _is_name(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 2]
    goes_on = re.match(r"[\w/]|[.\-]\w", after)
    return not re.match(r"[\w.\-]", before) and not goes_on


def _is_identifier(text: str, start: int, end: int) -> bool:
    if _WORD.match(text[start - 1 : start]) or _WORD.match(text[end : end + 1]):
        return False
    length = end - start
    rare = length >= (SHORT_NUMBER if text[start:end].isdigit() else SHORT)
    return rare or bool(_NAMED.search(text[:start][-_BEFORE:]))


def _folded(text: str) -> str:
    """Return the text in lower case, character by character, so that places stay the same."""
    return "".join(low if len(low := one.casefold()) == 1 else one for one in text)
