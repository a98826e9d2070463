"""``corral serve --dry-run``: exit 0 when a request is answered, else the reason."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.certificates import Authority, private
from support.running_server import environment, null_server

DATA = Path(__file__).parents[1] / "data" / "models"


def dry_run(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "corral", "serve", "--backend", "null", "--dry-run", *args]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=environment()
    )


def test_one_request_and_exit_0_beside_a_server_on_the_same_ports(tmp_path: Path) -> None:
    with null_server("--workers", "1") as server:
        done = dry_run(
            *("--workers", "2", "--oversubscribe", "--port", f"{server.port}"),
            *("--metrics-port", f"{server.metrics_port}", "--host", "0.0.0.0"),
            *("--unix-socket", str(tmp_path / "socket")),
            *("--access-log", str(tmp_path / "access.log")),
        )
    assert done.returncode == 0, done.stderr
    assert "dry run: resnet50, null fp32, 2 workers, ready after" in done.stdout
    assert "one request answered in" in done.stdout
    assert not list(tmp_path.iterdir())


def test_with_tls_and_tokens(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    # Not a name of loopback: that a certificate fits is not for the dry run to say.
    pair = authority.issue("server", "corral.example")
    token = private(tmp_path / "tokens", "a-token-of-thirty-two-characters\n")
    options = [f"--tls-cert={pair.cert}", f"--tls-key={pair.key}", f"--auth-token-file={token}"]
    done = dry_run("--workers", "1", *options, f"--tls-client-ca={authority.file}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--tls-cert", "/nowhere.pem", "--tls-key", "/nowhere.pem"], 2, "/nowhere.pem"),
        (["--model", "resnet51"], 2, "no model 'resnet51'"),
        (["--access-log", "/dev/null/log"], 2, "--access-log /dev/null/log: Not a directory"),
        (["--unix-socket", "/dev/null/s"], 2, "--unix-socket /dev/null/s: there is no folder"),
        (["--unix-socket", "/dev/null"], 2, "/dev/null: there is something else of that name"),
        (["--admin-socket", "/dev"], 2, "--admin-socket /dev: there is something else of that"),
        (["--admin-socket", "/dev/null/s"], 2, "--admin-socket /dev/null/s: there is no folder"),
        (["--host", "nowhere.invalid"], 2, "--host nowhere.invalid: "),
        (["--metrics-host", "192.0.2.1"], 2, "cannot listen on 192.0.2.1"),
        (["--workers", "1", "--max-message-bytes", "1000"], 1, "answered with 413"),
        (["--workers", "1", "--boot-timeout-s", "0.01"], 1, "not ready after"),
    ],
)
def test_the_reason_is_one_line(options: list[str], code: int, said: str) -> None:
    done = dry_run(*options)
    assert done.returncode == code, done.stderr
    assert said in done.stderr.splitlines()[-1]
    assert "dry run: resnet50" not in done.stdout


def test_a_folder_and_a_name_of_its_own(tmp_path: Path) -> None:
    home = tmp_path / "models" / "1"
    home.mkdir(parents=True)
    for name in ("colours.onnx", "colours.toml", "colours.txt"):
        shutil.copy(DATA / name, home / name)
    done = dry_run("--model", str(tmp_path / "models"), "--model-name", "my-service")
    assert done.returncode == 0, done.stderr
    assert "dry run: my-service, null" in done.stdout
