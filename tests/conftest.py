"""One small run of the whole job, made once and shared: tests that only look at it take it from here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hilum.datasets import kaggle_masks
from hilum.run import Run

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before PyTorch is loaded

SMALL = """
[data]
folder = "data"
[pixels]
size = 64
[split]
train = 0.5
tune = 0.25
test = 0.25
minimum = 2
[segment]
folds = 2
epochs = 2
least_steps = 8
width = 8
[region]
size = 64
[classify]
epochs = 1
least_steps = 4
[evaluate]
resamples = 100
"""


def small_job(folder: Path, images: int = 40) -> Path:
    """Made-up data and a recipe that a run takes seconds for; returns the recipe's path."""
    kaggle_masks.example(folder / "data", images=images, seed=5)
    (folder / "recipe.toml").write_text(SMALL)
    return folder / "recipe.toml"


def hilum(*arguments: object, **options) -> subprocess.CompletedProcess:
    """The command line in a process of its own."""
    return subprocess.run([sys.executable, "-m", "hilum", *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Run:
    """A finished run; look, do not touch."""
    folder = tmp_path_factory.mktemp("small")
    done = hilum("run", small_job(folder), "--to", folder / "run")
    assert done.returncode == 0, done.stderr
    return Run(folder / "run")
