"""The public interface: few names, loaded when used, each with an example that runs here."""

import doctest
import gc
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import pytest

import hilum
from hilum.api import datasets, images, runs
from hilum.statistics import bootstrap, metrics

MODULES = (datasets, images, runs, bootstrap, metrics)
ERRORS = ("BadData", "HilumError", "NotFound")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the examples take as given: a folder of images, one of its files, a run, new folders."""
    folder = tmp_path_factory.mktemp("api") / "montgomery"
    hilum.synthesize("montgomery", folder, images=24, seed=3)
    made = hilum.run(folder, tmp_path_factory.mktemp("api") / "run", until="split")
    return {
        "hilum": hilum,
        "folder": folder,
        "file": next(iter(sorted((folder / "CXR_png").glob("*.png")))),
        "run_folder": made.folder,
        "pl": import_module("polars"),
    }


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for module in MODULES for test in finder.find(module, module.__name__)]
    return [test for test in found if test.examples]


@pytest.mark.parametrize("test", examples(), ids=lambda test: test.name)
def test_the_examples_of_the_docstrings_run(test, names, tmp_path):
    if "torch" in test.docstring:
        pytest.importorskip("torch")
    test.globs = {**names, "new_folder": tmp_path / "new"}
    failed = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed
    assert not failed


def test_there_are_at_most_25_names_each_with_a_docstring_and_each_function_with_an_example():
    assert len(hilum.__all__) <= 25
    shown = {test.name.rsplit(".", 1)[-1] for test in examples()}
    for name in hilum.__all__:
        thing = getattr(hilum, name)
        assert thing.__doc__, name
        assert isinstance(thing, type) or name in shown, f"{name} has no example"


def test_no_function_has_the_name_of_a_package():
    packages = {path.name for path in Path(hilum.__file__).parent.iterdir() if path.is_dir()}
    assert not packages & set(hilum.__all__)


def test_importing_hilum_loads_nothing_of_weight():
    program = (
        "import sys, hilum; "
        "print(*{'torch', 'pandas', 'polars', 'numpy', 'onnxruntime', 'cv2'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("error", ERRORS)
def test_errors_are_exported(error):
    assert issubclass(getattr(hilum, error), hilum.HilumError)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'open_data'"):
        _ = hilum.open_data
    with pytest.raises(AttributeError, match="no metric is called 'dyce'"):
        _ = metrics.dyce


def test_objects_show_themselves_and_escape_what_they_show(names, tmp_path):
    dataset = hilum.open_dataset(names["folder"])
    assert "24 images" in repr(dataset) and "<table>" in dataset._repr_html_()
    issues = hilum.find_issues(dataset, cache_folder=tmp_path)
    assert "<table>" in issues._repr_html_() and "</html>" in issues.to_html()
    image = hilum.read_image(names["file"])
    assert image._repr_png_().startswith(b"\x89PNG")
    lungs = hilum.segment_lungs(image)
    assert lungs._repr_jpeg_().startswith(b"\xff\xd8") and lungs.right.dtype == bool
    assert hilum.classify(image)._repr_html_()
    run = hilum.open_run(names["run_folder"])
    assert "split" in repr(run) and "<table>" in run._repr_html_()


def test_the_temporary_cache_of_issues_goes_with_them(names, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    issues = hilum.find_issues(hilum.open_dataset(names["folder"]))
    assert list(tmp_path.glob("hilum-cache-*")) and "</html>" in issues.to_html()
    del issues
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(hilum.NotFound, match="is not a run"):
        hilum.open_run(tmp_path)


def test_wrong_arguments_are_refused_with_what_was_expected(names, tmp_path):
    dataset, run = hilum.open_dataset(names["folder"]), hilum.open_run(names["run_folder"])
    for call in (hilum.split, hilum.find_issues, hilum.to_torchxrayvision):
        with pytest.raises(TypeError, match="expected a Dataset, got .*open_dataset"):
            call(str(names["folder"]))
    with pytest.raises(hilum.HilumError, match="sum to 1"):
        hilum.split(dataset, train=0.5)
    for call in (hilum.read_image, hilum.segment_lungs, hilum.classify):
        with pytest.raises(hilum.NotFound, match="is a folder"):
            call(names["folder"])
        with pytest.raises(hilum.NotFound, match="there is no file"):
            call(tmp_path / "none.png")
    with pytest.raises(hilum.NotFound, match="did you mean 'split'"):
        hilum.run(names["folder"], tmp_path / "run", until="splt")
    with pytest.raises(hilum.HilumError, match="at least 4"):
        hilum.synthesize("montgomery", tmp_path / "few", images=1)
    with pytest.raises(hilum.NotFound, match="hilum evaluate"):
        assert run.metrics.height
