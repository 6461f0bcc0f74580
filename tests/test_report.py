"""The report: whole, alone, the same each time, honest about what is missing, and safe against what
files say.
"""

import base64
import io
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import imagecodecs
import numpy as np
import polars as pl
import pytest
import test_figures

from hilum import plugins, storage
from hilum.config import Data, Evaluate, LungCrop, Pixels, Recipe, Split
from hilum.drawing import charts, images
from hilum.imaging import synthetic
from hilum.imaging.files import raster
from hilum.pipeline import audit, cache, crop, evaluate, ingest, predict, segment, split
from hilum.pipeline._training import TRAINING, digests
from hilum.progress import quietly
from hilum.reporting import report
from hilum.reporting import text as words
from hilum.reporting.sections import _calibration, _scored_task
from hilum.reporting.sections import split as parts
from hilum.run_folder import Run
from hilum.storage import integrity

HOSTILE = "<script>alert('reading')</script>"
HOSTILE_IMAGE = '"><svg onload=alert(2)>.png'
HOSTILE_FILE = "<img src=x onerror=alert(1)>.txt"


def do(run, recipe, name, step):
    made, summary = step.make(run, recipe, quietly)
    run.finish(name, step.made_from(run, recipe) or {}, made, summary)


def make_up_models(run, recipe):
    """What segment, train and predict would leave, but for the models: reference masks shifted, and
    scores that follow the label.
    """
    table, cached = storage.read_table(run / "split.parquet"), cache.opened(run, recipe)
    rng = np.random.default_rng(7)
    planned = segment.plan(table, cached.with_mask, 2, 0)
    trained = segment.lessons(planned)
    lists = [
        rows.select(model=pl.lit(model), image_id="image_id") for model, rows in trained.items()
    ]
    storage.write_table(
        run / "segment" / TRAINING,
        pl.concat([pl.DataFrame(schema={"model": pl.String, "image_id": pl.String}), *lists]),
    )
    planned = planned if trained else planned.clear()
    masks = [
        np.roll(cached.masks[cached.rows([image])[0]], int(rng.integers(5)), axis=0)
        for image in planned["image_id"]
    ]
    storage.write_bytes(run / segment.MASKS, b"".join(mask.tobytes() for mask in masks))
    index = [
        [
            image,
            row,
            finder,
            1,
            1,
            0.95 if row else 0.42,
            integrity.checksum(np.ascontiguousarray(masks[row])),
        ]
        for row, (image, finder) in enumerate(planned.select("image_id", "finder").iter_rows())
    ]
    found = pl.DataFrame(index, schema=segment.LUNGS, orient="row")
    storage.write_table(run / segment.INDEX, found)
    storage.write_table(
        run / segment.ISSUES, segment.unreliable(found, recipe.crop.min_mask_quality)
    )
    heard = (
        [
            [segment.WHOLE, number, 10 * number, 1 / number, 0.8 + number / 50]
            for number in range(1, 6)
        ]
        if trained
        else []
    )
    storage.write_table(
        run / segment.EPOCHS, pl.DataFrame(heard, schema=segment.HEARD, orient="row")
    )
    reported = (
        {} if trained else {"reason": "0 lung masks in the training part: regions are whole images"}
    )
    files = [f"segment/{TRAINING}", segment.MASKS, segment.INDEX, segment.ISSUES, segment.EPOCHS]
    run.finish("segment", segment.made_from(run, recipe), digests(run, files), reported)
    do(run, recipe, "crop", crop)
    make_up_scores(run, table, rng)


def make_up_scores(run, table, rng):
    concept = run.summary("split")["finding"]
    known = (
        table.filter((pl.col("part") == "train") & (pl.col("state") >= 0))["image_id"].to_list()
        if concept
        else []
    )
    storage.write_table(
        run / "train" / TRAINING,
        pl.DataFrame(
            {"model": ["train/finding.onnx"] * len(known), "image_id": known},
            schema={"model": pl.String, "image_id": pl.String},
        ),
    )
    run.finish("train", {}, digests(run, [f"train/{TRAINING}"]), {})
    requested = table.filter(pl.col("part") != "train") if concept else table.clear()
    rows = [
        [image, part, stage, concept, float(rng.normal((state or 0) * 2, 1.5)), ""]
        for stage in predict.STAGES
        for image, part, state in requested.select("image_id", "part", "state").iter_rows()
    ]
    storage.write_table(
        run / predict.SCORES, pl.DataFrame(rows, schema=predict.COLUMNS, orient="row")
    )
    stream = io.BytesIO()
    np.save(stream, rng.random((requested.height, predict.MAP, predict.MAP)).astype(np.float16))
    storage.write_bytes(run / predict.MAPS, stream.getvalue())
    run.finish("predict", {}, digests(run, [predict.SCORES, predict.MAPS]), {})


def made_up_run(data: Path, to: Path) -> tuple[Run, Recipe]:
    """Everything up to evaluate, by the real steps where they need no model."""
    recipe = Recipe(
        data=Data(str(data)),
        pixels=Pixels(size=64),
        crop=LungCrop(size=64),
        split=Split(0.5, 0.2, 0.3, min_per_class=1),
        evaluate=Evaluate(bootstrap=100),
    )
    run = Run(to)
    run.write_recipe(recipe)
    for name, step in {"ingest": ingest, "cache": cache, "audit": audit, "split": split}.items():
        do(run, recipe, name, step)
    make_up_models(run, recipe)
    do(run, recipe, "evaluate", evaluate)
    return run, recipe


def page_of(run, recipe) -> str:
    report.make(run, recipe, quietly)
    return (run / report.PAGE).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def full(tmp_path_factory):
    """A run with masks, labels, an unreadable image, a file that is none, and hostile words in a
    reading and in a file's name.
    """
    data = tmp_path_factory.mktemp("montgomery")
    plugins.load("readers", "montgomery").example(data, images=44, seed=3)
    normal = sorted((data / "CXR_png").glob("*_0.png"))
    (data / "ClinicalReadings" / f"{normal[0].stem}.txt").write_text(
        f"Patient's Sex: F\nPatient's Age: 040Y\ntuberculosis {HOSTILE}\n"
    )
    (data / "CXR_png" / HOSTILE_FILE).write_text("not an image")
    normal[1].write_bytes(normal[1].read_bytes()[:400])
    return made_up_run(data, tmp_path_factory.mktemp("run") / "full")


@pytest.fixture(scope="session")
def page(full):
    return page_of(*full)


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """A run of images alone: no label, no mask, no patient."""
    data, rng = tmp_path_factory.mktemp("bare"), np.random.default_rng(1)
    for number in range(9):
        name = f"{number}.png" if number else HOSTILE_IMAGE
        raster.write_png(
            data / name, synthetic.draw(synthetic.anatomy(rng), rng, height=96, width=90).pixels
        )
    return made_up_run(data, tmp_path_factory.mktemp("run") / "bare")


class Read(HTMLParser):
    """Tags, attributes and text of a page; faults of nesting."""

    VOID = {"meta", "link", "img", "br", "hr", "input", "base", "col", "embed", "source"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.open, self.faults = [], [], [], [], []
        self.feed(text)
        self.faults += self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"/{tag}")

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def chapter(page: str, name: str) -> str:
    return Read(page.split(f'<section id="{name}">')[1].split("</section>")[0]).text


CHAPTERS = ("data", "audit", "split", "lungs", "finding", "anomaly", "repeat", "checklist")


@pytest.mark.parametrize("which", ["full", "bare"])
def test_the_page_stands_alone(which, request):
    read = Read(page_of(*request.getfixturevalue(which)))
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(read.tags)
    places = [
        value
        for _, name, value in read.attributes
        if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster", "background")
    ]
    assert places and all(
        place.startswith(("#", "data:image/", "data:text/csv")) for place in places
    )
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]
    style = " ".join(read.words)
    assert "@import" not in style and "url(" not in style


@pytest.mark.parametrize("which", ["full", "bare"])
def test_tags_are_nested_soundly_and_links_lead_somewhere(which, request):
    read = Read(page_of(*request.getfixturevalue(which)))
    assert not read.faults
    ids = [value for _, name, value in read.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {
        value[1:]
        for tag, name, value in read.attributes
        if tag == "a" and name == "href" and value.startswith("#")
    } <= set(ids)


@pytest.mark.parametrize("which", ["full", "bare"])
def test_every_chapter_is_there(which, request):
    read = Read(page_of(*request.getfixturevalue(which)))
    sections = [value for tag, name, value in read.attributes if tag == "section" and name == "id"]
    assert tuple(sections) == (
        CHAPTERS if which == "full" else ("data", "audit", "lungs", "repeat")
    )


def test_the_same_run_gives_the_same_bytes(full, page):
    assert page_of(*full) == page


def test_hostile_words_are_shown_and_not_obeyed(page):
    read = Read(page)
    assert HOSTILE in read.text, "the reading must be shown as it was written"
    assert HOSTILE_FILE in read.text
    assert "<script" not in page and "<img" not in page


def test_a_hostile_file_name_is_shown_and_not_obeyed(bare):
    page = page_of(*bare)
    assert HOSTILE_IMAGE.removesuffix(".png") in Read(page).text
    assert "<svg onload" not in page


def test_the_leading_figures_stand_at_the_head_as_evaluated(full, page):
    run, _ = full
    rows = storage.read_table(run / evaluate.METRICS).filter(
        (pl.col("part") == "test")
        & (pl.col("source") == "all")
        & pl.col("side").is_in(["both", ""])
        & (pl.col("grid") != evaluate.FILE)
    )
    head = Read(page).text.split("What these figures do not show")[0]
    for stage, metric in (("lungs", "dice"), ("finding", "auroc"), ("anomaly", "auroc")):
        row = rows.row(
            by_predicate=(pl.col("task") == stage) & (pl.col("metric") == metric), named=True
        )
        assert f"{row['value']:.3f} ({row['ci_low']:.3f} to {row['ci_high']:.3f})" in head


def test_the_limits_name_the_patients_and_the_use(full, page):
    run, _ = full
    test = storage.read_table(run / "split.parquet").filter(pl.col("part") == "test")
    limits = Read(page).text.split("What these figures do not show")[1].split("Source")[0]
    assert f"{test.height} images of {test['patient_id'].n_unique()} patients" in limits
    assert "neither the models nor the figures are for clinical use" in limits
    assert re.search(r"patients cannot distinguish an? \w+ of 0\.\d\d from one of", limits), (
        "a dozen patients give wide intervals, and the page must say so"
    )


def test_both_thresholds_subgroups_and_the_power_of_the_test_part_are_reported(full, page):
    run, _ = full
    metrics = storage.read_table(run / evaluate.METRICS).filter(
        (pl.col("part") == "test") & (pl.col("task") == "finding")
    )
    value = {
        row["metric"]: row for row in metrics.filter(pl.col("by") == "all").iter_rows(named=True)
    }
    reported = chapter(page, "finding")
    thresholds = reported.split("Two thresholds")[1].split("Probabilities")[0]
    for metric in ("threshold", "threshold_reoptimised"):
        assert f"{value[metric]['value']:.4g}" in thresholds
    for metric in ("sensitivity", "sensitivity_reoptimised", "npv", "accuracy_reoptimised"):
        assert (
            words.interval(words.Figure.of(value[metric]), metric.removesuffix("_reoptimised"))
            in thresholds
        )
    auroc = value["auroc"]
    assert (
        f"{auroc['images']} test images ({auroc['positives']} positive) cannot distinguish an"
        f" AUROC of {auroc['value']:.2f} from" in reported
    )
    assert f"DeLong: {auroc['delong_low']:.3f} to {auroc['delong_high']:.3f}" in reported
    small = metrics.filter((pl.col("by") != "all") & (pl.col("warning") != ""))["warning"]
    assert small.len() and all(warning in reported.split("Subgroups")[1] for warning in small)


def test_probabilities_say_why_they_are_not_calibrated(full, page):
    run, _ = full
    why = storage.read_json(run / evaluate.CALIBRATION)["finding"]["tuberculosis"]["reason"]
    assert why and f"No temperature was fitted on the tune part: {why}." in chapter(page, "finding")
    assert f"nothing here is calibrated (tune part: {why})" in Read(page).text


def test_calibrated_probabilities_are_drawn_and_their_figures_reported():
    tables = test_figures.made(test=300, tune=200, findings=("nodule",))
    metrics, fitted = test_figures.found(tables)
    reported = fitted["finding"]["nodule"]
    known = test_figures.classification.transfer(
        test_figures.classification.known(*tables), {None: fitted}
    )
    section = _scored_task.describe(
        "finding", known, metrics, reported, "nodule", Evaluate(bootstrap=100)
    )
    assert [row.name for row in section.calibration.rows] == list(_calibration.NAMES.values())
    assert (
        section.calibration.diagram.count("<path") > 3
        and f"{reported['temperature']:.3g}" == section.calibration.temperature
    )
    assert section.findings == [] and section.confusion


def test_several_findings_are_listed_with_their_averages_and_without_a_threshold_the_page_says_so():
    tables = test_figures.relabelled(test_figures.made(test=80, tune=40), "tune", 0)
    metrics, fitted = test_figures.found(tables)
    known = test_figures.classification.transfer(
        test_figures.classification.known(*tables), {None: fitted}
    ).filter(pl.col("concept") == "nodule")
    section = _scored_task.describe(
        "finding", known, metrics, fitted["finding"]["nodule"], "nodule", Evaluate(bootstrap=100)
    )
    assert [row.name for row in section.findings] == [
        "Pleural effusion",
        "Nodule",
        "Macro average",
        "Micro average",
    ]
    assert (
        section.confusion is None
        and section.threshold == words.DASH
        and section.roc
        and section.figures[2].test.startswith(words.DASH)
    )


def test_what_was_left_out_is_counted_with_its_reason(page):
    text = chapter(page, "data").split("What is not used, and why")[1]
    assert "not an image file" in text
    assert "Image that cannot be read" in text


def test_audit_rules_stand_worst_first_with_remedy(full, page):
    run, _ = full
    findings = storage.read_table(run / "issues.parquet")
    text = chapter(page, "audit")
    rules = findings["rule"].unique(maintain_order=True).to_list()
    assert "image-unreadable" in rules and "label-contradicts-reading" in rules
    places = [text.index(f" {rule} ") for rule in rules]
    assert places == sorted(places)
    assert all(remedy in text for remedy in findings["remedy"].unique())


def test_unreliable_lungs_are_listed_with_their_image_and_how_training_went_is_drawn(full, page):
    run, _ = full
    worst = storage.read_table(run / segment.ISSUES)
    assert worst.height == 1 and worst["severity"].to_list() == ["warning"]
    assert (
        segment.UNRELIABLE.name in page
        and "estimated at 0.42" in page
        and f"radiograph {worst['image_id'][0]} with the outline of its lungs" in page
    )
    assert "Dice of the tune images during training. lungs: best 0.900" in page


def test_methods_licence_digests_and_command_are_there(full, page):
    run, recipe = full
    text = Read(page).text
    assert plugins.load("readers", "montgomery").CARD.licence in text
    assert run.made("split")["split.parquet"] in text and run.made("cache").popitem()[1] in text
    assert (
        "hilum run recipe.toml --out" in text
        and "[segment]" in text
        and recipe.classify.model in text
    )


def test_bare_images_give_a_short_page_that_says_what_is_missing_and_how_much_of_it(bare):
    text = Read(page_of(*bare)).text
    assert "Too little for models and figures of your own" in text and "Nothing was trained" in text
    assert (
        "5 patients with it, 5 without, 20 in all" in text
        and "Reference lung masks 0 images" in " ".join(text.split())
    )


def test_no_model_runtime_is_needed(bare):
    run, _ = bare
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxruntime', 'hilum.training.models'): "
        "sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from hilum.run_folder import Run\n"
        "from hilum.progress import quietly\n"
        "from hilum.reporting import report\n"
        "run = Run(Path(sys.argv[1])); report.make(run, run.recipe(), quietly)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(report.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code, str(run.folder)], check=True, env=environment)


def test_another_recipe_makes_the_report_anew(full):
    run, recipe = full
    other = replace(recipe, evaluate=replace(recipe.evaluate, bootstrap=200))
    assert (
        report.made_from(run, recipe)
        == report.made_from(run, recipe)
        != report.made_from(run, other)
    )


# ---------------------------------------------------------------------------------- the parts of it


def test_the_proof_counts_images_and_patients_that_leaked():
    table = pl.DataFrame(
        {
            "image_id": ["a1", "a2", "b", "c", "d"],
            "patient_id": ["a", "a", "b", "c", "d"],
            "group": ["a", "a", "b", "c", "d"],
            "source": "s",
            "state": [0, 1, 1, 0, 0],
            "part": ["train", "train", "train", "tune", "test"],
        }
    )
    sound = parts.leaks("m", table, pl.DataFrame({"image_id": ["a1", "b"]}))
    leaky = parts.leaks("m", table, pl.DataFrame({"image_id": ["a1", "d"]}))
    assert sound.tune == sound.test == parts.Leaked(images=0, patients=0)
    assert leaky.test == parts.Leaked(images=1, patients=1) and leaky.tune.images == 0


def test_a_finder_that_saw_the_patient_is_counted():
    table = pl.DataFrame({"image_id": ["a1", "a2", "b"], "group": ["a", "a", "b"], "part": "train"})
    finders = pl.DataFrame({"image_id": ["a1", "a2", "b"], "model": ["fold0", "fold1", "fold1"]})
    training = pl.DataFrame({"model": ["fold0", "fold1"], "image_id": ["b", "a2"]})
    assert parts.out_of_fold(table, training, finders) == parts.OutOfFold(images=3, seen=1)


@pytest.mark.parametrize(
    ("value", "low", "high", "patients", "reported"),
    [
        (0.9123, 0.8712, 0.9451, 30, "0.912 (0.871 to 0.945)"),
        (math.nan, math.nan, math.nan, 30, "– (all images are of one class)"),
        (0.5, math.nan, math.nan, 1, "0.500 (no interval: fewer than two patients)"),
        (0.5, math.nan, math.nan, 9, "0.500 (no interval: undefined in over 20% of the resamples)"),
    ],
)
def test_a_figure_is_written_with_its_interval_or_why_it_has_none(
    value, low, high, patients, reported
):
    assert (
        words.interval(
            words.Figure(value=value, ci_low=low, ci_high=high, patients=patients), "auroc"
        )
        == reported
    )


def test_a_wide_interval_is_warned_of_and_a_narrow_one_is_not():
    wide = words.Figure(value=0.9, ci_low=0.8, ci_high=0.96, patients=28)
    reported = words.cautions(
        {"auroc": wide, "sensitivity": wide, "specificity": replace(wide, ci_low=0.85)}
    )
    assert reported == [
        "28 patients cannot distinguish an AUROC of 0.80 from one of 0.96, nor a sensitivity "
        "of 0.80 "
        "from one of 0.96."
    ]


def test_chance_within_the_interval_is_reported():
    assert words.cautions(
        {"auroc": words.Figure(value=0.55, ci_low=0.49, ci_high=0.61, patients=900)}
    ) == ["chance, an AUROC of 0.5, lies within the interval."]


def test_a_figure_without_an_interval_is_warned_of():
    single = words.Figure(value=0.9, patients=1)
    assert words.cautions({"dice": single}) == [
        "the uncertainty of a Dice of 0.900 is not known: fewer than two patients."
    ]
    assert words.cautions({"dice": replace(single, value=math.nan)}) == []


def test_tick_marks_are_round_numbers_within_the_axis():
    assert charts.Axis("", 0, 1, 0, 100).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert charts.Axis("", 0, 3, 0, 100, whole=True).ticks(8) == [0, 1, 2, 3]
    assert all(0.83 <= tick <= 0.97 for tick in charts.Axis("", 0.83, 0.97, 0, 1).ticks())


@pytest.mark.parametrize(
    "values", [[0.5], [0.0, 0.0], [1e-9, 2e-9], [-3.0, 1e6], [0.1 * k for k in range(50)]]
)
def test_a_histogram_counts_every_value_once(values):
    drawn = charts.histograms({"<all>": np.array(values)}, x="x", y="n", alt_text="t")
    assert sum(int(count) for count in re.findall(r": (\d+)</title>", drawn)) == len(values)
    assert "&lt;all&gt;" in drawn and "<all>" not in drawn


def test_a_long_curve_stays_small():
    x = np.linspace(0, 1, 50_000)
    drawn = charts.unit_square([charts.Line("many", x, x)], x="x", y="y", alt_text="t")
    assert len(drawn) < 60_000


def test_an_embedded_image_is_the_image():
    shown = np.tile(np.linspace(0, 255, 224).astype(np.uint8), (224, 1))
    uri = images.data_uri(shown)
    head, data = uri.split(",")
    assert head == "data:image/jpeg;base64"
    back = imagecodecs.jpeg_decode(base64.b64decode(data))
    assert np.abs(back.astype(int) - shown).mean() < 3


def test_an_outline_runs_around_its_mask():
    mask = np.zeros((100, 80), bool)
    mask[20:41, 10:31] = True
    drawn = images.image(
        np.zeros((100, 80), np.uint8), alt_text="t", outlines=[images.Outline(mask, "#fff")]
    )
    path = re.search(r'<path d="M([^"]+)Z"', drawn).group(1)
    corners = {tuple(float(number) for number in corner.split()) for corner in path.split("L")}
    assert corners == {(10.5, 20.5), (10.5, 40.5), (30.5, 40.5), (30.5, 20.5)}


def test_heat_leaves_the_cold_places_as_they_are():
    region_image = np.full((32, 32), 90, np.uint8)
    strength = np.zeros((8, 8))
    strength[:, 4:] = 1
    heated = images.heat(region_image, strength)
    assert (heated[:, :8] == 90).all() and (heated[:, 24:, 0].astype(int) > 150).all()
