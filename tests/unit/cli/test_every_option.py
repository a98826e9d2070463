"""Every option of every command with values at the end of what there is: taken, or refused in one
line with exit code 2. The commands' work is replaced; what reads and checks their words is not.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import itertools
import time
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from corral import logs
from corral.cli import ask, top
from corral.cli import main as corral
from corral.cli.options import make_parser
from corral.settings import options as settings_options
from corral_client import cli as client
from corral_client.options import make_parser as make_client_parser
from corral_loadtest.bars import command as bars
from corral_loadtest.cli import main as loadtest
from corral_loadtest.cli import run
from corral_loadtest.cli.options import make_parser as make_load_parser
from corral_loadtest.comparison import command as comparison
from corral_loadtest.comparison import peers
from corral_loadtest.engines import served, starts
from corral_loadtest.generator import perf_analyzer
from corral_loadtest.mlperf import command as mlperf
from corral_loadtest.settings import command as settings_files

VALUES = ["0", "-0", "-1", "0.5", "1e-320", "inf", "-inf", "nan", "1e400", "0x10", "1_0", "1e12"]
VALUES += [str(sign * 2**power) for power in (31, 32, 63, 64) for sign in (1, -1)]
VALUES += ["", " ", "\t", "\n", "a\nb", "\udcff", "x" * 5000, "9" * 5000, "é", "%s", ",", "--"]
VALUES += [
    "/dev/zero",
    "/dev/full",
    "/etc",
    "/dev/null/at/all",
    "node",
    "auto",
    "::1:1",
    "0x0",
    "1,2",
]
_REFUSED_WITHIN_S = 5.0
_WITH_SETTINGS = ("corral serve", "corral plan", "corral status", "corral top")
#: what a command needs besides
_BESIDES = {
    "corral evaluate": ["pictures"],
    "corral mode": ["rti"],
    "corral-client classify": ["cat.jpg"],
    "corral-client infer": ["--random=uint8"],
    "corral-loadtest peers": ["list"],
}


class Works(Exception):
    """Raised where a command would begin to work."""


def _works(*_: object, **__: object) -> Any:
    raise Works


def _subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Commands and their parsers, of every depth."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _subcommands(sub)
            return
    yield parser.prog, parser


def _commands() -> dict[str, argparse.ArgumentParser]:
    found = dict(_subcommands(make_parser()))
    found |= dict(_subcommands(make_client_parser()))
    for name, parser in (
        ("bars", bars.parser()), ("compare", comparison.parser()), ("engines", served.parser()),
        ("starts", starts.parser()), ("mlperf", mlperf.parser()), ("peers", peers.parser()),
        ("settings", settings_files.parser()),
    ):  # fmt: skip
        found[f"corral-loadtest {name}"] = parser
    for name in ("run", "ramp"):
        found[f"corral-loadtest {name}"] = make_load_parser(name, "", "")
    return found


def _options() -> list[tuple[str, str]]:
    """Commands and their options' names; "" for a word without one."""
    settings = {f"--{option.name}" for option in settings_options().values()}
    found = []
    for prog, parser in _commands().items():
        for action in parser._actions:
            names = [name for name in action.option_strings if name.startswith("-")]
            # All commands read the settings in the same way: they are tried with two.
            if action.nargs == 0 or (
                settings & set(names) and prog not in {"corral serve", "corral plan"}
            ):
                continue
            found.append((prog, names[-1] if names else ""))
    return found


def _words(prog: str, option: str, value: str) -> list[str]:
    words = prog.split()[1:]
    parser = _PARSERS[prog]
    action = next(
        a
        for a in parser._actions
        if (option in a.option_strings if option else not a.option_strings)
    )
    if not option:
        return [
            *words,
            "--",
            *[value] * max(1, action.nargs if isinstance(action.nargs, int) else 1),
        ]
    besides = _BESIDES.get(prog, [])
    if any(word.startswith(f"{option}=") for word in besides):
        besides = []
    if isinstance(action.nargs, int):
        return [*words, *besides, option, *[value] * action.nargs]
    joined = f"{option}={value}" if option.startswith("--") else f"{option}{value}"
    return [*words, *besides, joined]


_PARSERS = _commands()


@pytest.fixture
def nothing_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands end where they would begin."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    stub = types.SimpleNamespace(run=_works)
    monkeypatch.setattr(corral, "importlib", types.SimpleNamespace(import_module=lambda _: stub))
    monkeypatch.setattr(corral, "make_parser", functools.cache(make_parser))
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    for module in (ask, top):
        monkeypatch.setattr(module, "run", _works)
    monkeypatch.setattr(client, "_COMMANDS", dict.fromkeys(client._COMMANDS, _works))
    monkeypatch.setattr(client, "make_parser", functools.cache(make_client_parser))
    for module, name in (
        (run, "_measure"), (run, "_ramp"), (bars, "_analyzer"), (comparison, "_compare"),
        (perf_analyzer, "install"), (starts, "measure"), (mlperf, "_served"),
        (peers, "version"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, _works)


def _run(prog: str, words: Sequence[str], home: Path) -> object:
    if prog.startswith("corral-client"):
        return client.run(words)
    if prog.startswith("corral-loadtest"):
        loadtest.main(words)
        return 0
    return corral.run(words, {"HOME": str(home)})


def _said(call: Callable[[], object]) -> tuple[object, str]:
    """The exit code, and what was said on standard error; no code where a command works."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = call()
        except Works:
            return None, err.getvalue()
        except SystemExit as end:
            code = end.code
    return code, err.getvalue()


@pytest.mark.usefixtures("nothing_works")
@pytest.mark.parametrize(("prog", "option"), _options())
def test_an_option_takes_a_value_or_refuses_it_in_one_line(
    prog: str, option: str, tmp_path: Path
) -> None:
    for value in VALUES:
        words = _words(prog, option, value)
        began_s = time.monotonic()
        code, said = _said(functools.partial(_run, prog, words, tmp_path))
        shown = (words, code, said)
        assert time.monotonic() < began_s + _REFUSED_WITHIN_S, shown
        if code is None:
            continue
        assert code == 2, shown
        assert said.count("\n") == 1, shown
        assert said.startswith("corral"), shown


def test_every_command_is_tried() -> None:
    tried = {prog for prog, _ in _options()}
    assert {f"corral-loadtest {name}" for name in loadtest.COMMANDS} <= tried
    assert {f"corral-client {name}" for name in client._COMMANDS} <= tried
    assert {"corral serve", "corral top", "corral lab ladder", "corral ladder"} <= tried
    assert len(list(itertools.chain(VALUES))) > 30
