"""docs/field-reports.md names tests that there are, and no row goes without one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "field-reports.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if re.match(r"\| [HMS]\d+ \|", line)
]
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def names_in(file: Path) -> set[str]:
    """The names of a file's test functions, by its source."""
    if not file.is_file():
        return set()
    tree = ast.parse(file.read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_has_its_cells_and_tests_that_there_are(row: list[str]) -> None:
    assert len(row) == 5
    assert all(row)
    named = _TEST.findall(row[-1])
    assert len(named) == row[-1].count("::") > 0
    missing = [f"{file}::{name}" for file, name in named if name not in names_in(ROOT / file)]
    assert not missing


def test_every_kind_has_its_row() -> None:
    numbers = [row[0] for row in ROWS]
    assert len(set(numbers)) == len(numbers)
    assert set(numbers) >= {
        *(f"H{number}" for number in range(1, 11)),
        *(f"M{number}" for number in range(1, 23)),
        *(f"S{number}" for number in range(1, 11)),
    }


def test_a_test_that_is_gone_would_be_missed() -> None:
    assert "test_a_test_that_is_gone_would_be_missed" in names_in(Path(__file__))
    assert "test_that_never_was" not in names_in(Path(__file__))
    assert names_in(ROOT / "tests" / "no_such_file.py") == set()
