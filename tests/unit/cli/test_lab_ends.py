"""What measures one thing ends on SIGTERM as on Ctrl-C: with a word."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from corral.cli.main import run
from corral.lab.ladder import command


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_with_a_word(
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def climb(*_: object) -> int:
        signal.raise_signal(number)
        return 0

    monkeypatch.setattr(command, "run", climb)
    words = ["ladder", "--backend", "onnxruntime", "--out", str(tmp_path)]
    assert run(words, {"HOME": str(tmp_path)}) == 130
    assert capsys.readouterr().err == "corral: interrupted; nothing was written\n"
    assert signal.getsignal(signal.SIGTERM) == before
