"""Nothing is written outside the output and TMPDIR, and nothing is looked up: every verb, in an
empty home folder.

Python's audit hooks see each file that Python opens, makes or removes and each address that it asks
for; what native code leaves is seen on the disk afterwards.
benchmarks/robustness/no_side_effects.py watches the system calls.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.robustness import no_side_effects
from hilum.cli.verbs import app
from hilum.dataset.manifest import Manifest
from hilum.dataset.readers import montgomery

WATCHED = """
import json, os, sys
seen, commands = [], json.loads(sys.argv[1])
LOOKED_UP = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request")
MADE = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")
def watch(event, arguments):
    if event in LOOKED_UP:
        seen.append([event, repr(arguments)])
        raise OSError("there is no network")
    if event in MADE and not isinstance(arguments[0], int):  # a descriptor was opened before
        seen.append([event, os.path.abspath(os.fsdecode(arguments[0]))])
    if event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        seen.append([event, os.path.abspath(os.fsdecode(arguments[0]))])
sys.addaudithook(watch)
import hilum
from typer.testing import CliRunner
from hilum.cli.verbs import app
codes = []
for command in commands:
    done = CliRunner().invoke(app, command)
    codes.append([command, done.exit_code, done.output[-300:] + repr(done.exception)])
print(json.dumps({"seen": seen, "codes": codes}))
"""


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted(folder.rglob("*"))
    }


def test_every_verb_writes_to_its_output_alone_and_resolves_nothing(small_run, tmp_path):
    data, out = Manifest.read(small_run.folder).root, tmp_path / "out"
    places = {name: tmp_path / name for name in ("home", "tmp", "cwd")}
    for place in (*places.values(), out):
        place.mkdir()
    shutil.copytree(small_run.folder, out / "run")
    montgomery.example(out / "other", images=8, seed=6)
    shutil.copytree(small_run.folder, out / "twin")
    commands = no_side_effects.commands(data, out / "run", out)
    verbs = {
        command.name or command.callback.__name__.replace("_", "-")
        for command in app.registered_commands
    }
    assert verbs - {command[0] for command in commands} == {no_side_effects.FETCH}, (
        "each verb is watched"
    )
    before = listing(data)
    environment = {
        name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"
    }
    environment |= {
        "HOME": str(places["home"]),
        "TMPDIR": str(places["tmp"]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    program = [sys.executable, "-c", WATCHED, json.dumps(commands)]
    done = subprocess.run(
        program, env=environment, cwd=places["cwd"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout.splitlines()[-1])
    assert not [one for one in reported["codes"] if one[1] != 0]
    allowed = (str(out), str(places["tmp"]), "/dev/")
    assert not [one for one in reported["seen"] if not one[1].startswith(allowed)]
    assert listing(data) == before and not listing(places["home"]) and not listing(places["cwd"])


@pytest.mark.parametrize("said", [None, "0"])
def test_importing_hilum_keeps_onnx_runtime_silent_unless_the_user_says_otherwise(said):
    environment = {
        name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"
    }
    program = "import hilum, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment |= {} if said is None else {"ORT_DISABLE_TELEMETRY": said}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == (said or "1")
