"""What the DICOM headers of a folder, and the DICOMDIRs in it, state that cannot all be true."""

from __future__ import annotations

from collections.abc import Sequence

from hilum.dataset.dicom_index import dicomdir
from hilum.dataset.dicom_index.film import film
from hilum.dataset.dicom_index.index import contradictions
from hilum.dataset.dicom_index.remarks import of_directory
from hilum.dataset.manifest import Remark
from hilum.dataset.plan.reading import Reading
from hilum.errors import HilumError

DIRECTORY_RULE, CONTRADICTION = "dicomdir", "dicom-contradiction"


def compare(reading: Reading, directories: Sequence[str]) -> None:
    """Compare the headers with one another and with the DICOMDIRs, given by path in the folder.

    Adds what does not fit to the remarks on headers, and a decision for either.
    """
    films = {path: film(header, path) for path, header in reading.headers.items()}
    # Most folders hold no DICOMDIR, and to resolve a path takes half as long as to read its header.
    listing = films if directories else {}
    known = {reading.folder.located(path)[0].resolve(): one for path, one in listing.items()}
    for place in directories:
        path, root = reading.folder.located(place)
        try:
            listed = dicomdir.entries(path, root)
            faults = of_directory(path, listed, known)
        except HilumError as error:
            listed, faults = [], [str(error)]
        said = f"lists {len(listed)} files" + ("" if faults else ", which are all there")
        reading.evidence.decide("directory", f"{place} {said}", "it is a DICOMDIR (PS3.10 8)")
        reading.header_remarks += [
            Remark(place, "warning", DIRECTORY_RULE, fault) for fault in faults
        ]
    found = list(contradictions(films.values()))
    reading.header_remarks += [
        Remark(one.places[0], "warning", CONTRADICTION, f"its header states {one}") for one in found
    ]
    if found:
        kinds = sorted({one.kind for one in found})
        reading.evidence.decide(
            "headers", f"contradict one another {len(found)} times", "; ".join(kinds)
        )
