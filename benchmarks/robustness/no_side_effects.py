"""Run every verb of Hilum in an empty home folder under strace, and list what it writes or
resolves.

    python -m benchmarks.robustness.no_side_effects --work WORK [--record]

Each verb is a process of its own, and so is each of its training steps. What may be written to is
the verb's own output and TMPDIR; nothing is connected to. `hilum download`, whose purpose it is to
connect, is left out. tests/test_no_side_effects.py runs the same commands in one
process.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks._lib.results import machine, record
from benchmarks._lib.small_job import small_job
from hilum.dataset.readers import montgomery
from hilum.node import service, settings_file

FETCH = "download"
NODE = """
[node]
state = "node"
[source.orthanc]
url = "http://127.0.0.1:8042"
"""
_CALLS = (
    "openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,symlink,"
    "symlinkat,link,linkat,truncate,connect,sendto"
)
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
_HARMLESS = ("/dev/", "/proc/")
_LOCAL = ("AF_UNIX",)  # the name service of this machine, which gives the user's name


def commands(data: Path, run: Path, out: Path) -> list[list[str]]:
    """Return one command line for each verb but `fetch`.

    `run` is a run of `data`, `out` holds another, `twin`, and another data set, `other`. The state
    of a node that has received nothing is made there.
    """
    (out / "node.toml").write_text(NODE)
    service.journal_of(settings_file.read(out / "node.toml")).close()
    image = str(next((data / "CXR_png").glob("*.png")))
    key = ("--key", str(out / "keys" / "site.key"))
    steps = (
        "ingest",
        "cache",
        "audit",
        "split",
        "segment",
        "crop",
        "train",
        "predict",
        "evaluate",
    )
    return [
        *([step, str(run)] for step in (*steps, "report", "run")),
        ["verify-cache", str(run), "--files"],
        ["apply", str(run), image, "--out", str(out / "apply")],
        ["inspect", image, "--out", str(out / "inspect.png")],
        ["lungs", image, "--out", str(out / "lungs")],
        ["classify", image, "--out", str(out / "classify")],
        [
            *("calibrate", "tuberculosis", str(data), "--out", str(out / "site.json")),
            *("--max-false-positives", "0.4", "--confidence", "0.8"),  # 40 images promise little
        ],
        ["models"],
        ["compare", str(run), str(run)],
        ["reproduce", str(run), "--images", "2"],
        ["shortcuts", str(run)],
        ["explain", str(run), image, "--out", str(out / "explain")],
        ["cross-evaluate", str(run), str(out / "twin"), "--out", str(out / "matrix")],
        ["labels", str(data)],
        ["describe", str(data)],
        ["films", str(data)],
        ["node", "status", str(out / "node.toml")],
        ["merge", str(data), str(out / "other"), "--out", str(out / "merged")],
        ["export", "coco", str(run), str(out / "coco")],
        ["propose-fixes", str(run), "--rule", "duplicate-file", "--out", str(out / "fixes.toml")],
        ["annotations", "import", str(out / "fixes.toml"), str(out / "twin"), "--author", "Ann"],
        ["annotations", "verify", str(out / "twin")],
        ["serve", str(run), "--prepare"],
        ["datacard", str(data), "--out", str(run)],
        ["synthesize", "folder", str(out / "example"), "--images", "4"],
        ["synthesize", "unidata", str(out / "dicom"), "--images", "4"],
        ["deidentify", str(out / "dicom"), str(out / "anonymous"), *key],
        ["reidentify", "--among", str(next(data.rglob("*.txt"))), *key],
        ["datasets"],
        ["config"],
    ]


def touched(trace: str) -> Iterator[str]:
    """Yield the paths that a trace of strace shows as written, made or removed, and the
    addresses.
    """
    for line in trace.splitlines():
        call = line.split("(", 1)[0].split()[-1]
        if " = -1 " in line:
            continue
        if call in ("connect", "sendto"):
            if "sa_family" in line and not any(name in line for name in _LOCAL):
                yield f"network: {line}"
        elif not call.startswith("open") or re.search(r"O_WRONLY|O_RDWR|O_CREAT", line):
            yield from (path for path in _PATH.findall(line)[-1:] if not path.startswith(_HARMLESS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--record", action="store_true", help="write the page of results")
    arguments = parser.parse_args()
    if not shutil.which("strace"):
        sys.exit("strace is not installed; install it with: apt-get install strace")
    work = arguments.work.resolve()
    for name in ("home", "tmp", "out", "cwd"):
        (work / name).mkdir(parents=True)
    small_job(work)
    montgomery.example(work / "out/other", images=8, seed=6)
    run, out = work / "out/run", work / "out"
    allowed = (str(out), str(work / "tmp"))
    environment = {
        name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"
    }
    environment |= {
        "HOME": str(work / "home"),
        "TMPDIR": str(work / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    rows, first = (
        [],
        [["run", str(work / "recipe.toml"), "--out", str(one)] for one in (run, out / "twin")],
    )
    for command in (*first, *commands(work / "data", run, out)):
        traced = [
            "strace",
            "-f",
            "-qq",
            "-o",
            str(work / "trace"),
            "-e",
            f"trace={_CALLS}",
            "-e",
            "signal=none",
        ]
        done = subprocess.run(
            [*traced, sys.executable, "-m", "hilum", *command],
            env=environment,
            cwd=work / "cwd",
            capture_output=True,
            text=True,
        )
        found = sorted(
            {path for path in touched((work / "trace").read_text()) if not path.startswith(allowed)}
        )
        rows.append(
            f"| `{' '.join(command[:2]).replace(str(work) + '/', '')}` | {done.returncode} |"
            f" {len(found)} |"
        )
        print(
            rows[-1],
            *found[:5],
            *([done.stderr[-500:]] if done.returncode > 1 else []),
            sep="\n  ",
            flush=True,
        )
    left = [str(path.relative_to(work)) for path in (work / "home").rglob("*")]
    print("left in the home folder:", left)
    if arguments.record:
        head = (
            "| verb | exit code | paths written outside the output and TMPDIR, addresses |\n| --- |"
            " --- | --- |"
        )
        reported = (
            "`python -m benchmarks.robustness.no_side_effects --work WORK` on"
            f" {machine('onnxruntime', 'torch', 'polars')}.\n\n{head}\n"
        )
        record(
            "No side effects",
            reported + "\n".join(rows) + f"\n\nLeft in the home folder: {len(left)} files.",
        )


if __name__ == "__main__":
    main()
