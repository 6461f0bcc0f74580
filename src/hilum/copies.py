"""Recognise an image that is known already: the same file, the same pixels, or a changed copy of
it.

Changed copies are saved again, resized, cropped, mirrored, inverted, or of other contrast.
Fingerprints (`hilum.fingerprint`) propose known images, and one is told where its cached pixels,
laid over those of the new image, agree in fine detail, as between the images of a data set
(`hilum.doubles`, whose limits hold here too). Other images of the same patient are not told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from hilum import doubles, overlay
from hilum.cached import Cache
from hilum.fingerprint import content, decode, fingerprint
from hilum.likeness import Known
from hilum.radiograph import Size


@dataclass(frozen=True)
class Copy:
    """The known image that a new one is: `kind` is one of `doubles.KINDS`, `agreement` 0 to 1,
    `how` tells the change in words.
    """

    image_id: str
    kind: str
    agreement: float = 1.0
    how: str = ""

    @property
    def words(self) -> str:
        """What the new image is, such as "a changed copy of" the known one."""
        changed = f"a changed copy ({self.how}) of"
        return {
            doubles.SAME_FILE: "the same file as",
            doubles.SAME_PIXELS: "the same pixels as",
        }.get(self.kind, changed)


class KnownImages:
    """Images of a cache that new ones are compared with, one at a time."""

    def __init__(self, cache: Cache, image_ids: Iterable[str]) -> None:
        shown = cache.index.filter(
            pl.col("image_id").is_in(list(image_ids)) & (pl.col("minimum") < pl.col("maximum"))
        ).sort("image_id")
        self._cache = cache
        self._equal = {
            kind: dict(zip(shown[digest].reverse(), shown["image_id"].reverse(), strict=True))
            for kind, digest in doubles.EQUAL.items()
        }
        self._rows = shown.drop_nulls("fingerprint").unique(
            "pixel_digest", keep="first", maintain_order=True
        )
        self._known = Known(decode(self._rows["fingerprint"])) if self._rows.height else None

    def find(
        self, square: np.ndarray, size: Size, *, file_digest: str, pixel_digest: str
    ) -> Copy | None:
        """Return the known image that a new one is, the surest; None where it is none of them.

        `square` is the new image, uint8 (cache's size, cache's size) as the cache would hold it, of
        a file of (height, width) `size`.
        """
        for (kind, known), digest in zip(
            self._equal.items(), (file_digest, pixel_digest), strict=True
        ):
            if digest in known:
                return Copy(known[digest], kind)
        own = fingerprint(square, size)
        if own is None or self._known is None:
            return None
        detail = overlay.detail(content(square, size))
        candidates = self._known.candidates(
            decode(pl.Series([own])), doubles.DISTANCE, doubles.NEIGHBOURS
        )
        found = [
            copy
            for candidate in dict.fromkeys(candidates)
            if (copy := self._compared(detail, *candidate))
        ]
        return max(found, key=lambda copy: copy.agreement, default=None)

    def _compared(
        self, new: overlay.Detail, at: int, view: int, mirrored: bool, turned: bool
    ) -> Copy | None:
        """The known image in row `at`, where it is the new one; `turned`: the known whole is like
        the new image's view.
        """
        row = self._rows.row(at, named=True)
        known = overlay.detail(
            content(self._cache.images[row["row"]], (row["height"], row["width"]))
        )
        first, second = (known, new) if turned else (new, known)
        fit = overlay.fit(first, overlay.mirrored(second) if mirrored else second, view)
        if doubles.kind_of(fit) != doubles.PROCESSED:
            return None
        return Copy(row["image_id"], doubles.PROCESSED, fit.agreement, doubles.how(fit, mirrored))
