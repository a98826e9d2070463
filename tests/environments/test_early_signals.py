"""A signal while a command's modules are loaded ends it, without a word."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.running_server import environment, wait_until

_CORRAL = ["-m", "corral"]
_COMMANDS = {
    "serve": [*_CORRAL, "serve", "--backend", "null", "--port", "0", "--metrics-port", "0"],
    "status": [*_CORRAL, "status"],
    "top": [*_CORRAL, "top"],
    "tune": [*_CORRAL, "tune", "--backend", "null", "--p99-ms", "20"],
    "loadtest": ["-m", "corral_loadtest", "run", "--help"],
    "client": ["-c", "from corral_client.console import client; client()", "wait"],
}


def _is_past_its_first_line(pid: int) -> bool:
    """Python handles no SIGTERM by itself."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("command", _COMMANDS)
def test_a_signal_while_a_command_is_loaded_ends_it_quietly(
    command: str, number: signal.Signals
) -> None:
    for after_s in (0.0, 0.02, 0.05, 0.1):
        process = subprocess.Popen(
            [sys.executable, *_COMMANDS[command]], env=environment(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            wait_until(functools.partial(_is_past_its_first_line, process.pid), "its first line")
            time.sleep(after_s)
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
        assert "Traceback" not in said
        if not after_s:
            assert (process.returncode, said) == (128 + number, "")
