"""The kinds of values that a request may bring: each is checked, and described in OpenAPI, here.

A kind reads text (of an address or a header) with `parse` and a JSON value with `check`; both
raise `ValueError` that says what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hilum.serve.replies import Json

_SHOWN = 60  # characters of a wrong value that an error repeats


class Kind(Protocol):
    """A kind of value."""

    def parse(self, text: str) -> Json:
        """Return the value that a text states."""
        ...

    def check(self, value: Json) -> Json:
        """Return a JSON value of this kind."""
        ...

    def schema(self) -> Mapping[str, Json]:
        """Return its JSON schema."""
        ...


@dataclass(frozen=True)
class Integer:
    """A whole number from `least` to `most`."""

    least: int = 0
    most: int = (1 << 53) - 1

    def parse(self, text: str) -> Json:
        """Return the value that a text states."""
        if not text.removeprefix("-").isascii() or not text.removeprefix("-").isdigit():
            raise ValueError("expected a whole number")
        if len(text) > 17:
            raise ValueError(f"expected at most {self.most}")
        return self.check(int(text))

    def check(self, value: Json) -> Json:
        """Return a JSON value of this kind."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("expected a whole number")
        if not self.least <= value <= self.most:
            raise ValueError(f"expected a whole number from {self.least} to {self.most}")
        return value

    def schema(self) -> Mapping[str, Json]:
        """Return its JSON schema."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Number:
    """A finite number from `least` to `most`."""

    least: float
    most: float

    def parse(self, text: str) -> Json:
        """Return the value that a text states."""
        try:
            return self.check(float(text))
        except ValueError:
            raise ValueError(f"expected a number from {self.least} to {self.most}") from None

    def check(self, value: Json) -> Json:
        """Return a JSON value of this kind."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("expected a number")
        if not math.isfinite(value) or not self.least <= value <= self.most:
            raise ValueError(f"expected a number from {self.least} to {self.most}")
        return float(value)

    def schema(self) -> Mapping[str, Json]:
        """Return its JSON schema."""
        return {"type": "number", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Text:
    """Text of at most `longest` characters, without control characters but line breaks and tabs."""

    longest: int = 200
    shortest: int = 0

    def parse(self, text: str) -> Json:
        """Return the value that a text states."""
        return self.check(text)

    def check(self, value: Json) -> Json:
        """Return a JSON value of this kind."""
        if not isinstance(value, str):
            raise ValueError("expected text")
        if not self.shortest <= len(value) <= self.longest:
            raise ValueError(f"expected {self.shortest} to {self.longest} characters")
        if any(ord(letter) < 32 and letter not in "\n\t" for letter in value):
            raise ValueError("expected text without control characters")
        if not value.isascii() and value.encode("utf-8", "replace").decode() != value:
            raise ValueError("expected valid Unicode text")
        return value

    def schema(self) -> Mapping[str, Json]:
        """Return its JSON schema."""
        return {"type": "string", "minLength": self.shortest, "maxLength": self.longest}


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: Sequence[str]

    def parse(self, text: str) -> Json:
        """Return the value that a text states."""
        return self.check(text)

    def check(self, value: Json) -> Json:
        """Return a JSON value of this kind."""
        if value not in self.words:
            raise ValueError(f"expected one of {', '.join(self.words)}")
        return value

    def schema(self) -> Mapping[str, Json]:
        """Return its JSON schema."""
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True)
class Flag:
    """Yes or no: 1 or 0 in an address, true or false in JSON."""

    def parse(self, text: str) -> Json:
        """Return the value that a text states."""
        if text not in ("0", "1"):
            raise ValueError("expected 1 or 0")
        return text == "1"

    def check(self, value: Json) -> Json:
        """Return a JSON value of this kind."""
        if not isinstance(value, bool):
            raise ValueError("expected true or false")
        return value

    def schema(self) -> Mapping[str, Json]:
        """Return its JSON schema."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class ListOf:
    """At most `most` values of a kind; in an address they stand under the same name."""

    kind: Kind
    most: int = 50

    def parse(self, text: str) -> Json:
        """Return the value that a text states."""
        return self.kind.parse(text)

    def check(self, value: Json) -> Json:
        """Return a JSON value of this kind."""
        if not isinstance(value, list) or len(value) > self.most:
            raise ValueError(f"expected a list of at most {self.most} values")
        return [self.kind.check(one) for one in value]

    def schema(self) -> Mapping[str, Json]:
        """Return its JSON schema."""
        return {"type": "array", "maxItems": self.most, "items": self.kind.schema()}


@dataclass(frozen=True)
class Object:
    """A JSON object with these members and no other."""

    members: Sequence[Parameter]

    def parse(self, text: str) -> Json:
        """Return the value that a text states."""
        raise ValueError("an object stands in a body only")

    def check(self, value: Json) -> Json:
        """Return a JSON value of this kind."""
        if not isinstance(value, Mapping):
            raise ValueError("expected a JSON object")
        known = {one.name: one for one in self.members}
        if unknown := [name for name in value if name not in known]:
            raise ValueError(f"'{unknown[0][:_SHOWN]}' is not known; known: {', '.join(known)}")
        found: dict[str, Json] = {}
        for name, one in known.items():
            if name not in value or value[name] is None:
                if one.required:
                    raise ValueError(f"{name} is missing")
                found[name] = one.default
                continue
            try:
                found[name] = one.kind.check(value[name])
            except ValueError as wrong:
                raise ValueError(f"{name}: {wrong}") from None
        return found

    def schema(self) -> Mapping[str, Json]:
        """Return its JSON schema."""
        return {
            "type": "object",
            "additionalProperties": False,
            "required": [one.name for one in self.members if one.required],
            "properties": {
                one.name: {**one.kind.schema(), "description": one.about} for one in self.members
            },
        }


@dataclass(frozen=True)
class Parameter:
    """A value with a name: of a path, a query, a header, or a member of a JSON object."""

    name: str
    kind: Kind
    about: str
    where: str = "query"
    required: bool = False
    default: Json = None

    def read(self, given: Sequence[str]) -> Json:
        """Return the value of what an address or a header gives under this name."""
        if not given:
            if self.required:
                raise ValueError(f"{self.name} is missing")
            return [] if isinstance(self.kind, ListOf) else self.default
        try:
            if isinstance(self.kind, ListOf):
                return self.kind.check([self.kind.parse(one) for one in given])
            if len(given) > 1:
                raise ValueError("is given more than once")
            return self.kind.parse(given[0])
        except ValueError as wrong:
            raise ValueError(f"{self.name}: {wrong}, got '{given[0][:_SHOWN]}'") from None
