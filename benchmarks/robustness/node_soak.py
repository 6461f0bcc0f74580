"""Disturb a node beside an Orthanc in every way for a while; then each study has its results once.

    python -m benchmarks.robustness.node_soak [--studies 500] [--kills 50] [--restarts 5] [--record]

Needs Orthanc (Debian: orthanc, orthanc-dicomweb). A modality stores made-up films of `--size`
pixels a side, one a study. First, undisturbed, `--steady` films at once, which gives films per
second, and as many one by one, `--rate` a second, which gives the time from the receipt of a film
to its results in the archive. Then `--studies` films, while

    the node is ended by SIGKILL at `--kills` random moments, and started again at once
    Orthanc is restarted `--restarts` times
    the node's connections to Orthanc are refused for `--outage` seconds
    the node's disk is full once (a file system in memory where it may be mounted, else a limit on
    the size of files)

In the end every study must hold its film and exactly one set of results, and the journal must say
so. The memory of the node is sampled while it is undisturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks._lib.orthanc import Orthanc, free_port, is_there, store
from benchmarks._lib.processes import resident_bytes
from benchmarks._lib.results import machine, record
from hilum.imaging import synthetic
from hilum.imaging.synthetic.dicom_file import write_dicom
from hilum.node import overview, service, settings_file
from hilum.node.settings import Settings

WHOLE = ["DX", "OT", "SEG", "SR", "SR"]  # modalities of a study with its results
PHANTOMS = 8  # different made-up films; the others repeat them under other UIDs
FULL_SECONDS = 8.0  # how long the disk is full
DISK, RESERVE = 96 << 20, 16 << 20  # bytes of the disk in memory, and of it for results alone
PATIENCE = 900.0  # seconds for the rest, when nothing disturbs any more
ROOT = "1.2.826.0.1.3680043.10.1"


class Proxy:
    """Passes on connections to a port of loopback, until it is to refuse them."""

    def __init__(self, to: int) -> None:
        self.to, self.port, self._open = to, free_port(), True
        self._pairs: list[socket.socket] = []
        self._listen()

    def _listen(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._socket,), daemon=True).start()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                one, _ = listening.accept()
                try:
                    other = socket.create_connection(("127.0.0.1", self.to), timeout=5)
                except OSError:
                    one.close()
                    continue
                other.settimeout(None)
                self._pairs += [one, other]
                for a, b in ((one, other), (other, one)):
                    threading.Thread(target=self._pass_on, args=(a, b), daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                to.sendall(data)
        for one in (source, to):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def refuse(self, seconds: float) -> None:
        """Refuse connections, and cut those that are open, for some seconds."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for one in self._pairs:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()
        time.sleep(seconds)
        self._listen()


class Process:
    """The node as a process of its own, which is started again when it was ended."""

    def __init__(self, settings: Path) -> None:
        self.settings, self.log = settings, settings.with_suffix(".log")
        self.process: subprocess.Popen | None = None
        self.lives = 0

    def start(self, largest_file: int | None = None) -> None:
        """Start it; with `largest_file`, unable to write larger files."""

        def limit() -> None:
            """Bound the size of files of the process."""
            if largest_file:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hilum", "node", "run", self.settings],
                stdout=subprocess.DEVNULL,
                stderr=log,
                preexec_fn=limit,
            )
        self.lives += 1

    def end(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait; return the exit status."""
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(60)

    def resident(self) -> int:
        """Return its memory in bytes."""
        assert self.process
        return resident_bytes(self.process.pid)

    def processor(self) -> float:
        """Return the seconds of processor time that it has used."""
        assert self.process
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def seconds(self) -> list[float]:
        """Return the seconds from receipt to results of all films, by its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        sent = [line for line in lines if '"film sent"' in line]
        return [json.loads(line)["seconds"] for line in sent]


class Trial:
    """The archive, the node and the films of one soak."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size, self.sent = folder, size, 0
        self.archive = Orthanc(folder / "orthanc").start()
        self.pixels = [self._drawn(seed) for seed in range(PHANTOMS)]
        self.alive = threading.Event()
        self.alive.set()

    def _drawn(self, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        drawn = synthetic.draw(synthetic.anatomy(rng), rng, height=self.size, width=self.size)
        return drawn.pixels.astype(np.uint16) * 16

    def settings(self, name: str, url: str, state: Path, *, history: bool) -> Path:
        """Write a settings file of the node; with `history` it reads what the archive holds."""
        place = self.folder / f"{name}.toml"
        place.write_text(
            f'[node]\nstate = "{state}"\n[source.orthanc]\nurl = "{url}"\npoll_seconds = 0.25\n'
            f"history = {str(history).lower()}\n[monitor]\nport = 0\n"
            f"[limits]\nfree_bytes = {RESERVE}\npending = 200\n"
            f"longest_retry_seconds = 5.0\nattempts = 12\n"
        )
        return place

    def film(self, prefix: str, number: int) -> tuple[Path, str]:
        """Write the film of a study; return it with its Study Instance UID."""
        study = f"{ROOT}.{prefix}.{number}"
        path = self.folder / f"{prefix}-{number}.dcm"
        write_dicom(
            path, self.pixels[number % PHANTOMS], study, f"{study}.1.1", PatientName="Doe^Jane",
            PatientID=f"P{number}", PatientAge="040Y", BodyPartExamined="CHEST",
        )  # fmt: skip
        return path, study

    def put(self, prefix: str, number: int) -> str:
        """Store a film as a modality does, again and again where the archive is down."""
        path, study = self.film(prefix, number)
        while True:
            try:
                store(self.archive.dicom, [path])
            except (OSError, RuntimeError):
                time.sleep(0.5)
            else:
                path.unlink()
                return study

    def whole(self, studies: list[str]) -> Counter[str]:
        """Count the studies by the modalities of their objects."""
        return Counter(",".join(self.archive.modalities(study)) for study in studies)


def steady(trial: Trial, count: int, rate: float) -> dict[str, float]:
    """Measure films per second, seconds to the results, and memory, undisturbed."""
    settings = trial.settings("steady", trial.archive.url, trial.folder / "steady", history=True)
    studies = [trial.put("1", number) for number in range(count)]
    time.sleep(trial.archive.stable_seconds + 3.0)  # all are stable, so that all begin at once
    node = Process(settings)
    node.start()
    read = settings_file.read(settings)
    until(lambda: films(read).get("sent", 0) > 0)
    first, used, memory = time.monotonic(), node.processor(), [node.resident()]
    begun = films(read)["sent"]
    until(lambda: films(read)["sent"] == count)
    per_second = (count - begun) / (time.monotonic() - first)
    processor = (node.processor() - used) / (count - begun)
    before = len(node.seconds())
    for number in range(count):
        at = time.monotonic()
        studies.append(trial.put("2", number))
        memory.append(node.resident())
        time.sleep(max(0.0, 1 / rate - (time.monotonic() - at)))
    until(lambda: films(read)["sent"] == 2 * count)
    seconds = node.seconds()[before:]
    memory.append(node.resident())
    node.end(signal.SIGTERM)
    assert set(trial.whole(studies)) == {",".join(WHOLE)}, trial.whole(studies)
    half = len(memory) // 2
    return {
        "films_per_second": per_second,
        "processor_seconds": processor,
        "p50": statistics.median(seconds),
        "p95": float(np.quantile(seconds, 0.95)),
        "memory_first": max(memory[:half]) / 2**20,
        "memory_last": max(memory[half:]) / 2**20,
    }


def films(settings: Settings) -> dict[str, int]:
    """Return the films by state; none before the node has begun."""
    with suppress(Exception):
        return overview.status(settings)["films"]
    return {}


def cursor(settings: Settings) -> str:
    """Return where the polling of a node has come to; "" before it has begun."""
    if not (settings.state / service.JOURNAL).is_file():
        return ""
    journal = service.journal_of(settings)
    found = journal.cursor("orthanc")
    journal.close()
    return found


def until(true, seconds: float = PATIENCE) -> None:
    """Wait until something holds."""
    ends = time.monotonic() + seconds
    while not true():
        if time.monotonic() > ends:
            raise TimeoutError("it never came true")
        time.sleep(0.25)


def disturbed(trial: Trial, of: argparse.Namespace, rng: random.Random) -> dict[str, object]:
    """Store films while everything goes wrong; return what came of it."""
    proxy = Proxy(trial.archive.http)
    disk = Disk(trial.folder / "disk")
    url = f"http://127.0.0.1:{proxy.port}"
    settings = trial.settings("soak", url, disk.folder / "state", history=False)
    node, studies, read = Process(settings), [], settings_file.read(settings)
    time.sleep(trial.archive.stable_seconds + 3.0)  # no study changes any more
    node.start()
    until(lambda: cursor(read))

    def feed() -> None:
        """Store the films, as fast as they are read when nothing disturbs."""
        for number in range(of.studies):
            studies.append(trial.put("3", number))
            time.sleep(rng.uniform(0.0, 2.0 / of.rate))

    feeding = threading.Thread(target=feed, daemon=True)
    feeding.start()
    events = ["kill"] * of.kills + ["restart"] * of.restarts + ["outage", "full"]
    rng.shuffle(events)
    pause = max(1.0, of.studies / of.rate / len(events))
    for event in events:
        time.sleep(rng.uniform(0.3, 1.7) * pause)
        if node.process and node.process.poll() is not None:
            raise RuntimeError(f"the node ended by itself: {node.log.read_text()[-2000:]}")
        if event == "kill":
            node.end()
            node.start()
        elif event == "restart":
            trial.archive.stop()
            trial.archive.start()
        elif event == "outage":
            proxy.refuse(of.outage)
        else:
            disk.fill(node)
    feeding.join()
    until(lambda: films(read).get("sent", 0) + films(read).get("dead", 0) >= of.studies)
    status = overview.status(read)
    ended = node.end(signal.SIGTERM)
    left = list((disk.folder / "state").rglob("*.dcm"))
    found = trial.whole(studies)
    disk.close()
    lines = node.log.read_text(errors="replace")
    return {
        "sets": dict(found), "films": status["films"], "failures": status["failures"],
        "left": len(left), "lives": node.lives, "exit": ended, "disk": disk.how,
        "private": len(re.findall("Doe|Jane|P\\d+\\b", lines)), "traceback": "Traceback" in lines,
    }  # fmt: skip


class Disk:
    """A disk for the node's state that can be full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", folder]
        done = subprocess.run(command, capture_output=True)
        self.mounted = done.returncode == 0
        self.how = "file system in memory" if self.mounted else "limit on the size of files"

    def fill(self, node: Process) -> None:
        """Let the disk be full for some seconds."""
        if not self.mounted:
            node.end()
            node.start(largest_file=1 << 15)
            time.sleep(FULL_SECONDS)
            node.end()
            node.start()
            return
        ballast = self.folder / "ballast"
        with open(ballast, "wb", buffering=0) as stream, suppress(OSError):
            while stream.write(bytes(1 << 16)):
                pass
        time.sleep(FULL_SECONDS)
        ballast.unlink()

    def close(self) -> None:
        """Let go of it."""
        if self.mounted:
            subprocess.run(["umount", self.folder], check=False)


def table(speed: dict[str, float], soak: dict[str, object], of: argparse.Namespace) -> str:
    """Format the figures."""
    good = soak["sets"].get(",".join(WHOLE), 0)
    return "\n".join(
        [
            machine("onnxruntime", "highdicom", "pydicom"),
            "",
            f"Made-up films of {of.size} x {of.size} pixels, one a study; Orthanc on the same "
            f"machine. Undisturbed, {2 * of.steady} films:",
            "",
            "| films per second, all at once | processor time for each | seconds to the results, "
            "median | 95 % | memory, first half | second half |",
            "| --: | --: | --: | --: | --: | --: |",
            f"| {speed['films_per_second']:.2f} | {speed['processor_seconds']:.2f} s | "
            f"{speed['p50']:.2f} | {speed['p95']:.2f} | {speed['memory_first']:.0f} MiB | "
            f"{speed['memory_last']:.0f} MiB |",
            "",
            f"Seconds are those from the receipt of a film to the archive's answer, at {of.rate:g} "
            f"films a second.",
            "",
            f"Disturbed: {of.studies} studies, {of.kills} times SIGKILL, {of.restarts} restarts of "
            f"Orthanc, connections refused for {of.outage:g} s, a full disk ({soak['disk']}) for "
            f"{FULL_SECONDS:g} s. Afterwards {good} of {of.studies} studies hold exactly one set "
            f"of results; by the journal {soak['films']['sent']} films were sent, "
            f"{soak['films']['dead']} are dead; {soak['left']} files of patients are left; "
            f"{soak['private']} words of a patient are in the log.",
        ]
    )


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--outage", type=float, default=60.0)
    parser.add_argument("--steady", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1.0, help="films a second, not all at once")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    of = parser.parse_args()
    if not is_there():
        raise SystemExit("Orthanc is not here: apt-get install orthanc orthanc-dicomweb")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        trial = Trial(Path(folder), of.size)
        try:
            speed = steady(trial, of.steady, of.rate)
            print(json.dumps(speed))
            soak = disturbed(trial, of, random.Random(of.seed))
            print(json.dumps(soak, indent=1))
        finally:
            trial.archive.stop(kill=True)
    text = table(speed, soak, of)
    print(text)
    good = soak["sets"] == {",".join(WHOLE): of.studies} and soak["films"]["sent"] == of.studies
    good = good and not soak["left"] and not soak["private"] and not soak["traceback"]
    if of.record:
        record("A node that is disturbed in every way", text)
    if not good:
        raise SystemExit("not every study has exactly one set of results, see above")


if __name__ == "__main__":
    main()
