"""Report what ingest remarked while it read the folder, with the severity that the reader gave.

A remark whose rule is not declared here is reported under the rule `remark`.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.audit.issues import Issue, Rule
from hilum.dataset.corrections import CORRECTED
from hilum.dataset.manifest import DROPPED, Manifest
from hilum.plugins import Card
from hilum.revisions.uptake import UNUSED

CARD = Card(
    title="Reading the folder",
    caveats="Certain, as far as the folder has the layout that it was read as.",
)
RULES = (
    Rule(
        "made-up",
        "info",
        "The images are synthetic.",
        "They show how things work; what is measured on them says nothing about patients.",
        "Nothing; for meaningful figures, use radiographs.",
    ),
    Rule(
        DROPPED,
        "info",
        "A file in the folder is not part of the data.",
        "What is left out is in no result; an image among these files is one that you may miss.",
        "Nothing, where that is intended; else give the file the name and place that the layout of "
        "the data set requires.",
    ),
    Rule(
        CORRECTED,
        "info",
        "A correction was made, as a file of corrections or a reader's revision states.",
        "The table differs here from the folder.",
        "Nothing; delete the entry from the file, or undo the revision with `hilum serve`, to "
        "restore what the folder states.",
    ),
    Rule(
        UNUSED,
        "warning",
        "A reader's revision is about an image that the data do not hold.",
        "Work of a reader has no effect, and an image may have been renamed or lost.",
        "Restore the image under its former name, or undo the revision with `hilum serve`.",
    ),
    Rule(
        "mask-orphan",
        "warning",
        "A mask belongs to no image.",
        "An image is missing, or the mask's name is misspelt and its image is without a mask.",
        "Give the mask the name of its image, or restore the missing image.",
    ),
    Rule(
        "dicomdir",
        "warning",
        "A DICOMDIR and the files that it lists do not agree.",
        "Images of the medium are missing, or some are another's than its directory states.",
        "Copy the medium again, whole; what the files state counts.",
    ),
    Rule(
        "dicom-contradiction",
        "warning",
        "Headers state what cannot all be true.",
        "An image or a study of several patients, or a patient of several names: a split may keep "
        "one person's images apart, or take two persons for one.",
        "Ask the archive that they came from, and correct the patients by a CSV with the columns "
        "image and patient.",
    ),
    Rule(
        "no-patients",
        "warning",
        "Nothing states whose images these are.",
        "If a person has several images, a split cannot keep them together, and the figures are "
        "too good.",
        "Add a CSV with the columns image and patient.",
    ),
    Rule(
        "folders-as-patients",
        "warning",
        "Folders are taken for patients.",
        "They are too many to be findings; if each is a study, a split separates the studies of a "
        "patient.",
        "Nothing where each is a patient; else state in a hilum.toml what they are, see "
        "`help(hilum.dataset.readers.folder)`.",
    ),
    Rule(
        "same-patient",
        "info",
        "A reading states that two patients are one person.",
        "In different parts of a split, the same person would be in training and in test.",
        "Nothing where they were joined; where the other one has no image here, check that the "
        "name is not misspelt.",
    ),
    Rule(
        "reading-missing",
        "info",
        "An image has no clinical reading.",
        "Its sex, age and label cannot be compared with what the radiologist wrote.",
        "Put the reading beside the others, if there is one.",
    ),
    Rule(
        "reading-orphan",
        "info",
        "A clinical reading belongs to no image.",
        "An image of the release may be missing here.",
        "Nothing, where the images are a selection; else copy the missing image.",
    ),
    Rule(
        "reading-encoding",
        "warning",
        "A clinical reading is not UTF-8.",
        "Letters beyond English may have been misread.",
        "Check the words, and save the file again as UTF-8.",
    ),
    Rule(
        "reading-form",
        "warning",
        "Sex or age could not be found in a clinical reading.",
        "They are empty for this image, so figures by sex or age leave it out.",
        "Write them in the first line in the form of the other readings.",
    ),
    Rule(
        "csv-encoding",
        "warning",
        "The table of images is not UTF-8.",
        "Letters beyond English may have been misread.",
        "Save the CSV again as UTF-8.",
    ),
    Rule(
        "shape-fault",
        "error",
        "An outline crosses itself, extends beyond its image or cannot be read.",
        "What it marks is not what was meant; a lung with such an outline is treated as unmarked.",
        "Draw it again, or correct the point that the message names.",
    ),
    Rule(
        "label-conflict",
        "warning",
        "The labels of an image contradict one another.",
        "One of them is wrong, and a model learns whichever is in the table.",
        "Review the image and its source, and correct the label there.",
        correction="leave out",
    ),
    Rule(
        "age-impossible",
        "warning",
        "An age cannot be a person's.",
        "It is left empty, so figures by age leave the image out.",
        "Correct the age in the table, if it is known.",
    ),
    Rule(
        "age-form",
        "warning",
        "An age could not be read.",
        "It is left empty, so figures by age leave the image out.",
        "Write it in years, or as DICOM does: 058Y, 011M, 003D.",
    ),
    Rule(
        "sex-form",
        "warning",
        "A sex could not be read.",
        "It is left empty, so figures by sex leave the image out.",
        "Write female, male or other.",
    ),
    Rule(
        "patients-unsure",
        "warning",
        "There are two ways to read whose images these are.",
        "If one person counts as two, a split does not keep their images together, and the figures "
        "are too good.",
        "Choose the interpretation in the recipe: [data] patients.",
    ),
    Rule(
        "images-missing",
        "warning",
        "Rows of the table have no image here.",
        "They are not part of the data.",
        "Nothing, where the images are a selection; else copy the missing ones.",
    ),
    Rule(
        "box-orphan",
        "info",
        "Boxes belong to no image here.",
        "They mark nothing, and their findings are not counted.",
        "Nothing, where the images are a selection; else copy the missing ones.",
    ),
    Rule(
        "part-missing",
        "warning",
        "Images are in no list of the given split.",
        "The given split does not state where they belong.",
        "Complete the lists, or set [split] official = 'ignore'.",
    ),
    Rule(
        "part-orphan",
        "info",
        "A list of the given split names images that are not here.",
        "The proportions of its parts are not those of the release.",
        "Nothing, where the images are a selection.",
    ),
    Rule(
        "annotation-missing",
        "info",
        "An image has no annotation.",
        "That nothing is marked does not mean that nothing was found.",
        "Nothing, where that is intended; else copy the annotation.",
    ),
    Rule(
        "annotation-orphan",
        "warning",
        "An annotation belongs to no image.",
        "An image is missing, or the annotation names another one.",
        "Restore the missing image, or correct the name.",
    ),
    Rule(
        "annotation-unpaired",
        "warning",
        "The image that an annotation belongs to cannot be determined.",
        "What was annotated is not used.",
        "Name the image by its UID in the table of links.",
    ),
    Rule(
        "csv-orphan",
        "info",
        "Rows of the table of links name files that are not here.",
        "They are not part of the data.",
        "Nothing, where the files are a selection; else copy the missing ones.",
    ),
    Rule(
        "json-encoding",
        "warning",
        "An annotation is not UTF-8.",
        "Letters beyond English may have been misread.",
        "Save the file again as UTF-8.",
    ),
    Rule(
        "word-dropped",
        "info",
        "Words of the labels are left out, as the folder's description states.",
        "They are in no result.",
        "Nothing, where that is intended; else map them to concepts in hilum.toml.",
    ),
    Rule(
        "remark",
        "info",
        "The data set's reader made a remark of its own.",
        "It may change what the data are; the message states what was met.",
        "Check the file that the message names.",
    ),
)
_OTHER = "remark"


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
    """Yield an issue for each remark of the manifest."""
    remarks = manifest.remarks.join(
        manifest.table.select("image_id", "path"), on="path", how="left", maintain_order="left"
    )
    place = pl.when(pl.col("path") == ".").then(pl.lit("")).otherwise(pl.format("{}: ", "path"))
    known = pl.col("rule").is_in([rule.name for rule in RULES])
    for rule in RULES:
        rows = remarks.filter(~known if rule.name == _OTHER else pl.col("rule") == rule.name)
        note = (
            pl.format("{}{}: {}", place, "rule", "message")
            if rule.name == _OTHER
            else place + pl.col("message")
        )
        yield from rule.issue(rows.select("image_id", "severity", message=note))
