"""What ingest met while it read the folder, with the severity that the data set gave it."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from hilum.audit.issues import Issue, Rule
from hilum.dataset.corrections import CORRECTED
from hilum.dataset.manifest import DROPPED, Manifest
from hilum.plugins import Card

CARD = Card(
    title="Reading the folder",
    caveats="These are certain, as far as the data set's layout is the one that it was read as.",
)
RULES = (
    Rule(
        "made-up",
        "info",
        "The pictures are invented.",
        "They show how things work; what is measured on them says nothing about patients.",
        "Nothing; for figures that mean something, use radiographs.",
    ),
    Rule(
        DROPPED,
        "info",
        "A file in the folder is not part of the data.",
        "What is left out is nobody's result; a picture among it is one that you may miss.",
        "Nothing, where that is meant; else give the file the name and place that the data set's layout asks for.",
    ),
    Rule(
        CORRECTED,
        "info",
        "A correction was made, as the file of corrections asks.",
        "The table differs here from what the folder says.",
        "Nothing; take the entry out of the file to have the folder's own word again.",
    ),
    Rule(
        "mask-orphan",
        "warning",
        "A mask belongs to no picture.",
        "A picture is missing, or the mask's name is misspelt and its picture stands without a mask.",
        "Name the mask as its picture, or put the missing picture back.",
    ),
    Rule(
        "no-patients",
        "warning",
        "Nothing says whose pictures these are.",
        "If a person has several pictures, a split cannot keep them together, and the figures are too good.",
        "Add a CSV with the columns image and patient.",
    ),
    Rule(
        "folders-as-patients",
        "warning",
        "Folders are taken for patients.",
        "They are too many to be findings; if each is a study, a patient with several is torn apart by a split.",
        "Nothing where each is a patient; else say in a hilum.toml what they are, see `help(hilum.dataset.readers.folder)`.",
    ),
    Rule(
        "same-patient",
        "info",
        "A reading says that two patients are one person.",
        "Set apart by a split, the same person would be in training and in test.",
        "Nothing where they were joined; where the other one has no picture here, see that it was not misspelt.",
    ),
    Rule(
        "reading-missing",
        "info",
        "A picture has no clinical reading.",
        "Its sex, age and label cannot be compared with what the radiologist wrote.",
        "Put the reading beside the others, if there is one.",
    ),
    Rule(
        "reading-orphan",
        "info",
        "A clinical reading belongs to no picture.",
        "A picture of the release may be missing here.",
        "Nothing, where the pictures are a selection; else copy the missing picture.",
    ),
    Rule(
        "reading-encoding",
        "warning",
        "A clinical reading is not UTF-8.",
        "Letters beyond English may have been misread.",
        "Look at the words, and save the file again as UTF-8.",
    ),
    Rule(
        "reading-form",
        "warning",
        "Sex or age could not be found in a clinical reading.",
        "They are empty for this picture, so figures by sex or age leave it out.",
        "Write them in the first line in the form of the other readings.",
    ),
    Rule(
        "csv-encoding",
        "warning",
        "The table of pictures is not UTF-8.",
        "Letters beyond English may have been misread.",
        "Save the CSV again as UTF-8.",
    ),
    Rule(
        "shape-fault",
        "error",
        "An outline crosses itself, leaves its picture or cannot be read.",
        "What it marks is not what was meant; a lung drawn so is treated as none.",
        "Draw it again, or correct the point that the message names.",
    ),
    Rule(
        "label-conflict",
        "warning",
        "A picture's labels contradict one another.",
        "One of them is wrong, and a model learns whichever stands in the table.",
        "Look at the picture and its source, and correct the label there.",
    ),
    Rule(
        "age-impossible",
        "warning",
        "An age cannot be a person's.",
        "It is left empty, so figures by age leave the picture out.",
        "Correct the age in the table, if it is known.",
    ),
    Rule(
        "age-form",
        "warning",
        "An age could not be read.",
        "It is left empty, so figures by age leave the picture out.",
        "Write it in years, or as DICOM does: 058Y, 011M, 003D.",
    ),
    Rule(
        "sex-form",
        "warning",
        "A sex could not be read.",
        "It is left empty, so figures by sex leave the picture out.",
        "Write female, male or other.",
    ),
    Rule(
        "patients-unsure",
        "warning",
        "Whose pictures these are can be read in two ways.",
        "If persons are told apart who are one, a split does not keep them together, and the figures are too good.",
        "Choose the reading in the recipe: [data] patients.",
    ),
    Rule(
        "images-missing",
        "warning",
        "Rows of the table have no picture here.",
        "They are not part of the data.",
        "Nothing, where the pictures are a selection; else copy the missing ones.",
    ),
    Rule(
        "box-orphan",
        "info",
        "Boxes belong to no picture here.",
        "They mark nothing, and their findings are not counted.",
        "Nothing, where the pictures are a selection; else copy the missing ones.",
    ),
    Rule(
        "part-missing",
        "warning",
        "Pictures stand in no list of the given split.",
        "The given split does not say where they belong.",
        "Complete the lists, or set [split] official = 'ignore'.",
    ),
    Rule(
        "part-orphan",
        "info",
        "A list of the given split names pictures that are not here.",
        "Its shares are not those of the release.",
        "Nothing, where the pictures are a selection.",
    ),
    Rule(
        "annotation-missing",
        "info",
        "A picture has no annotation.",
        "Nothing was drawn or said of it, which is not the same as nothing found.",
        "Nothing, where that is meant; else copy the annotation.",
    ),
    Rule(
        "annotation-orphan",
        "warning",
        "An annotation belongs to no picture.",
        "A picture is missing, or the annotation names another one.",
        "Put the missing picture back, or correct the name.",
    ),
    Rule(
        "annotation-unpaired",
        "warning",
        "It cannot be told which picture an annotation belongs to.",
        "What was drawn is not used.",
        "Name the picture by its UID in the table of links.",
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
        "Words of the labels are left out, as the folder's description says.",
        "They are nobody's result.",
        "Nothing, where that is meant; else map them to concepts in hilum.toml.",
    ),
    Rule(
        "remark",
        "info",
        "The data set's module noted something of its own.",
        "It may change what the data are; the message says what was met.",
        "Look at the file that the message names.",
    ),
)
_OTHER = "remark"


def check(manifest: Manifest, facts: pl.DataFrame) -> Iterator[Issue]:
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
