"""Kill workers, schedulers and the command itself at random moments; compare what is written.

    python -m benchmarks.robustness.killed_shards [--films 60] [--kills 20] [--record]

The command is `hilum lungs FILMS --out OUT`, once undisturbed with `--executor serial`. Then its
processes are killed (SIGKILL) one after another, each at a moment drawn over the length of an
undisturbed command: a worker process; the command, which is then given again; a worker of a Dask
cluster; the scheduler of the cluster, which is then started again, and the command given again
where it ended. Whenever a command ends by itself, all files of OUT, hidden ones included, must be
those of the undisturbed one to the byte, and the table must have each film once; then OUT is
removed and the killing goes on. A kill that met nothing, as between two commands, does not count.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks._lib.processes import children, words
from benchmarks._lib.results import machine, record
from benchmarks.speed.shards import make_films
from hilum import storage

VICTIMS = ("worker", "command", "dask worker", "scheduler")
LONGEST = 600  # seconds for one command
LATE = 60  # seconds after which a nanny without a worker is replaced


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, default=60)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="one of the victims")
    parser.add_argument("--port", type=int, default=18786, help="of the scheduler")
    parser.add_argument("--record", action="store_true")
    requested = parser.parse_args()
    lines, moments = [], random.Random(requested.seed)
    with tempfile.TemporaryDirectory(prefix="hilum-killed-shards-") as place:
        root = Path(place)
        make_films(root / "films", requested.films)
        begun = time.monotonic()
        command(root, "--executor", "serial").wait(LONGEST)
        seconds, whole = time.monotonic() - begun, digests(root / "out")
        shutil.rmtree(root / "out")
        for victim in VICTIMS if not requested.only else (requested.only,):
            trial = Trial(root, victim, seconds, whole, requested.films, moments, requested.port)
            trial.kill(requested.kills)
            lines.append(f"| {victim} | {trial.kills} | {trial.ended} | {trial.faults} |")
            print(lines[-1], flush=True)
    text = "\n".join(
        [
            f"`python -m benchmarks.robustness.killed_shards --films {requested.films} "
            f"--kills {requested.kills}` on {machine('onnxruntime', 'distributed')}.",
            "",
            "| killed | kills | commands that ended | with other files or films |",
            "| --- | --: | --: | --: |",
            *lines,
        ]
    )
    print(text)
    if requested.record:
        record("Shards whose workers, scheduler or command are killed", text)
    sys.exit(any(not line.endswith(" 0 |") for line in lines))


def command(root: Path, *options: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "hilum", "lungs", "films", "--out", "out", *options]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(words, cwd=root, stdout=quiet, stderr=quiet)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): storage.digest_of_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Cluster:
    """A scheduler and two workers, each under a nanny that starts it again."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.scheduler = self._started("scheduler", "--no-dashboard", "--port", str(port))
        self.nannies = [self._nanny() for _ in range(2)]
        self.seen = [time.monotonic()] * 2  # when each nanny had a worker, or was started

    def _nanny(self) -> subprocess.Popen[bytes]:
        return self._started(
            "worker", f"127.0.0.1:{self.port}", "--nthreads", "1", "--no-dashboard"
        )

    @staticmethod
    def _started(*words: str) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "distributed.cli.dask_" + words[0],
                *words[1:],
                "--host",
                "127.0.0.1",
            ],
            stdout=quiet,
            stderr=quiet,
        )

    def workers(self) -> list[int]:
        """Return the processes that do shards: a nanny starts one that tracks files, too.

        A nanny whose worker is killed before it is ready ends, or stays without one: another is
        started in its place.
        """
        found = []
        for place, nanny in enumerate(self.nannies):
            own = [pid for pid in children(nanny.pid) if "--multiprocessing-fork" in words(pid)]
            late = time.monotonic() - self.seen[place] > LATE
            if own:
                found += own
                self.seen[place] = time.monotonic()
            elif nanny.poll() is not None or late:
                nanny.kill()
                nanny.wait()
                self.nannies[place], self.seen[place] = self._nanny(), time.monotonic()
        return found

    def end(self) -> None:
        for process in (*self.nannies, self.scheduler):
            process.terminate()
        for process in (*self.nannies, self.scheduler):
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


class Trial:
    """Kills one kind of victim again and again."""

    def __init__(self, root, victim, seconds, whole, films, moments, port) -> None:
        self.root, self.victim, self.seconds, self.whole = root, victim, seconds, whole
        self.films, self.moments, self.port = films, moments, port
        self.kills = self.ended = self.faults = 0
        self.cluster: Cluster | None = None

    def kill(self, times: int) -> None:
        """Go on until so many kills met their victim, and the last command has ended."""
        with self._cluster():
            running = self._start()
            while self.kills < times:
                self._wait(running, self.moments.uniform(0, self.seconds))
                if running.poll() is None:
                    self._kill_one(running)
                    self._wait(running, 0.2)
                if running.poll() is not None:
                    self._compare(running)
                    running = self._start()
            running.wait(LONGEST)
            while running.returncode:
                running = self._start()
                running.wait(LONGEST)
            self._compare(running)

    def _start(self) -> subprocess.Popen[bytes]:
        if self.cluster is None:
            return command(self.root, "--executor", "processes")
        self.cluster.workers()  # replaces what is lost
        if self.cluster.scheduler.poll() is not None:
            self.cluster.end()
            self.cluster = Cluster(self.cluster.port)
        return command(self.root, "--cluster", f"tcp://127.0.0.1:{self.cluster.port}")

    def _kill_one(self, running: subprocess.Popen[bytes]) -> None:
        pids = {
            "worker": lambda: children(running.pid),
            "command": lambda: [running.pid],
            "dask worker": lambda: self.cluster.workers(),
            "scheduler": lambda: [self.cluster.scheduler.pid],
        }[self.victim]()
        with suppress(ProcessLookupError):  # it ended by itself
            for pid in pids and [self.moments.choice(pids)]:
                os.kill(pid, signal.SIGKILL)
                self.kills += 1
        if self.victim == "scheduler":
            self.cluster.scheduler.wait()
            self._wait(running, LATE * 2)
            if running.poll() is None:  # it waits for a scheduler that is gone
                self.faults += 1
                running.kill()
                running.wait()

    def _wait(self, running: subprocess.Popen[bytes], seconds: float) -> None:
        with suppress(subprocess.TimeoutExpired):
            running.wait(seconds)

    def _compare(self, running: subprocess.Popen[bytes]) -> None:
        """Compare the files of a command that ended by itself, and remove them."""
        if running.returncode != 0:
            return
        self.ended += 1
        with open(self.root / "out" / "lungs.csv", newline="") as stream:
            names = [row["name"] for row in csv.DictReader(stream)]
        whole = digests(self.root / "out") == self.whole
        self.faults += not (whole and len(names) == len({*names}) == self.films)
        shutil.rmtree(self.root / "out")

    @contextmanager
    def _cluster(self) -> Iterator[None]:
        if self.victim in ("dask worker", "scheduler"):
            self.cluster = Cluster(self.port)
        try:
            yield
        finally:
            if self.cluster is not None:
                self.cluster.end()


if __name__ == "__main__":
    main()
