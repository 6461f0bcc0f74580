"""The worklist: every image of a study in one table, filtered, sorted and counted.

The table is built once. What readers change is laid over it by `Worklist.with_state`, so a page of
100,000 images costs a few comparisons of whole columns. A filter is a bool array (images,); the
counts of one filter are taken under all the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from hilum.annotations.vocabulary import LABEL_NAMES, State
from hilum.dataset.manifest import SEVERITIES
from hilum.inference import lung_finder
from hilum.serve import queries
from hilum.serve.queries import Cell, Query
from hilum.serve.study import NO_CALL, Study

WORDS: Mapping[int, str] = {1: "present", 0: "absent", NO_CALL: "no call"}  # of calls
NOT_MENTIONED = 2  # among the codes of label states, where a table has null
_CODES = {
    name: NOT_MENTIONED if state is None else int(state) for state, name in LABEL_NAMES.items()
}
MASK_CODES = {name: code for code, name in enumerate(queries.MASKS)}


@dataclass(frozen=True)
class IssueLinks:
    """Which image each issue is about, sorted by row; an issue of a pair stands for both.

    int32 (links,): row of the image, number of the issue, code of its severity in `SEVERITIES`, and
    of its rule in `names`.
    """

    rows: np.ndarray
    numbers: np.ndarray
    severities: np.ndarray
    rules: np.ndarray
    names: tuple[str, ...]

    @classmethod
    def of(cls, issues: pl.DataFrame) -> IssueLinks:
        """Build from a study's issues."""
        severity = pl.col("severity").cast(pl.String).cast(pl.Enum(SEVERITIES)).to_physical()
        names = issues["rule"].cast(pl.String).unique().sort().to_list()
        rule = pl.col("rule").cast(pl.String).cast(pl.Enum(names)).to_physical()
        both = [
            issues.select(
                pl.col(row).alias("row"), "number", severity=severity, rule=rule
            ).drop_nulls("row")
            for row in ("row", "other_row")
        ]
        links = pl.concat(both).cast(pl.Int32).unique().sort("row", "number")
        return cls(
            links["row"].to_numpy(),
            links["number"].to_numpy(),
            links["severity"].to_numpy(),
            links["rule"].to_numpy(),
            tuple(names),
        )

    def of_row(self, row: int) -> np.ndarray:
        """Return the numbers of the issues of an image, in order."""
        first, last = np.searchsorted(self.rows, [row, row + 1])
        return self.numbers[first:last]


@dataclass(frozen=True)
class Worklist:
    """The table of images, with arrays (images,) by which it is filtered."""

    table: pl.DataFrame  # row by row as the manifest: image_id, path, patient_id, source …
    text: pl.Series  # lower case, of what is searched
    labels: Mapping[str, np.ndarray]  # int8 codes of states, by concept
    scores: Mapping[str, np.ndarray]  # float64, nan without a score
    calls: Mapping[str, np.ndarray]  # int8: 1, 0, NO_CALL; -2 without a score
    positive: Mapping[str, np.ndarray]  # float64: 1 at or above the own threshold, 0 below, or nan
    stated: Mapping[str, np.ndarray]  # `labels` as the data state them
    reference: np.ndarray  # bool: has a usable reference mask
    quality: np.ndarray  # float64: of the predicted lungs, nan without
    links: IssueLinks
    decided: np.ndarray  # bool (issues,): accepted, dismissed or mended
    corrected: np.ndarray  # bool: has a corrected mask
    revised: np.ndarray  # bool: has any revision
    ranks: np.ndarray  # float64: place in the order to draw, nan without
    to_draw: pl.DataFrame  # the images to draw next, see `hilum.serve.drawing_order.SCHEMA`

    @classmethod
    def of(cls, study: Study) -> Worklist:
        """Build the table of a study, before any revision."""
        table = _table(study)
        count = table.height
        text = pl.concat_str(
            pl.col("image_id", "patient_id", "source").cast(pl.String).str.to_lowercase(),
            pl.lit(study.manifest.table["reading"].cast(pl.String)).str.to_lowercase(),
            separator="\n",
            ignore_nulls=True,
        )
        of = table.select("image_id")
        calls = study.calls()
        concepts = calls["concept"].unique(maintain_order=True).to_list()
        called = {one: _joined(of, calls.filter(pl.col("concept") == one)) for one in concepts}
        unknown, no_image = np.full(count, np.nan), np.zeros(count, bool)
        states = {one: _states(of, study, one) for one in study.concepts}
        return cls(
            table,
            table.select(text.alias("text"))["text"],
            states,
            {one: rows["score"].fill_null(np.nan).to_numpy() for one, rows in called.items()},
            {one: rows["call"].fill_null(-2).to_numpy() for one, rows in called.items()},
            {one: rows["called"].fill_null(np.nan).to_numpy() for one, rows in called.items()},
            states,
            study.has_reference,
            study.found.quality if study.found else unknown,
            IssueLinks.of(study.issues),
            np.zeros(study.issues.height, bool),
            no_image,
            no_image,
            unknown,
            pl.DataFrame(),
        )

    def with_state(
        self,
        labels: Mapping[tuple[int, str], int],
        corrected: Sequence[int],
        decided: Sequence[int],
        revised: Sequence[int],
    ) -> Worklist:
        """Return the worklist with readers' labels, masks and decisions in place of the data's.

        `labels`: code by row and concept; `decided` are numbers of issues, the others rows.
        """
        changed = dict(self.labels)
        for (row, concept), code in labels.items():
            if concept not in changed:
                changed[concept] = np.full(self.table.height, NOT_MENTIONED, np.int8)
            elif changed[concept] is self.labels.get(concept):
                changed[concept] = changed[concept].copy()
            changed[concept][row] = code
        return replace(
            self,
            labels=changed,
            corrected=_marked(self.table.height, corrected),
            decided=_marked(len(self.decided), decided),
            revised=_marked(self.table.height, revised),
        )

    def ranked(self, to_draw: pl.DataFrame) -> Worklist:
        """Return the worklist with the images to draw next."""
        ranks = np.full(self.table.height, np.nan)
        ranks[to_draw["row"].to_numpy()] = to_draw["rank"].to_numpy()
        return replace(self, ranks=ranks, to_draw=to_draw)

    @cached_property
    def masks(self) -> np.ndarray:
        """The state of each image's mask, the most reliable there is: int8, see `MASK_CODES`."""
        nothing = np.isnan(self.quality) | (self.quality == 0)
        chosen = (
            (self.corrected, "corrected"),
            (self.reference, "reference"),
            (nothing, "missing"),
            (self.quality < lung_finder.GOOD, "unreliable"),
        )
        codes = [np.int8(MASK_CODES[word]) for _, word in chosen]
        return np.select([rows for rows, _ in chosen], codes, np.int8(MASK_CODES["found"]))

    @property
    def without_mask(self) -> np.ndarray:
        """Whether each image has neither a reference nor a corrected mask, bool."""
        return ~(self.reference | self.corrected)

    @cached_property
    def disagreement(self) -> np.ndarray:
        """How far the score that contradicts a label most is from it, float64; nan without any."""
        found = np.full(self.table.height, np.nan)
        for concept, call in self.calls.items():
            state = self.labels[concept]
            wrong = (call >= 0) & (state >= 0) & (state != NOT_MENTIONED) & (call != state)
            far = np.abs(self.scores[concept] - state)
            found = np.where(wrong, np.fmax(found, far), found)
        return found

    @cached_property
    def worst(self) -> np.ndarray:
        """The code of the severity of each image's worst open issue; len(SEVERITIES) for none."""
        found = np.full(self.table.height, len(SEVERITIES), np.int32)
        is_open = ~self.decided[self.links.numbers]
        np.minimum.at(found, self.links.rows[is_open], self.links.severities[is_open])
        return found

    # --------------------------------------------------------------------------------- filters

    def about(self, issue: str) -> np.ndarray:
        """Return whether an image has an issue of a rule, any, an open one, or none: bool."""
        links = self.links
        if issue in (queries.ANY, queries.NONE):
            rows = links.rows
        elif issue == queries.OPEN:
            rows = links.rows[~self.decided[links.numbers]]
        else:
            code = links.names.index(issue) if issue in links.names else -1
            rows = links.rows[links.rules == code]
        marked = _marked(self.table.height, rows)
        return ~marked if issue == queries.NONE else marked

    def with_mask(self, word: str) -> np.ndarray:
        """Return whether the mask of an image is in a state of `queries.MASKS`, bool."""
        return self.without_mask if word == "missing" else self.masks == MASK_CODES[word]

    def labelled(self, concept: str, state: str) -> np.ndarray:
        """Return whether the label of an image is in a state, bool."""
        if concept not in self.labels:
            return np.full(self.table.height, state == LABEL_NAMES[None])
        return self.labels[concept] == _CODES[state]

    def in_cell(self, cell: Cell) -> np.ndarray:
        """Return whether an image is in a cell of a confusion matrix, bool."""
        if cell.concept not in self.scores:
            return np.zeros(self.table.height, bool)
        state, called = self.stated[cell.concept], self.positive[cell.concept]
        if cell.threshold != queries.OWN:
            score = self.scores[cell.concept]
            called = np.where(np.isnan(score), np.nan, score >= float(cell.threshold))
        right = called == (1 if cell.cell in ("tp", "fp") else 0)
        true = state == (State.PRESENT if cell.cell in ("tp", "fn") else State.ABSENT)
        return right & true & (self.table["part"] == cell.part).fill_null(False).to_numpy()

    def filters(self, query: Query) -> Mapping[str, np.ndarray]:
        """Return a bool array for each filter that a query sets; labels by their concept."""
        found: dict[str, np.ndarray] = {}
        for name in ("part", "source"):
            if words := getattr(query, name):
                found[name] = self.table[name].is_in(list(words)).fill_null(False).to_numpy()
        for pair in query.label:
            key = f"label {pair.concept}"
            found[key] = found.get(key, False) | self.labelled(*pair)
        any_of = {
            "issue": [self.about(one) for one in query.issue],
            "mask": [self.with_mask(one) for one in query.mask],
            "call": [self.called(*one) for one in query.call],
            "cell": [self.in_cell(one) for one in query.cell],
        }
        found |= {name: np.logical_or.reduce(some) for name, some in any_of.items() if some}
        if query.disagreement:
            found["disagreement"] = ~np.isnan(self.disagreement)
        if query.patient:
            patient = self.table["patient_id"]
            found["patient"] = (
                (patient == query.patient) | patient.str.ends_with(f"/{query.patient}")
            ).to_numpy()
        if query.q:
            found["q"] = self.text.str.contains(query.q.lower(), literal=True).to_numpy()
        return found

    def called(self, concept: str, word: str) -> np.ndarray:
        """Return whether the call of an image is `word`, bool."""
        if concept not in self.calls:
            return np.zeros(self.table.height, bool)
        code = next(code for code, one in WORDS.items() if one == word)
        return self.calls[concept] == code

    # ------------------------------------------------------------------------------------ order

    def ordered(self, query: Query) -> np.ndarray:
        """Return the rows that a query lists, in its order: int64."""
        chosen = np.flatnonzero(_all(self.filters(query), self.table.height))
        name, falling = query.sort.removeprefix("-"), query.sort.startswith("-")
        if name == "path":
            return chosen[::-1] if falling else chosen
        if name == "next":
            chosen = chosen[~np.isnan(self.ranks[chosen])]
        values = self._sorted_by(name)[chosen]
        if falling:
            values = -values
        return chosen[np.argsort(values, kind="stable")]  # nan comes last either way

    def _sorted_by(self, name: str) -> np.ndarray:
        if name == "patient":
            return self.table["patient_id"].rank("dense").to_numpy().astype(np.float64)
        if name == "issue":
            return self.worst.astype(np.float64)
        if name == "uncertainty":
            return self.uncertainty
        if name == "disagreement":
            return self.disagreement
        if name == "next":
            return self.ranks
        concept = name.removeprefix(queries.SCORE)
        return self.scores.get(concept, np.full(self.table.height, np.nan))

    @property
    def uncertainty(self) -> np.ndarray:
        """How uncertain each predicted mask is, 1 - quality; nan where there is none."""
        return 1 - self.quality

    # ------------------------------------------------------------------------------------- rows

    def states(self, row: int) -> Iterator[tuple[str, str]]:
        """Yield concept and state of each finding that is mentioned of an image."""
        names = {code: name for name, code in _CODES.items()}
        for concept, codes in self.labels.items():
            if codes[row] != NOT_MENTIONED:
                yield concept, names[int(codes[row])]


def _all(filters: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    return np.logical_and.reduce([np.ones(count, bool), *filters.values()])


def _marked(count: int, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    marked = np.zeros(count, bool)
    marked[np.asarray(rows, np.int64)] = True
    return marked


def _joined(images: pl.DataFrame, of: pl.DataFrame) -> pl.DataFrame:
    once = of.unique("image_id", keep="first", maintain_order=True)
    return images.join(once, on="image_id", how="left", maintain_order="left")


def _states(images: pl.DataFrame, study: Study, concept: str) -> np.ndarray:
    stated = study.manifest.labels.filter(pl.col("concept") == concept)
    states = _joined(images, stated.select("image_id", "state"))["state"]
    return states.fill_null(NOT_MENTIONED).cast(pl.Int8).to_numpy()


def _table(study: Study) -> pl.DataFrame:
    """Return the columns that rows of a worklist show."""
    table = study.manifest.table.select(
        "image_id",
        "path",
        "patient_id",
        pl.col("source").cast(pl.Categorical),
        pl.col("view").cast(pl.Categorical),
        "age_years",
        pl.col("sex").cast(pl.Categorical),
    )
    facts = study.cached.index.select("image_id", "height", "width", "error")
    table = table.join(facts, on="image_id", how="left", maintain_order="left")
    for more in (study.parts, study.flags):
        table = table.join(more, on="image_id", how="left", maintain_order="left")
    return table.with_columns(pl.col("part", "flags").cast(pl.Categorical))
