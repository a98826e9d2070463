"""docs/deployment.md's table: each file of deploy/ has a row, and each row a test that runs it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "deployment.md").read_text()
#: a row's file, and its tests
ROWS = {
    file: re.findall(r"`(tests/[^`]+)`", tests)
    for file, tests in re.findall(r"^\|[^|]*\| `(deploy/[^`]+)` \|([^|]*)\|$", PAGE, re.M)
}


def test_every_file_of_deploy_has_a_row() -> None:
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    names = [str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts]
    assert names
    left_out = [
        name
        for name in names
        if not any(name == row or (row.endswith("/") and name.startswith(row)) for row in ROWS)
    ]
    assert not left_out


@pytest.mark.parametrize("row", ROWS)
def test_each_row_names_what_is_there_and_a_test_that_speaks_of_it(row: str) -> None:
    assert (ROOT / row).is_dir() == row.endswith("/")
    assert (ROOT / row).exists()
    assert ROWS[row]
    texts = [(ROOT / test).read_text() + _support(ROOT / test) for test in ROWS[row]]
    name = row.rstrip("/").removeprefix("deploy/").partition("/")[0]
    assert any(name in text for text in texts), f"no test of {row} says {name}"


def _support(test: Path) -> str:
    """The text of the helpers that a test uses: some of them name the file."""
    names = re.findall(r"support\.(\w+)|from support import (\w+)", test.read_text())
    files = [ROOT / "tests" / "support" / f"{one or other}.py" for one, other in names]
    return "".join(file.read_text() for file in files if file.exists())


@pytest.mark.skipif(
    not list(Path("/usr/lib").glob("*/libtcmalloc*.so.4")), reason="no tcmalloc to be found"
)
def test_the_allocator_is_seen_to_without_a_word_where_it_is_there() -> None:
    done = subprocess.run(
        [str(DEPLOY / "ensure-allocator")], capture_output=True, text=True, check=False, timeout=20
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_where_it_cannot_be_had_a_line_says_how_and_nothing_fails(tmp_path: Path) -> None:
    """As an ordinary user: on a machine of which every library lies elsewhere."""
    script = (DEPLOY / "ensure-allocator").read_text()
    for place in ("/usr/lib64", "/usr/local/lib", "/usr/lib"):
        script = script.replace(f" {place}/", f" {tmp_path}/")
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        env={"PATH": f"{tmp_path}{os.pathsep}/usr/bin:/bin"},
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr.count("\n") == 1
    assert "apt-get install libtcmalloc-minimal4" in done.stderr
