"""`python -m hilum` and the `hilum` command: a fault becomes one message and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys

from hilum.errors import CannotWrite, HilumError


def main() -> None:
    # Threads that wait for one another by spinning stand still where processors are shared: a training beside another process
    # took six times as long. It must be said before PyTorch is loaded, and a user's own word goes first.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from hilum.cli import app

    try:
        app()
    except HilumError as error:
        sys.exit(_told(error))
    except OSError as error:
        sys.exit(_told(CannotWrite.because(error.filename, error)))
    except KeyboardInterrupt:
        sys.stderr.write("hilum: stopped; the same command goes on where this one left off\n")
        sys.exit(130)


def _told(error: HilumError) -> int:
    from hilum import printed

    sys.stderr.write(f"hilum: {printed.harmless(str(error))}\n")
    return 1


if __name__ == "__main__":
    main()
