"""Read the headers of many DICOM files, in shards that any executor may carry (`hilum.scale`).

No journal is kept on the disk: a header takes a tenth of a millisecond, no more than its entry.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from hilum.errors import BadData
from hilum.imaging.files import dicom
from hilum.imaging.files.dicom import Header
from hilum.progress import Progress, quietly
from hilum.scale import shards

Place = tuple[Path, Path | None]  # of a file, and the folder below which it must be


def headers(
    files: Mapping[str, Place], progress: Progress = quietly
) -> Iterator[tuple[str, Header | BadData]]:
    """Yield name and header of each file in their order, or why it cannot be read.

    A file on which process after process was ended is one that cannot be read.
    """
    with closing(shards.run(_header, files, None)) as outcomes:
        for done, (name, outcome) in enumerate(zip(files, outcomes, strict=True), start=1):
            yield name, BadData(outcome.fault) if outcome.fault else _unpacked(outcome.result)
            progress(done, len(files))


def _header(place: Place) -> bytes:
    return pickle.dumps(dicom.header(*place))


def _unpacked(result: bytes) -> Header:
    # What `_header` has packed, in this process or one that serves it.
    return pickle.loads(result)  # noqa: S301
