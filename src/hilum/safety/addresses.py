"""Addresses of data that lie elsewhere: in a bucket, at a web server, in archives.

    s3://BUCKET/FOLDER   gs://…   https://…   any other protocol that fsspec knows
    zip://PATH           an archive on this disk, or a folder with archives in it; tar:// likewise
    zip::ADDRESS         the same at an address: tar::s3://bucket/nih
    ADDRESS#FOLDER       a folder in what the address gives: zip://chest.zip#chest/films

Each address has a folder of its own, its mirror, into which `hilum.dataset.remote` lays the files:

    MIRRORS/QUOTED/NAME/…   QUOTED: the address, quoted as in a URL; NAME: its last part

So the address can be read off any path below a mirror, and everything between an address and the
bytes is an ordinary folder. MIRRORS is the environment variable HILUM_MIRRORS, or hilum/mirrors
below XDG_CACHE_HOME or ~/.cache.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, unquote

from hilum.errors import BadRecipe, on_one_line

PLACE = "HILUM_MIRRORS"
ELSEWHERE = f"choose another folder by {PLACE}"  # where a mirror cannot be written
ARCHIVES = ("zip", "tar")
LOCAL = "file"
_ADDRESS = re.compile(r"(?:(zip|tar)::)?([a-z][a-z0-9+.-]+)://(.*)", re.DOTALL)
_WITHOUT_SLASH = re.compile(r"^((?:(?:zip|tar)::)?[a-z][a-z0-9+.-]+:)/(?!/)")  # as `Path` has it
_BEFORE = tuple(f"{one}::" for one in ARCHIVES)
_ENDINGS = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tbz2", ".txz")
_LONGEST = 255  # bytes of a folder's name
_NO_NAME = "has a name with ? or # in it, which end an address; rename the file or folder"
_REMEDY = "give credentials as the protocol's own settings, which Hilum never reads or writes"


@dataclass(frozen=True)
class Address:
    """A parsed address: what it points to, and whether archives there are read as folders.

    `rest` has no slash at its end and no part that is empty, "." or "..".
    """

    protocol: str
    rest: str
    archives: str = ""  # "zip", "tar" or ""

    @property
    def target(self) -> str:
        """The address without the archives."""
        return f"{self.protocol}://{self.rest}"

    @property
    def text(self) -> str:
        """The one spelling of the address; it parses to an equal one."""
        if not self.archives:
            return self.target
        if self.protocol == LOCAL:
            return f"{self.archives}://{self.rest}"
        return f"{self.archives}::{self.target}"

    def of_file(self, place: str) -> str:
        """Return the address of a file by its place; of "" the address itself."""
        return f"{self.text}/{place}" if place else self.text

    @property
    def name(self) -> str:
        """The last part, without the ending of an archive."""
        last = self.rest.rpartition("/")[2]
        bare = without_ending(last) if self.archives else last
        return last if bare in ("", ".", "..") else bare

    @property
    def mirror(self) -> Path:
        """The folder in which its files are laid."""
        return mirrors() / quote(self.text, safe="") / self.name


def is_archive(name: str) -> bool:
    """Say whether a file's name ends as those of archives do."""
    return name.lower().endswith(_ENDINGS) and without_ending(name.rpartition("/")[2]) != ""


def without_ending(name: str) -> str:
    """Return the name of an archive without its ending, that of any other file as it is."""
    found = max((one for one in _ENDINGS if name.lower().endswith(one)), key=len, default="")
    return name[: len(name) - len(found)]


def is_address(text: str) -> bool:
    """Say whether text is meant as an address, and not as a path."""
    return _ADDRESS.match(text) is not None or text.startswith(_BEFORE)


def parse(text: str, start: Path | None = None) -> Address:
    """Return the parts of an address; a path in it starts at `start`, else at the current folder.

    Raises `BadRecipe` for one that holds credentials, a query, or parts that lead elsewhere.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise BadRecipe(
            f"{without_secrets(text)} is no address; expected, for example, s3://bucket/folder"
        )
    archives, protocol, rest = found[1] or "", found[2], found[3]
    if protocol in ARCHIVES:
        if archives:
            raise BadRecipe(
                f"{without_secrets(text)} names archives twice; write {protocol}://PATH"
            )
        archives, protocol = protocol, LOCAL
    if protocol == LOCAL:
        rest = os.path.abspath((start or Path.cwd()) / rest) if rest else ""
    rest = rest.rstrip("/")
    if fault := _fault(protocol, rest):
        shown = on_one_line(text) if protocol == LOCAL else without_secrets(text)
        raise BadRecipe(f"{shown} {fault}")
    address = Address(protocol, rest, archives)
    if len(quote(address.text, safe="")) > _LONGEST or len(os.fsencode(address.name)) > _LONGEST:
        raise BadRecipe(
            f"{without_secrets(text)} is longer than a folder's name may be; shorten it"
        )
    return address


def _fault(protocol: str, rest: str) -> str:
    parts = rest.split("/")[protocol == LOCAL :]
    if not rest or {"", ".", ".."} & set(parts):
        return "has a part that is empty, . or ..; give the whole address of a folder or file"
    if "@" in parts[0] and protocol != LOCAL:
        return f"holds credentials or an @ before its first slash; {_REMEDY}"
    if "?" in rest or "#" in rest:
        if protocol == LOCAL:
            return _NO_NAME
        return (
            f"holds a query or a fragment, which may carry a key; {_REMEDY}. Where ? or # is part "
            "of a name, rename the file or folder"
        )
    if "\\" in rest or not rest.isprintable():
        return "holds a backslash or a character that does not print; rename the folder"
    return ""


def without_secrets(text: str) -> str:
    """Return an address without what may be a secret, on one line, for a message."""
    return on_one_line(re.split(r"[?#]", re.sub(r"://[^/@]*@", "://…@", text))[0])


def refusal(text: str) -> str:
    """Return why a verb that reads files by path takes no address."""
    return (
        f"{without_secrets(text)} is an address, which is read where a folder of radiographs is "
        "named, as by `hilum run`"
    )


def on_this_disk(text: str | Path) -> Path:
    """Return a path where only one on this disk will do. Raises `BadRecipe` for an address.

    Otherwise s3://bucket would become a folder of that name in the current one.
    """
    written = _WITHOUT_SLASH.sub(r"\1//", os.fspath(text))
    if is_address(written):
        raise BadRecipe(f"{refusal(written)}; here, give a path on this disk")
    return Path(text)


def located(text: str, start: Path | None = None) -> Path:
    """Return the folder that a person names: a path as it is, an address as its mirror.

    A folder in a mirror follows a #: zip://chest.zip#chest/films. A relative path starts at
    `start`, where that is given. Raises as `parse` does.
    """
    if is_address(text):
        named, _, place = text.partition("#")
        address = parse(named, start)
        local = address.protocol == LOCAL
        if place and local and Path(f"{address.rest}#{place}").exists():
            raise BadRecipe(f"{on_one_line(text)} {_NO_NAME}")
        here = local and not address.archives
        folder = Path(address.rest) if here else address.mirror
        if place and ({"", ".", ".."} & set(place.split("/")) or "\\" in place):
            raise BadRecipe(f"{without_secrets(named)}: what follows the # is no folder in it")
        return folder / place if place else folder
    return start / text if start else Path(text)


def mirrors() -> Path:
    """Return the folder of all mirrors, with links resolved."""
    return _mirrors(
        os.environ.get(PLACE)
        or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "hilum", "mirrors")
    )


@lru_cache(maxsize=8)
def _mirrors(place: str) -> Path:
    return Path(place).expanduser().resolve()


def of_path(path: Path | str) -> tuple[Address, str] | None:
    """Return the address of a mirror that holds a path, and the place below it ("": the mirror).

    None for any other path.
    """
    text, top = os.fspath(path), f"{mirrors()}{os.sep}"
    if not text.startswith(top):
        return None
    quoted, _, below = text[len(top) :].partition(os.sep)
    try:
        address = parse(unquote(quoted))
    except BadRecipe:
        return None
    name, _, place = below.partition(os.sep)
    own = name == address.name and quote(address.text, safe="") == quoted
    return (address, place) if own else None


def shown(path: Path | str) -> str:
    """Return a path as text, one below a mirror as its address; for messages and tables."""
    found = of_path(path)
    if found is None:
        return os.fspath(path)
    address, place = found
    return address.of_file(place)


def stored(path: Path) -> str:
    """Return a path as text of which `located` makes the same path again; for what is kept."""
    found = of_path(path)
    if found is None:
        return os.fspath(path)
    address, place = found
    return f"{address.text}#{place}" if place else address.text


def without_root(message: str, root: Path) -> str:
    """Return a message in which the files below `root` go by their places in it."""
    return message.replace(f"{shown(root)}/", "").replace(f"{root}/", "")
