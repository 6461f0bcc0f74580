"""Commands under `torchrun`: rank 0 runs the command, the others take part in its trainings."""

from __future__ import annotations

import os
from collections.abc import Callable

from hilum.errors import MissingExtra

STARTED = "TORCHELASTIC_RUN_ID"  # set by torchrun for each process that it starts


def run(command: Callable[[], object]) -> None:
    """Call `command`, where torchrun started several processes in the first of them only."""
    # Processes that a command starts by itself are no ranks.
    if os.environ.pop(STARTED, None) is None:
        command()
        return
    with MissingExtra.explained("train", "running under torchrun"):
        from hilum.training import ranks, training_loop
    with ranks.joined() as rank:
        if rank:
            training_loop.take_part()
            return
        try:
            command()
        except SystemExit as stop:
            if stop.code:
                raise  # torchrun sees it, and ends the others
        ranks.from_first(None)
