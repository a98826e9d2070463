"""An engine that throws at what it finds on a machine gives way to one that does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import odd_models
from support.running_server import environment

#: OpenVINO reads a number out of it, and throws "stoi" where there is none
_FILE = Path("/sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a mount namespace")
@pytest.mark.skipif(not _FILE.exists(), reason=f"{_FILE} is not there")
def test_auto_takes_the_next_where_a_cpu_file_makes_one_throw(tmp_path: Path) -> None:
    lie = tmp_path / "lie"
    lie.write_text("?\n", "utf-8")
    model = odd_models.plain(tmp_path / "m.onnx")
    prepare = [sys.executable, "-m", "corral", "prepare", "--model", str(model)]
    script = f'mount --bind {lie} {_FILE} && exec "$@"'
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", script, "sh"),
            *(*prepare, "--precision", "fp32", "--cache-dir", str(tmp_path)),
        ],
        env=environment(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "openvino fp32 does not run here: OpenVINO does not start: stoi" in done.stderr
    assert done.stdout.strip().endswith("model.onnx")
