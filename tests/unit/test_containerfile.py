"""deploy/Containerfile says what corral takes, and runs as nobody in particular."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from corral.cli.command_line import settings_of

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy" / "Containerfile").read_text()
LINES = [
    line
    for line in re.sub(r"\\\n", " ", TEXT).splitlines()
    if line.strip() and not line.startswith("#")
]
#: of the last stage
FINAL = LINES[max(n for n, line in enumerate(LINES) if line.startswith("FROM ")) :]


def _value(instruction: str) -> str:
    (line,) = [line for line in FINAL if line.startswith(f"{instruction} ")]
    return line.removeprefix(instruction).strip()


def test_what_it_runs_is_what_corral_takes(tmp_path: Path) -> None:
    *signals, command = json.loads(_value("ENTRYPOINT"))
    assert signals == ["env", "--block-signal=TERM", "--block-signal=INT"]
    assert command == "corral"
    settings = settings_of(json.loads(_value("CMD")), {"HOME": str(tmp_path)})
    assert settings.listen.host == settings.listen.metrics_host == "0.0.0.0"
    ports = settings.listen.http_port or 8000, settings.listen.port, settings.listen.metrics_port
    assert _value("EXPOSE").split() == [str(port) for port in ports]


def test_its_health_check_is_a_command_that_there_is() -> None:
    check = json.loads(_value("HEALTHCHECK").partition("CMD ")[2])
    assert check[0] == "corral-client"
    # Nobody listens at port 1 of loopback: the words are right, and the answer is no.
    words = [word.replace("8001", "1").replace("5", "0.1") for word in check]
    done = subprocess.run(
        [str(ROOT / ".venv" / "bin" / words[0]), *words[1:]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr


@pytest.mark.parametrize(
    ("engine", "prepare", "ran"),
    [
        ("openvino", "", "--backend openvino"),
        ("torch torchao intel-openmp", "", "--backend torch"),
        ("openvino", "--model vit_b_16 --backend openvino", "--model vit_b_16 --backend openvino"),
        ("openvino", "none", None),
    ],
)
def test_an_image_without_torch_holds_what_it_serves(
    engine: str, prepare: str, ran: str | None, tmp_path: Path
) -> None:
    """The stage's own shell line, with programs that only say what they were asked."""
    (line,) = [line for line in LINES if line.startswith("RUN ") and "corral prepare" in line]
    for program in ("/opt/maker/bin/pip", "/opt/maker/bin/corral", "python3", "/var/cache/corral"):
        line = line.replace(program, f"{tmp_path}/{Path(program).name}")
    for name in ("pip", "corral", "python3"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $@" >> {tmp_path}/said\n')
        (tmp_path / name).chmod(0o755)
    (tmp_path / "said").touch()
    line = line.replace(f"mkdir -p {tmp_path}/corral", f"mkdir -p {tmp_path}/cache")
    line = line.partition("&& find ")[0]
    subprocess.run(
        ["sh", "-ec", line.removeprefix("RUN ")],
        env={"ENGINE": engine, "PREPARE": prepare, "PATH": "/usr/bin:/bin"},
        check=True,
    )
    said = (tmp_path / "said").read_text().splitlines()
    prepared = [words.removeprefix("corral ") for words in said if words.startswith("corral ")]
    assert prepared == ([] if ran is None else [f"prepare {ran}"])
    if ran is not None:
        settings_of(["prepare", *ran.split()], {"HOME": str(tmp_path)})


def test_it_runs_as_nobody_in_particular_with_tcmalloc() -> None:
    assert _value("USER") == "10001:0"
    assert "libtcmalloc-minimal4" in " ".join(FINAL)
    assert not [line for line in FINAL if re.search(r"\bpip\b|torch", line)]


def test_stages_that_are_copied_from_are_there() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)", TEXT, re.M)
    copied = re.findall(r"--from=(\S+)", TEXT)
    assert set(copied) <= set(stages)
    bases = re.findall(r"^FROM (\S+)", TEXT, re.M)
    assert set(bases) <= {"${BASE}", *stages}


def test_both_builders_leave_the_same_out() -> None:
    other = (ROOT / "deploy" / "Containerfile.dockerignore").read_text()
    assert (ROOT / ".containerignore").read_text() == other


@pytest.mark.parametrize("builder", ["podman", "docker"])
def test_make_image_builds_it(builder: str) -> None:
    asked = ["image", f"BUILDER={builder}", "IMAGE_ARGS=--build-arg ENGINE=onnxruntime"]
    command = ["make", "--no-print-directory", "-n", *asked]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    words = done.stdout.split()
    assert words[:4] == [builder, "build", "-f", "deploy/Containerfile"]
    # Without it podman leaves HEALTHCHECK out; docker knows no other format, and no such option.
    assert ("--format" in words) is (builder == "podman")
    assert words[-3:] == ["--build-arg", "ENGINE=onnxruntime", "."]
