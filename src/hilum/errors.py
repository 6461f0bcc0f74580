"""The errors a user can meet. Each says what is wrong, what was got, what was expected and what to do.

HilumError
├── NotFound        a name, a file or a folder that is not there; offers the nearest name
├── BadData         the user's files say something impossible; lists every fault at once
├── BadRecipe       a setting that is unknown, of the wrong kind or out of range
├── TooFew          a part or a class too small to say anything; says the number
├── Mismatch        artefacts that were not made from one another
│   └── Damaged     a stored file that is missing or not what was written
├── CannotRead      a file that the operating system does not let us read
├── CannotWrite     no permission, or no room on the disk
└── MissingExtra    an optional package that this step needs
"""

from __future__ import annotations

import difflib
import errno
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_LONGEST_GUESSED, _MOST_GUESSED, _MOST_LISTED = 200, 10_000, 200


class HilumError(Exception):
    """What went wrong, for the person at the keyboard: shown without a traceback, exit code 1.

    The message is text that tables and files hold, whatever is in the names that it tells.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__("".join(map(_as_text, str(message))))


class NotFound(HilumError):
    """Something that was named is not there; the nearest known name is offered."""

    @classmethod
    def named(cls, kind: str, got: str, known: Iterable[str]) -> NotFound:
        """An unknown `kind` called `got`, with the nearest known name offered."""
        return cls(unknown(kind, got, known))


class BadData(HilumError):
    """A file or table is not what it must be; the message lists every fault."""

    @classmethod
    def listing(cls, what: str, faults: Iterable[str], *, shown: int = 20) -> BadData:
        """All `faults` under one heading; beyond `shown` they are counted, not dropped."""
        faults = list(faults)
        lines = [
            f"{what}: {len(faults)} fault{'s' * (len(faults) != 1)}",
            *(f"  {fault}" for fault in faults[:shown]),
        ]
        if len(faults) > shown:
            lines.append(f"  … and {len(faults) - shown} more")
        return cls("\n".join(lines))


class BadRecipe(HilumError):
    pass


class TooFew(HilumError):
    pass


class Mismatch(HilumError):
    pass


class Damaged(Mismatch):
    pass


class CannotWrite(HilumError):
    @classmethod
    def because(cls, path: object, error: OSError) -> CannotWrite:
        """Turn the operating system's refusal to write `path` into a remedy."""
        why = error.strerror or on_one_line(str(error)) or type(error).__name__
        remedy = {
            errno.ENOSPC: "the disk is full; free some space and run the same command again, it goes on where it stopped",
            errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
            errno.EFBIG: "files may not be so large here; choose another folder with --out",
            errno.EROFS: "the disk is read-only; choose another folder with --out",
            errno.EACCES: "you may not write there; choose another folder with --out",
            errno.EPERM: "you may not write there; choose another folder with --out",
        }.get(error.errno or 0, f"{why}; choose another folder with --out")
        return cls(f"cannot write {on_one_line(str(path))}: {remedy}")


class CannotRead(HilumError):
    @classmethod
    def because(cls, path: object, error: Exception) -> CannotRead:
        """Turn the operating system's refusal into a remedy."""
        why = getattr(error, "strerror", None) or str(error)
        remedy = {
            errno.EACCES: "ask for the right to read it",
            errno.EPERM: "ask for the right to read it",
            errno.ELOOP: "it is a link that leads to itself; replace it by the file",
            errno.EIO: "the disk failed; copy the file anew",
            errno.ENAMETOOLONG: "its name is too long for this disk; rename it",
        }.get(getattr(error, "errno", None) or 0, "check that it exists and may be read")
        return cls(f"cannot read {on_one_line(str(path))} ({why}); {remedy}")


# Refusals that nothing but writing can meet.
OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def refused(path: object, error: OSError) -> HilumError:
    """Return what to tell of the operating system's refusal while `path`, or below it, is written.

    A refusal that names a file elsewhere is one to read that file.
    """
    named = error.filename
    if named is None or isinstance(named, int) or error.errno in OF_WRITING:
        return CannotWrite.because(path, error)
    place, top = (os.path.abspath(os.fsdecode(one)) for one in (named, str(path)))
    parent = os.path.dirname(top)
    beside = os.path.join(parent, f".{os.path.basename(top)}.part")
    if (parent + os.sep).startswith(place.rstrip(os.sep) + os.sep) or any(
        (place + os.sep).startswith(one + os.sep) for one in (top, beside)
    ):
        return CannotWrite.because(path, error)
    return CannotRead.because(os.fsdecode(named), error)


class Notice(UserWarning):
    """Something that the person at the keyboard should hear of and that stops nothing."""


def notice(sentence: str) -> None:
    """Give a `Notice`; the command line shows it as one line on standard error."""
    warnings.warn(Notice(sentence), stacklevel=2)


class Interrupted(BaseException):
    """Somebody ends the command, by Ctrl-C or a signal. `kept` says what of its work remains.

    No `KeyboardInterrupt`, which libraries of command lines turn into an end without a word.
    """

    def __init__(self, signal: int, kept: str = "") -> None:
        super().__init__(signal)
        self.signal, self.kept = signal, kept


@contextmanager
def working_on(path: object, doing: str = "reading") -> Iterator[None]:
    """Note on an unforeseen error of the block which file was being worked on."""
    try:
        yield
    except (HilumError, Interrupted, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # libraries in Rust panic with no `Exception`
        error.add_note(f"{NOTED}{doing} {on_one_line(str(path))}")
        raise


NOTED = "while "  # how the notes of `working_on` begin


class MissingExtra(HilumError):
    @classmethod
    def needed(cls, package: str, extra: str, why: str) -> MissingExtra:
        """Without an extra of Hilum's that has the `package`, `extra` is empty."""
        remedy = install_command(extra) if extra else f"python -m pip install {package}"
        return cls(f"{why} needs the package {package}, which is not installed: {remedy}")

    @classmethod
    @contextmanager
    def explained(cls, extra: str, why: str) -> Iterator[None]:
        """Turn the want of somebody else's package inside the block into the command that installs it."""
        try:
            yield
        except ModuleNotFoundError as error:
            if (error.name or "hilum").startswith("hilum"):
                raise
            raise cls.needed(error.name or "", extra, why) from error


def install_command(extra: str = "") -> str:
    """Return the command that installs Hilum, with an extra, from the folder it was installed from.

    Hilum is on no package index. A folder that pip does not know any more is called Hilum's own.
    """
    import json
    from importlib import metadata
    from urllib.parse import unquote, urlsplit

    extra = f"[{extra}]" if extra else ""
    try:
        told = json.loads(metadata.distribution("hilum").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        told = {}
    place = urlsplit(told.get("url", ""))
    if place.scheme == "file" and "dir_info" in told:
        return f"python -m pip install '{unquote(place.path)}{extra}'"
    return f"python -m pip install '.{extra}' (in the folder of Hilum's source)"


def unknown(kind: str, got: str, known: Iterable[str]) -> str:
    """Say in one sentence that there is no such `kind`, with the nearest name and those known.

    Names from files may be as long and as many as they like: a guess, whose work grows with the
    square of their length, is made among short ones only, and no more than 200 are listed.
    """
    known, shown = sorted(known), on_one_line(got[:_LONGEST_GUESSED])
    short = [name for name in known[:_MOST_GUESSED] if len(name) <= _LONGEST_GUESSED]
    near = difflib.get_close_matches(shown, short, n=1, cutoff=0.6)
    guess = f": did you mean '{near[0]}'?" if near else "."
    listed = ", ".join(name[:_LONGEST_GUESSED] for name in known[:_MOST_LISTED]) or "none"
    more = f" … and {len(known) - _MOST_LISTED:,} more" if len(known) > _MOST_LISTED else ""
    return f"no {kind} is called '{shown}'{guess} Known: {listed}{more}"


def on_one_line(text: str) -> str:
    """Return text as one line without control characters, which would steer a terminal.

    Each of these becomes an escape, and so does half of a character, which stands for a byte of a
    file's name that is no text.
    """
    return "".join(
        one if one.isprintable() else _as_text(one) if "\ud800" <= one <= "\udfff" else _escape(one)
        for one in text
    )


def _escape(one: str) -> str:
    return one.encode("unicode_escape").decode()


def _as_text(one: str) -> str:
    """Return a character, or an escape of half of one: \\xe9 where it stands for a byte of a name."""
    if not "\ud800" <= one <= "\udfff":
        return one
    return f"\\x{ord(one) - 0xDC00:02x}" if "\udc80" <= one <= "\udcff" else f"\\u{ord(one):04x}"
