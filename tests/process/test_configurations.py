"""A configuration that cannot be is refused in one line when it is read; any other is served.

Every option takes every extreme, from the command line, a file and the environment. Here it goes
as far as the start of the first child, in this process; ``make soak`` starts a server with each.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import random
import time
from pathlib import Path

import pytest
from support import extremes
from support.extremes import Case

from corral.cli import main
from corral.cli.options import make_parser
from corral.planning import topology
from corral.settings import options
from corral.supervisor import app

#: those that need a process of their own: argparse's own words, or the machine's patience
_SEED = 20_261_126
_SAMPLE = 1500


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("f")
    extremes.write_files(made)
    return made


@pytest.fixture(autouse=True)
def no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is understood is as good as served: the soak looks at the rest."""
    monkeypatch.setattr(app, "_run", lambda server: 0)
    # The same for all, and slow to make.
    monkeypatch.setattr("corral.cli.main.make_parser", functools.cache(make_parser))
    monkeypatch.setattr(topology, "read_machine", functools.cache(topology.read_machine))


def _fault(case: Case, folder: Path) -> str:
    """What is wrong with the answer to a configuration; empty when nothing is."""
    words = ["serve", "--backend=null", "--port=0", "--http-port=0", "--metrics-port=0"]
    words = [word for word in words if word.split("=")[0] != f"--{case.name}"]
    environ = {"HOME": str(folder), "CORRAL_CACHE": str(folder / "cache"), **case.variables(folder)}
    said, began_s = io.StringIO(), time.monotonic()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            code = main.run([*words, *case.arguments(folder)], environ)
        except SystemExit as end:
            code = end.code  # type: ignore[assignment]  # argparse ends with a number
        # Whatever it is, all the others are to be heard as well.
        except Exception as error:
            return f"{case}: {error!r}"
    took_s = time.monotonic() - began_s
    if took_s > extremes.REFUSED_WITHIN_S + 5:
        return f"{case}: {took_s:.1f} s"
    right = code == 0 or (code == 2 and said.getvalue().count("\n") == 1)
    return "" if right else f"{case}: {code}: {said.getvalue()}"


def _sample() -> list[Case]:
    """Every kind of file for every path, every host for every address; some of all the others."""
    cases = [case for case in extremes.cases() if case.name != "backend"]
    whole = [
        case
        for case in cases
        if case.source == "command line" and case.value in {*extremes.FILES, *extremes.HOSTS}
        and (options()[case.name.replace("-", "_")].path or case.name.endswith("host"))
    ]  # fmt: skip
    if os.environ.get("CORRAL_TEST_ALL"):
        return cases
    return [*whole, *random.Random(_SEED).sample(cases, _SAMPLE)]


@pytest.mark.timeout(600)
def test_every_extreme_is_refused_in_one_line_or_understood(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)
    try:
        faults = [fault for case in _sample() if (fault := _fault(case, folder))]
    finally:
        os.chdir(here)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "case",
    [
        Case("command line", "tls-cert", "$D/fifo"),
        Case("command line", "worker-python", "/bin/cat"),
        Case("environment", "CORRAL_CACHE", "$D/\udcff"),
        Case("file", "allow-client", '["a", ""]'),
    ],
    ids=str,
)
def test_a_real_server_says_so_within_seconds(case: Case, tmp_path: Path) -> None:
    extremes.write_files(tmp_path)
    extremes.serves(case, tmp_path, busy_s=10.0)
