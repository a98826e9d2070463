"""What is told of an engine's many lines, and of the system's reasons."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.cli.files import check_writable
from corral.errors import ConfigError, RequestError, os_reason, telling_line
from corral.metrics.counters import FAILURES
from corral.supervisor.ports import claim
from corral.system.tree import read_texts
from corral_loadtest.command_line import check_file, check_folder
from corral_loadtest.specification import WrongInput

_PLACES = (
    "Exception from src/inference/src/cpp/core.cpp:97:\n"
    "Check 'std::is_sorted(a, b)' failed at src/core/src/op.cpp:8:\n"
)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(2, "No such file or directory"), "no such file or directory"),
        (OSError(27, "it has more than 16 MiB"), "it has more than 16 MiB"),
        (OSError(78, "RFS specific error"), "RFS specific error"),
        (OSError("Odd"), "odd"),
    ],
)
def test_a_kernels_word_begins_small_and_keeps_its_units(error: OSError, told: str) -> None:
    assert os_reason(error) == told


def _write() -> None:
    check_writable(Path("page.html"), "--html")


def _gather() -> None:
    _, refused = read_texts(Path(), ["stat"])
    raise ConfigError(refused["stat"])


@pytest.mark.parametrize(
    ("where", "call"),
    [
        ("pathlib.Path.open", _write),
        ("pathlib.Path.open", lambda: check_file(Path("result.json"), "--json")),
        ("pathlib.Path.mkdir", lambda: check_folder(Path("results"), "--out")),
        ("socket.socket.bind", lambda: claim("127.0.0.1", 0, "--port")),
        ("corral.system.tree.read_text", _gather),
    ],
)
def test_every_reason_keeps_its_names(
    where: str, call: Callable[[], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EDOTDOT, "RFS specific error")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(where, refuse)
    with pytest.raises((ConfigError, WrongInput), match=r"RFS specific error$"):
        call()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("one line", "one line"),
        ("the first\nand much more", "the first"),
        (_PLACES + "Incorrect weights in bin file!\n\n", "Incorrect weights in bin file!"),
        (
            _PLACES + "Model wasn't fully converted.\nSummary:\n-- No rule for: Foo-17\n\n",
            "No rule for: Foo-17",
        ),
        ("Exception from src/a.cpp:7:\n", "Exception from src/a.cpp:7:"),
        (" \n", "RuntimeError"),
    ],
)
def test_it_is_the_line_that_says_why(text: str, told: str) -> None:
    assert telling_line(RuntimeError(text)) == told


def test_every_answer_is_counted_under_an_outcome_that_there_is() -> None:
    kinds = RequestError.__subclasses__()
    assert kinds
    # What is no RequestError is counted as cancelled, so no class says that.
    assert {kind.outcome for kind in kinds} == set(FAILURES) - {"cancelled"}
