"""Do the tests notice when the library changes? Mutates places drawn at random, one at a time.

    python tests/mutate.py --places=30 --seed=0

Works on a copy of the repository. For each place it runs the tests that import the mutated module, then those
that import anything of its room, until one fails; it prints a line a place and the number that survived.
"""

import argparse
import ast
import copy
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LIBRARY = "introspection"
PAIRS = (
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.In, ast.NotIn), (ast.Is, ast.IsNot)),
    *((ast.And, ast.Or), (ast.Add, ast.Sub), (ast.Mult, ast.Div)),
)
SWAPPED = {old: new for pair in PAIRS for old, new in (pair, pair[::-1])}
TIMEOUT = 900  # seconds that the tests of one place may take; longer counts as noticed


def mutated(node: ast.AST) -> ast.AST | None:
    """The node with its operator swapped, its constant changed or its `not` gone; None if it has none."""
    changed = copy.copy(node)
    if isinstance(changed, ast.Compare) and len(changed.ops) == 1 and type(changed.ops[0]) in SWAPPED:
        changed.ops = [SWAPPED[type(changed.ops[0])]()]
    elif isinstance(changed, ast.BoolOp | ast.BinOp) and type(changed.op) in SWAPPED:
        changed.op = SWAPPED[type(changed.op)]()
    elif isinstance(changed, ast.UnaryOp) and isinstance(changed.op, ast.Not):
        return changed.operand
    elif isinstance(changed, ast.Constant) and type(changed.value) is bool:
        changed.value = not changed.value
    elif isinstance(changed, ast.Constant) and type(changed.value) in (int, float):
        changed.value += 1
    else:
        return None
    return changed


def expressions(tree: ast.AST) -> Iterator[ast.AST]:
    """Every expression that runs: no annotations, which `X | None` would fill with operators."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                yield from expressions(child)


def places(root: Path) -> list[tuple[Path, int]]:
    """Every file and the index of an expression in it that can be mutated."""
    return [
        (path, index)
        for path in sorted((root / LIBRARY).rglob("*.py"))
        for index, node in enumerate(expressions(ast.parse(path.read_text(encoding="utf-8"))))
        if mutated(node) is not None
    ]


def mutate(path: Path, index: int) -> tuple[str, str]:
    """The file's new text, and what was changed in it."""
    source = path.read_text(encoding="utf-8")
    node = list(expressions(ast.parse(source)))[index]
    old, new = ast.get_source_segment(source, node) or "", f"({ast.unparse(mutated(node))})"
    lines = source.encode().splitlines(keepends=True)  # the parser counts columns in bytes
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    text = (source.encode()[:start] + new.encode() + source.encode()[end:]).decode()
    return text, f"line {node.lineno}: {' '.join(old.split())} -> {' '.join(new.split())}"


def tests_of(root: Path, module: str) -> list[list[str]]:
    """The tests that import a module, then those that import another of its room."""
    room = module.rpartition(".")[0]
    found: dict[Path, int] = {}
    for path in sorted((root / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        parent, _, name = module.rpartition(".")
        direct = rf"{re.escape(module)}\b|from {re.escape(parent)} import [^\n]*\b{name}\b"
        if re.search(direct, text):
            found[path] = 0
        elif re.search(rf"{re.escape(room)}\b", text):
            found[path] = 1
    stages = [[str(path.relative_to(root)) for path, stage in found.items() if stage == s] for s in (0, 1)]
    return [stage for stage in stages if stage]


def is_noticed(root: Path, module: str) -> bool:
    for tests in tests_of(root, module):
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-n",
            "0",
            "-m",
            "not slow and not parity",
            *tests,
        ]
        try:
            done = subprocess.run(command, cwd=root, capture_output=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            return True
        if done.returncode not in (0, 5):  # 5: none was selected
            return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="the repository")
    parser.add_argument("--places", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "copy"
        left_out = shutil.ignore_patterns(".git", ".venv", ".peers", ".newest", "runs", "__pycache__")
        shutil.copytree(chosen.root, root, ignore=left_out)
        drawn = random.Random(chosen.seed).sample(places(root), chosen.places)
        survivors = 0
        for number, (path, index) in enumerate(drawn, start=1):
            original, (text, change) = path.read_text(encoding="utf-8"), mutate(path, index)
            shown, started = path.relative_to(root), time.monotonic()
            path.write_text(text, encoding="utf-8")
            noticed = is_noticed(root, ".".join(shown.with_suffix("").parts))
            path.write_text(original, encoding="utf-8")
            survivors += not noticed
            word = "noticed" if noticed else "SURVIVED"
            print(f"{number:3} {word} {time.monotonic() - started:4.0f} s {shown} {change}", flush=True)
        print(f"{survivors} of {chosen.places} survived (seed {chosen.seed})")


if __name__ == "__main__":
    main()
