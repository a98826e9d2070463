"""The words to the service manager, over a real socket."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from corral.system.sd_notify import service_socket, watchdog_s


@pytest.mark.parametrize("abstract", [False, True])
def test_words_arrive_in_one_message(tmp_path: Path, abstract: bool) -> None:
    name = f"\0corral-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        tell = service_socket({"NOTIFY_SOCKET": name.replace("\0", "@")})
        assert tell is not None
        assert tell.send(READY=1, STATUS="serving resnet50")
        assert manager.recv(4096) == b"READY=1\nSTATUS=serving resnet50"


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path) -> None:
    tell = service_socket({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert tell is not None
    assert not tell.send(READY=1)


def test_a_path_that_is_no_sockets_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Such an error has no number, and no words of the system's."""
    tell = service_socket({"NOTIFY_SOCKET": "/" + "a" * 300})
    assert tell is not None
    assert not tell.send(READY=1)
    assert "too long" in caplog.text


def test_a_manager_that_does_not_read_is_waited_for_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        tell = service_socket({"NOTIFY_SOCKET": name})
        assert tell is not None
        while tell.send(STATUS="x" * 1000):
            pass
        began_s = time.monotonic()
        assert not any(tell.send(WATCHDOG=1) for _ in range(20))
        # Each would wait for half a second.
        assert time.monotonic() - began_s < 2
        assert [record.message for record in caplog.records] == [
            "the service manager's socket takes no word: it is full"
        ]
        manager.recv(4096)
        assert tell.send(WATCHDOG=1)


@pytest.mark.parametrize("address", ["", "@", "vsock:2:1234", "relative/path"])
def test_what_is_no_socket_is_nobody(address: str) -> None:
    assert service_socket({"NOTIFY_SOCKET": address}) is None
    assert service_socket({}) is None


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "7"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "9" * 400}, None),
    ],
)
def test_the_watchdogs_time(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_s(environ, 7) == seconds
