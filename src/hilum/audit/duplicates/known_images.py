"""Recognise an image that is known already: the same file, the same pixels, or a changed copy.

Changed copies were saved again, resized, cropped, mirrored, inverted, or given another contrast.
Perceptual hashes (`hilum.imaging.perceptual_hash`) propose known images. One is returned where its
cached pixels, registered onto those of the new image, agree in fine detail, as between the images
of a data set (`hilum.audit.duplicates.near_duplicates`, whose thresholds apply here too). Other
images of the same patient are not returned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from hilum.audit.duplicates import near_duplicates, registration
from hilum.dataset.pixel_cache import Cache
from hilum.imaging.geometry import Size
from hilum.imaging.perceptual_hash import content, decode, hash_image
from hilum.imaging.spectrum_search import IndexedHashes

Details = tuple[np.ndarray, np.ndarray]  # phases and fine detail of an image


@dataclass(frozen=True)
class Copy:
    """A known image that a new image is a copy of: `kind` is one of `near_duplicates.KINDS`,
    `agreement` is 0 to 1, `how` states the change in words.
    """

    image_id: str
    kind: str
    agreement: float = 1.0
    how: str = ""

    @property
    def words(self) -> str:
        """Describe what the new image is of the known one, such as "the same file as"."""
        changed = f"a changed copy ({self.how}) of"
        return {
            near_duplicates.SAME_FILE: "the same file as",
            near_duplicates.SAME_PIXELS: "the same pixels as",
        }.get(self.kind, changed)


class KnownImages:
    """Images of a cache that new images are compared with, one at a time."""

    def __init__(self, cache: Cache, image_ids: Iterable[str]) -> None:
        usable = cache.index.filter(
            pl.col("image_id").is_in(list(image_ids)) & (pl.col("minimum") < pl.col("maximum"))
        ).sort("image_id")
        self._cache = cache
        self._equal = {
            kind: dict(zip(usable[digest].reverse(), usable["image_id"].reverse(), strict=True))
            for kind, digest in near_duplicates.EQUAL.items()
        }
        self._rows = usable.drop_nulls("fingerprint").unique(
            "pixel_digest", keep="first", maintain_order=True
        )
        self._known = (
            IndexedHashes(decode(self._rows["fingerprint"])) if self._rows.height else None
        )

    def find(
        self, square: np.ndarray, size: Size, *, file_digest: str, pixel_digest: str
    ) -> Copy | None:
        """Return the known image that a new one is a copy of, or None.

        Equal files come before equal pixels, and these before changed copies of best agreement.

        `square` is the new image, uint8 (cache's size, cache's size) as the cache would hold it, of
        a file of (height, width) `size`.
        """
        for (kind, known), digest in zip(
            self._equal.items(), (file_digest, pixel_digest), strict=True
        ):
            if digest in known:
                return Copy(known[digest], kind)
        own = hash_image(square, size)
        if own is None or self._known is None:
            return None
        image = content(square, size)
        new = registration.phases(image), registration.fine(image)
        candidates = self._known.candidates(
            decode(pl.Series([own])), near_duplicates.DISTANCE, near_duplicates.NEIGHBOURS
        )
        found = [
            copy
            for candidate in dict.fromkeys(candidates)
            if (copy := self._compared(new, *candidate))
        ]
        return max(found, key=lambda copy: copy.agreement, default=None)

    def _compared(
        self, new: Details, at: int, view: int, mirrored: bool, swapped: bool
    ) -> Copy | None:
        """Return the known image in row `at` if it is the new one.

        `swapped`: the whole of the known image resembles a view (a middle part) of the new one, so
        the known image is registered onto the new one rather than the reverse.
        """
        row = self._rows.row(at, named=True)
        image = content(self._cache.images[row["row"]], (row["height"], row["width"]))
        known = registration.phases(image), registration.fine(image)
        first, second = (known, new) if swapped else (new, known)
        fit = registration.fit_one(first, second, view, mirrored=mirrored)
        if near_duplicates.kind_of(fit) != near_duplicates.PROCESSED:
            return None
        return Copy(
            row["image_id"],
            near_duplicates.PROCESSED,
            fit.agreement,
            near_duplicates.how(fit, mirrored),
        )
