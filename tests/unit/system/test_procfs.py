"""What is read of the kernel's tables of connections."""

from __future__ import annotations

import socket
from pathlib import Path

from corral.system import procfs

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F41 00000000:0000 0A 00000000:00000080 00:00000000 00000000     0        0 11 1
   1: 0100007F:1F41 0100007F:E2A0 01 00001000:00000000 01:00000014 00000000     0        0 12 1
   2: 0100007F:1F41 0100007F:E2A1 08 00000200:00000000 01:00000014 00000000     0        0 13 1
   3: 0100007F:E2A0 0100007F:1F41 01 0000FFFF:00001000 00:00000000 00000000     0        0 14 1
"""


def test_the_most_of_a_ports_connections_counts(tmp_path: Path) -> None:
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/tcp").write_text(TABLE)
    assert procfs.unacknowledged_bytes(0x1F41, tmp_path) == 0x1000
    assert procfs.unacknowledged_bytes(0x1F42, tmp_path) == 0


def test_what_a_client_does_not_read_is_not_acknowledged() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, listening.accept()[0] as here:
            here.setblocking(False)
            sent = 0
            try:
                while True:
                    sent += here.send(bytes(2**20))
            except BlockingIOError:
                pass
            assert 0 < procfs.unacknowledged_bytes(port) <= sent
            client.settimeout(10)
            while sent:
                sent -= len(client.recv(2**20))
            assert procfs.unacknowledged_bytes(port) == 0
