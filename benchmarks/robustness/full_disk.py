"""Fill the disk at every single write of every verb; then run the same command on a disk with room.

    python -m benchmarks.robustness.full_disk [--most 40] [--only NAME] [--record]

First a verb's calls that write are counted: opening to write, writing, forcing to the disk, making
folders, renaming. Then, for each of them (for `--most` of them drawn at random, where there are
more), the verb runs with that call refused, every second time with all later ones refused too, as
on a disk that stays full. It must end with code 1 and one sentence that the disk is full; no file
stands half written under its name; and the same command, given again, ends with the files of an
undisturbed run, to the byte.
"""

from __future__ import annotations

import argparse
import builtins
import errno
import io
import os
import random
import sys
import tempfile
import threading
from pathlib import Path

from benchmarks._lib import verbs
from benchmarks._lib.results import machine, record

# Files that grow where they stand, which what reads them knows, and tables of what is done so far.
GROWING = (".part", ".checkpoint", ".jsonl", ".u8", ".u16", ".lock")
SO_FAR = ("inspect.csv", "lungs.csv", "classify.csv", "apply.csv", "explain.csv")


class Disk:
    """Count the calls that write below `folder`, and refuse the one with number
    `refused`.
    """

    def __init__(self, folder: Path, refused: int = 0, *, lasting: bool = False) -> None:
        self.folder, self.refused, self.lasting = str(folder), refused, lasting
        self.calls, self._lock, self._open = 0, threading.Lock(), builtins.open

    def call(self, place: object) -> None:
        if isinstance(place, int):
            place = os.readlink(f"/proc/self/fd/{place}")
        place = os.path.abspath(os.fsdecode(place))
        if not place.startswith(self.folder + os.sep) or place.endswith("errors.txt"):
            return
        with self._lock:
            self.calls += 1
            here = self.calls
        if here == self.refused or (self.lasting and here > self.refused > 0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)

    def install(self) -> None:
        """Put counting in the place of all by which Python writes files."""
        builtins.open = io.open = self.open
        os.open = self._at_opening(os.open)
        os.mkdir = self._new(os.mkdir)
        for name in ("write", "pwrite", "fsync", "ftruncate", "sendfile"):
            setattr(os, name, self._first(getattr(os, name)))
        for name in ("replace", "rename", "link", "symlink"):
            setattr(os, name, self._second(getattr(os, name)))

    def open(
        self,
        file,
        mode="r",
        buffering=-1,
        encoding=None,
        errors=None,
        newline=None,
        closefd=True,
        opener=None,
    ):
        if not set(mode) & set("wax+") or isinstance(file, int):
            return self._open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if set(mode) & set("wx") or not os.path.exists(file):
            self.call(file)
        raw = _Counted(self, file, mode.replace("b", "").replace("t", ""))
        if "b" in mode and buffering == 0:
            return raw
        stream = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding, errors, newline)

    def _at_opening(self, real):
        def opening(path, flags, *rest, **more):
            if flags & os.O_CREAT and not os.path.exists(path):
                self.call(path)
            return real(path, flags, *rest, **more)

        return opening

    def _new(self, real):
        def making(place, *rest, **more):
            if not os.path.exists(place):  # else the call is refused anyway
                self.call(place)
            return real(place, *rest, **more)

        return making

    def _first(self, real):
        def counted(place, *rest, **more):
            self.call(place)
            return real(place, *rest, **more)

        return counted

    def _second(self, real):
        def counted(source, target, **more):
            self.call(target)
            return real(source, target, **more)

        return counted


class _Counted(io.FileIO):
    def __init__(self, disk: Disk, file, mode: str) -> None:
        super().__init__(file, mode)
        self._disk = disk

    def write(self, data):
        self._disk.call(self.name)
        return super().write(data)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--most", type=int, default=10**9, help="calls tried of a verb")
    options.add_argument("--only", default="", help="the verbs whose name begins so")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--record", action="store_true")
    requested = options.parse_args()
    verbs.import_all()
    faults: list[str] = []
    reported = ["| command | calls that write | tried | faults |", "| --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory(prefix="hilum-full-") as folder:
        stage = verbs.Stage(Path(folder))
        stage.prepare()
        for case in verbs.cases():
            if not case.name.startswith(requested.only):
                continue
            calls, tried, wrong = every_call(
                stage, case, requested.most, random.Random(requested.seed)
            )
            faults += wrong
            reported.append(f"| {case.name} | {calls} | {tried} | {len(wrong)} |")
            print(reported[-1], *wrong, sep="\n", file=sys.stderr, flush=True)
    text = "\n".join([*reported, "", f"{len(faults)} faults.", *(f"- {fault}" for fault in faults)])
    print(text)
    if requested.record:
        title = "A full disk at each write"
        record(
            title,
            "`python -m benchmarks.robustness.full_disk --record`;"
            f" {machine('hilum', 'torch')}\n\n{text}",
        )
    sys.exit(bool(faults))


def every_call(stage, case, most: int, drawn: random.Random) -> tuple[int, int, list[str]]:
    """Return how many calls of a verb write, how many were refused in turn, and what was wrong."""
    stage.lay_out(case.start)
    disk, count = Disk(stage.here), stage.folder / "count"
    whole = verbs.run(
        case.command,
        stage.here,
        before=disk.install,
        after=lambda: count.write_text(str(disk.calls)),
    )
    if whole.code not in (0, 1) or "unforeseen" in whole.said:
        raise SystemExit(f"{case.name} ended with {whole.code}: {whole.said}")
    calls, files = int(count.read_text()), verbs.digests(stage.here)
    tried = sorted(drawn.sample(range(1, calls + 1), min(most, calls)))
    faults = [
        f"{case.name}, call {number}: {fault}"
        for number in tried
        if (fault := refused(stage, case, number, whole.code, files))
    ]
    return calls, len(tried), faults


def refused(stage, case, number: int, code: int, files: dict[str, str]) -> str:
    """Return what is wrong when the call of this number is refused; "" where nothing is."""
    stage.lay_out(case.start)
    before = verbs.digests(stage.here)
    disk = Disk(stage.here, number, lasting=number % 2 == 0)
    ended = verbs.run(case.command, stage.here, before=disk.install)
    lines = [line for line in ended.said.splitlines() if line.startswith("hilum:")]
    if (
        ended.code != 1
        or "Traceback" in ended.said
        or "the disk is full" not in "".join(lines[-1:])
    ):
        return f"code {ended.code}, said {ended.said[-400:]!r}"
    left = verbs.digests(stage.here)
    half = [
        name
        for name, digest in left.items()
        if digest not in (files.get(name), before.get(name)) and not _may_grow(name)
    ]
    if half:
        return f"half written: {', '.join(half)}"
    again = verbs.run(case.command, stage.here)
    if again.code != code:
        return f"again: code {again.code}, said {again.said[-400:]!r}"
    now = verbs.digests(stage.here)
    other = sorted(name for name in files.keys() | now.keys() if files.get(name) != now.get(name))
    return f"other files: {', '.join(other[:6])}" if other else ""


def _may_grow(name: str) -> bool:
    hidden = any(part.startswith(".") and part.endswith(".part") for part in Path(name).parts)
    return hidden or name.endswith(GROWING) or Path(name).name in SO_FAR


if __name__ == "__main__":
    main()
