"""What import-linter cannot see: `cli` is a module at the top, and nothing below may import it."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.conftest import REPOSITORY

ROOMS = ("lake", "collectors", "pipeline", "quality")


def imported(path: Path) -> set[str]:
    """First parts of the names that a module imports anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_no_room_imports_the_command_the_tests_or_the_benchmarks() -> None:
    modules = [path for room in ROOMS for path in (REPOSITORY / room).rglob("*.py")]
    assert len(modules) > 30
    offenders = {str(path): imported(path) & {"cli", "tests", "bench", "docs"} for path in modules}
    assert not {path: names for path, names in offenders.items() if names}
