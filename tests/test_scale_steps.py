"""The commands give the same files to the byte whoever carries their shards."""

import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from benchmarks._lib.small_job import small_job
from hilum import plugins
from hilum.cli.verbs import app
from hilum.dataset import pixel_cache
from hilum.errors import BadData
from hilum.imaging import synthetic
from hilum.imaging.batch import each_image
from hilum.imaging.files import find_images, raster
from hilum.inference import orientation
from hilum.pipeline import explain, predict, training_domain
from hilum.progress import quietly
from hilum.run_folder import Run
from hilum.runs.export import export
from hilum.scale import executor
from hilum.scale.executor import Executor

CARRIED = ("serial", "processes")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    for number in range(5):
        rng = np.random.default_rng(number)
        drawn = synthetic.draw(synthetic.anatomy(rng), rng, height=120, width=110)
        raster.write_png(folder / f"{number}.png", drawn.pixels)
    (folder / "broken.png").write_bytes((folder / "1.png").read_bytes()[:300])
    return folder


def call(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    return done.exit_code, done.stdout


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("command", ["lungs", "classify", "inspect"])
def test_files_and_answers_are_the_same_in_processes(films, tmp_path, command, monkeypatch):
    given = {}
    for carried in CARRIED:
        (tmp_path / carried).mkdir()
        monkeypatch.chdir(tmp_path / carried)
        given[carried] = call(command, films, "--out", "out", "--executor", carried)
        assert given[carried][0] == 1  # one of the films is broken
    one, two = (files(tmp_path / carried) for carried in CARRIED)
    assert one == two and len(one) > 5 and given["serial"] == given["processes"]


def test_the_steps_of_a_run_are_the_same_in_processes(tmp_path):
    """Lungs and crops by the shipped model, and nothing trained before them."""
    digests, tables = [], []
    for carried in CARRIED:
        recipe = small_job(tmp_path / carried, images=12)
        text = recipe.read_text()
        head, _, rest = text.partition("[segment]")
        rest = rest[rest.index("[crop]") :].replace("size = 64", "size = 96")
        recipe.write_text(head.replace("64", "256") + '[segment]\nmodel = "pretrained"\n' + rest)
        to = tmp_path / carried / "run"
        code, said = call("crop", recipe, "--out", to, "--executor", carried, "--processes", 2)
        assert code == 0, said
        digests.append([Run(to).made(step) for step in ("cache", "audit", "segment", "crop")])
        tables.append(Run(to).table("segment", "segment/lungs.parquet"))
        assert not [path for path in to.rglob("*") if "sqlite" in path.name or "fill" in path.name]
        (cached,) = (to / "cache").iterdir()
        tables.append((cached / pixel_cache.IMAGES[8]).read_bytes())
    assert digests[0] == digests[1]
    assert tables[0].equals(tables[2]) and tables[1] == tables[3]


@pytest.fixture(scope="module")
def carriers():
    """This process, and two others that serve several tests."""
    two = Executor(executor.PROCESSES, 2, patience_seconds=0)
    yield Executor(), two
    two.close()


@pytest.mark.parametrize("form", ["coco", "torchxrayvision"])
def test_exports_and_tables_of_dicom_files_are_the_same_in_processes(
    carriers, tmp_path, form, monkeypatch
):
    """Images are DICOM files with annotations, and PNG files with masks."""
    for name in ("unidata", "montgomery"):
        plugins.load("readers", name).example(tmp_path / name, images=13, seed=2)
    data = f'folder = "{tmp_path / "unidata"}"\nalso = ["{tmp_path / "montgomery"}"]\n'
    (tmp_path / "recipe.toml").write_text(f"[data]\n{data}")
    given, share = [], {"identifiers": "keep", "file_names": "keep"}
    for one in carriers:
        monkeypatch.setattr(executor, "current", lambda one=one: one)
        said = export(form, tmp_path / "recipe.toml", tmp_path / one.kind, share)
        given.append((files(tmp_path / one.kind), said))
    assert given[0] == given[1] and len(given[0][0]) > 20


def test_scores_and_maps_are_the_same_in_processes(carriers, small_run, tmp_path, monkeypatch):
    made = []
    for one in carriers:
        run = Run(shutil.copytree(small_run.folder, tmp_path / one.kind))
        monkeypatch.setattr(executor, "current", lambda one=one: one)
        made += [step.make(run, run.recipe(), quietly).files for step in (predict, explain)]
        assert not [*run.folder.rglob("*sqlite*")]
    assert made[:2] == made[2:]


@dataclass(frozen=True)
class Deadly:
    """Images of a cache, of which one ends the process that reads it."""

    row: int

    def __getitem__(self, rows):
        if self.row in np.atleast_1d(rows):
            os.kill(os.getpid(), signal.SIGKILL)
        return np.random.default_rng(0).integers(0, 255, (*np.shape(rows), 64, 64), np.uint8)


def test_an_image_that_ends_each_process_that_describes_it_is_named(
    carriers, tmp_path, monkeypatch
):
    index = pl.DataFrame(
        {
            "image_id": [f"film-{row}" for row in range(3)],
            "row": range(3),
            "error": pl.Series([None] * 3, dtype=pl.String),
            "height": [64] * 3,
            "width": [64] * 3,
        }
    )
    cached = SimpleNamespace(images=Deadly(1), digest="")
    monkeypatch.setattr(executor, "current", lambda: carriers[1])
    with pytest.raises(BadData, match="film-1: each of the 2 processes") as found:
        orientation.describe_cache(cached, index, journal=tmp_path / "j")
    assert str(found.value).count("film-") == 1


@dataclass(frozen=True)
class Ending:
    """Work on files, one of which ends the process that reads it."""

    name: str

    def __call__(self, path: Path, name: str) -> str:
        if path.name == self.name:
            os.kill(os.getpid(), signal.SIGKILL)
        return name


def test_a_file_that_ends_each_process_that_reads_it_is_named_by_its_path(
    carriers, films, monkeypatch
):
    monkeypatch.setattr(executor, "current", lambda: carriers[1])
    found = find_images.collect([films])
    results, faults = each_image.for_each(
        found, Ending("2.png"), title="", watch=each_image.unwatched, say=each_image.unheard
    )
    assert results == [name for _, name in found.names if name != "2"]
    assert len(faults) == 1
    assert faults[0].startswith(f"{films / '2.png'}: each of the 2 processes")


def test_a_training_image_that_ends_each_process_that_measures_it_is_named(carriers, monkeypatch):
    model = SimpleNamespace(contract=SimpleNamespace(outputs=()))
    people = pl.Series(["a", "b", "c"])
    monkeypatch.setattr(executor, "current", lambda: carriers[1])
    with pytest.raises(BadData, match="image in row 1: each of the 2 processes"):
        training_domain.fit_domain(model, Deadly(1), np.arange(3), np.arange(0), people)
