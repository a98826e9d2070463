"""CONTRIBUTING.md's examples, built into a copy: an engine, a model, a setting, a metric."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from PIL import Image
from support.running_server import running

from corral_client import Client

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"(?ms)^```python\n# (new|after): (\S+?\.py)(?:: (.*?))?\n(.*?)^```$")


def apply(page: str, copy: Path) -> None:
    """Does to the copy what the page's blocks say."""
    for kind, file, after, text in _BLOCK.findall(page):
        path = copy / file
        if kind == "new":
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            continue
        lines = path.read_text().splitlines(keepends=True)
        place = next((n for n, line in enumerate(lines) if line.startswith(after)), None)
        assert place is not None, f"{file} has no line that begins with {after!r}"
        if after.startswith("class "):
            place += 1  # its docstring
        path.write_text("".join([*lines[: place + 1], text, *lines[place + 1 :]]))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that finds a copy of the server, the examples built in."""
    copy = tmp_path_factory.mktemp("contributing")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "server", copy / "server", ignore=ignored)
    apply((ROOT / "CONTRIBUTING.md").read_text(), copy)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", copy / "venv"], check=True)
    (packages,) = (copy / "venv" / "lib").glob("python*/site-packages")
    paths = [str(copy / "server"), *(p for p in sys.path if Path(p).is_dir())]
    (packages / "copy.pth").write_text("\n".join(paths) + "\n")
    return copy / "venv" / "bin" / "python"


def test_the_setting_is_in_the_help(python: Path) -> None:
    done = subprocess.run(
        [python, "-m", "corral", "serve", "--help"], capture_output=True, text=True, check=True
    )
    assert re.search(r"--site NAME +where this server stands, for people", done.stdout)


def test_the_engine_serves_the_model_and_the_metric_is_exposed(
    python: Path, tmp_path: Path
) -> None:
    command = [str(python), "-m", "corral", "serve", "--port", "0", "--metrics-port", "0"]
    command += ["--cache-dir", str(tmp_path), "--workers", "1", "--site", "there"]
    command += ["--model", "colours", "--backend", "reference", "--precision", "fp32"]
    with running(command, ready=False) as server:
        server.wait_until_ready(timeout_s=100)
        with Client(f"127.0.0.1:{server.port}", model="colours") as client:
            for colour in ("red", "green", "blue"):
                picture = tmp_path / f"{colour}.png"
                Image.new("RGB", (70, 80), colour).save(picture)
                assert client.classify(picture, k=1)[0].label == colour
            assert client.metadata("colours").properties["backend"] == "reference"
        url = f"http://127.0.0.1:{server.metrics_port}/metrics"
        with urllib.request.urlopen(url) as answer:
            assert "corral_planned_cells 1.0" in answer.read().decode().splitlines()
