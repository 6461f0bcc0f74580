"""Make the data and the recipe of a whole run that takes seconds, for benchmarks and tests."""

from __future__ import annotations

from pathlib import Path

from hilum.dataset.readers import kaggle_masks

RECIPE = """
[data]
folder = "data"
[pixels]
size = 64
[split]
train = 0.5
tune = 0.25
test = 0.25
min_per_class = 2
[segment]
folds = 2
epochs = 2
least_steps = 8
width = 8
[crop]
size = 64
[classify]
epochs = 1
least_steps = 4
[evaluate]
bootstrap = 100
"""


def small_job(folder: Path, images: int = 40) -> Path:
    """Make data and a recipe below a folder; return the recipe's path."""
    kaggle_masks.example(folder / "data", images=images, seed=5)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder / "recipe.toml"
