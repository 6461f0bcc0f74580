"""Write the results table of a command that takes images, however the command ends.

Until the last image is finished, a journal is kept beside the table, `JOURNAL`
(`hilum.scale.journal`). Run again after it was stopped or killed, the same command takes from it
the results of unchanged images whose output still exists, and processes only the others. So it ends
as it would have ended without the interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from hilum import __version__
from hilum.errors import HilumError, Interrupted
from hilum.imaging.files import output_folder
from hilum.safety.path_names import as_text
from hilum.scale import journal

JOURNAL = ".hilum-journal.sqlite"
Result = TypeVar("Result")


def itself(value: Any) -> Any:
    """Return the value: results that are JSON types already are restored as they are."""
    return value


@dataclass(frozen=True)
class Table(Generic[Result]):
    """The table of all images of a call.

    `rows` converts results to rows. `made_by` is everything that results depend on besides the
    image, in JSON types. `also` are other folders that the work on an image writes into.
    """

    out: output_folder.Output
    file: str
    columns: Sequence[str]
    made_by: object
    rows: Callable[[Sequence[Result]], Iterable[Mapping[str, object]]] = itself
    also: tuple[output_folder.Output, ...] = ()

    @property
    def journal(self) -> Path:
        """The journal of finished images."""
        return Path(self.out.to or "", JOURNAL)

    @property
    def made_from(self) -> object:
        """What the results in the journal depend on besides the images."""
        return [__version__, self.file, self.made_by]

    @contextmanager
    def kept(self, results: Sequence[Result], images: int) -> Iterator[None]:
        """Write the table of `results` when the block ends, by an error too.

        The caller appends to `results`, of which there are to be as many as `images`.
        """
        existed = self.journal.parent.exists()
        try:
            yield
        except BaseException as error:
            if results:
                with suppress(HilumError):  # the first error is the one to report
                    self._write(results)
                    self._report(error, len(results), images)
            else:
                self._leave_nothing(existed)
            raise
        if results:
            self._write(results)
        journal.delete(self.journal)
        if not results:
            self._leave_nothing(existed)

    def _leave_nothing(self, existed: bool) -> None:
        """Remove a folder that holds nothing but the journal of nothing."""
        if not existed and self.journal.parent.exists():
            with suppress(OSError):  # something of use is in it
                if not [one for one in self.journal.parent.iterdir() if JOURNAL not in one.name]:
                    journal.delete(self.journal)
                self.journal.parent.rmdir()

    def _write(self, results: Sequence[Result]) -> None:
        output_folder.write_csv(self.out.path(self.file), self.columns, self.rows(results))

    def _report(self, error: BaseException, done: int, of: int) -> None:
        if isinstance(error, Interrupted):
            error.kept = (
                f"{done} of {of} images are done and listed in "
                f"{as_text(self.out.path(self.file))}; the same command continues with the others"
            )
