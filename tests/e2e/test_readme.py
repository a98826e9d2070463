"""The commands of README.md and docs/quickstart.md, run against a server on other ports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.running_server import Server

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/quickstart.md")


def run(line: str, server: Server) -> str:
    """Runs a page's line in the repository's root; its ports become the server's."""
    ports = {"8000": server.port, "8001": server.port, "8002": server.metrics_port}
    line = re.sub(r"127\.0\.0\.1:(800[012])", lambda m: f"127.0.0.1:{ports[m[1]]}", line)
    line = line.removeprefix(".venv/bin/")
    if line.startswith("corral-client"):
        line += f" --url 127.0.0.1:{server.port}"
    if line.startswith("corral status"):
        line += f" --port {server.port}"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        line,
        shell=True,
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def consoles(page: str) -> list[tuple[str, str]]:
    """Commands of a page's ``console`` blocks, each with the output that stands below it."""
    blocks = re.findall(r"(?ms)^```console\n(.*?)^```$", (ROOT / page).read_text())
    return [
        (command, output)
        for block in blocks
        for command, output in re.findall(r"(?m)^\$ (.+)\n((?:(?!\$ ).*\n)*)", block)
    ]


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_is_what_its_commands_print(cats: Server, page: str) -> None:
    commands = consoles(page)
    assert len(commands) >= 2
    for command, output in commands:
        printed = run(command, cats)
        assert printed.strip()
        for line in output.splitlines():
            assert line.split()[-1] in printed, f"{command} does not print {line!r}"


def test_curl_classifies_as_the_quickstart_says(cats: Server) -> None:
    page = (ROOT / "docs" / "quickstart.md").read_text()
    (command,) = re.findall(r"(?ms)^(curl --data-binary .*?)\n```", page)
    assert "tiger cat" in run(command, cats)


def test_the_python_of_the_quickstart_names_the_cat(cats: Server) -> None:
    page = (ROOT / "docs" / "quickstart.md").read_text()
    (code,) = re.findall(r"(?ms)^```python\n(.*?)^```", page)
    code = code.replace("127.0.0.1:8001", f"127.0.0.1:{cats.port}")
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "tiger cat" in done.stdout.splitlines()
