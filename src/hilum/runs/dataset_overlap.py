"""Find images and patients that several audited sets share, and models tested on training data.

Two images are the same by their file, by their pixels, by their content
(`hilum.audit.duplicates.near_duplicates`), or by their name. A name counts where the two sets are
one data set, where they are read from one folder, or where the publishers state that they overlap
(`hilum.dataset.catalog`, overlaps), as in sets that were encoded again. An image is reported once,
by the most certain of these. Patients are compared by their names under the same condition, so that
in folders of one's own, where a name means nothing beyond its folder, only images are compared.

    shared.parquet   a row for each image of one set that is in another: set, image_id, other_set,
                     other_image_id, kind (one of `KINDS`)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import polars as pl

from hilum import plugins, storage
from hilum.audit.duplicates import near_duplicates
from hilum.audit.issues import Issue, Rule
from hilum.dataset import catalog
from hilum.dataset.manifest import Manifest
from hilum.dataset.merge import OWN
from hilum.errors import HilumError, plural
from hilum.pipeline import audit, cache
from hilum.pipeline._training import TRAINING
from hilum.pipeline.cross_validation import fold_count
from hilum.run_folder import Run, is_run

SHARED = "shared.parquet"
BETWEEN = "between the sets"
SAME_NAME = "same name"
KINDS = (*near_duplicates.KINDS, SAME_NAME)  # the most certain first
PAIRS = {
    "set": pl.String,
    "image_id": pl.String,
    "other_set": pl.String,
    "other_image_id": pl.String,
    "kind": pl.String,
}
STAGES = {"segment": "lung segmenter", "train": "classifier or anomaly model"}

IMAGES = Rule(
    "set-shared-images",
    "warning",
    "One set holds images of another.",
    "A model trained on one and tested on the other is tested on what it was trained on; merged, "
    "these images count twice.",
    "Train on one of the two and test on a third, or remove the images that `shared.parquet` lists "
    "from one of them.",
)
PATIENTS = Rule(
    "set-shared-patients",
    "warning",
    "Patients of one set are in another with other images.",
    "A model trained on one and tested on the other is tested on people it was trained on.",
    "Merge the two sets with `hilum merge`, which keeps a patient in one part, or remove the "
    "patients from one of them.",
)
KNOWN = Rule(
    "set-known-overlap",
    "warning",
    "The publishers state that two sets overlap.",
    "Images that were encoded again and renamed may not be recognised, so the overlap found here "
    "is a lower bound.",
    "Never train on one of the two and test on the other, unless the images in both are known and "
    "removed.",
)
TRAINED = Rule(
    "training-in-test",
    "error",
    "Images or patients that one run's model was trained on are in another's tune or test part.",
    "Used together, as a segmenter before a classifier, their figures are too good.",
    "Train both in one run, or make both from one split with [split] previous.",
)
RULES = (IMAGES, PATIENTS, KNOWN, TRAINED)


@dataclass(frozen=True)
class AuditedDataset:
    """One audited set. Without `pixels`, images are the same by file, pixels and name only."""

    name: str
    manifest: Manifest
    index: pl.DataFrame  # of its cache
    pixels: cache.Cache | None = None
    run: Run | None = None

    @classmethod
    def of(cls, name: str, run: Run) -> AuditedDataset:
        """Read the audited set of a run."""
        pixels = cache.opened(run, run.recipe())
        return cls(name, run.manifest(), pixels.index, pixels, run)

    @cached_property
    def images(self) -> pl.DataFrame:
        """image_id and patient_id, and both without their prefix (`bare`, `person`), sorted."""
        table = self.manifest.table.select("image_id", "patient_id").sort("image_id")
        return table.with_columns(
            bare=pl.col("image_id").str.extract(r"([^/]+)$"),
            person=pl.col("patient_id").str.extract(r"([^/]+)$"),
        )


def places(sources: Sequence[Path], to: Path | None) -> list[tuple[str, Path | None]]:
    """Return name and run folder of each source; None where the source is a run itself.

    Raises `HilumError` where a source is given twice.
    """
    resolved = [source.resolve() for source in sources]
    if twice := sorted({str(path) for path in resolved if resolved.count(path) > 1}):
        raise HilumError(f"{', '.join(twice)} is given twice; give each set once")
    depth = next(
        n for n in range(1, 99) if len({path.parts[-n:] for path in resolved}) == len(resolved)
    )
    names = ["-".join(path.with_suffix("").parts[-depth:]).strip("/-") for path in resolved]
    own = [is_run(path) for path in resolved]
    return [
        (name, None if has else (to or Path("runs")) / name)
        for name, has in zip(names, own, strict=True)
    ]


def audited(
    sources: Sequence[Path], to: Path | None, perform: Callable[[Path, Path | None], Run]
) -> dict[str, pl.DataFrame]:
    """Return the issues of each set by its name, and under `BETWEEN` those of all pairs of sets.

    Images in both sets of a pair are written to `to`/shared.parquet. `perform` audits a source in
    the run folder that it is given, or the source's own, and returns the run.
    """
    members = []
    for source, (name, place) in zip(sources, places(sources, to), strict=True):
        members.append(AuditedDataset.of(name, perform(source, place)))
    found = {
        member.name: member.run.table("audit", "issues.parquet") for member in members if member.run
    }
    found[BETWEEN], pairs = find_overlaps(members)
    storage.write_table((to or Path("runs")) / SHARED, pairs)
    return found


def failing(found: Mapping[str, pl.DataFrame], level: str) -> int:
    """Count the issues at `level` or worse, of all sets and between them."""
    return sum(audit.failing(table, level) for table in found.values())


def find_overlaps(members: Sequence[AuditedDataset]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return issues as `hilum.audit.issues.COLUMNS`, worst first, and pairs of images (`PAIRS`)."""
    found: list[Issue] = []
    tables = [pl.DataFrame(schema=PAIRS)]
    for first, second in combinations(members, 2):
        pairs = same_images(first, second)
        tables.append(pairs)
        found += [
            *_overlap(first, second),
            *_shared(first, second, pairs),
            *_patients(first, second, pairs),
        ]
        found += [*_trained(first, second, pairs), *_trained(second, first, _reversed(pairs))]
    return audit.table(found, RULES), pl.concat(tables)


def same_images(first: AuditedDataset, second: AuditedDataset) -> pl.DataFrame:
    """Return each image of the first set that is in the second, once (`PAIRS`)."""
    caches = (first.pixels, second.pixels) if first.pixels and second.pixels else None
    found = near_duplicates.shared(first.index, second.index, caches).select(
        "image_id", "other_image_id", "kind"
    )
    if names := named_alike(first, second):
        there = second.images.select(names[0], other_image_id="image_id").unique(
            names[0], keep="first", maintain_order=True
        )
        by_name = first.images.join(there, on=names[0]).select(
            "image_id", "other_image_id", kind=pl.lit(SAME_NAME)
        )
        found = pl.concat([found, by_name])
    by_kind = pl.col("kind").cast(pl.Enum(KINDS))
    best = found.sort("image_id", by_kind, "other_image_id").unique(
        "image_id", keep="first", maintain_order=True
    )
    return best.select(
        set=pl.lit(first.name),
        image_id="image_id",
        other_set=pl.lit(second.name),
        other_image_id="other_image_id",
        kind="kind",
    )


def named_alike(first: AuditedDataset, second: AuditedDataset) -> tuple[str, str] | None:
    """Return the columns of images and patients that mean the same in both sets.

    None where names mean nothing beyond their own set.
    """
    sets, others = _datasets(first), _datasets(second)
    if _known(sets, others):  # the same names under another data set's
        return "bare", "person"
    if first.manifest.root == second.manifest.root or (sets & others) - {OWN}:
        return "image_id", "patient_id"
    return None


def _datasets(member: AuditedDataset) -> set[str]:
    return set(member.manifest.table["dataset"].unique())


def _named_after(member: AuditedDataset) -> set[str]:
    """Return catalogue entries without a reader that a folder of one's own is named after.

    `rsna_pneumonia` is one of them, and `RSNA-2018` is named after it.
    """
    if OWN not in _datasets(member):
        return set()
    words = set(re.split(r"[^a-z0-9]+", member.manifest.root.name.lower()))
    return {
        name
        for name in catalog.names()
        if name not in plugins.names("readers") and (name.split("_")[0] in words or name in words)
    }


def _known(sets: set[str], others: set[str]) -> list[tuple[str, str, str]]:
    """Return the known overlaps of two different data sets, each with a description of it."""
    entries = catalog.entries()
    pairs = [
        (one, other, _overlaps(entries, one, other))
        for one in sorted(sets)
        for other in sorted(others - {one})
    ]
    return [(one, other, words) for one, other, words in pairs if words]


def _overlaps(entries: dict, one: str, other: str) -> str:
    return entries.get(one, {}).get("overlaps", {}).get(other) or entries.get(other, {}).get(
        "overlaps", {}
    ).get(one, "")


def _reversed(pairs: pl.DataFrame) -> pl.DataFrame:
    return pairs.select(
        set="other_set",
        image_id="other_image_id",
        other_set="set",
        other_image_id="image_id",
        kind="kind",
    )


# ---------------------------------------------------------------------------------- issues


def _overlap(first: AuditedDataset, second: AuditedDataset) -> Iterator[Issue]:
    sets, others = (_datasets(one) | _named_after(one) for one in (first, second))
    messages = [
        f"{first.name} and {second.name}: {one} and {other} overlap ({words})"
        for one, other, words in _known(sets, others)
    ]
    return KNOWN.issue(pl.DataFrame({"message": messages}, schema={"message": pl.String}))


def _shared(first: AuditedDataset, second: AuditedDataset, pairs: pl.DataFrame) -> Iterator[Issue]:
    if not pairs.height:
        return
    kinds = dict(pairs["kind"].value_counts().iter_rows())
    how = ", ".join(f"{kind} {kinds[kind]}" for kind in KINDS if kind in kinds)
    example = pairs.row(0, named=True)
    others = pairs["other_image_id"].n_unique()
    message = (
        f"{pairs.height} of the {first.manifest.table.height} images of {first.name} are in "
        f"{second.name} ({how}), as {others} of its {second.manifest.table.height}; the first is "
        f"{example['image_id']}, there {example['other_image_id']}"
    )
    yield from IMAGES.issue(pl.DataFrame({"message": [message]}))


def _patients(
    first: AuditedDataset, second: AuditedDataset, pairs: pl.DataFrame
) -> Iterator[Issue]:
    """Find patients in both, without those whose every image is reported as shared already."""
    column, people = _shared_people(first, second)
    alone = first.images.join(pairs, on="image_id", how="anti").join(people, on=column, how="semi")
    count = alone[column].n_unique()
    if count:
        message = (
            f"{plural(count, 'patient')} of {first.name} {'is' if count == 1 else 'are'} in "
            f"{second.name} with other images; the first is {alone[column].min()}"
        )
        yield from PATIENTS.issue(pl.DataFrame({"message": [message]}))


def _shared_people(first: AuditedDataset, second: AuditedDataset) -> tuple[str, pl.DataFrame]:
    """Return the column that names patients alike in both sets, and the names that are in both.

    No name, where names mean nothing beyond their set.
    """
    names = named_alike(first, second)
    column = names[1] if names else "patient_id"
    people = first.images.select(column).unique()
    return column, people.join(second.images, on=column, how="semi") if names else people.clear()


def _trained(first: AuditedDataset, second: AuditedDataset, pairs: pl.DataFrame) -> Iterator[Issue]:
    """Find training images or patients of the first run's models that the second holds out."""
    if first.run is None or second.run is None or not second.run.done("split"):
        return
    split = second.run.table("split", "split.parquet")
    in_folds = fold_count(split) > 0  # each image is in the test part of one fold
    held = (split if in_folds else split.filter(pl.col("part") != "train")).select("image_id")
    tested = second.images.join(held, on="image_id", how="semi")
    column, people = _shared_people(first, second)
    for stage, words in STAGES.items():
        if not first.run.done(stage):
            continue
        trained_on = first.run.table(stage, f"{stage}/{TRAINING}").select("image_id").unique()
        images = pairs.join(trained_on, on="image_id", how="semi").join(
            tested, left_on="other_image_id", right_on="image_id", how="semi"
        )
        persons = (
            first.images.join(trained_on, on="image_id", how="semi")
            .join(people, on=column, how="semi")
            .select(column)
        )
        same = tested.join(persons, on=column, how="semi").select("image_id")
        both = pl.concat([same, images.select(image_id="other_image_id")]).unique().sort("image_id")
        if both.height:
            message = (
                f"the {words} of {first.name} was trained on {images['other_image_id'].n_unique()} "
                f"images, and on patients of {both.height}, of the {tested.height} that "
                f"{second.name} tunes or tests on; the first is {both['image_id'][0]}"
            )
            yield from TRAINED.issue(pl.DataFrame({"message": [message]}))
