"""The errors a user can meet. Each says what is wrong, what was got, what was expected, what to do.

HilumError
├── NotFound        a name, a file or a folder that does not exist; offers the nearest name
├── BadData         the user's files are invalid; lists every fault at once
├── BadRecipe       a setting that is unknown, of the wrong kind or out of range
├── TooFew          a part or a class too small to conclude anything; says the number
├── Mismatch        artefacts that were not made from one another
│   └── Damaged     a stored file that is missing or not what was written
├── CannotRead      a file that the operating system does not let us read
├── CannotWrite     no permission, or no space on the disk
└── MissingExtra    an optional package that this step needs
"""

from __future__ import annotations

import difflib
import errno
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# difflib compares every pair of letters: names from a hostile file could keep it busy for hours.
_LONGEST_GUESSED, _MOST_GUESSED, _MOST_LISTED = 200, 10_000, 200
SOURCE = "the folder of Hilum's source"  # where pip recorded no folder; nothing is published yet
_FREE_SPACE = "free some space and run the same command again"
_ELSEWHERE = "choose another folder with --out"


class HilumError(Exception):
    """An error for the person at the keyboard: shown without a traceback, exit code 1.

    Its message is valid Unicode text, whatever the names of files in it are.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__("".join(map(_as_text, str(message))))


class NotFound(HilumError):
    """Something that was named is not there; the nearest known name is offered."""

    @classmethod
    def named(cls, kind: str, got: str, known: Iterable[str]) -> NotFound:
        """Return the error for an unknown `kind` called `got`, with the nearest known name."""
        return cls(unknown(kind, got, known))


class BadData(HilumError):
    """A file or table is not what it must be; the message lists every fault."""

    @classmethod
    def listing(cls, what: str, faults: Iterable[str], *, shown: int = 20) -> BadData:
        """Return the error that lists `faults` below a heading; beyond `shown` it counts them."""
        faults = list(faults)
        lines = [
            f"{what}: {plural(len(faults), 'fault')}",
            *(f"  {fault}" for fault in faults[:shown]),
        ]
        if len(faults) > shown:
            lines.append(f"  … and {len(faults) - shown} more")
        return cls("\n".join(lines))


class BadRecipe(HilumError):
    """A setting that is unknown, of the wrong kind or out of range."""


class TooFew(HilumError):
    """A part or a class too small to conclude anything."""


class Mismatch(HilumError):
    """Artefacts that were not made from one another."""


class Damaged(Mismatch):
    """A stored file that is missing or not what was written."""


class Unreachable(HilumError):
    """A source or server that does not answer, or not now, or lets nobody in; try again later."""


class CannotWrite(HilumError):
    """A file that cannot be written, for want of permission or space."""

    @classmethod
    def because(cls, path: object, error: OSError, elsewhere: str = _ELSEWHERE) -> CannotWrite:
        """Return the error for a refusal to write `path`; `elsewhere` is the usual remedy."""
        why = error.strerror or on_one_line(str(error)) or type(error).__name__
        remedy = {
            errno.ENOSPC: f"the disk is full; {_FREE_SPACE}",
            errno.EDQUOT: f"your disk quota is used up; {_FREE_SPACE}",
            errno.EFBIG: f"files may not be so large here; {elsewhere}",
            errno.EROFS: f"the disk is read-only; {elsewhere}",
            errno.EACCES: f"you may not write there; {elsewhere}",
            errno.EPERM: f"you may not write there; {elsewhere}",
        }.get(error.errno or 0, f"{why}; {elsewhere}")
        return cls(f"cannot write {on_one_line(str(path))}: {remedy}")


class CannotRead(HilumError):
    """A file that the operating system does not let us read."""

    @classmethod
    def because(cls, path: object, error: Exception) -> CannotRead:
        """Return the error for a refusal to read `path`, with a remedy."""
        why = getattr(error, "strerror", None) or str(error)
        remedy = {
            errno.EACCES: "ask for the right to read it",
            errno.EPERM: "ask for the right to read it",
            errno.ELOOP: "it is a link that leads to itself; replace it by the file",
            errno.EIO: "the disk failed; copy the file anew",
            errno.ENAMETOOLONG: "its name is too long for this disk; rename it",
        }.get(getattr(error, "errno", None) or 0, "check that it exists and may be read")
        return cls(f"cannot read {on_one_line(str(path))} ({why}); {remedy}")


# Refusals that only writing can meet.
OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def refused(path: object, error: OSError, elsewhere: str = _ELSEWHERE) -> HilumError:
    """Return the error for the operating system's refusal during a write to `path` or below it.

    A refusal that names a file elsewhere is one to read that file.
    """
    named = error.filename
    if named is None or isinstance(named, int) or error.errno in OF_WRITING:
        return CannotWrite.because(path, error, elsewhere)
    place, top = (os.path.abspath(os.fsdecode(one)) for one in (named, str(path)))
    parent = os.path.dirname(top)
    beside = os.path.join(parent, f".{os.path.basename(top)}.part")
    if (parent + os.sep).startswith(place.rstrip(os.sep) + os.sep) or any(
        (place + os.sep).startswith(one + os.sep) for one in (top, beside)
    ):
        return CannotWrite.because(path, error, elsewhere)
    return CannotRead.because(os.fsdecode(named), error)


class Notice(UserWarning):
    """A warning for the person at the keyboard that stops nothing."""


def notice(sentence: str) -> None:
    """Issue a `Notice`; the command line shows it as one line on standard error."""
    warnings.warn(Notice(sentence), stacklevel=2)


class Interrupted(BaseException):
    """The command is ended, by Ctrl-C or a signal. `kept` says what of its work remains.

    Not a `KeyboardInterrupt`, which command-line libraries turn into a silent end.
    """

    def __init__(self, signal: int, kept: str = "") -> None:
        super().__init__(signal)
        self.signal, self.kept = signal, kept


@contextmanager
def working_on(path: object, doing: str = "reading") -> Iterator[None]:
    """Add to an unforeseen error of the block a note which file was being processed."""
    try:
        yield
    except (HilumError, Interrupted, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # libraries in Rust panic with no `Exception`
        error.add_note(f"{NOTED}{doing} {on_one_line(str(path))}")
        raise


NOTED = "while "  # how the notes of `working_on` begin


class MissingExtra(HilumError):
    """An optional package that is not installed."""

    @classmethod
    def needed(cls, package: str, extra: str, why: str) -> MissingExtra:
        """Return the error with the command that installs `package`.

        `extra` is empty where no extra of Hilum has the package.
        """
        remedy = install_command(extra) if extra else f"python -m pip install {package}"
        return cls(f"{why} needs the package {package}, which is not installed: {remedy}")

    @classmethod
    @contextmanager
    def explained(cls, extra: str, why: str) -> Iterator[None]:
        """Translate the absence of an external package inside the block.

        The error has the command that installs the package.
        """
        try:
            yield
        except ModuleNotFoundError as error:
            if (error.name or "hilum").startswith("hilum"):
                raise
            raise cls.needed(error.name or "", extra, why) from error


def install_command(extra: str = "") -> str:
    """Return the command that installs Hilum, with an extra, from the folder it came from.

    Hilum is on no package index. Where pip has no record of the folder, the text names `SOURCE`.
    """
    extra = f"[{extra}]" if extra else ""
    if folder := _source_folder():
        return f"python -m pip install '{folder}{extra}'"
    return f"python -m pip install '.{extra}' (in {SOURCE})"


def script(module: str) -> str:
    """Return the command that runs a script of the repository, and the folder to run it in.

    The scripts that make models stand beside the package and are not installed with it.
    """
    return f"`python -m {module}` in {_source_folder() or SOURCE}"


def _source_folder() -> str:
    """Return the folder that pip installed Hilum from, by its record (PEP 610); "" without one."""
    import json
    from importlib import metadata
    from urllib.parse import unquote, urlsplit

    try:
        origin = json.loads(metadata.distribution("hilum").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return ""
    place = urlsplit(origin.get("url", ""))
    return unquote(place.path) if place.scheme == "file" and "dir_info" in origin else ""


def unknown(kind: str, got: str, known: Iterable[str]) -> str:
    """Return a sentence that there is no such `kind`, with the nearest name and those known.

    Names from files may be long and many: the nearest name, whose search grows with the square of
    their length, is sought among short ones only, and no more than 200 are listed.
    """
    known, shown = sorted(known), on_one_line(got[:_LONGEST_GUESSED])
    short = [name for name in known[:_MOST_GUESSED] if len(name) <= _LONGEST_GUESSED]
    near = difflib.get_close_matches(shown, short, n=1, cutoff=0.6)
    guess = f": did you mean '{near[0]}'?" if near else "."
    listed = ", ".join(name[:_LONGEST_GUESSED] for name in known[:_MOST_LISTED]) or "none"
    more = f" … and {len(known) - _MOST_LISTED:,} more" if len(known) > _MOST_LISTED else ""
    return f"no {kind} is called '{shown}'{guess} Known: {listed}{more}"


def plural(count: int, noun: str) -> str:
    """Return `1 image`, `1,200 images`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def on_one_line(text: str) -> str:
    """Return text on one line without control characters, which would control a terminal.

    Each of these becomes an escape, and so does a lone surrogate, which represents a byte of a
    file's name that is not UTF-8.
    """
    return "".join(one if one.isprintable() else _escape(one) for one in text)


def _escape(one: str) -> str:
    if "\ud800" <= one <= "\udfff":
        return _as_text(one)
    return one.encode("unicode_escape").decode()


def _as_text(one: str) -> str:
    """Return a character, or an escape of a lone surrogate.

    \\xe9 where it represents a byte of a name.
    """
    if not "\ud800" <= one <= "\udfff":
        return one
    return f"\\x{ord(one) - 0xDC00:02x}" if "\udc80" <= one <= "\udcff" else f"\\u{ord(one):04x}"
