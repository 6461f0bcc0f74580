"""Findings as TorchXRayVision spells them, and the concepts they are.

Its models know 18, in this order (`default_pathologies`); its data sets spell a few more their own way. Any other concept goes by the
vocabulary's name, and a name of theirs that the vocabulary does not have becomes a local concept.
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
    return (MODELS | DATASETS).get(concept) or name_of(concept)


def concept_of(name: str) -> str:
    """The concept that a name of TorchXRayVision's means; a local one where the vocabulary has none."""
    return _CONCEPTS.get(name) or concept_for(name)


def ordered(concepts: list[str]) -> list[str]:
    """Those that the models know first, in the models' order, then the others as they come."""
    known = [concept for concept in MODELS if concept in concepts]
    return known + [concept for concept in concepts if concept not in MODELS]
