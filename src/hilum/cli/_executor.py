"""The options `--executor`, `--processes` and `--cluster` of every verb that is `SHARDED`."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, get_type_hints

import typer

from hilum.scale import executor
from hilum.scale.executor import Executor, executing

ENVIRONMENT = "HILUM_EXECUTOR"


class ExecutorName(StrEnum):
    """The values of --executor, see `hilum.scale.executor`."""

    serial = executor.SERIAL
    processes = executor.PROCESSES
    dask = executor.DASK


ExecutorOption = Annotated[
    ExecutorName | None,
    typer.Option(
        "--executor",
        envvar=ENVIRONMENT,
        help="What works on the images: this process alone, processes on all cores, or a Dask "
        "cluster. [default: processes, for jobs that are worth their start]",
        show_default=False,
    ),
]
ProcessCount = Annotated[
    int, typer.Option("--processes", min=0, help="How many processes; 0: one for each core.")
]
Cluster = Annotated[
    str,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="A Dask scheduler: its address, its scheduler file, or local. Needs the extra "
        "[scale].",
        show_default=False,
    ),
]
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "executor": (ExecutorOption, None),
    "processes": (ProcessCount, 0),
    "cluster": (Cluster, ""),
}


def chosen(name: ExecutorName | None, processes: int, cluster: str) -> Executor:
    """Return the executor that the options mean; processes that were requested start at once."""
    if name is None and cluster:
        name = ExecutorName.dask
    patience = 0.0 if name or processes else executor.PATIENCE_SECONDS
    return Executor((name or ExecutorName.processes).value, processes, cluster, patience)


def usual() -> Executor:
    """Return the executor of a verb without these options."""
    name = os.environ.get(ENVIRONMENT)
    known = name in list(ExecutorName) and name != ExecutorName.dask
    return chosen(ExecutorName(name) if known else None, 0, "")


def with_executor(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb with the options, whose jobs are carried by what they name."""

    @functools.wraps(verb)
    def carried(
        *, executor: ExecutorName | None, processes: int, cluster: str, **rest: Any
    ) -> None:
        with executing(chosen(executor, processes, cluster)):
            verb(**rest)

    hints = get_type_hints(verb, include_extras=True)
    before = inspect.signature(verb)
    own = [one.replace(annotation=hints[one.name]) for one in before.parameters.values()]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _OPTIONS.items()
    ]
    carried.__signature__ = before.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    carried.__annotations__ = {**hints, **{name: kind for name, (kind, _) in _OPTIONS.items()}}
    return carried
