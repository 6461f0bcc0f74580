"""The command line: a verb a step, and `run` for all of them. Each verb parses, calls one step, and prints; nothing is decided here.

Steps are imported when a verb needs them, so that `hilum --help` is quick; it tells the verbs in the order of VERBS.
"""

from importlib import import_module

from hilum.cli._app import app

VERBS = ("running", "pictures", "judging", "data")

for _name in VERBS:
    import_module(f"hilum.cli.{_name}")

__all__ = ["app"]
