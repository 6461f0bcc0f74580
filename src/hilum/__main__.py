"""`python -m hilum` and the `hilum` command: what stops it becomes one message and an exit code."""

from __future__ import annotations

import gc
import os
import sys

from hilum.cli import exit_status

GARBAGE_SOUGHT_EVERY = 200_000  # new objects


def main() -> None:
    # Threads that wait for one another by spinning stand still where processors are shared: a
    # training beside another process took six times as long. It must be said before PyTorch is
    # loaded, and a user's own word goes first.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    # Loading code makes some hundred thousand objects that all stay: to look among them for garbage
    # every 700 objects, as Python does, takes a twelfth of the time of a short command.
    gc.set_threshold(GARBAGE_SOUGHT_EVERY)

    def command() -> None:
        from hilum.cli.verbs import app

        app()

    sys.exit(exit_status.end(command))


if __name__ == "__main__":
    main()
