"""Load the verbs of the command line, so that `app` knows them all.

The packages below are imported when a verb needs them, so that `hilum --help` is quick; it lists
the verbs in the order of VERBS.
"""

from importlib import import_module

from hilum.cli._app import app

VERBS = ("pipeline", "images", "runs", "data")

for _name in VERBS:
    import_module(f"hilum.cli.{_name}")

__all__ = ["app"]
