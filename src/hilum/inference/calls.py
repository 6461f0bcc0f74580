"""Call a finding present or absent, or say why there is no call.

A model says only what it knows. There is no call where the image lies outside the model's domain
(`hilum.inference.domain`) or its population, where the model carries no domain or no threshold, and
where the score lies between two thresholds. There is a score all the same, for those who ask; it is
a probability only where there could be a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from hilum.statistics import calibration
from hilum.statistics.calibration import Fitted
from hilum.storage import JsonObject

PRESENT, ABSENT = "present", "absent"
NUMBERS = ("score", "probability", "threshold", "percentile")  # given on request only
NO_THRESHOLD = "no threshold was chosen for it"
BETWEEN = "the score lies between the thresholds for present and absent"


@dataclass(frozen=True)
class FindingScore:
    """One model's call of one concept, or `no_call`, why there is none; "" where there is one.

    `score` is None where the model was not applied, since it could not have called. `probability`
    is None without a calibration and wherever the image is not known to be like the calibration's
    own, `threshold` None where none was chosen. `percentile` is the percentage of the training
    images that are closer to one another than this image is to them; None where the model carries
    no domain.
    """

    model: str
    concept: str
    call: str | None
    no_call: str
    warning: str
    score: float | None
    probability: float | None
    threshold: float | None
    percentile: float | None

    def warned(self, warning: str) -> FindingScore:
        """Return it with one more warning; itself where that is ""."""
        if not warning:
            return self
        return replace(self, warning="; ".join(filter(None, [self.warning, warning])))

    def reported(self, *, scores: bool) -> dict[str, object]:
        """Return the fields for a table or JSON; `NUMBERS` only with `scores`."""
        found = asdict(self)
        return found if scores else {key: found[key] for key in found if key not in NUMBERS}


@dataclass(frozen=True)
class ImageResult:
    """The calls and scores of one image; `refused` says why there are none, "" where there are."""

    image: str
    name: str
    refused: str
    quality_flags: str
    lung_quality: float
    age_years: float | None  # as stated by the file
    scores: list[FindingScore] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """Return the whole result for JSON."""
        return asdict(self)

    def reported(self, *, scores: bool) -> dict[str, object]:
        """Return the result for JSON; with the numbers of a score only with `scores`."""
        calls = [one.reported(scores=scores) for one in self.scores]
        return {**asdict(self), "scores": calls}

    @classmethod
    def of_dict(cls, stored: JsonObject) -> ImageResult:
        """Return the result that `as_dict` was made of."""
        return cls(**{**stored, "scores": [FindingScore(**one) for one in stored["scores"]]})


@dataclass(frozen=True)
class Thresholds:
    """A score is present from `present` on and absent below `absent`; between them neither."""

    absent: float
    present: float

    @classmethod
    def of_json(cls, fitted: Fitted | None) -> Thresholds | None:
        """Read those of a concept's calibration; None where none was chosen.

        Keys are `threshold`, and `absent_below` and `present_from` where there are two.
        """
        threshold = fitted["threshold"] if fitted else None
        if fitted is None or threshold is None:
            return None
        return cls(fitted.get("absent_below", threshold), fitted.get("present_from", threshold))

    def decide(self, score: float) -> tuple[str | None, str]:
        """Return the call, or None and why there is none."""
        if score >= self.present:
            return PRESENT, ""
        return (ABSENT, "") if score < self.absent else (None, BETWEEN)


def decide(
    model: str,
    concept: str,
    score: float | None,
    fitted: Fitted | None,
    *,
    reasons: Sequence[str] = (),
    percentile: float | None = None,
    warning: str = "",
) -> FindingScore:
    """Return a score with its call and its probability, or why there is none.

    `fitted` is the concept's calibration as `hilum.statistics.calibration.to_json` writes it, None
    where nothing was fitted. `reasons` are those against any call; "" is none. `score` may be None,
    for a model that was not applied, only where there is a reason.
    """
    against = "; ".join(filter(None, reasons))
    thresholds, call, probability = Thresholds.of_json(fitted), None, None
    if not against and thresholds is None:
        against = NO_THRESHOLD
    elif not against and thresholds:
        if score is None:
            raise ValueError(f"{model} has no score of {concept}, and no reason against a call")
        call, against = thresholds.decide(score)
        fits = calibration.from_json(fitted) if fitted else {}
        if "temperature" in fits:
            probability = float(fits["temperature"](np.array(score)))
    threshold = thresholds.present if thresholds else None
    return FindingScore(
        model, concept, call, against, warning, score, probability, threshold, percentile
    )
