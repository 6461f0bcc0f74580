"""One small run of the whole job, made once and shared: tests that only read it take it
from here.
"""

from __future__ import annotations

import fcntl
import functools
import gc
import io
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import typer.main
import typer.testing

from benchmarks._lib.small_job import small_job
from hilum import __main__, storage
from hilum.annotations import lung_masks
from hilum.imaging import synthetic
from hilum.imaging.geometry import Letterbox
from hilum.imaging.radiograph import Radiograph, preprocess
from hilum.inference.onnx_model import TRAINING_LIST, InputContract
from hilum.run_folder import MARKERS, Run
from hilum.runs.run_all import STEPS
from hilum.storage import integrity

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # as the command line does, before PyTorch is loaded
if os.environ.get("PYTEST_XDIST_WORKER"):
    # There is a process for each core. PyTorch's threads of several would wait for one another, and
    # a small run take twice the processor's time. Commands in processes of their own inherit it.
    # NumPy, loaded above, takes it from `make test` alone.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")

os.environ.setdefault("HILUM_EXECUTOR", "serial")  # what is replaced in a test is so here alone
gc.set_threshold(__main__.COLLECTION_THRESHOLD)  # as the command line does

CERTAINTY = 4.0  # of the same model: so that its masks of phantoms are trusted
# Files are dealt out whole, in this order and then by name: one that takes long would keep a worker
# busy alone at the end. The first two need no `small_run`, for which a worker waits for another.
LONGEST_FIRST = (
    "test_cross_validation.py",
    "test_dicom_results.py",
    "test_browser_stories.py",
    "test_killed.py",
    "test_remote_folders.py",
    "test_models_lungs.py",
    "test_classifiers.py",
    "test_image_outputs.py",
    "test_left_out.py",
    "test_stored_things_are_checked.py",
    "test_reader_corrections.py",
    "test_docs.py",
    "test_scale_shards.py",
    "test_scale_steps.py",
    "test_serve_changes.py",
    "test_no_side_effects.py",
    "test_node_hostile.py",
    "test_distributed.py",
    "test_findings_models.py",
    "test_node.py",
    "test_unidata.py",
    "test_tables.py",
    "test_run.py",
    "test_shipped.py",
    "test_several_findings.py",
)
EVIDENCE = 20.0  # how much more darkness counts than place, for the lung model made by hand


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))  # stable


def hilum(*arguments: object, **options) -> subprocess.CompletedProcess:
    """The command line as a process has it: its own arguments, output and environment.

    It runs in this process, which saves a second of imports each time; with `options`, those of
    `subprocess.run`, in one of its own.
    """
    words = ["hilum", *map(str, arguments)]
    if options:
        return subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, timeout=300, **options
        )
    with _state_kept(), _output() as written:
        sys.argv = words
        try:
            __main__.main()
        except SystemExit as ended:
            code = ended.code
    return subprocess.CompletedProcess(words, code, *written)


@contextmanager
def _state_kept():
    """Put back what a command may change in its process: arguments, environment, collection."""
    environment, threshold = dict(os.environ), gc.get_threshold()
    arguments = sys.argv
    try:
        yield
    finally:
        sys.argv = arguments
        gc.set_threshold(*threshold)
        os.environ.clear()
        os.environ.update(environment)


@contextmanager
def _output():
    """Collect what is written to standard output and standard error, by native code too."""
    written: list[str] = []
    with ExitStack() as stack:
        for name, number in (("stdout", 1), ("stderr", 2)):
            file = stack.enter_context(tempfile.TemporaryFile())
            before = os.dup(number)
            os.dup2(file.fileno(), number)
            stream = io.TextIOWrapper(os.fdopen(os.dup(number), "wb"), "utf-8", write_through=True)
            shown = getattr(sys, name)
            setattr(sys, name, stream)

            def restore(name=name, number=number, file=file, before=before, shown=shown):
                getattr(sys, name).close()
                setattr(sys, name, shown)
                os.dup2(before, number)
                os.close(before)
                file.seek(0)
                written.insert(0, file.read().decode("utf-8", "surrogateescape"))

            stack.callback(restore)
        yield written


@pytest.fixture(scope="module", autouse=True)
def _long_lived_is_not_searched_for_garbage():
    """Leave what lives already out of each later collection: modules, and thousands of tests.

    Hilum's commands collect when they are done, which takes a third of a second with all of it.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _the_command_line_is_built_once():
    """Keep the tree of verbs and options, which a process builds once, for all calls in this one.

    Building it takes longer than most verbs do; what is parsed and said goes through it each time.
    """
    build = functools.cache(typer.main.get_command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", build)
        patch.setattr(typer.testing, "_get_command", build)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_flush():
    """Leave the disk's flushing to the system: only a power cut would show the difference.

    A flush waits for milliseconds, and the tests write tens of thousands of files. Those about a
    flush that fails put their own in its place.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(os, "sync", lambda: None)
        yield


def made_by(run: Run) -> dict[str, dict[str, str]]:
    """What each step of a run says it made, by digest."""
    return {step: run.made(step) for step in STEPS}


def resealed(run: Run) -> Run:
    """The run with its files as they are now in its markers, as if its steps had left them so."""
    for marker in (run / MARKERS).glob("*.json"):
        reported = integrity.read_sealed(marker)
        reported["files"] = {name: integrity.digest_of(run / name) for name in reported["files"]}
        storage.write_json(marker, integrity.sealed(reported))
    return run


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Run:
    """A finished run, made once for all workers of the session; read it, do not change it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "small_run"
    shared.mkdir(exist_ok=True)
    with open(shared / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be making it
        if not (shared / "run" / "report.html").exists():
            done = hilum("run", small_job(shared), "--out", shared / "run")
            assert done.returncode == 0, done.stderr
    return Run(shared / "run")


@pytest.fixture(scope="session")
def lung_model(tmp_path_factory) -> Path:
    """A lung model made by hand, with the metadata of one that comes with Hilum: darker than around
    and where phantoms have lungs is lung.

    Its Dice on phantoms is about 0.92. It is ready in two seconds, where training a network as good
    takes a minute.
    """
    from dataclasses import asdict

    import torch
    from torch import nn

    from hilum.training import onnx_export
    from hilum.training.models import compact_unet

    radiographs, masks = (
        np.stack(some) for some in zip(*(_phantom(seed) for seed in range(40)), strict=True)
    )
    usual = np.stack([(masks == side).mean(0) for side in lung_masks.SIDES.values()]).clip(
        0.003, 0.997
    )

    class Dark(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("usual", torch.from_numpy(2 * np.log(usual / (1 - usual))).float())

        def forward(self, images):
            light = images.unsqueeze(1).float() / 255
            smooth = nn.functional.avg_pool2d(light, 3, 1, 1, count_include_pad=False)
            around = nn.functional.interpolate(
                nn.functional.avg_pool2d(light, 64), scale_factor=64.0, mode="bilinear"
            )
            evidence = EVIDENCE * (around - 0.03 - smooth) + self.usual
            return torch.sigmoid(CERTAINTY * evidence)

    reported = {
        "contract": asdict(
            InputContract(
                "lungs", radiographs.shape[1], "whole", "percentiles", compact_unet.OUTPUTS
            )
        ),
        "card": asdict(compact_unet.CARD),
        "trained_on": {
            "images": len(radiographs),
            "digest": "made up",
            "sources": ["phantoms"],
            TRAINING_LIST: [],
        },
    }
    path = tmp_path_factory.mktemp("model") / "lungs.onnx"
    metadata = {key: storage.as_json(value) for key, value in reported.items()}
    onnx_export.to_onnx(
        Dark(), path, size=radiographs.shape[1], outputs=compact_unet.OUTPUTS, metadata=metadata
    )
    return path


def _phantom(seed: int, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1000 + seed)
    made = synthetic.draw(synthetic.anatomy(rng), rng, height=160, width=160)
    labels = np.where(
        made.right_lung, lung_masks.RIGHT, np.where(made.left_lung, lung_masks.LEFT, 0)
    ).astype(np.uint8)
    image = preprocess(
        Radiograph((made.pixels / 255).astype(np.float32), None, ()), size, "percentiles"
    )
    return image, lung_masks.downsample_labels(labels, Letterbox(labels.shape, size).forward)


@pytest.fixture(scope="module")  # its event loop would be in the way of other modules' tests
def chromium():
    """Chromium of this machine, without a window, for the tests that play a reader's part."""
    from tests import browsers

    with browsers.launched() as browser:
        yield browser
