"""The commands give the same files to the byte whoever carries their shards."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks._lib.small_job import small_job
from hilum.cli.verbs import app
from hilum.dataset import pixel_cache
from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.run_folder import Run

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
        digests.append([Run(to).made(step) for step in ("cache", "segment", "crop")])
        tables.append(Run(to).table("segment", "segment/lungs.parquet"))
        assert not [path for path in to.rglob("*") if "sqlite" in path.name or "fill" in path.name]
        (cached,) = (to / "cache").iterdir()
        tables.append((cached / pixel_cache.IMAGES[8]).read_bytes())
    assert digests[0] == digests[1]
    assert tables[0].equals(tables[2]) and tables[1] == tables[3]
