"""Find the image files that the arguments of a command name.

Arguments are files, folders and patterns (`*`, `?`, `[abc]`, `**`), in any mixture.

A file that is named counts as an image, whatever it holds; reading it reports the truth. In folders
and among the matches of patterns the first bytes decide what is an image
(`hilum.imaging.files.image_file.kind`), with or without an ending; where they are unknown but the
ending is an image's, the file counts as an image, so that reading reports the damage. DICOM objects
without pixels are no images. Skipped are hidden files, files that operating systems leave behind,
folders that a command of Hilum writes into (`output_folder.MARK`), and files that are no images;
all are counted and named in `Collected.notes`.

A link that is named is followed. In a folder that is searched, or by a pattern, a link is followed
where it stays below that folder; one that leads out of it is skipped and named, because the
folder's owner, not the user, chose its target. Each folder is entered once and each file returned
once, so circular links come to an end. Pipes, sockets and devices are never opened. An existing
file takes precedence over a pattern: `a[1].png` is a file if there is one.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path, PurePosixPath

from hilum.errors import BadData, HilumError
from hilum.imaging.files import dicom, image_file, output_folder
from hilum.imaging.files.links import stays_below
from hilum.imaging.files.portable_names import Found, unique_names
from hilum.safety import addresses, untrusted_files
from hilum.safety.path_names import as_text

SHOWN = 20  # names of files of one kind in a note; more are counted
EXPECTED = "a PNG, JPEG, TIFF or DICOM file, a folder that holds some, or a pattern in quotes"
_CLUTTER = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "__macosx",
    "$recycle.bin",
    "system volume information",
}
_RADIOGRAPHS = "hilum inspect"  # writes images to be read; other commands write masks and overlays


@dataclass(frozen=True)
class Collected:
    """The image files that arguments name, sorted by name.

    `names` are unique names for the output of each (`hilum.imaging.files.portable_names`), `faults`
    say which arguments and files cannot be used, `notes` what was skipped, `searched` are the
    folders that were entered, resolved.
    """

    names: tuple[tuple[Path, str], ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    searched: tuple[Path, ...]


@dataclass
class _Search:
    """What a search has found so far."""

    images: dict[str, Found] = field(default_factory=dict)  # by resolved path
    faults: list[str] = field(default_factory=list)
    unused: dict[Path, str] = field(default_factory=dict)  # with the kind of thing it is
    searched: dict[Path, None] = field(default_factory=dict)


def collect(arguments: Iterable[str | Path], to: Sequence[Path] = ()) -> Collected:
    """Find the images that `arguments` name. `to` are the folders that will be written into.

    Raises `HilumError` where one of these lies in a folder that is searched, `BadData` where an
    image lies in one.
    """
    search = _Search()
    for argument in arguments:
        _add(search, os.fspath(argument))
    for place in to:
        output_folder.refuse_overlap(
            place,
            {real: found.path for real, found in search.images.items()},
            list(search.searched),
        )
    names = unique_names(search.images.values())
    ordered = sorted(names.items(), key=lambda one: (one[1], str(one[0])))
    return Collected(
        tuple(ordered),
        tuple(dict.fromkeys(search.faults)),
        tuple(_notes(search.unused)),
        tuple(search.searched),
    )


def _add(search: _Search, argument: str) -> None:
    """Search what one argument names; report a fault where that is nothing."""
    faults = len(search.faults)
    met: list[Found] = []
    path = Path(argument)
    if not argument:
        search.faults.append(f"an argument is empty: name {EXPECTED}")
    elif os.path.isdir(path):
        met = list(_below(search, path))
    elif os.path.lexists(path):
        met = list(_named(search, path))
    elif addresses.is_address(argument):
        search.faults.append(f"{addresses.refusal(argument)}; here, name {EXPECTED}")
    elif has_magic(argument):
        top = os.path.realpath(_named_part(path))
        met = [found for match in _matches(search, path) for found in _matched(search, match, top)]
    for found in met:
        real = os.path.realpath(found.path)
        before = search.images.get(real)
        # Of a file that is named itself and found in a folder, the short name is kept.
        if before is None or _order(found) < _order(before):
            search.images[real] = found
    if not met and len(search.faults) == faults:
        search.faults.append(_nothing(search, argument))


def _order(found: Found) -> tuple[int, str]:
    return len(found.within.parts), str(found.path)


def _nothing(search: _Search, argument: str) -> str:
    if os.path.isdir(argument):
        passed = sum(other.is_relative_to(argument) for other in search.unused)
        held = f"{passed} files or folders in it were passed over"
        return f"no image in the folder {argument}, {held}: name {EXPECTED}"
    unfit = "nothing that is an image fits the pattern"
    what = unfit if has_magic(argument) else "there is no file or folder"
    return f"{what} {argument}: name {EXPECTED}"


# -------------------------------------------------------------------------------- one thing


def _named(search: _Search, path: Path) -> Iterator[Found]:
    """Yield the file that an argument names."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        search.faults.append(_unopened(path, error))
        return
    if regular:
        yield Found(path, PurePosixPath(path.name))
    else:
        what = untrusted_files.kind_of(path.stat().st_mode)
        search.faults.append(f"{path}: is {what}, which is not opened; name {EXPECTED}")


def _matched(search: _Search, path: Path, top: str) -> Iterator[Found]:
    """Yield the images at a match of a pattern; `top` is the folder before its first wildcard."""
    if not os.path.isdir(path):
        yield from _sorted_out(search, path, PurePosixPath(path.name), top)
    elif stays_below(top, path):
        yield from _below(search, path)
    else:
        search.unused[path] = "link"


def _named_part(pattern: Path) -> Path:
    """Return the folders of a pattern before the first part with a wildcard."""
    parts = list(pattern.parts)
    first = next(at for at, part in enumerate(parts) if has_magic(part))
    return Path(*parts[:first])


def _sorted_out(
    search: _Search, path: Path, within: PurePosixPath, top: str, *, linked: bool = True
) -> Iterator[Found]:
    """Yield a file found in a folder or by a pattern, if it is an image.

    `linked`: it may be a link.
    """
    if _is_clutter(path.name):
        search.unused[path] = "hidden"
        return
    if linked and not stays_below(top, path):
        search.unused[path] = "link"
        return
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            search.unused[path] = "special"
        elif _is_image(path):
            yield Found(path, within)
        else:
            search.unused[path] = "other"
    except OSError as error:
        search.faults.append(_unopened(path, error))
    except HilumError as fault:
        search.faults.append(str(fault))


def _is_image(path: Path) -> bool:
    kind = image_file.kind(path)
    if kind == "DICOM":
        return _has_pixels(path)
    return kind is not None or path.suffix.lower() in image_file.ENDINGS


def _has_pixels(path: Path) -> bool:
    """Return whether a DICOM file states the size of an image.

    One with a broken header counts, so that reading reports the damage.
    """
    try:
        return dicom.header(path).size is not None
    except BadData:
        return True


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _CLUTTER


def _unopened(path: Path, error: OSError) -> str:
    remedy = "check where it leads to and that it may be read"
    return f"{path}: cannot be opened ({error.strerror}); {remedy}"


# ---------------------------------------------------------------------------------- folders


def _below(search: _Search, folder: Path) -> Iterator[Found]:
    """Yield the images below a folder.

    Linked folders come last, so that a file is named after its true location.
    """
    if (by := _output_above(folder)) not in (None, _RADIOGRAPHS):
        search.faults.append(
            f"{folder} holds what `{by}` wrote, masks and overlays, and no radiographs; "
            f"name the folder of the radiographs"
        )
        return
    entered: set[tuple[int, int]] = set()
    top = os.path.realpath(folder)
    pending, linked = [folder], []
    while pending or linked:
        here = pending.pop() if pending else linked.pop(0)
        if not _enter(search, here, entered, top=here == folder):
            continue
        inner = []
        for entry in _entries(search, here):
            path = here / entry.name
            if not os.path.isdir(path):
                place = PurePosixPath(path.relative_to(folder))
                yield from _sorted_out(search, path, place, top, linked=entry.is_symlink())
            elif _is_clutter(entry.name):
                search.unused[path] = "hidden"
            elif entry.is_symlink() and not stays_below(top, path):
                search.unused[path] = "link"
            else:
                (linked if entry.is_symlink() else inner).append(path)
        pending += reversed(inner)


def _enter(search: _Search, folder: Path, entered: set[tuple[int, int]], *, top: bool) -> bool:
    """Enter a folder unless it was entered before or a command writes into it; return whether."""
    try:
        place = folder.stat()
    except OSError as error:
        search.faults.append(
            f"{folder}: cannot be opened ({error.strerror}); check that it may be read"
        )
        return False
    if (place.st_dev, place.st_ino) in entered:
        return False
    entered.add((place.st_dev, place.st_ino))
    if not top and _is_output(search, folder):
        return False
    search.searched[Path(os.path.realpath(folder))] = None
    return True


def _is_output(search: _Search, folder: Path) -> bool:
    if output_folder.written_by(folder) is None:
        return False
    search.unused[folder] = "output"
    return True


def _entries(search: _Search, folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        search.faults.append(
            f"{folder}: cannot be searched ({error.strerror}); check that it may be read"
        )
        return []


def _output_above(folder: Path) -> str | None:
    """Return the command that writes into a folder or into one above it."""
    place = Path(os.path.realpath(folder))
    return next(
        (
            by
            for one in (place, *place.parents)
            if (by := output_folder.written_by(one)) is not None
        ),
        None,
    )


# --------------------------------------------------------------------------------- patterns


def _matches(search: _Search, pattern: Path) -> Iterator[Path]:
    """Yield the files and folders that match a pattern.

    As in a shell, a part that begins without a dot matches no hidden name.
    """
    parts = pattern.parts
    base, parts = (Path(pattern.anchor), parts[1:]) if pattern.anchor else (Path(), parts)
    yield from _expanded(search, base, parts, defaultdict(set))


def _expanded(
    search: _Search, base: Path, parts: Sequence[str], entered: dict[int, set[tuple[int, int]]]
) -> Iterator[Path]:
    """Yield the files and folders below `base` that match the rest of a pattern.

    `entered` are the folders that each "**" of it has walked, by the number of parts from there on:
    without it, the work would grow by the depth of the folders with each further "**".
    """
    if not parts:
        yield base
        return
    first, rest = parts[0], parts[1:]
    if first == "**" and not rest:
        yield base
    elif first == "**":
        for folder in _all_folders(search, base, entered[len(parts)]):
            yield from _expanded(search, folder, rest, entered)
    elif os.path.lexists(base / first):  # a name with brackets in it, too
        yield from _expanded(search, base / first, rest, entered)
    elif has_magic(first):
        for entry in _entries(search, base) if os.path.isdir(base) else ():
            path, hidden = base / entry.name, _is_clutter(entry.name) and not first.startswith(".")
            fits = fnmatchcase(entry.name, first) and not hidden
            if fits and not (_is_output(search, path) if os.path.isdir(path) else rest):
                yield from _expanded(search, path, rest, entered)


def _all_folders(search: _Search, base: Path, entered: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield a folder and all below it, each once.

    Hidden ones, those that a command writes into and those in `entered` are left out.
    """
    pending = deque([base])
    while pending:
        folder = pending.popleft()
        if os.path.isdir(folder) and _enter(search, folder, entered, top=folder == base):
            yield folder
            inner = [
                folder / entry.name
                for entry in _entries(search, folder)
                if not _is_clutter(entry.name)
            ]
            pending += filter(os.path.isdir, inner)


# ------------------------------------------------------------------------------------ notes


def _notes(unused: dict[Path, str]) -> Iterator[str]:
    words = {
        "other": ("file that is no image", "files that are no images"),
        "special": (
            "pipe, socket or device, which is never opened",
            "pipes, sockets or devices, which are never opened",
        ),
        "link": (
            "link that leads out of its folder, and is followed where you name it or what it "
            "leads to",
            "links that lead out of their folder, and are followed where you name them or what "
            "they lead to",
        ),
        "hidden": ("hidden or system file", "hidden or system files"),
        "output": (
            "folder that holds the output of an earlier command",
            "folders that hold the output of earlier commands",
        ),
    }
    for kind, (one, several) in words.items():
        paths = sorted(as_text(path) for path, of in unused.items() if of == kind)
        if paths:
            more = f" … and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
            what = one if len(paths) == 1 else several
            yield f"passed over {len(paths)} {what}: {', '.join(paths[:SHOWN])}{more}"
