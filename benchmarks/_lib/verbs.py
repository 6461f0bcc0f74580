"""Run every verb that writes on made-up data, seconds each, for benchmarks that disturb them.

A `Case` is a command, the folder it starts from and the folder it writes. `Stage` prepares the
starting folders once and lays one out again, with its times, for each trial: always at the same
place, as runs note where their data lie. Commands run in a forked process in which everything is
imported already, so that a disturbance meets the work and not the imports.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks._lib.small_job import RECIPE

STEPS = (
    "ingest",
    "cache",
    "audit",
    "split",
    "segment",
    "crop",
    "train",
    "predict",
    "evaluate",
    "report",
)
FORMS = ("coco", "imagefolder", "csv_tables", "torchxrayvision")
LEFT_OUT = {
    "download": "it needs a network; tests/test_fetch.py interrupts it",
    "compare, labels, describe, datasets": "they write nothing",
}


@dataclass(frozen=True)
class Case:
    name: str
    start: str  # the prepared folder
    command: tuple[str, ...]


@dataclass(frozen=True)
class Ended:
    code: int  # minus the signal where one ended it
    seconds: float
    said: str  # on standard error


def cases() -> list[Case]:
    steps = [Case(step, f"before-{step}", (step, "recipe.toml", "--out", "run")) for step in STEPS]
    exports = [Case(f"export {form}", "done", ("export", form, "run", "out")) for form in FORMS]
    return [
        *steps,
        Case("run", "nothing", ("run", "recipe.toml", "--out", "run")),
        Case("synthesize", "nothing", ("synthesize", "kaggle_masks", "out", "--images", "8")),
        Case("audit of several", "nothing", ("audit", "../data", "../other", "--out", "audits")),
        Case("merge", "nothing", ("merge", "../data", "../other", "--out", "both")),
        Case(
            "propose-fixes",
            "done",
            ("propose-fixes", "run", "--rule", "mask-missing", "--out", "fixes.toml"),
        ),
        Case("datacard", "done", ("datacard", "run", "--images")),
        Case("shortcuts", "done", ("shortcuts", "run")),
        Case("explain", "done", ("explain", "run")),
        Case("explain IMAGE", "done", ("explain", "run", "../few", "--out", "out")),
        Case("apply", "done", ("apply", "run", "../few", "--out", "out")),
        Case("lungs", "nothing", ("lungs", "../few", "--out", "out")),
        Case("classify", "nothing", ("classify", "../few", "--out", "out")),
        Case("inspect", "nothing", ("inspect", "../few", "--out", "out")),
        *exports,
        Case("cross-evaluate", "two", ("cross-evaluate", "run", "second", "--out", "out")),
        Case("verify-cache", "done", ("verify-cache", "run")),
        Case("reproduce", "done", ("reproduce", "run", "--images", "4")),
    ]


class Stage:
    """Hold data, prepared folders and the one place `here` where commands work, below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.here, self._starts = folder, folder / "here", folder / "starts"

    def prepare(self, images: int = 40) -> None:
        """Make the data and a starting folder before each step, and two finished runs."""
        self.here.mkdir(parents=True)
        self._do("synthesize", "kaggle_masks", "../data", "--images", str(images), "--seed", "5")
        self._do("synthesize", "kaggle_masks", "../more", "--images", str(images), "--seed", "6")
        self._do("synthesize", "folder", "../other", "--images", "12")
        (self.folder / "few").mkdir()
        for image in sorted((self.folder / "data/CXR_png").iterdir())[:4]:
            shutil.copy2(image, self.folder / "few")
        for name, data in (("recipe", "data"), ("second", "more")):
            recipe = RECIPE.replace('"data"', f'"{self.folder / data}"')
            (self.here / f"{name}.toml").write_text(recipe)
        self._keep("nothing")
        for step in STEPS:
            self._keep(f"before-{step}")
            self._do(step, "recipe.toml", "--out", "run")
        self._keep("done")
        self._do("run", "second.toml", "--out", "second")
        self._keep("two")

    def _do(self, *command: str) -> None:
        ended = run(command, self.here)
        if ended.code:
            raise SystemExit(f"hilum {' '.join(command)} ended with {ended.code}:\n{ended.said}")

    def _keep(self, name: str) -> None:
        self._starts.mkdir(exist_ok=True)
        _copy(self.here, self._starts / name)

    def lay_out(self, start: str) -> None:
        shutil.rmtree(self.here, ignore_errors=True)
        _copy(self._starts / start, self.here)

    def start_files(self, start: str) -> dict[str, str]:
        return digests(self._starts / start)


def _copy(source: Path, target: Path) -> None:
    """Copy a tree with its times, which say what is new to a cache."""
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder but locks, by place."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def run(
    command: Sequence[str],
    here: Path,
    *,
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
    kill: tuple[int, float] | None = None,
) -> Ended:
    """Run `hilum COMMAND` in `here`, in a forked process.

    There `before` is called first, and `after` last; `kill` is a signal and after how many seconds
    it is sent.
    """
    errors = here.parent / "errors.txt"
    began = time.monotonic()
    child = os.fork()
    if not child:
        _child(command, here, errors, before, after)
    signalled = kill is None
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        seconds = time.monotonic() - began
        if ended:
            return Ended(os.waitstatus_to_exitcode(status), seconds, errors.read_text())
        if not signalled and seconds >= kill[1]:
            os.kill(child, kill[0])
            signalled = True
        if seconds > 300:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


def _child(command, here, errors, before, after) -> None:
    code = 99
    try:
        # Of a job in the background Ctrl-C is ignored, and so would it be here.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(here)
        null = os.open(os.devnull, os.O_RDWR)
        reported = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor, target in ((null, 0), (null, 1), (reported, 2)):
            os.dup2(descriptor, target)
        sys.argv = ["hilum", *command]
        # Each run draws a key for its pseudonyms; files of two runs can be compared with one key.
        secrets.token_bytes = bytes
        before()
        from hilum import __main__

        try:
            __main__.main()
        except SystemExit as requested:
            code = requested.code or 0
        after()
    finally:
        sys.stderr.flush()
        os._exit(code)


def import_all() -> None:
    """Import what the commands need. Nothing is computed: threads would not outlive a fork."""
    import importlib

    for name in (
        "hilum.cli",
        "hilum.runs.run_all",
        "hilum.runs.predict_images",
        "hilum.runs.explain_images",
        "hilum.imaging.describe",
        "hilum.runs.cross_evaluate",
        "hilum.runs.reproduce",
        "hilum.runs.export",
        "hilum.reporting.data_card",
        "hilum.pipeline.shortcuts",
        "hilum.runs.propose_corrections",
        "onnxruntime",
        "cv2",
        "imagecodecs",
        "rich.progress",
        "hilum.training.onnx_export",
        "hilum.training.training_loop",
        "hilum.training.models.unet",
        "hilum.training.models.efficientnet_lite0",
        "hilum.training.models.padim",
    ):
        importlib.import_module(name)
