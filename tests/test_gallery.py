"""The audit page is self-contained, bounded in size and reproducible; it lists or counts every
issue, shows pairs and outlines, and escapes all text.
"""

from __future__ import annotations

import re

import polars as pl
import pytest
from conftest import hilum

from hilum.audit import page
from hilum.audit.issues import FOUND, decided
from hilum.config import Pixels
from hilum.dataset.manifest import SEVERITIES
from hilum.dataset.readers import montgomery
from hilum.pipeline import cache, ingest
from hilum.revisions import uptake


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("gallery")
    montgomery.example(root / "data", images=6)
    sorted((root / "data" / "CXR_png").iterdir())[5].write_text("not an image")
    manifest = ingest.ingest(root / "data")
    return manifest, cache.fill(manifest, Pixels(size=64), root / "cache")


def issues(*rows: tuple[str, str, str | None, str | None, str]) -> pl.DataFrame:
    table = pl.DataFrame([(*row, "Mend it.", None) for row in rows], schema=FOUND, orient="row")
    return decided(table, uptake.empty()).sort(
        pl.col("severity").cast(pl.Enum(SEVERITIES)),
        "rule",
        "image_id",
        "other_image_id",
        "message",
    )


def sections(text: str) -> list[str]:
    return re.findall(r"<section .*?</section>", text, re.DOTALL)


def test_rules_are_sorted_worst_first_with_what_why_and_remedy(release):
    ids = release[0].table["image_id"]
    text = page.render(
        issues(
            ("mask-missing", "info", ids[0], None, "a"),
            ("image-constant", "error", ids[1], None, "b"),
            ("mask-empty", "warning", ids[2], None, "c"),
        ),
        *release,
    )
    order = [re.search(r'class="name">([a-z-]+),', section)[1] for section in sections(text)]
    assert order == ["image-constant", "mask-empty", "mask-missing"]
    assert all(
        "Why it matters:" in section and "What to do:" in section for section in sections(text)
    )


def test_pairs_are_side_by_side_and_masks_are_outlined(release):
    ids = release[0].table["image_id"]
    pair, mask = sections(
        page.render(
            issues(
                ("duplicate-file", "warning", ids[1], ids[0], "same"),
                ("mask-empty", "warning", ids[2], None, "none"),
            ),
            *release,
        )
    )
    assert 'class="pair"' in pair and pair.count("<svg") == 2 and "<path" not in pair
    assert mask.count("<svg") == 1 and mask.count("<path") == 2 and "outline of its mask" in mask


def test_an_issue_without_image_is_listed_in_a_line(release):
    unreadable = release[0].table["image_id"][5]
    text = page.render(
        issues(
            ("image-unreadable", "error", unreadable, None, "cannot be decoded"),
            ("no-patients", "warning", None, None, "nobody named"),
        ),
        *release,
    )
    assert (
        "<svg" not in text
        and "cannot be decoded" in text
        and "nobody named" in text
        and "the whole set" in text
    )


def test_images_and_lines_are_bounded_and_the_rest_is_counted(release, monkeypatch):
    monkeypatch.setattr(page, "PER_RULE", 2)
    monkeypatch.setattr(page, "IMAGES", 3)
    monkeypatch.setattr(page, "LISTED", 3)
    ids = release[0].table["image_id"]
    rows = [("image-flat", "warning", ids[n], None, f"flat {n}") for n in range(5)] + [
        ("mask-empty", "warning", ids[n], None, f"empty {n}") for n in range(5)
    ]
    flat, empty = sections(page.render(issues(*rows), *release))
    assert (flat.count("<svg"), flat.count("<li"), "more, in issues.parquet" in flat) == (
        2,
        3,
        False,
    )
    assert (empty.count("<svg"), empty.count("<li")) == (
        1,
        0,
    ) and "and 4 more, in issues.parquet" in empty


def test_a_hundred_thousand_issues_make_a_page_below_five_megabytes(release):
    ids = release[0].table["image_id"].to_list()
    count = 100_000
    many = decided(
        pl.DataFrame(
            {
                "rule": pl.Series(["image-flat", "mask-empty", "duplicate-file"]).gather(
                    pl.int_range(count, eager=True) % 3
                ),
                "severity": "warning",
                "image_id": pl.Series(ids).gather(pl.int_range(count, eager=True) % len(ids)),
                "other_image_id": pl.Series(None, [None] * count, pl.String),
                "message": "its pixels have 12 values between 100 and 120, as a page of text may",
                "remedy": "Examine it.",
                "value": pl.Series(None, [None] * count, pl.String),
            }
        ).sort("rule", maintain_order=True),
        uptake.empty(),
    )
    text = page.render(many, *release)
    assert len(text.encode()) < 5_000_000
    # None is forgotten: what is neither shown nor listed is counted, with the way to all of it.
    assert "100,000 issues" in text and text.count("more, in issues.parquet") == 3
    hidden = sum(
        int(one.replace(",", "")) for one in re.findall(r"and ([\d,]+) more, in issues", text)
    )
    assert hidden + text.count("<figure") + text.count("<li data-source") == count
    assert 'filter(rule="mask-empty")' in text or "filter(rule=&#34;mask-empty&#34;)" in text


def test_it_stands_alone_and_escapes_what_files_are_called(release):
    ids = release[0].table["image_id"]
    text = page.render(
        issues(("image-flat", "warning", ids[0], None, "<script>alert(1)</script> & co")),
        *release,
    )
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in text
    assert (
        not re.findall(r'(?:src|href)="(?!data:|#)', text)
        and "url(" not in text
        and "@import" not in text
    )


def test_the_same_issues_give_the_same_page_and_none_is_a_page_too(release):
    ids = release[0].table["image_id"]
    rows = issues(
        ("image-flat", "warning", ids[0], None, "a"),
        ("duplicate-file", "warning", ids[1], ids[0], "b"),
    )
    assert page.render(rows, *release) == page.render(rows, *release)
    empty = page.render(issues(), *release)
    assert (
        "No check reported an issue in 6 images" in empty
        and not sections(empty)
        and "How certain the checks are" in empty
    )


def test_five_thousand_issues_stay_a_page_that_opens_quickly(release):
    ids = release[0].table["image_id"]
    rules = (
        ("image-flat", "warning", 1),
        ("duplicate-pixels", "warning", 2),
        ("mask-misfit", "warning", 1),
        ("mask-odd-form", "info", 1),
    )
    rows = [
        (rule, severity, ids[n % 5], ids[(n + 1) % 5] if count == 2 else None, f"issue {n}")
        for n in range(1250)
        for rule, severity, count in rules
    ]
    text = page.render(issues(*rows), *release)
    assert text.count("<figure") + text.count("<li data-source") == 5000
    assert len(text) < 25_000_000 and text.count("<svg") <= page.IMAGES


def test_the_command_writes_and_names_it(tmp_path):
    montgomery.example(tmp_path / "data", images=4)
    (tmp_path / "recipe.toml").write_text('[data]\nfolder = "data"\n[pixels]\nsize = 64\n')
    done = hilum("audit", tmp_path / "recipe.toml", "--out", tmp_path / "run")
    assert (
        done.returncode == 0
        and f"page: {(tmp_path / 'run' / 'audit.html').resolve()}" in done.stdout
    )
    assert (tmp_path / "run" / "audit.html").read_text().startswith("<!doctype html>")
