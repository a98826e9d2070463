"""What measures one thing ends on SIGTERM as on Ctrl-C: with a word."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from corral.cli.interrupting import interrupts
from corral.cli.main import run
from corral.lab.evaluate import command as evaluation
from corral.lab.ladder import command as ladder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("module", "words"),
    [
        (ladder, ["ladder"]),
        (evaluation, ["evaluate", "pictures"]),
    ],
)
def test_it_ends_with_a_word(
    module: object,
    words: list[str],
    *,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}

    def climb(*_: object) -> int:
        signal.raise_signal(number)
        return 0

    monkeypatch.setattr(module, "run", climb)
    monkeypatch.chdir(tmp_path)
    assert run([*words, "--backend", "onnxruntime"], {"HOME": str(tmp_path)}) == 130
    assert capsys.readouterr().err == "corral: interrupted; nothing was written\n"
    assert {one: signal.getsignal(one) for one in before} == before


def test_under_nohup_it_goes_on() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
