"""Read the headers of many DICOM files, in shards that any executor may carry (`hilum.scale`).

No journal is kept on the disk: a header takes a tenth of a millisecond, no more than its entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from hilum.errors import BadData
from hilum.imaging.files import dicom
from hilum.imaging.files.dicom import Header
from hilum.scale import in_groups

Place = tuple[Path, Path | None]  # of a file, and the folder below which it must be


def headers(files: Mapping[str, Place]) -> Iterator[tuple[str, Header | BadData]]:
    """Yield name and header of each file in their order, or why it cannot be read.

    A file on which process after process was ended is one that cannot be read.
    """
    return in_groups.run(_header, files)


def _header(place: Place) -> Header:
    return dicom.header(*place)
