"""A route: its address, what it takes and gives, and the function that answers.

The one table of routes (`hilum.serve.api.ROUTES`) is what the server serves and what the OpenAPI
document says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hilum.serve.desk import QUICK, Desk
from hilum.serve.parameters import Integer, Object, Parameter
from hilum.serve.queries import PARAMETERS, Query
from hilum.serve.replies import JSON, PNG, Json, Refusal, Reply
from hilum.serve.sessions import Session

FORM = "multipart/form-data"
ROW = Parameter("row", Integer(), "number of the image in the study", "path", required=True)
EXPECTED = Parameter(
    "expected",
    Integer(),
    "number of the last revision of this subject that the writer saw; 0 for none",
    "body",
    required=True,
)


@dataclass(frozen=True)
class Body:
    """What a request carries: a JSON object, a PNG, or a form with one file."""

    about: str
    media_type: str = JSON
    content: Object | None = None


@dataclass(frozen=True)
class Call:
    """One request, checked: its values by name, its body, and whose it is."""

    values: Mapping[str, Json]
    session: Session
    content: Mapping[str, Json] = field(default_factory=dict)  # of a JSON body
    data: bytes = b""  # of another body
    file: Path | None = None  # that a form carried, until the reply is made
    file_name: str = ""  # as the browser calls it; never a place
    address: str = ""  # the query string

    def whole(self, name: str) -> int:
        """Return a whole number."""
        value = self._value(name)
        if not isinstance(value, int):
            raise TypeError(f"{name} is no whole number")
        return value

    def number(self, name: str) -> float | None:
        """Return a number; None where it was not given."""
        value = self._value(name)
        return float(value) if isinstance(value, int | float) else None

    def text(self, name: str) -> str:
        """Return a text; "" where it was not given."""
        value = self._value(name)
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self._value(name)
        return tuple(map(str, value)) if isinstance(value, Sequence) else ()

    def is_set(self, name: str) -> bool:
        """Say whether a flag is set."""
        return bool(self._value(name))

    def _value(self, name: str) -> Json:
        return self.content[name] if name in self.content else self.values[name]

    @property
    def query(self) -> Query:
        """The worklist that the request's values select."""
        return Query.of({one.name: self.values[one.name] for one in PARAMETERS})

    @property
    def author(self) -> str:
        """Who makes a change. Raises `Refusal` where the name was not given yet."""
        if not self.session.author:
            raise Refusal(
                428,
                "a change is kept with the name of its author, and none was given",
                "give your name on the page, or with POST /api/v1/author",
            )
        return self.session.author


Handler = Callable[[Desk, Call], Reply]


@dataclass(frozen=True)
class Route:
    """One address and method."""

    method: str
    path: str
    about: str
    handler: Handler
    parameters: Sequence[Parameter] = ()
    body: Body | None = None
    media_type: str = JSON
    changes: bool = False  # of the study, which a read-only desk refuses
    work: str | Callable[[Desk, Call], str] = QUICK  # which threads of the desk do it
    is_large: bool = False  # its reply has megabytes, of which a few are sent at once

    def threads(self, desk: Desk, call: Call) -> str:
        """Return which threads of the desk answer a request."""
        return self.work if isinstance(self.work, str) else self.work(desk, call)

    @property
    def takes_png(self) -> bool:
        """Whether it carries a PNG."""
        return self.body is not None and self.body.media_type == PNG
