"""docs/limits.md names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LIMITS = (ROOT / "docs" / "limits.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[^`]+\.py)::([a-z0-9_]+)`", LIMITS)))


def test_nearly_every_row_names_one() -> None:
    rows = [line for line in LIMITS.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    assert [row for row in rows if "`tests/" not in row] == [rows[-1]], "a quota is the user's"


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_it_is_there(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, functions)}
