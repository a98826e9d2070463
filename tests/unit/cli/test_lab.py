"""``corral ladder`` as the command line calls it."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from corral.cli import lab
from corral.settings import Settings

_MODEL = Path(__file__).parents[2] / "data" / "models" / "colours.onnx"


def test_a_users_file_may_lie_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.lab.ladder.command.run", lambda *_: 0)
    options = argparse.Namespace(
        experiment="ladder", out=tmp_path, repeats=1, seconds=1.0, rungs=()
    )
    assert lab.run(Settings.flat(model=str(_MODEL)), options, {}) == 0
    assert not list(tmp_path.iterdir())
