"""The real frontend with a leak: what to leak stands in ``--weights``, as words.

``leaks-descriptors``: one a worker that dies; ``leaks-memory``: 4 KiB a request.
"""

import os
import sys

import msgspec

from corral.dataplane import inference, worker_link
from corral.frontend import process
from corral.ipc.messages import CellBoot

_kept: list[object] = []


def leak_descriptors() -> None:
    close = worker_link.WorkerLink.close

    def leaky(self: worker_link.WorkerLink) -> None:
        _kept.append(os.dup(self.fileno()))
        close(self)

    worker_link.WorkerLink.close = leaky  # type: ignore[method-assign]


def leak_memory() -> None:
    original = vars(inference)["encoded_answer"]

    def leaky(*args: object) -> bytes:
        _kept.append(bytearray(os.urandom(4096)))
        found: bytes = original(*args)
        return found

    vars(inference)["encoded_answer"] = leaky


def main() -> None:
    boot_fd = int(sys.argv[2])
    with os.fdopen(os.dup(boot_fd), "rb") as file:
        faults = msgspec.json.decode(file.read(), type=CellBoot).settings.model.weights.split()
    os.lseek(boot_fd, 0, os.SEEK_SET)
    if "leaks-descriptors" in faults:
        leak_descriptors()
    if "leaks-memory" in faults:
        leak_memory()
    process.main()


if __name__ == "__main__":
    main()
