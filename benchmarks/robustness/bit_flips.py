"""Flip single bits in every file of a run, and check that each is found before it is used.

    python -m benchmarks.robustness.bit_flips
    python -m benchmarks.robustness.bit_flips --flips 40 --seed 1

Makes a small run of made-up radiographs, then flips one bit at a time, drawn evenly over the files
and within a file over its bits, and calls `hilum run RUN`, `hilum apply RUN IMAGE` and `hilum
reproduce RUN`, each on the damaged run in a process of its own. What a verb did is

    found      it refused, naming the file, or (`run`) said so, made it again, and ended with the
               digests of the intact run. A changed recipe.toml may be a person's wish: `run` says
               which setting was changed and goes on by it
    not used   it never opened the file for reading, as an audit hook of Python saw, and ended as
               on the intact run. Code that is not Python's (ONNX Runtime) opens models only behind
               `Run.file`, which reads them first
    missed     anything else
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch  # once, before processes are forked; nothing is computed with it here

from benchmarks._lib.results import machine, record
from benchmarks._lib.small_job import small_job
from hilum.cli.verbs import app
from hilum.run_folder import RECIPE, Run
from hilum.runs.run_all import STEPS

VERBS = ("run", "apply", "reproduce")
FOUND, UNUSED, MISSED = "found", "not used", "missed"


@dataclass(frozen=True)
class Outcome:
    """Hold how a verb ended: exit code, what it printed, and files that Python opened
    for reading.
    """

    code: int
    said: str
    opened: Sequence[str]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        made = called(["run", small_job(place), "--out", place / "intact"])
        if made.code:
            sys.exit(made.said)
        flips = drawn(place / "intact", arguments.flips, random.Random(arguments.seed))
        verdicts = [(file, tried(place, file, bit)) for file, bit in shown(flips)]
    reported = table(verdicts)
    head = (
        f"Command: `python -m benchmarks.robustness.bit_flips --flips {arguments.flips} --seed"
        f" {arguments.seed}`"
    )
    reported = "\n".join(
        [head, f"Machine: {machine('polars', 'onnxruntime', 'torch')}", "", reported]
    )
    if arguments.flips >= 200:
        record("Flipped bits in a run", reported)
    print(reported)
    sys.exit(any(MISSED in verdict for _, each in verdicts for verdict in each.values()))


def drawn(run: Path, flips: int, rng: random.Random) -> list[tuple[str, int]]:
    """Draw files below the run, each in its turn, and a bit in each."""
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size]
    rng.shuffle(files)
    return [
        (str(file.relative_to(run)), rng.randrange(8 * file.stat().st_size))
        for number in range(flips)
        for file in [files[number % len(files)]]
    ]


def shown(flips: Sequence[tuple[str, int]]):
    """Yield the flips and print progress."""
    for number, flip in enumerate(flips, start=1):
        print(f"\r{number} of {len(flips)}: {flip[0]:60}", end="", file=sys.stderr, flush=True)
        yield flip
    print(file=sys.stderr)


def tried(place: Path, file: str, bit: int) -> dict[str, str]:
    """Return the verdict of each verb on a copy of the run with this bit flipped."""
    verdicts = {}
    for verb in VERBS:
        run = place / "run"
        shutil.copytree(place / "intact", run)
        flip(run / file, bit)
        ended = called(arguments(verb, place, run))
        verdicts[verb] = verdict(verb, ended, place / "intact", run, file)
        shutil.rmtree(run)
    return verdicts


def arguments(verb: str, place: Path, run: Path) -> list[object]:
    image = min((place / "data" / "CXR_png").glob("*.png"))
    return {
        "run": ["run", run],
        "apply": ["apply", run, image, "--json"],
        "reproduce": ["reproduce", run, "--images", "1"],
    }[verb]


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def called(words: Sequence[object]) -> Outcome:
    """Call the command line in a forked process."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with open(writing, "w") as stream:
            json.dump(in_this_process(list(map(str, words))), stream)
        os._exit(0)
    os.close(writing)
    with open(reading) as stream:
        reported = stream.read()
    os.waitpid(child, 0)
    return Outcome(*json.loads(reported)) if reported else Outcome(-1, "it died", [])


def in_this_process(words: list[str]) -> list:
    """Return the fields of an `Outcome`."""
    opened, said, code = set(), io.StringIO(), 0
    sys.addaudithook(watching(opened))
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = int(app(words, standalone_mode=False) or 0)
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException as error:  # noqa: BLE001 (whatever it is, the verb did not end well)
            code, _ = 1, said.write(f"{type(error).__name__}: {error}")
    return [code, said.getvalue(), sorted(opened)]


def watching(opened: set[str]) -> Callable[[str, tuple], None]:
    """Return an audit hook that collects what is opened for reading."""

    def hook(event: str, reported: tuple) -> None:
        if (
            event == "open"
            and isinstance(reported[0], str)
            and not (reported[2] or 0) & os.O_WRONLY
        ):
            opened.add(os.path.abspath(reported[0]))

    return hook


def verdict(verb: str, ended: Outcome, intact: Path, run: Path, file: str) -> str:
    named = Path(file).name in ended.said
    if ended.code:
        ends = "; a traceback" if ended.code and "Error: " in ended.said[:30] else ""
        return (FOUND if named else f"{MISSED}: refused without naming it") + ends
    if verb == "run" and named and "note:" in ended.said:
        same = made_by(run) == made_by(intact) or file == RECIPE
        return FOUND if same else f"{MISSED}: named, but the digests differ"
    if verb != "reproduce" and str(run / file) not in ended.opened:
        return UNUSED
    return f"{MISSED}: {ended.said.strip()[-200:]}"


def made_by(run: Path) -> dict[str, dict[str, str]]:
    return {step: Run(run).made(step) for step in STEPS}


def table(verdicts: Sequence[tuple[str, dict[str, str]]]) -> str:
    counts = {verb: Counter(each[verb].split(":")[0] for _, each in verdicts) for verb in VERBS}
    kinds = (FOUND, UNUSED, MISSED)
    rows = [
        f"| {verb} | " + " | ".join(str(counts[verb][kind]) for kind in kinds) + " |"
        for verb in VERBS
    ]
    unused = {
        verb: sorted({file for file, each in verdicts if each[verb] == UNUSED})
        for verb in VERBS[:2]
    }
    lines = [
        f"{len(verdicts)} single bits, one at a time, in {len({f for f, _ in verdicts})} files.",
        "",
    ]
    lines += ["| verb | found | not used | missed |", "| --- | --: | --: | --: |", *rows, ""]
    lines += [
        f"Never opened by {verb}: {', '.join(files) or 'none'}." for verb, files in unused.items()
    ]
    lines += [
        f"- {verb} on {file}: {said}"
        for file, each in verdicts
        for verb, said in each.items()
        if said.startswith(MISSED)
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
