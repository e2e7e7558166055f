"""The floors and the doors: imports go down only, and each heavy library has one way in."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cxlab"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = [
    {"errors", "digest", "places", "params", "display"},
    {"data"},
    {"features", "metrics"},
    {"models", "journey"},
    {"evidence"},
    {"tracking"},
    {"release"},
    {"serving", "decide"},
    {"notebooks", "doctor"},
    {"cli"},
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
BASE = {"errors": 0, "digest": 0, "display": 1, "places": 1, "params": 2}  # the order within the lowest floor

DOORS = {
    "mlflow": {"tracking", "release/mlflow_model"},
    "papermill": {"notebooks"},
    "optuna": {"models/search"},
    "onnx": {"release/onnx", "features/encoder_graph", "models/sequence_graph"},
    "skl2onnx": {"release/onnx"},
    "onnxruntime": {"release/scorer", "features/text_graph", "models/sequence_graph"},
    "tokenizers": {"features/text_graph"},
    "safetensors": {"features/encoder"},
    "torch": {"models/deep", "models/sequence_nets"},
    "shap": {"evidence/explain"},
    "fairlearn": {"evidence/fairness"},
    "evidently": {"evidence/drift"},
    "skops": {"tracking/registry", "release/text_bundle"},
    "spacy": {"data/names"},
    "pooch": {"data/catalog"},
    "typer": {"cli"},
    "rich": {"cli"},
    "ibis": {"features/reading", "journey"},
    "duckdb": {"features/reading", "journey"},
    "tea_tasting": {"decide/experiments"},
    "plotly": {"journey"},
    "pandera": {"data/events"},
    "fastapi": {"serving/server", "serving/service", "serving/describe"},
    "starlette": {"serving/server", "serving/service", "serving/describe"},
    "prometheus_client": {"serving/service"},
    "uvicorn": {"serving/server"},
    "model_signing": {"release/signing"},
    "pickle": set(),
    "cloudpickle": set(),
}
# What a bundle carries along, to score where cxlab is not: each imports these, numpy and pandas alone.
TRAVELS = {"errors", "digest", "data/schema", "data/personal", "data/times", "evidence/wording"}
TRAVELS |= {"features/terms", "features/holders", "features/text_graph", "models/answer"}
TRAVELS |= {"features/prefixes", "features/prefix_matrix"}
TRAVELS |= {"release/folder", "release/scorer", "release/text_scorer", "release/sequence_scorer"}
HEAVY = ("mlflow", "papermill", "optuna", "lightgbm", "sklearn", "pandas", "numpy", "matplotlib", "onnx", "skops")


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")


def imports(path: Path, *, runtime_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[int] = set()
    if runtime_only:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                skipped |= {id(child) for child in ast.walk(node)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert bool(node.level) <= (place(path) in TRAVELS), f"{path}: relative import"
            above = ("cxlab", *path.relative_to(PACKAGE).parts)[: -node.level] if node.level else ()
            module = ".".join([*above, str(node.module)])
            found |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return found


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_imports_go_down_only(path: Path) -> None:
    room = place(path).split("/")[0]
    if room in ("", "__init__", "__main__"):
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "cxlab" or len(parts) < 2 or parts[1] not in FLOOR_OF or parts[1] == room:
            continue
        other = parts[1]
        if FLOOR_OF[room] == FLOOR_OF[other] == 0:
            assert BASE[other] < BASE[room], f"{place(path)} imports {name}"
        else:
            assert FLOOR_OF[other] < FLOOR_OF[room], f"{place(path)} imports {name}, which is not below it"


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_heavy_libraries_come_in_by_their_door(path: Path) -> None:
    here = place(path)
    for name in imports(path, runtime_only=True):
        doors = DOORS.get(name.split(".")[0])
        if doors is not None:
            assert any(here == door or here.startswith(f"{door}/") for door in doors), f"{here} imports {name}"


@pytest.mark.parametrize("name", sorted(TRAVELS))
def test_what_travels_needs_little(name: str) -> None:
    allowed = {"numpy", "pandas", "onnxruntime", "tokenizers", *sys.stdlib_module_names}
    for module in imports(PACKAGE / f"{name}.py"):
        ours = module.removeprefix("cxlab.").replace(".", "/")
        assert module.split(".")[0] in allowed or any(ours == t or ours.startswith(f"{t}/") for t in TRAVELS), module


def test_every_room_has_a_floor() -> None:
    rooms = {place(path).split("/")[0] for path in MODULES} - {"", "__init__", ".", "__main__"}
    assert rooms == set(FLOOR_OF)


@pytest.mark.parametrize("start", ["import cxlab", "from cxlab.cli import app", "import cxlab.params"])
def test_starting_loads_nothing_heavy(start: str) -> None:
    code = f"{start}\nimport sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert loaded == []


def test_telemetry_is_off_before_anything_loads() -> None:
    code = "import cxlab, os; print(os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['DO_NOT_TRACK'])"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert said == ["true", "1"]
