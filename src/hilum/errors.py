"""The errors a user can meet. Each says what is wrong, what was got, what was expected and what to do.

HilumError
├── NotFound        a name, a file or a folder that is not there; offers the nearest name
├── BadData         the user's files say something impossible; lists every fault at once
├── BadRecipe       a setting that is unknown, of the wrong kind or out of range
├── TooFew          a part or a class too small to say anything; says the number
├── Mismatch        artefacts that were not made from one another
├── CannotRead      a file that the operating system does not let us read
├── CannotWrite     no permission, or no room on the disk
└── MissingExtra    an optional package that this step needs
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class HilumError(Exception):
    """What went wrong, for the person at the keyboard: shown without a traceback, exit code 1."""


class NotFound(HilumError):
    @classmethod
    def named(cls, kind: str, got: str, known: Iterable[str]) -> NotFound:
        """An unknown `kind` called `got`, with the nearest known name offered."""
        return cls(unknown(kind, got, known))


class BadData(HilumError):
    @classmethod
    def listing(cls, what: str, faults: Iterable[str], *, shown: int = 20) -> BadData:
        """All `faults` under one heading; beyond `shown` they are counted, not dropped."""
        faults = list(faults)
        lines = [f"{what}: {len(faults)} fault{'s' * (len(faults) != 1)}", *(f"  {fault}" for fault in faults[:shown])]
        if len(faults) > shown:
            lines.append(f"  … and {len(faults) - shown} more")
        return cls("\n".join(lines))


class BadRecipe(HilumError):
    pass


class TooFew(HilumError):
    pass


class Mismatch(HilumError):
    pass


class CannotWrite(HilumError):
    @classmethod
    def because(cls, path: object, error: OSError) -> CannotWrite:
        """Turn the operating system's refusal into a remedy."""
        remedy = {
            errno.ENOSPC: "the disk is full; free some space and run the same command again, it goes on where it stopped",
            errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
            errno.EROFS: "the disk is read-only; choose another folder with --to",
            errno.EACCES: "you may not write there; choose another folder with --to",
            errno.EPERM: "you may not write there; choose another folder with --to",
        }.get(error.errno or 0, f"{error.strerror}; choose another folder with --to")
        return cls(f"cannot write {path}: {remedy}")


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


class MissingExtra(HilumError):
    @classmethod
    def needed(cls, package: str, extra: str, why: str) -> MissingExtra:
        """Without an extra of Hilum's that has the `package`, `extra` is empty."""
        remedy = install_command(extra) if extra else f"python -m pip install {package}"
        return cls(f"{why} needs the package {package}, which is not installed: {remedy}")

    @classmethod
    @contextmanager
    def told(cls, extra: str, why: str) -> Iterator[None]:
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
    """One sentence: no such `kind`, the nearest name if there is a near one, and all that are known."""
    known = sorted(known)
    near = difflib.get_close_matches(got, known, n=1, cutoff=0.6)
    guess = f": did you mean '{near[0]}'?" if near else "."
    return f"no {kind} is called '{got}'{guess} Known: {', '.join(known) or 'none'}"


def on_one_line(text: str) -> str:
    """Return text as one line without control characters, which would steer a terminal.

    Each of these becomes an escape, and so does half of a character, which stands for a byte of a
    file's name that is no text.
    """
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )
