"""``corral ladder`` as the command line calls it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytest

from corral.cli import lab
from corral.cli.main import run
from corral.lab.ladder.climb import Place
from corral.lab.ladder.results import RungResult
from corral.lab.ladder.rungs import Rung
from corral.settings import Settings

_MODEL = Path(__file__).parents[2] / "data" / "models" / "colours.onnx"


def test_a_users_file_may_lie_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.lab.ladder.command.run", lambda *_: 0)
    options = argparse.Namespace(
        experiment="ladder", out=tmp_path, repeats=1, seconds=1.0, rungs=(), config=None
    )
    assert lab.run(Settings.flat(model=str(_MODEL)), options, {}) == 0
    assert not list(tmp_path.iterdir())


@pytest.fixture
def climbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the rungs that a command climbs; it measures nothing."""
    keys: list[str] = []

    def climb(place: Place, rungs: Sequence[Rung], progress: object) -> list[RungResult]:
        keys.extend(rung.key for rung in rungs)
        raise KeyboardInterrupt

    monkeypatch.setattr("corral.lab.ladder.command.climb", climb)
    monkeypatch.chdir(tmp_path)
    return keys


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["--backend", "openvino"], ["openvino", "openvino-int8", "openvino-int8-workers"]),
        (["--backend", "openvino", "--precision", "int8"],
         ["openvino-int8", "openvino-int8-workers"]),
        (["--backend", "ipex", "--torch-mode", "compile"], ["ipex-compile"]),
        (["--torch-mode", "eager"], ["eager", "batch"]),
        (["--precision", "int8", "--rungs", "eager,torch-int8,openvino-int8"],
         ["torch-int8", "openvino-int8"]),
        (["--allocator", "system", "--precision", "fp32"], ["eager", "batch", "channels-last"]),
        (["--backend", "auto", "--precision", "auto", "--rungs", "eager"], ["eager"]),
        (["--config", "server.toml"], ["onnxruntime", "onnxruntime-int8"]),
    ],
)  # fmt: skip
def test_a_setting_that_rungs_decide_picks_those_that_have_it(
    words: list[str], keys: list[str], climbed: list[str]
) -> None:
    Path("server.toml").write_text('backend = "onnxruntime"\n')
    assert run(["ladder", "--weights", "synthetic", *words], {}) == 130
    assert climbed == keys


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--backend", "null"],
            "--backend null: no rung has that; there are: torch, ipex, onnxruntime, openvino",
        ),
        (
            ["--backend", "onnxruntime", "--precision", "bf16"],
            "--precision bf16: no rung has that; there are: fp32, int8",
        ),
        (
            ["--backend", "openvino", "--rungs", "eager,onnxruntime"],
            (
                "--backend openvino: no rung of eager,onnxruntime has that; "
                "there are: torch, onnxruntime"
            ),
        ),
        (["--backend", "openvino", "--no-huge-pages"], "--no-huge-pages: no rung has that"),
        (
            ["--allocator", "jemalloc"],
            "--allocator jemalloc: no rung has that; there are: system, tcmalloc",
        ),
    ],
)  # fmt: skip
def test_where_no_rung_has_it_nothing_is_measured(
    words: list[str], said: str, climbed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ladder", "--weights", "synthetic", *words], {}) == 2
    assert capsys.readouterr().err == f"corral: {said}\n"
    assert not climbed
    assert not list(Path().iterdir())
