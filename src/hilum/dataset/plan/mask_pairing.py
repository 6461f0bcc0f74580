"""Pairing of mask files with radiographs, by names without mask words and by common folders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from functools import cache

from hilum.dataset.inventory import File
from hilum.dataset.plan import lexicon

_TOKEN = re.compile(r"[^\W\d_]+|\d+")
_SPLIT = re.compile(r"[\W_]+")


@cache
def affixes(stem: str) -> tuple[str, str]:
    """Return the mask words at both ends of a name, in lower case.

    ("mask", "") of mask_001, ("", "lung") of 7-lung, ("", "") of a name without one.
    """
    parts = [part for part in _SPLIT.split(stem) if part]
    if len(parts) < 2:
        glued = re.fullmatch(r"([^\W\d_]+)\d+|\d+([^\W\d_]+)", stem)
        if glued and is_mask_word(glued[1] or glued[2]):
            return glued[1] or "", glued[2] or ""
        return "", ""
    first, last = 0, len(parts)
    while first < last - 1 and is_mask_word(parts[first]):
        first += 1
    while last > first + 1 and is_mask_word(parts[last - 1]):
        last -= 1
    return "_".join(parts[:first]).casefold(), "_".join(parts[last:]).casefold()


def is_mask_word(word: str) -> bool:
    """Return whether the lexicon lists a word under any kind of mask, side or other organ."""
    return lexicon.among(word, "masks", "strong", "weak", "lung", "right", "left", "other")


class Pairing:
    """Finds the image of a mask by name without mask words, between several by common folders."""

    def __init__(self, images: Sequence[File]) -> None:
        self.exact: dict[str, list[File]] = defaultdict(list)
        self.reduced: dict[str, list[File]] = defaultdict(list)
        for file in images:
            self.exact[file.stem.casefold()].append(file)
            self.reduced[_reduced(file.stem)].append(file)

    def images(self, mask: File) -> list[str]:
        """Return the paths of the images that fit best, several if they fit alike; else none."""
        stem = mask.stem.casefold()
        for table, name in (
            (self.exact, stem),
            (self.exact, _without_affix(stem)),
            (self.reduced, _reduced(stem)),
        ):
            if found := table.get(name):
                return self._nearest(mask, found)
        # nnU-Net names an image as its mask, followed by the number of the channel.
        first_channel = self.exact.get(f"{stem}_0000")
        return self._nearest(mask, first_channel) if first_channel else []

    def _nearest(self, mask: File, images: Sequence[File]) -> list[str]:
        """Return the paths of the images whose folders have most names in common with the mask."""
        if len(images) == 1:
            return [images[0].path]
        wanted = _folder_key(mask.folder)
        ranks = []
        for file in images:
            held = _folder_key(file.folder)
            in_common = sum(name in held for name in wanted)
            ranks.append((in_common, -sum(name not in wanted for name in held)))
        best = max(ranks)
        return [file.path for file, rank in zip(images, ranks, strict=True) if rank == best]


@cache
def _folder_key(folder: str) -> tuple[str, ...]:
    """Return the names of a path without words for masks or images.

    ("normal",) both of images/Normal and of Normal_masks.
    """
    kept = []
    for name in filter(None, folder.split("/")):
        if not (is_mask_word(name) or lexicon.among(name, "masks", "image")):
            words = [
                word
                for word in lexicon.spaced(name).split()
                if not lexicon.among(word, "masks", "strong", "image")
            ]
            kept += [" ".join(words)] if words else []
    return tuple(kept)


def _without_affix(stem: str) -> str:
    """Return a name without the mask words at its ends; separators within are kept."""
    prefix, suffix = affixes(stem)
    for part in filter(None, suffix.split("_")[::-1]):
        stem = re.sub(rf"[\W_]*{re.escape(part)}$", "", stem, flags=re.IGNORECASE)
    for part in filter(None, prefix.split("_")):
        stem = re.sub(rf"^{re.escape(part)}[\W_]*", "", stem, flags=re.IGNORECASE)
    return stem


def _reduced(stem: str) -> str:
    """Return the parts of a name that are no words for masks or images; all where none is left."""
    tokens = _TOKEN.findall(stem.casefold())
    kept = [
        token
        for token in tokens
        if not (is_mask_word(token) or lexicon.among(token, "masks", "image"))
    ]
    return " ".join(kept or tokens)
