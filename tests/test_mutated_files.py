"""Damaged files are read or refused by name, and read alike whatever memory held before: three
hundred of those that benchmarks/robustness/damaged_images.py makes, always the same.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_three_hundred_damaged_files_are_read_or_refused_by_name():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.robustness.damaged_images",
            "--files",
            "300",
            "--seed",
            "1",
            "--json",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    assert reported["faults"] == []
    kinds = {
        kind: {
            key.split()[1]: number
            for key, number in reported["counts"].items()
            if key.startswith(kind)
        }
        for kind in ("png", "jpg", "tif", "dcm", "bmp", "gif")
    }
    assert sum(sum(counts.values()) for counts in kinds.values()) == 300
    # damage that is always seen, or never, would not try the decoders
    assert all(counts["read"] > 0 and counts["refused"] > 0 for counts in kinds.values()), kinds


def test_two_hundred_damaged_tables_settings_and_annotations_are_read_or_refused_by_name():
    kinds = ("csv", "xlsx", "parquet", "json", "coco", "supervisely", "settings")
    command = [
        sys.executable,
        "-m",
        "benchmarks.robustness.damaged_texts",
        "--files",
        "200",
        "--seed",
        "1",
        "--json",
        "--kind",
        ",".join(kinds),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout)
    assert counted["faults"] == []
    assert sum(counted["counts"].values()) == 200
    assert {name.split()[0] for name in counted["counts"]} == set(kinds)
