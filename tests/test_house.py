"""The house: imports point one way, and a file fits in the head."""

import ast
import statistics
from pathlib import Path

LIBRARY = Path(__file__).parents[1] / "introspection"
# Data flows down this list, and imports point back up it. The rooms of the last row are each one thing that a
# user does, on the shared floors above.
ROOMS = (
    "errors", "runtime", "tasks", "text", "models", "weights", "checkpoints",
    "probes", "training", "coupling", "organism", "reports",
    "runs", "hygiene", "study", "sweeps", "patching", "api",
)  # fmt: skip
MOST_LINES = 400


def files() -> list[Path]:
    return sorted(LIBRARY.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The project's modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {module for module in found if module.split(".")[0] in ("introspection", "experiments", "configs")}


def test_imports_point_back_along_the_rooms():
    wrong = []
    for path in files():
        room = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
        if room == "__init__":  # the public names, loaded when they are used
            continue
        for module in imported(path):
            package, *inner = module.split(".")
            if package != "introspection" or ROOMS.index(inner[0]) > ROOMS.index(room):
                wrong.append(f"{path.relative_to(LIBRARY)} imports {module}")
    assert wrong == []


def test_every_room_is_known_and_says_what_it_is_for():
    rooms = {path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms | {"errors", "api"} == set(ROOMS)
    for path in LIBRARY.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_a_file_fits_in_the_head():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    assert {str(path): count for path, count in lines.items() if count > MOST_LINES} == {}
    assert statistics.median(lines.values()) <= 150
