"""The house stands as docs/architecture.md draws it: arrows one way, protobuf at the doors, rooms to live in."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*ROOT.glob("services/**/*.py"), *(p for p in ROOT.glob("masquerade/**/*.py") if "v1" not in p.parts)])
SERVICES = ("ingest", "detector", "swapper", "segmenter", "compositor", "orchestrator")
DOORS = ("servicer.py", "client.py", "convert.py")
LONGEST_FILE = 400


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, relative imports resolved, type-checking ones included."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module or "") if part)
            yield node.lineno, name
            for alias in node.names:
                yield node.lineno, f"{name}.{alias.name}"


def test_no_service_imports_another_and_arrows_run_one_way() -> None:
    wrong = []
    for path in SOURCES:
        parts = path.relative_to(ROOT).parts
        tower = parts[1] if parts[0] == "services" and len(parts) > 2 else parts[0]
        allowed = {"standalone": {*SERVICES, "common", "standalone"}, "masquerade": set()}.get(tower, {tower, "common"})
        for line, name in imports_of(path):
            bits = name.split(".")
            if bits[0] == "services" and len(bits) > 1 and bits[1] not in allowed:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert wrong == []


def test_protobuf_stays_at_the_doors() -> None:
    wrong = []
    for path in SOURCES:
        parts = path.relative_to(ROOT).parts
        if parts[0] != "services" or parts[1] not in SERVICES or path.name in DOORS:
            continue
        wrong += [
            f"{path.relative_to(ROOT)}:{line} imports {name}"
            for line, name in imports_of(path)
            if name.startswith(("masquerade.v1", "google.protobuf"))
        ]
    assert wrong == []


def test_no_import_goes_round_in_a_circle() -> None:
    modules = {_module(path): path for path in SOURCES}
    graph = {
        module: {name for _, name in _runtime_imports(path) if name in modules and name != module}
        for module, path in modules.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        assert module not in trail, f"circle: {' -> '.join([*trail[trail.index(module) :], module])}"
        if module in done:
            return
        for other in sorted(graph[module]):
            visit(other, [*trail, module])
        done.add(module)

    for module in sorted(graph):
        visit(module, [])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_about_one_thing(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LONGEST_FILE
    if text.strip() and path.name != "__init__.py":
        assert "from __future__ import annotations" in text
        assert ast.get_docstring(ast.parse(text)), "a file says in its docstring what it is about"


def test_the_banned_decoders_are_not_used() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in ("VideoCapture", "imread")
        and isinstance(node.value, ast.Name)
        and node.value.id == "cv2"
    ]
    assert wrong == []


def test_no_error_is_swallowed() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and len(node.body) == 1
        and isinstance(node.body[0], ast.Pass)
        and (node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException"))
    ]
    assert wrong == []


def test_nothing_heavy_is_imported_at_start() -> None:
    program = (
        "import sys, services.standalone.__main__; print([m for m in "
        "('insightface', 'rembg', 'onnx', 'tflite', 'skimage', 'yt_dlp', 'dbos') if m in sys.modules])"
    )
    python = ROOT / ".venv/bin/python"
    if not python.exists():
        pytest.skip(".venv is absent: make setup")
    answer = subprocess.run([python, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert answer.stdout.strip() == "[]"


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _runtime_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Imports outside `if TYPE_CHECKING` and outside functions: those that run when the module is loaded."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        for inner in ast.walk(node)
    }
    skipped = {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) in typing_only
    }
    return ((line, name) for line, name in imports_of(path) if line not in skipped)
