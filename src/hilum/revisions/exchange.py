"""Hand corrections on, and take in those of others: a corrections file, COCO, PNG, a journal.

    fixes.toml    labels, corrections of images and of mended issues, as `hilum.dataset.corrections`
    masks.json    masks as COCO, see `hilum.revisions.mask_exchange`
    masks/        masks as PNG, likewise
    a run         everything that stands in its journal, its authors with it; only taken in

What is taken in is appended as revisions. What stands already and says the same is left as it is;
where it says something else, nothing is taken in unless `replace` is set.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hilum import storage
from hilum.dataset import corrections
from hilum.dataset.corrections import Correction
from hilum.dataset.manifest import Manifest
from hilum.errors import BadData, HilumError, unknown
from hilum.revisions import history, mask_exchange, uptake
from hilum.revisions.changes import Change, Correct, SetLabel, SetMask, images_of
from hilum.revisions.journal import Journal
from hilum.revisions.state import State

TOML, JSON = ".toml", ".json"
HEAD = """\
# Corrections of readers, exported by `hilum annotations export`, each with author and revision.
# `hilum run DATA --corrections FILE` makes them. Masks and decisions without corrections are not in
# it: export masks to a file of COCO (.json) or to a folder of PNG.
"""
_SET_LABEL = "set label"


@dataclass(frozen=True)
class Wanted:
    """A change that is to be appended, by whom and why."""

    change: Change
    author: str
    reason: str | None = None


def export(
    journal: Journal, manifest: Manifest, to: Path, until: int | None = None
) -> dict[str, object]:
    """Write what stands, up to the revision `until`, in the form that the name of `to` says.

    Returns a summary. Raises `HilumError` where `to` exists.
    """
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise HilumError(f"{to} exists already; choose another name, nothing was written")
    state = State.of(journal, until)
    if to.suffix == TOML:
        entries = state.corrections()
        storage.write_text(to, HEAD + "".join(f"\n{entry_text(one)}" for one in entries))
        return {"corrections": corrections.counts(entries), "masks not in it": len(state.masks)}
    if to.suffix == JSON:
        return mask_exchange.to_coco(journal, state, manifest, to)
    return mask_exchange.to_folder(journal, state, manifest, to)


def entry_text(one: Correction) -> str:
    """Return a correction as an entry of a file of corrections."""
    lines = (f"{key} = {storage.as_json(value)}\n" for key, value in one.entry.items())
    return "[[correction]]\n" + "".join(lines)


def take_in(
    journal: Journal,
    manifest: Manifest,
    source: Path,
    author: str | None = None,
    *,
    replacing: bool = False,
) -> dict[str, object]:
    """Append what a file, a folder or another journal says, and return a summary.

    `author` is the one of what states none. Raises `BadData` with all images that the data do not
    hold, each with the nearest name, and all that stands already and differs, unless `replacing`;
    nothing is appended then.
    """
    remarks: dict[str, object] = {}
    wanted = list(_wanted(journal, manifest, source, author, remarks))
    _refuse_unknown(wanted, manifest, source)
    state = State.of(journal)
    standing = {subject: one.change for subject, one in state.latest.items()}
    new = [one for one in wanted if standing.get(one.change.subject(one.author)) != one.change]
    differing = [
        f"{history.subject_of(one.change)}: {history.content(standing[subject])} stands, "
        f"{history.content(one.change)} is to be taken in"
        for one in new
        if (subject := one.change.subject(one.author)) in {it.subject for it in state.standing}
    ]
    if differing and not replacing:
        raise BadData.listing(
            f"{source} contradicts what stands in {journal.folder}; nothing was taken in. "
            "`--replace` lets what is taken in stand",
            differing,
        )
    by_statement: dict[tuple[str, str | None], list[Change]] = defaultdict(list)
    for one in new:
        by_statement[one.author, one.reason].append(one.change)
    for (who, reason), found in by_statement.items():
        pairs = [(change, state.expected(change.subject(who))) for change in found]
        journal.append_all(pairs, author=who, reason=reason)
    return {
        "taken in": len(new),
        "stood already": len(wanted) - len(new),
        "last revision": journal.last,
        **remarks,
    }


def _wanted(
    journal: Journal,
    manifest: Manifest,
    source: Path,
    author: str | None,
    remarks: dict[str, object],
) -> Iterator[Wanted]:
    if source.suffix == TOML:
        yield from _of_corrections(corrections.read(source), source, author)
        return
    if source.suffix == JSON:
        masks = mask_exchange.of_coco(source, manifest, remarks)
    elif source.is_dir() and not _holds_journal(source):
        masks = mask_exchange.of_folder(source, manifest)
    else:
        yield from _of_journal(journal, uptake.located(source))
        return
    for one in masks:
        change = SetMask(one.image_id, journal.put_mask(one.labels))
        yield Wanted(change, _stated(one.author or author, source), f"imported from {source.name}")


def _holds_journal(folder: Path) -> bool:
    try:
        uptake.located(folder)
    except HilumError:
        return False
    return True


def _stated(author: str | None, source: Path) -> str:
    if author is None:
        raise BadData(f"{source} does not say who made its corrections: --author NAME does")
    return author


def _of_corrections(
    entries: Iterable[Correction], source: Path, author: str | None
) -> Iterator[Wanted]:
    """Yield a change for each label, and one for each image with all its other corrections."""
    by_image: dict[tuple[str, str], list[Correction]] = defaultdict(list)
    for one in entries:
        who = _stated(one.author or author, source)
        if one.action == _SET_LABEL:
            why = one.why or f"imported from {source.name}"
            yield Wanted(SetLabel(one.image_id, one.concept or "", one.state), who, why)
        else:
            plain = replace(one, author=None, revision=None)
            by_image[one.image_id, who].append(plain)
    for (image_id, who), found in by_image.items():
        yield Wanted(Correct(image_id, tuple(found)), who, f"imported from {source.name}")


def _of_journal(journal: Journal, folder: Path) -> Iterator[Wanted]:
    with Journal.open(folder, create=False, read_only=True) as other:
        for one in State.of(other).standing:
            change = one.change
            if isinstance(change, SetMask):  # other encoders give other bytes, but the same pixels
                change = SetMask(change.image_id, journal.put_mask(other.mask(change.digest)))
            yield Wanted(change, one.author, one.reason)


def _refuse_unknown(wanted: Iterable[Wanted], manifest: Manifest, source: Path) -> None:
    known = set(manifest.table["image_id"])
    named = {image_id for one in wanted for image_id in _named(one.change) if image_id is not None}
    if missing := sorted(named - known):
        faults = [unknown("image", image_id, known).partition(" Known:")[0] for image_id in missing]
        raise BadData.listing(
            f"{source} is about images that are not in {manifest.root}; nothing was taken in",
            faults,
        )


def _named(change: Change) -> Iterator[str | None]:
    yield from images_of(change)
    for one in getattr(change, "corrections", ()):
        yield from (one.image_id, one.other)
