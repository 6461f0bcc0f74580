"""Damage thousands of tables, settings, annotations, models and markers: each is read or refused by
name.

    python -m benchmarks.robustness.damaged_texts
    python -m benchmarks.robustness.damaged_texts --files 300 --seed 1 --kind csv --keep damaged

The files are made up here: CSV in several dialects, XLSX, Parquet, JSON and JSON lines, COCO,
Supervisely's and UniData's annotations, recipes, hilum.toml, corrections, ONNX models, and the
markers and manifest of a run. Bits are flipped, pieces cut, inserted and doubled; in text, values
are replaced by extreme ones; in XLSX, the damage is done to the parts before they are packed. File
`n` of seed `s` is always the same. They are read in a process of its own with 1.5 GiB more address
space than it began with. A fault is any error but a `HilumError`, a file that takes over 5 s of
processor time or more memory, and the end of the process. `--keep` puts such files into a folder.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks._lib import guarded
from benchmarks._lib.results import machine, record
from benchmarks._lib.text_files import damaged, manifests, sound
from benchmarks.robustness.damaged_images import MOST_SECONDS
from hilum import config
from hilum.annotations import shapes
from hilum.dataset import corrections, tables
from hilum.dataset import manifest as schema
from hilum.dataset.plan import settings
from hilum.dataset.readers import _supervisely
from hilum.errors import BadData, HilumError
from hilum.inference import onnx_model
from hilum.run_folder import Run
from hilum.safety import untrusted_files

MOST_BYTES = 3 << 29


def read_coco(path: Path) -> None:
    found = tables.read_coco(path)
    try:
        draw(found, path.name)
    except BadData as fault:
        raise BadData(f"{path.name}: {fault}") from fault


def draw(found: tables.Coco | None, name: str) -> None:
    for text in found.annotations["segmentation"] if found else ():
        drawn = untrusted_files.parse_json(text, name) if text else None
        if isinstance(drawn, dict):
            shapes.faults(shapes.RunLengths.from_coco(drawn), (20, 30))
        for ring in drawn if isinstance(drawn, list) else ():
            if isinstance(ring, list):
                shapes.faults(shapes.Polygon.from_coco(ring), (20, 30))


def read_annotation(path: Path) -> None:
    log = _supervisely.AnnotationLog(path.parent)
    found = _supervisely.read(path, log)
    log.settle(path.name, log.terms)  # which raises all faults
    for one in found.drawn if found else ():
        shapes.from_json(one.shape).to_mask((20, 30))


def read_settings(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        (Path(folder) / settings.FILE).write_bytes(path.read_bytes())
        settings.read(Path(folder))


def read_model(path: Path) -> None:
    found = onnx_model.OnnxModel(path)
    size = found.contract.size
    if isinstance(size, int) and 0 < size <= 1024:
        found.many(np.zeros((1, size, size), np.uint8))


def read_marker(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        run = Run(Path(folder))
        place = run._marker("split")
        place.parent.mkdir(parents=True)
        place.write_bytes(path.read_bytes())
        run.finished("split", {"recipe": {"a": 1}})
        run.made("split"), run.summary("split"), run.made_from("split")


def read_manifest(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        for name, data in manifests().items():
            (Path(folder) / name).write_bytes(data)
        (Path(folder) / path.name.partition("-")[2]).write_bytes(path.read_bytes())
        schema.Manifest.read(Path(folder)).check()


READERS: dict[str, Callable[[Path], object]] = {
    "csv": tables.read,
    "xlsx": tables.read,
    "parquet": tables.read,
    "json": tables.read,
    "coco": read_coco,
    "supervisely": read_annotation,
    "unidata": read_annotation,
    "recipe": config.Recipe.read,
    "settings": read_settings,
    "corrections": corrections.read,
    "onnx": read_model,
    "marker": read_marker,
    "manifest": read_manifest,
}

# How refusals call a file that is read under another name, or the folder that it stands in.
NAMED = {"settings": settings.FILE, "marker": "", "manifest": ""}


def verdict(path: Path) -> str:
    """Return "read", "refused", or what is wrong."""
    try:
        READERS[path.name.partition("-")[0]](path)
    except HilumError as refusal:
        named = Path(NAMED.get(path.name.partition("-")[0], path.name)).name
        return "refused" if named in str(refusal) else f"refused without {named}: {refusal}"
    except MemoryError:
        return f"more than {MOST_BYTES >> 20} MiB wanted"
    except BaseException as error:  # noqa: BLE001 - any other error is what is searched for
        place = traceback.extract_tb(error.__traceback__)[-1]
        inner = [f for f in traceback.extract_tb(error.__traceback__) if "hilum" in f.filename]
        where = f"{Path(inner[-1].filename).name}:{inner[-1].lineno}" if inner else place.name
        return f"{type(error).__name__} at {where}: {str(error)[:100]}"
    return "read"


def work(start: int, stop: int, seed: int, names: list[str]) -> None:
    """Print, in a process of its own, a line when a file is begun, and one with what
    became of it.
    """
    said = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is not ours
    with tempfile.TemporaryDirectory() as folder:
        for name in names:  # once, so that what is loaded only once is not counted
            (Path(folder) / name).write_bytes(sound()[name])
            if (became := verdict(Path(folder) / name)) != "read":
                print(json.dumps(["begun", start, name]), file=said)
                print(json.dumps([f"the sound file: {became}", 0.0, 0]), file=said)
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + MOST_BYTES, held + MOST_BYTES))
        for number in range(start, stop):
            name, data = damaged(number, seed, names)
            path = Path(folder) / name
            path.write_bytes(data)
            print(json.dumps(["begun", number, name]), file=said)
            begun = time.process_time()
            became = verdict(path)
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(json.dumps([became, time.process_time() - begun, used]), file=said)


def outcomes(count: int, seed: int, kind: str) -> Iterator[guarded.Outcome]:
    """Yield the outcome of each file."""

    def command(start: int) -> list[str]:
        return ["-m", __spec__.name, "--work", str(start), str(count), str(seed), kind]

    return guarded.outcomes(command, count, environment={"POLARS_MAX_THREADS": "1"})


def chosen(kind: str) -> list[str]:
    return [n for n in sound() if kind == "all" or n.partition("-")[0] in kind.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", default="all", help=f"some of {','.join(READERS)}")
    parser.add_argument("--keep", type=Path, help="put the files with faults into this folder")
    parser.add_argument("--json", action="store_true", help="print faults as JSON, record nothing")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        return work(*map(int, arguments.work[:3]), chosen(arguments.work[3]))
    names, counts, faults, slowest, most = chosen(arguments.kind), Counter(), [], 0.0, 0
    for number, name, became, seconds, used in outcomes(
        arguments.files, arguments.seed, arguments.kind
    ):
        slowest, most = max(slowest, seconds), max(most, used)
        fine = became in ("read", "refused") and seconds <= MOST_SECONDS
        counts[name.partition("-")[0], became if fine else "fault"] += 1
        if not fine:
            faults.append(f"{number} {name}: {became} ({seconds:.1f} s)")
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                kept = arguments.keep / f"{number:05d}_{name}"
                kept.write_bytes(damaged(number, arguments.seed, names)[1])
    if arguments.json:
        print(
            json.dumps(
                {
                    "counts": {" ".join(k): v for k, v in counts.items()},
                    "faults": faults,
                    "slowest": slowest,
                    "most": most,
                }
            )
        )
        return None
    page = written_page(arguments, counts, faults, slowest, most)
    record("Damaged tables, settings, annotations and models", page)
    print(page)
    return None


def written_page(
    arguments: argparse.Namespace, counts: Counter, faults: list[str], slowest: float, most: int
) -> str:
    rows = [
        f"| {kind} | {counts[kind, 'read']} | {counts[kind, 'refused']} | {counts[kind, 'fault']} |"
        for kind in sorted({kind for kind, _ in counts})
    ]
    return "\n".join(
        [
            (
                f"Command: `python -m benchmarks.robustness.damaged_texts --files {arguments.files}"
                f" --seed {arguments.seed} --kind {arguments.kind}`"
            ),
            f"Machine: {machine('polars', 'openpyxl', 'onnxruntime', 'numpy')}",
            "",
            (
                f"{arguments.files:,} files; the slowest took {slowest:.2f} s of processor time,"
                f" the reading process held at most {most / 2**20:.2f} GiB."
            ),
            "",
            "| kind | read | refused by name | faults |",
            "| --- | --: | --: | --: |",
            *rows,
            *(f"\n- {fault}" for fault in faults[:50]),
        ]
    )


if __name__ == "__main__":
    main()
