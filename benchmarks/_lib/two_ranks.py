"""Trainings on two ranks of this machine, for benchmarks and tests.

The ranks are started, watched and once started again by what torchrun starts them by, and find the
same environment; they are forked, so that PyTorch is imported once and not five times. They talk by
gloo over the loopback device; on a machine without name lookup gloo would otherwise wait for ever.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "GLOO_SOCKET_IFNAME": "lo",
    "OPENCV_FOR_THREADS_NUM": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
}


def start(module: str, folder: Path, *arguments: str, limit: float, threads: int = 1) -> None:
    """Run a module with a folder and further arguments as a program, and wait until it ends.

    Each of its processes computes on so many threads. Raises `RuntimeError` with the end of what it
    said where it fails, and `subprocess.TimeoutExpired` where it takes more than `limit` seconds;
    neither leaves processes.
    """
    command = [sys.executable, "-m", module, str(folder), *arguments]
    environment = os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": str(threads)}
    with open(folder / "log", "w+b") as log:
        started = subprocess.Popen(command, env=environment, stderr=log, start_new_session=True)
        try:
            started.wait(limit)
        finally:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGKILL)
    if started.returncode:
        said = (folder / "log").read_text(errors="replace")[-3000:]
        raise RuntimeError(f"{module} ended with {started.returncode}: {said}")


def launch(work: Callable[[Path], object], folder: Path) -> None:
    """Call `work` with a folder as the command of two ranks: in rank 0, while rank 1 takes part."""
    # As optimizers do at their first use: once, not in every rank.
    import torch._dynamo  # noqa: F401  # pyright: ignore[reportUnusedImport]
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=1,
        monitor_interval=0.1,
        start_method="fork",
    )
    elastic_launch(config, _rank)(work, folder)


def kill_the_other(folder: Path) -> None:
    """Kill rank 1, called in rank 0; not once the ranks were started again."""
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(int(_process(folder, "1").read_text()), signal.SIGKILL)


def _rank(work: Callable[[Path], object], folder: Path) -> None:
    from hilum.cli import torchrun

    _process(folder, os.environ["RANK"]).write_text(str(os.getpid()))
    torchrun.run(lambda: work(folder))


def _process(folder: Path, rank: str) -> Path:
    return folder / f"rank-{rank}.process"
