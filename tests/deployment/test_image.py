"""A container of the image that CORRAL_TEST_IMAGE names: limits, users, a read-only root, signals.

    CORRAL_TEST_IMAGE=corral make deployment

CORRAL_TEST_PODMAN replaces ``podman`` where it needs options of its own; CORRAL_TEST_RUN adds some
to ``run``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import re
import shlex
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator

import pytest
from support.running_server import wait_until

IMAGE = os.environ.get("CORRAL_TEST_IMAGE", "")
PODMAN = shlex.split(os.environ.get("CORRAL_TEST_PODMAN", "podman"))
RUN = shlex.split(os.environ.get("CORRAL_TEST_RUN", ""))
#: of the settings that the image was prepared for: none for one that PREPARE said nothing of
SETTINGS = shlex.split(os.environ.get("CORRAL_TEST_IMAGE_SETTINGS", ""))
MOST_MB = 900
#: from the start of the program to its first answer, where nothing else runs
MOST_START_S = float(os.environ.get("CORRAL_TEST_START_S", "5"))
GRPC, HTTP, METRICS = 18801, 18800, 18802

pytestmark = [
    pytest.mark.skipif(not IMAGE, reason="CORRAL_TEST_IMAGE names no image"),
    pytest.mark.skipif(shutil.which(PODMAN[0]) is None, reason=f"no {PODMAN[0]}"),
]


def podman(*args: str, timeout_s: float = 120) -> str:
    done = subprocess.run(
        [*PODMAN, *args], capture_output=True, text=True, check=False, timeout=timeout_s
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclasses.dataclass
class Container:
    """A container that runs."""

    name: str

    def log(self) -> str:
        done = subprocess.run(
            [*PODMAN, "logs", self.name], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    def ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", METRICS, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def ready_after_s(self) -> float:
        """What the server itself measured from its start."""
        wait_until(lambda: self.ready() or not self.runs(), "ready", 120)
        found = re.search(r"ready in ([0-9.]+) s", self.log())
        assert found, self.log()
        return float(found[1])

    def runs(self) -> bool:
        return podman("inspect", "-f", "{{.State.Running}}", self.name).strip() == "true"

    def inside(self, *command: str) -> str:
        return podman("exec", self.name, *command)


@contextlib.contextmanager
def container(*options: str, words: list[str] | None = None) -> Iterator[Container]:
    name = f"corral-{uuid.uuid4().hex[:8]}"
    ports = ["--port", f"{GRPC}", "--http-port", f"{HTTP}", "--metrics-port", f"{METRICS}"]
    command = ["serve", *ports, *(SETTINGS if words is None else words)]
    podman(*("run", "-d", "--name", name, "--network", "host"), *RUN, *options, IMAGE, *command)
    try:
        yield Container(name)
    finally:
        subprocess.run([*PODMAN, "rm", "-f", "-t", "1", name], capture_output=True, check=False)


def test_it_is_small_and_has_no_torch() -> None:
    size_mb = int(podman("image", "inspect", "-f", "{{.Size}}", IMAGE)) / 1e6
    print(f"image: {size_mb:.0f} MB")
    assert size_mb <= MOST_MB
    user = podman("image", "inspect", "-f", "{{.Config.User}}", IMAGE).strip()
    assert user == "10001:0"


def test_no_process_compiles_code_that_it_loads() -> None:
    rooms = "corral.supervisor.app, corral.tuning.prepare, corral.frontend.process, openvino"
    command = [*PODMAN, "run", "--rm", *RUN, "--read-only", "--entrypoint", "python3", IMAGE]
    done = subprocess.run(
        [*command, "-v", "-c", f"import {rooms}"], capture_output=True, text=True, check=True
    )
    loaded = re.findall(r"^# code object from '?(/[^'\n]+?)'?$", done.stderr, re.M)
    assert len(loaded) > 500
    assert not [path for path in loaded if path.endswith(".py")]


@pytest.mark.parametrize(
    "options",
    [
        ["--read-only", "--tmpfs", "/tmp"],
        ["--read-only", "--tmpfs", "/tmp", "--user", "12345"],
        ["--read-only", "--tmpfs", "/tmp", "--user", "12345:12345", "--memory", "2g"],
        ["--read-only", "--tmpfs", "/tmp", "--cpus", "1"],
        ["--read-only", "--tmpfs", "/tmp", "--cpuset-cpus", "1"],
    ],
    ids=["plain", "any user", "any group, memory", "cpus", "cpuset"],
)
def test_it_serves_within_seconds(options: list[str]) -> None:
    with container(*options) as made:
        began_s = time.monotonic()
        own_s = made.ready_after_s()
        print(
            f"{options}: ready after {own_s} s, of the container {time.monotonic() - began_s:.1f}"
        )
        assert "preparing" not in made.log(), made.log()
        # Nothing was measured that a start waits for; the rate for later plans may be another one.
        assert not re.search(r"the (guard result|search|cost curve) is not cached", made.log())
        assert "Traceback" not in made.log()
        made.inside("corral-client", "wait", "--timeout-s", "10", "--url", f"127.0.0.1:{GRPC}")
        answer = made.inside(
            "corral-client", "infer", "--random", "uint8", "--url", f"127.0.0.1:{GRPC}"
        )
        assert answer
        # The workers' memory is private, so nobody else of their user reads their maps: they say
        # themselves which malloc took hold, and on which CPUs.
        (row,) = re.findall(r"^ 0 +\d+ +\d+ +(\S+) +\S+ +(\S+) ", made.log(), re.M)
        assert row[1] == "tcmalloc"
        if "--cpuset-cpus" in options:
            assert row[0] == "1"
        assert own_s <= MOST_START_S


def test_sigterm_ends_it_in_order_and_pid_1_reaps() -> None:
    with container("--read-only", "--tmpfs", "/tmp") as made:
        made.ready_after_s()
        # What loses its parent becomes PID 1's child, and may not stay a zombie.
        made.inside("sh", "-c", "(sh -c 'sleep 0.2; exit 3' &) ; sleep 0.6")
        states = made.inside("sh", "-c", "cat /proc/[0-9]*/stat | cut -d' ' -f3")
        assert "Z" not in states.split()
        podman("stop", "-t", "30", made.name)
        assert podman("inspect", "-f", "{{.State.ExitCode}}", made.name).strip() == "0"
        assert "draining" in made.log()


def test_sigterm_while_it_starts_ends_it_at_once() -> None:
    with container("--read-only", "--tmpfs", "/tmp") as made:
        began_s = time.monotonic()
        podman("stop", "-t", "30", made.name)
        assert time.monotonic() - began_s < 20


def test_a_wrong_word_is_one_line() -> None:
    with container(words=["--mode", "fast"]) as made:
        wait_until(lambda: not made.runs(), "the end", 60)
        assert podman("inspect", "-f", "{{.State.ExitCode}}", made.name).strip() == "2"
        assert "invalid choice" in made.log()
