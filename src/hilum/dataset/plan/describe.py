"""Say how a folder is read: on one screen, as a complete hilum.toml, or as a refusal with the lines that settle what is open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hilum.dataset.plan import folders, masks
from hilum.dataset.plan import settings as hilum_toml
from hilum.dataset.plan.evidence import shown
from hilum.dataset.plan.reading import Reading


def refusal(reading: Reading) -> str:
    """Return the message for a folder that is not settled; its lines of TOML work when pasted."""
    questions = reading.evidence.questions
    listed = "\n".join(f"  {question.text}" for question in questions)
    whole = (reading.root / hilum_toml.FILE).exists()
    how = f"Replace the lines of {hilum_toml.FILE} by these" if whole else f"Put a file {hilum_toml.FILE} with these lines into the folder"
    return (
        f"{reading.root}: how it is to be read is not settled by what it holds, {len(questions)} question{'s' * (len(questions) != 1)}\n{listed}\n"
        f"{how}, corrected where they are wrong, and run the same command again:\n\n{answers(reading)}"
    )


def answers(reading: Reading) -> str:
    """Return hilum.toml with the lines that answer every question, filled from the folder's own words."""
    comments: dict[str, str] = {}
    for question in reading.evidence.questions:
        comments |= question.comments
    return hilum_toml.to_toml(hilum_toml.merged(reading.settings, (question.answer for question in reading.evidence.questions)), comments)


def nothing(reading: Reading) -> str:
    """Return the message for a folder without a radiograph: what it holds, and what was expected."""
    kinds = Counter(file.kind for file in reading.files.files)
    held = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "nothing"
    why = "; ".join(f"{aside.count} {aside.reason}" for aside in reading.evidence.aside if aside.kind == "file" and aside.severity == "warning")
    return (
        f"{reading.root} holds no radiographs: got {held}{f' ({why})' if why else ''}; expected PNG, JPEG, TIFF, BMP, GIF or DICOM images, "
        "or one of the known data sets, which `hilum datasets` lists"
    )
