"""Runs a command on a machine that reaches nobody, and tells whom it tried to reach.

``python -m support.alone REPORT COMMAND...`` inside fresh network and mount namespaces (``alone``
makes them): loopback is the only interface, every packet for elsewhere is sent into it and seen
there, and the name server is at 127.0.0.1, where nobody answers.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.programs import TESTS

_NAME_SERVICE = 53
_IPV4, _IPV6 = 0x0800, 0x86DD
_TCP, _UDP = 6, 17
#: the tests' own servers and clients are told to use these on loopback
_ASKED_FOR = range(8000, 8010)
_PACKET_OUTGOING = 4
_ALL_PROTOCOLS = 3


def command_alone(command: Sequence[str], report: Path) -> list[str]:
    """The command line that runs a command alone; whom it called is in ``report`` at its end."""
    program = [sys.executable, "-m", "support.alone", str(report), *command]
    return ["unshare", "--net", "--mount", "--propagation", "private", "--", *program]


def alone(
    command: Sequence[str], env: Mapping[str, str], timeout_s: float = 90.0
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Runs a command alone to its end; returns how it ended, and every call that it made."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "calls.json"
        # Files are shared with other tests, ports are not: a server of another test that has the
        # same one must not be taken for ours.
        done = subprocess.run(
            command_alone(command, report),
            env={"XDG_RUNTIME_DIR": folder, **env, "PYTHONPATH": str(TESTS)},
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert report.exists(), done.stderr
        return done, json.loads(report.read_text())


def call_of(packet: bytes, kind: int) -> str | None:
    """Whom a packet calls: another machine, the name service, an unasked port; None: nobody."""
    if kind == _IPV4 and len(packet) >= 20:
        header, protocol = (packet[0] & 15) * 4, packet[9]
        target = ipaddress.ip_address(packet[16:20])
    elif kind == _IPV6 and len(packet) >= 40:
        header, protocol = 40, packet[6]
        target = ipaddress.ip_address(packet[24:40])
    else:
        return None
    port = 0
    if protocol in {_TCP, _UDP}:
        port = int.from_bytes(packet[header + 2 : header + 4], "big")
    if port == _NAME_SERVICE:
        return f"name service: {packet[header + 20 :][:60]!r}"
    if target.is_loopback:
        # The first packet of a connection: SYN without ACK.
        opens = protocol == _TCP and packet[header + 13] & 0x12 == 0x02
        return f"loopback port {port}" if opens and port not in _ASKED_FOR else None
    return f"{target} port {port}"


class _Sniffer:
    """Sees every packet that leaves anybody in this namespace."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PROTOCOLS)
        )
        self._socket.settimeout(0.1)
        self._done = threading.Event()
        self.calls: list[str] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._done.is_set():
            with contextlib.suppress(TimeoutError):
                packet, (_, kind, direction, *_) = self._socket.recvfrom(256)
                call = call_of(packet, kind) if direction == _PACKET_OUTGOING else None
                if call:
                    self.calls.append(f"{time.monotonic():.1f} s: {call}")

    def stop(self) -> list[str]:
        self._done.set()
        self._thread.join()
        return self.calls


def main() -> int:
    """Settles the namespace, runs the command, writes the report."""
    report, command = Path(sys.argv[1]), sys.argv[2:]
    for line in ("link set lo up", "route add default dev lo", "-6 route add default dev lo"):
        # A machine without IPv6 has no such route to add.
        subprocess.run(["ip", *line.split()], check="-6" not in line, stderr=subprocess.DEVNULL)
    servers = report.with_name("resolv.conf")
    servers.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    subprocess.run(
        ["mount", "--bind", str(servers), os.path.realpath("/etc/resolv.conf")], check=True
    )
    sniffer = _Sniffer()
    try:
        code = subprocess.call(command)
    finally:
        report.write_text(json.dumps(sniffer.stop()))
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
