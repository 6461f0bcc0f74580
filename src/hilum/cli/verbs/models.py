"""Verb `models`."""

from __future__ import annotations

import json

from hilum.cli import console
from hilum.cli._app import IMAGES, Json

GROUP, ORDER = IMAGES, 50
SHORT_HELP = "Show the cards of the pretrained models"
EXAMPLE = "Example: hilum models --json"


def verb(as_json: Json = False) -> None:
    """Show the cards of the pretrained models."""
    from hilum.inference import model_cards as step
    from hilum.inference import pretrained

    found, lungs = pretrained.pretrained_models(), pretrained.lung_cards()
    console.echo(
        json.dumps([*step.cards(found), *lungs], indent=1)
        if as_json
        else "\n\n".join(
            [step.card_lines(found), *(step.card_text(card, card["figures"]) for card in lungs)]
        )
    )
