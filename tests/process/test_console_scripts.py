"""Console scripts without what they need, and what they import first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: a sitecustomize that hides modules, as if they were not installed
HIDE = """
import os, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["HIDDEN"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""
#: runs an entry point of pyproject.toml as its console script does
RUN = "import importlib, sys; module, name = sys.argv.pop(1).split(':'); "
RUN += "getattr(importlib.import_module(module), name)()"
CLIENT = "corral_client.console:client"
LOADTEST = "corral_loadtest.__main__:main"


def run(
    tmp_path: Path, entry: str, *words: str, hidden: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", RUN, entry, *words],
        env={**os.environ, "PYTHONPATH": path, "HIDDEN": hidden, **environment},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "hidden", "extra"),
    [
        (LOADTEST, "rich", "[loadtest]"),
        (LOADTEST, "hdrh matplotlib msgspec PIL rich mlperf_loadgen", "[loadtest]"),
        (LOADTEST, "grpc google numpy", "[loadtest]"),
        (CLIENT, "numpy", ""),
        (CLIENT, "grpc", ""),
        (CLIENT, "google", ""),
    ],
)
def test_a_missing_package_is_one_line_with_the_command_that_brings_it(
    tmp_path: Path, entry: str, hidden: str, extra: str
) -> None:
    done = run(tmp_path, entry, "--help", hidden=hidden)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    lock = ROOT / "requirements.lock"
    assert f"-m pip install --constraint {lock} '{ROOT}{extra}' brings them" in line
    assert line.startswith("corral-loadtest " if entry == LOADTEST else "corral-client ")
    for name in set(hidden.split()) - {"google", "mlperf_loadgen"}:
        assert name in line


@pytest.mark.parametrize("entry", [CLIENT, LOADTEST])
def test_with_all_packages_the_same_way_shows_the_help(tmp_path: Path, entry: str) -> None:
    done = run(tmp_path, entry, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: corral-")


def test_the_entry_points_are_those_of_the_distribution() -> None:
    import tomllib

    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    scripts = tomllib.loads(text)["project"]["scripts"]
    assert scripts["corral-client"] == CLIENT
    assert scripts["corral-loadtest"] == LOADTEST


@pytest.mark.parametrize(("chosen", "seen"), [(None, "1"), ("3", "3")])
def test_numpy_is_imported_for_one_thread_and_children_see_nothing_of_it(
    tmp_path: Path, chosen: str | None, seen: str
) -> None:
    script = (
        "import os, sys\n"
        "import corral_client\n"
        "assert 'numpy' not in sys.modules\n"
        "from corral_client import console\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'numpy':\n"
        "            print(os.environ.get('OPENBLAS_NUM_THREADS'))\n"
        "sys.meta_path.insert(0, Watch())\n"
        "console.import_numpy_for_one_thread()\n"
        "print(os.environ.get('OPENBLAS_NUM_THREADS'))\n"
        "print(len(os.listdir('/proc/self/task')))\n"
    )
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    plain = {name: value for name, value in os.environ.items() if name not in names}
    if chosen is not None:
        plain["OPENBLAS_NUM_THREADS"] = chosen
    done = subprocess.run(
        [sys.executable, "-c", script], env=plain, capture_output=True, text=True, check=True
    )
    during, after, threads = done.stdout.split()
    assert during == seen
    assert after == str(chosen)
    if chosen is None:
        assert threads == "1"


def test_the_clients_names_are_imported_when_they_are_asked_for() -> None:
    import corral_client

    for name in corral_client.__all__:
        assert getattr(corral_client, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Server'"):
        corral_client.Server  # noqa: B018
