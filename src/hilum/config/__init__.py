"""Every setting of a run: read from TOML, checked at once, described key by key.

    [data]
    folder = "data/chest"          # the only setting without a default
    [segment]
    model = "attention_unet"       # its own settings (epochs, width …) stand in the same section

`sections` declares the settings with their defaults and meanings, `validation` checks values,
`recipe` holds all sections of a run, and `description` lists every key for people.
"""

from hilum.config.description import SettingDescription, default_recipe_toml, describe_settings
from hilum.config.recipe import Recipe, model_settings
from hilum.config.sections import (
    ALL,
    PRETRAINED,
    Anomaly,
    Classify,
    Data,
    Evaluate,
    Job,
    LungCrop,
    Pixels,
    Segment,
    Share,
    Split,
)

__all__ = [
    "ALL",
    "PRETRAINED",
    "Anomaly",
    "Classify",
    "Data",
    "Evaluate",
    "Job",
    "LungCrop",
    "Pixels",
    "Recipe",
    "Segment",
    "SettingDescription",
    "Share",
    "Split",
    "default_recipe_toml",
    "describe_settings",
    "model_settings",
]
