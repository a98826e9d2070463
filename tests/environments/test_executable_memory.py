"""Where memory that is written to may not be executed: systemd's MemoryDenyWriteExecute=."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
from support import odd_models
from support.running_server import environment, running

_SET_MDWE, _GET_MDWE = 65, 66
#: sets the flag, which all children inherit, and becomes the command
_WITHOUT = (
    f"import ctypes, os, sys; assert not ctypes.CDLL(None).prctl({_SET_MDWE}, 1, 0, 0, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
pytestmark = pytest.mark.skipif(
    ctypes.CDLL(None).prctl(_GET_MDWE, 0, 0, 0, 0) < 0, reason="the kernel has no PR_SET_MDWE"
)


def _serve(path: Path, *options: str) -> list[str]:
    serve = [sys.executable, "-m", "corral", "serve", "--port", "0", "--metrics-port", "0"]
    place = ["--model", str(path), "--cache-dir", str(path.parent), "--workers", "1"]
    return [sys.executable, "-c", _WITHOUT, *serve, *place, "--precision", "fp32", *options]


def test_auto_takes_an_engine_that_works(tmp_path: Path) -> None:
    with running(_serve(odd_models.plain(tmp_path / "m.onnx")), ready=False) as server:
        server.wait_until_ready(timeout_s=60)
        assert "openvino fp32 does not run here" in server.stderr
        assert "this process may not make memory executable" in server.stderr


@pytest.mark.parametrize("prepared", [False, True])
def test_an_engine_that_was_named_says_what_is_in_its_way(tmp_path: Path, prepared: bool) -> None:
    path = odd_models.plain(tmp_path / "m.onnx")
    named = ["--backend", "openvino"]
    if prepared:
        prepare = [sys.executable, "-m", "corral", "prepare", "--model", str(path), *named]
        place = ["--cache-dir", str(tmp_path), "--precision", "fp32"]
        subprocess.run([*prepare, *place], env=environment(), check=True, capture_output=True)
    done = subprocess.run(
        _serve(path, *named), env=environment(), capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    *_, line = done.stderr.strip().splitlines()
    assert "this process may not make memory executable" in line
    assert "MB free" not in line
