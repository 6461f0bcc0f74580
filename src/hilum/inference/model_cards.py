"""Show what each bundled model is: its data, population, figures, limits and domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hilum.inference import pretrained
from hilum.inference.pretrained import PretrainedModel

NO_MODEL = "this installation has no bundled classifier"


def cards(models: Sequence[PretrainedModel]) -> list[dict[str, object]]:
    """Return each model's card for JSON: its data, population, figures and limits."""
    return [
        {
            "model": model.name,
            "file": model.place.name,
            "digest": model.digest,
            "title": model.card.title,
            "says": list(model.concepts),
            "trained on": f"{model.people}, {model.ages[0]:g} to {model.ages[1]:g} years old; "
            f"{model.card.counts}",
            "beware": model.card.caveats,
            "licence": model.card.licence,
            "source": model.card.source,
            "domain": _domain(model),
            "figures": model.figures,
        }
        for model in models
    ]


def _domain(model: PretrainedModel) -> str:
    """Say by what the model knows images like its training images."""
    known = model.model.domain
    if known is None:
        return "not known, so that it calls nothing"
    return f"its own training images, by {' and '.join(known.detectors)}; it calls no others"


def card_lines(models: Sequence[PretrainedModel]) -> str:
    """Format the models' cards for a person."""
    return "\n\n".join(
        card_text(card, model.figures) for model, card in zip(models, cards(models), strict=True)
    ) or (f"{NO_MODEL} (searched {pretrained.folder()})")


def card_text(card: Mapping[str, object], results: Mapping[str, str]) -> str:
    """Format one model's card for a person, with its `results`."""
    names = ("protocols", "trained on", "domain", "beware", "licence", "source")
    about = [f"  {name}: {card[name]}" for name in names if name in card]
    figures = [f"  {name}: {value}" for name, value in results.items()]
    title = f"{card['model']}: {card['title']} ({card['file']}, {card['digest']})"
    return "\n".join([title, *about, *figures])
