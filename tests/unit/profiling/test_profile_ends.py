"""A profile whose server is gone: what is known is printed, and nobody waits for ever."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from corral.artifacts.served_model import served_model
from corral.cli.main import run
from corral.errors import ConfigError, StartError
from corral.models import registry
from corral.profiling import load as client
from corral.profiling.command import Profiling
from corral.profiling.report import EngineFigures, span
from corral.profiling.served import trace, under_load
from corral.profiling.threads import ThreadUse


def test_a_client_that_nobody_answers_ends_with_a_word() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    inputs = json.dumps([["input", [1, 4], "FP32"]])
    command = [sys.executable, "-S", str(Path(client.__file__)), str(port), "/v2", inputs, "2"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert "ConnectionRefusedError" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_operators_are_printed_where_the_server_failed_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    figures = EngineFigures(
        described={}, batch=1, cpus=[0], inference=span("inference", [1.0]), profiler_percent=None,
        operators=[], peaks=[], bandwidth_gb_s=None,
        threads=ThreadUse(
            span_s=1.0, computing=1, balance_percent=100.0, waited_percent=0.0,
            voluntary_per_s=0.0, involuntary_per_s=0.0, migrations=0,
        ),
    )  # fmt: skip

    def fail(profiling: Profiling, _: object) -> None:
        profiling.report = msgspec.structs.replace(profiling.report, engine=figures)
        raise StartError("the server was killed")

    monkeypatch.setattr(Profiling, "run", fail)
    page = tmp_path / "page.html"
    words = ["profile", "--backend", "null", "--json", "--html", str(page)]
    assert run(words, {"HOME": str(tmp_path)}) == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["engine"]["batch"] == 1
    assert report["notes"] == ["not complete: the server was killed"]
    assert "the server was killed" in page.read_text()
    assert captured.err == "corral: the server was killed\n"


def test_that_a_server_of_our_own_is_gone_is_no_options_fault(tmp_path: Path) -> None:
    spec = registry.get("resnet50")
    with pytest.raises(StartError, match="the server has ended before its time"):
        under_load(tmp_path / "admin", served_model(spec, None), 1, 0.1)
    with pytest.raises(ConfigError, match="no server answers"):
        trace(tmp_path / "admin", 0.1)
