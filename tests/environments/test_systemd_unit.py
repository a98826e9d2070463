"""deploy/corral.service: systemd takes it, finds it hardened, and corral runs under its rules."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import unit_file
from support.running_server import running
from support.serving_null import null_server_command

from corral.cli.command_line import settings_of
from corral.supervisor import admin
from corral_client import Client

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
#: of systemd-analyze security, 0 (safest) to 10; "OK" ends at 4.9
MOST_EXPOSURE = 2.0


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is here: systemd asks whether it can be run."""
    made = tmp_path / "corral.service"
    made.write_text(unit_file.UNIT.read_text().replace("/opt/corral/bin/corral", sys.executable))
    return made


def test_systemd_takes_it(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_systemd_takes_the_lines_that_are_there_to_be_uncommented(unit: Path) -> None:
    lines = re.sub(r"^#(?=[A-Z]\w+=)", "", unit.read_text(), flags=re.M)
    assert lines.count("\nLoadCredential=") == 3
    unit.write_text(lines)
    test_systemd_takes_it(unit)


def test_systemd_finds_it_hardened(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager",
         f"--threshold={int(MOST_EXPOSURE * 10)}", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-500:]
    assert "Overall exposure level" in done.stdout


def test_its_commands_have_options_that_there_are(tmp_path: Path) -> None:
    (start,) = unit_file.values("ExecStart")
    assert start.startswith("/opt/corral/bin/corral serve --config /etc/corral/corral.toml ")
    config = tmp_path / "corral.toml"
    config.write_text('mode = "throughput"\n')
    words = start.replace("/etc/corral/corral.toml", str(config)).split()[1:]
    settings = settings_of(words, {"HOME": str(tmp_path)})
    (reload,) = unit_file.values("ExecReload")
    assert reload.split()[-2:] == ["--admin-socket", settings.listen.admin_socket]
    # Where status, top and reload look for it, so that nobody has to name it.
    assert settings.listen.admin_socket == str(admin.UNITS_SOCKET)
    (stop_s,) = unit_file.values("TimeoutStopSec")
    assert int(stop_s) > settings.lifecycle.grace_s


def test_corral_starts_reloads_and_stops_under_its_filter(tmp_path: Path) -> None:
    names = tmp_path / "calls"
    names.write_text("\n".join(sorted(unit_file.allowed_calls())))
    filtered = [sys.executable, "-m", "support.under_filter", str(names)]
    socket = tmp_path / "admin.sock"
    command = null_server_command("--workers", "2", "--admin-socket", str(socket), "--seccomp")
    with (
        running([*filtered, *command]) as server,
        Client(f"127.0.0.1:{server.port}", model="resnet50", deadline_s=20) as client,
    ):
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert "Seccomp:\t2" in status
        client.infer(np.zeros((1, 3, 224, 224), np.float32))
        reloaded = subprocess.run(
            [sys.executable, "-m", "corral", "reload", "--admin-socket", str(socket)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert reloaded.returncode == 0, reloaded.stderr
        assert "2 workers replaced" in reloaded.stdout
        client.infer(np.zeros((1, 3, 224, 224), np.float32))
        assert server.stop() == 0
    assert "Operation not permitted" not in server.stderr


def test_a_filter_that_forbids_filters_is_told_in_one_line(tmp_path: Path) -> None:
    """systemd's @system-service alone, as other units have it."""
    names = tmp_path / "calls"
    names.write_text("\n".join(sorted(unit_file.allowed_calls() - {"seccomp"})))
    filtered = [sys.executable, "-m", "support.under_filter", str(names)]
    command = null_server_command("--workers", "1", "--seccomp")
    with running([*filtered, *command], ready=False) as server:
        assert server.wait() == 2
    assert "corral: --seccomp: refused by the kernel" in server.stderr
    assert "Traceback" not in server.stderr
