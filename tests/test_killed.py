"""A run survives being killed. It has a file of its own, as files are dealt out to the processors
whole and this one takes long.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

from conftest import hilum, made_by

from hilum.run_folder import Run

KILLS = 3


def test_killed_at_random_moments_it_finishes_with_the_digests_of_an_undisturbed_run(
    small_run, tmp_path
):
    """SIGKILL at moments drawn at random over the length of a run, each followed by the same
    command.
    """
    recipe = small_run.folder.parent / "recipe.toml"
    command = [sys.executable, "-m", "hilum", "run", str(recipe), "--out", str(tmp_path / "run")]
    moments = random.Random(time.time_ns())
    killed = 0
    for _ in range(KILLS):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            # Each goes on where the one before was killed, and so comes to the later steps. In its
            # first second it has but imported what it needs.
            child.wait(moments.uniform(0.9, 4))
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            killed += 1
        child.wait()
        if (tmp_path / "run" / "report.html").exists():
            shutil.rmtree(tmp_path / "run")  # it got through: kill it in its beginnings again
    last = hilum(*command[3:])
    assert killed > 0 and last.returncode == 0, last.stderr
    disturbed, undisturbed = made_by(Run(tmp_path / "run")), made_by(small_run)
    for step in ("ingest", "cache", "split", "predict", "evaluate"):
        assert disturbed[step] == undisturbed[step], step
    left = [
        path
        for path in (tmp_path / "run").rglob("*")
        if path.name.endswith((".part", ".checkpoint", ".sqlite", "-wal"))
    ]
    assert not left
