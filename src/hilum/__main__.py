"""Entry point of `python -m hilum` and `hilum`: errors become one message and an exit code."""

from __future__ import annotations

import gc
import os
import sys

from hilum.cli import exit_status, large_pages

COLLECTION_THRESHOLD = 200_000  # new objects


def main() -> None:
    # Threads that wait by spinning stall where processors are shared: training beside another
    # process took six times as long. OpenMP reads the variable when PyTorch is loaded; a value
    # that the user has set is kept.
    """Run the command line and exit with its status."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    large_pages.request(sys.argv[1:])

    # Importing creates some hundred thousand objects that all stay alive. Collecting garbage every
    # 700 objects, as Python does, takes a twelfth of the time of a short command.
    gc.set_threshold(COLLECTION_THRESHOLD)

    def _command() -> None:
        from hilum.cli import torchrun
        from hilum.cli.verbs import app

        torchrun.run(app)

    sys.exit(exit_status.end(_command))


if __name__ == "__main__":
    main()
