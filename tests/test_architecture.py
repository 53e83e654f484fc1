"""Imports point one way, and importing Rung does nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "rung"
# From the ground up: a room imports only from rooms before it.
ROOMS = [
    "kernels", "formats", "tensor", "nn", "optim", "hardware", "theory", "train", "bench",
    "reproduce",
]  # fmt: skip
EVERYWHERE = {"extras", "_version"}


def allowed(room):
    if room == "cli":
        return {*ROOMS, "report", "cli", *EVERYWHERE}
    if room == "report":  # reads run folders, knows nothing of what wrote them
        return {"report", *EVERYWHERE}
    return {*ROOMS[: ROOMS.index(room) + 1], *EVERYWHERE}


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            module = node.module or ""
            names = (
                [f"{module}.{alias.name}" for alias in node.names] if module == "rung" else [module]
            )
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "rung" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir():
                yield parts[1], node.lineno
            elif parts[0] == "rung" and len(parts) == 1:
                yield "rung", node.lineno


def test_every_folder_is_a_known_room():
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders == {*ROOMS, "report", "cli"}


@pytest.mark.parametrize("room", [*ROOMS, "report", "cli"])
def test_imports_point_one_way(room):
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {target}"
        for path in (PACKAGE / room).rglob("*.py")
        for target, line in imported_rooms(path)
        if target not in allowed(room)
        and not (target == "rung" and room in ("train", "bench", "cli"))
    ]
    assert not wrong


@pytest.mark.parametrize(
    "room", ["kernels", "formats", "tensor", "nn", "optim", "hardware", "theory"]
)
def test_the_core_needs_torch_numpy_numba_and_safetensors_only(room):
    known = {"rung", "torch", "numpy", "numba", "safetensors", *sys.stdlib_module_names}
    for path in (PACKAGE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            # Compiled loops say what they are made of; each device's compiler is that room's alone.
            own = {"cpu": {"llvmlite"}, "gpu": {"triton"}}.get(path.parent.name, set())
            assert {m.partition(".")[0] for m in modules} <= known | own, path


def test_import_prints_nothing_compiles_nothing_and_loads_no_extra():
    code = (
        "import sys, torch; before = set(sys.modules); import rung; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new & {'numba', 'llvmlite', 'typer', 'rich', 'matplotlib', 'sklearn', "
        "'jinja2', 'triton'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
    assert run.stderr == ""


def test_a_missing_extra_names_the_pip_command():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from rung.extras import require\n"
        "require('sklearn.datasets')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = run.stderr.strip().splitlines()[-1]
    assert last == (
        "ImportError: This needs scikit-learn, which comes with the extra `train`: "
        "pip install 'rung[train]'"
    )


def test_only_known_extras_can_be_required():
    from rung.extras import require

    with pytest.raises(
        ValueError, match=r"must belong to an extra of Rung \(PIL, jinja2, .*; got 'os'"
    ):
        require("os")
