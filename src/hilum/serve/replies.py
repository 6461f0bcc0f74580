"""What a route answers, and the refusals that every route shares."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hilum.errors import (
    BadData,
    BadRecipe,
    CannotRead,
    CannotWrite,
    HilumError,
    Mismatch,
    MissingExtra,
    NotFound,
    TooFew,
)

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
JSON, HTML, PNG, WEBP, BINARY, ZIP = (
    "application/json",
    "text/html; charset=utf-8",
    "image/png",
    "image/webp",
    "application/octet-stream",
    "application/zip",
)
_STATUS: Mapping[type[HilumError], int] = {
    NotFound: 404,
    BadData: 422,
    BadRecipe: 422,
    TooFew: 422,
    Mismatch: 409,
    CannotRead: 409,
    CannotWrite: 507,
    MissingExtra: 501,
}


@dataclass(frozen=True)
class Reply:
    """A response: its body as bytes, ready to be sent."""

    body: bytes | memoryview
    media_type: str = JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(HilumError):
    """A request that is not granted: an HTTP status, what is wrong, and what to do."""

    def __init__(
        self, status: int, error: str, remedy: str, more: Mapping[str, Json] | None = None
    ) -> None:
        super().__init__(f"{error}; {remedy}")
        self.status, self.error, self.remedy, self.more = status, error, remedy, more or {}


def as_json(value: Json, status: int = 200) -> Reply:
    """Return a value as JSON; numbers that JSON cannot write (nan, infinity) become null."""
    text = json.dumps(finite(value), ensure_ascii=False, separators=(",", ":"))
    return Reply(text.encode("utf-8", "replace"), JSON, status)


def finite(value: Json) -> Json:
    """Return a value with null in place of the numbers that JSON cannot write."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(one) for one in value]
    return value


def refusal_of(error: HilumError) -> Refusal:
    """Return an error of the package as a refusal; its last clause is what to do."""
    if isinstance(error, Refusal):
        return error
    kinds = (status for kind, status in _STATUS.items() if isinstance(error, kind))
    what, _, remedy = str(error).rpartition("; ")
    if not what:
        what, remedy = remedy, "change the request, or see the desk's terminal"
    return Refusal(next(kinds, 400), what, remedy)


def of_refusal(refused: Refusal) -> Reply:
    """Return a refusal as JSON: error, remedy and what else belongs to it."""
    body = {"error": refused.error, "remedy": refused.remedy, **refused.more}
    return as_json(body, refused.status)
