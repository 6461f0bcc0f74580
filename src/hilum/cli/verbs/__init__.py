"""The verbs of the command line: a verb is a plug-in, the module NAME.py in this package.

    GROUP, ORDER    where `hilum --help` lists it: a group of `hilum.cli._app`, and its place there
    SHORT_HELP      what it does, in at most 45 characters, so that no line is cut
    EXAMPLE         a command to copy
    SHARDED         True where it works image by image: it has the options of `hilum.cli._executor`
    verb            the function, with typed arguments; its docstring is the long help

A verb parses, calls one function of a package, and prints. What a verb needs is imported within
its function, so that `hilum --help`, which loads every verb, is quick.
"""

from hilum import plugins
from hilum.cli._app import GROUPS, app, on_this_disk
from hilum.cli._executor import with_executor

_modules = {name: plugins.load("verbs", name) for name in plugins.names("verbs")}

for _name, _module in sorted(
    _modules.items(), key=lambda found: (GROUPS.index(found[1].GROUP), found[1].ORDER)
):
    _verb = with_executor(_module.verb) if getattr(_module, "SHARDED", False) else _module.verb
    app.command(
        _name.replace("_", "-"),
        short_help=_module.SHORT_HELP,
        rich_help_panel=_module.GROUP,
        epilog=_module.EXAMPLE,
    )(on_this_disk(_verb))

__all__ = ["app"]
