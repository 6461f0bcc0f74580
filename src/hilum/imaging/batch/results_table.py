"""Write the results table of a command that takes images, however the command ends.

Until the last image is finished, a journal is kept beside the table, `JOURNAL`: a line of JSON with
everything that results depend on besides the images, then a line for each finished image. Run again
after it was stopped or killed, the same command takes from it the results of unchanged images whose
output still exists, and processes only the others. So it ends as it would have ended without the
interruption.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar

from hilum import __version__, storage
from hilum.errors import HilumError, Interrupted, NotFound
from hilum.imaging.files import output_folder
from hilum.safety import untrusted_files
from hilum.safety.path_names import as_text

JOURNAL = ".hilum-journal.jsonl"
Result = TypeVar("Result")
Work = Callable[[Path, str], Result]
Do = Callable[[Work, Path, str], Result]


def itself(value: Any) -> Any:
    """Return the value: results that are JSON types already are restored as they are."""
    return value


@dataclass(frozen=True)
class Table(Generic[Result]):
    """The table of all images of a call.

    `rows` converts results to rows, `plain` one result to JSON types, and `restored` back.
    `made_by` is everything that results depend on besides the image, in JSON types. `also` are
    other folders that the work on an image writes into.
    """

    out: output_folder.Output
    file: str
    columns: Sequence[str]
    made_by: object
    rows: Callable[[Sequence[Result]], Iterable[Mapping[str, object]]] = itself
    plain: Callable[[Result], Any] = itself
    restored: Callable[[Any], Result] = itself
    also: tuple[output_folder.Output, ...] = ()

    @contextmanager
    def kept(self, images: Sequence[tuple[Path, str]], results: list[Result]) -> Iterator[Do]:
        """Yield a function that processes an image, unless it was finished before.

        The caller appends to `results` in the order of `images`, paths with unique names. Their
        table is written when the block ends, by an error too.
        """
        journal = _Journal(self, images)
        try:
            with journal:
                yield journal.do
        except BaseException as error:
            if self.out.marked:  # else nothing was written, and there is no folder to write into
                with suppress(HilumError):  # the first error is the one to report
                    self._write(results)
                    self._report(error, len(results), len(images))
            raise
        if results:
            self._write(results)
        journal.path.unlink(missing_ok=True)

    def _write(self, results: Sequence[Result]) -> None:
        output_folder.write_csv(self.out.path(self.file), self.columns, self.rows(results))

    def _report(self, error: BaseException, done: int, of: int) -> None:
        if isinstance(error, Interrupted):
            error.kept = (
                f"{done} of {of} images are done and listed in "
                f"{as_text(self.out.path(self.file))}; the same command continues with the others"
            )


class _Line(TypedDict):
    """A finished image in the journal; `file` is its state then, `result` in JSON types."""

    name: str
    image: str
    file: list[int] | None
    written: list[str]
    result: Any


class _Journal(Generic[Result]):
    """The journal of finished images; used as a context while more are processed."""

    def __init__(self, table: Table[Result], images: Sequence[tuple[Path, str]]) -> None:
        self._table = table
        self._outputs = dict.fromkeys((table.out, *table.also))
        self._head = storage.as_json([__version__, table.file, table.made_by])
        self.path = Path(table.out.to or "", JOURNAL)
        self._lines = self._valid({name: path for path, name in images})
        self._open = ExitStack()
        self._append: Callable[[bytes], None] | None = None

    def __enter__(self) -> None:
        self._open.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def do(self, work: Work, path: Path, name: str) -> Result:
        """Return the result of an image, by `work` where the journal lacks it."""
        if name in self._lines:
            return self._table.restored(self._lines[name]["result"])
        for output in self._outputs:
            output.given.clear()
        file = _state(path)
        result = work(path, name)
        written = [as_text(place.absolute()) for output in self._outputs for place in output.given]
        plain = self._table.plain(result)
        self._note(_Line(name=name, image=as_text(path), file=file, written=written, result=plain))
        return result

    def _note(self, line: _Line) -> None:
        """Append a line; before the first, drop the lines of an earlier call that are stale."""
        if self._append is None:
            self._table.out.mark()
            kept = [self._head, *map(json.dumps, self._lines.values())]
            storage.write_text(self.path, "".join(f"{one}\n" for one in kept))
            self._append = self._open.enter_context(storage.appending(self.path))
        self._append(f"{json.dumps(line)}\n".encode())

    def _valid(self, images: Mapping[str, Path]) -> dict[str, _Line]:
        """Return the lines by name, of unchanged images whose output exists."""
        found: dict[str, _Line] = {}
        for line in _whole_lines(self.path, self._head):
            path = images.get(line["name"])
            same = path and as_text(path) == line["image"] and _state(path) == line["file"]
            if same and all(Path(place).exists() for place in line["written"]):
                found[line["name"]] = line
        return found


def _whole_lines(path: Path, head: str) -> Iterator[_Line]:
    """Yield the lines behind the first, which must be `head`, up to one that is damaged."""
    try:
        lines = untrusted_files.read_bytes(path).split(b"\n")
    except NotFound:
        return
    if lines[0] != head.encode():
        return
    for line in lines[1:-1]:  # behind the last line break is nothing, or an incomplete line
        try:
            yield json.loads(line)
        except ValueError:
            return


def _state(path: Path) -> list[int] | None:
    """Return size and modification time of a file, to detect changes; None where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
