"""The examples, run as their pages say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.running_server import StartServer

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(*command: str) -> str:
    """Runs a command with the environment's scripts on PATH; returns what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_own_model_serves_and_names_the_colour(
    real_server: StartServer, tmp_path: Path, backend: str
) -> None:
    run(sys.executable, str(EXAMPLES / "own_model" / "make_model.py"), str(tmp_path))
    shutil.copy(EXAMPLES / "own_model" / "colours.toml", tmp_path)
    with real_server("--model", str(tmp_path / "colours.onnx"), "--backend", backend) as server:
        ask = str(EXAMPLES / "tritonclient" / "ask.py")
        for index, colour in enumerate(("red", "green", "blue")):
            picture = tmp_path / f"{colour}.png"
            Image.new("RGB", (80, 70), colour).save(picture)
            url = f"127.0.0.1:{server.port}"
            printed = run(sys.executable, ask, url, "colours_image", str(picture))
            first = printed.splitlines()[0]
            assert first.split(":")[1:] == [str(index), colour]


@pytest.mark.long
def test_the_load_example_measures_both_loads(real_server: StartServer) -> None:
    with real_server("--backend", "null") as server:
        script = str(EXAMPLES / "load" / "load.sh")
        printed = run("sh", script, f"127.0.0.1:{server.port}", "1")
    assert "4 clients" in printed
    assert "20/s" in printed
