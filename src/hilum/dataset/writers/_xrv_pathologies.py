"""Names of findings in TorchXRayVision, and their concepts.

Its models know 18, in this order (`default_pathologies`); its data sets have names of their own
for a few more. Any other concept has the vocabulary's name, and a name that the vocabulary does
not have becomes a local concept.
"""

from __future__ import annotations

from hilum.annotations.vocabulary import concept_for, name_of

MODELS = {
    "atelectasis": "Atelectasis",
    "consolidation": "Consolidation",
    "infiltration": "Infiltration",
    "pneumothorax": "Pneumothorax",
    "edema": "Edema",
    "emphysema": "Emphysema",
    "fibrosis": "Fibrosis",
    "effusion": "Effusion",
    "pneumonia": "Pneumonia",
    "pleural_thickening": "Pleural_Thickening",
    "cardiomegaly": "Cardiomegaly",
    "nodule": "Nodule",
    "mass": "Mass",
    "hernia": "Hernia",
    "lung_lesion": "Lung Lesion",
    "fracture": "Fracture",
    "lung_opacity": "Lung Opacity",
    "enlarged_cardiomediastinum": "Enlarged Cardiomediastinum",
}
DATASETS = {
    "hilar_enlargement": "Hilar Enlargement",
    "costophrenic_blunting": "Costophrenic Angle Blunting",
    "elevated_diaphragm": "Hemidiaphragm Elevation",
    "support_device": "Support Devices",
}
ALSO = {"Nodule/Mass": "lung_lesion"}  # VinDr and Google's labels of NIH
_CONCEPTS = {**{name: concept for concept, name in (MODELS | DATASETS).items()}, **ALSO}


def name_for(concept: str) -> str:
    """Return the package's name of a concept, else the vocabulary's."""
    return (MODELS | DATASETS).get(concept) or name_of(concept)


def concept_of(name: str) -> str:
    """Return the concept of one of the package's names; a local one where there is none."""
    return _CONCEPTS.get(name) or concept_for(name)


def ordered(concepts: list[str]) -> list[str]:
    """Return the concepts that the models know, in the models' order, then the others as given."""
    known = [concept for concept in MODELS if concept in concepts]
    return known + [concept for concept in concepts if concept not in MODELS]
