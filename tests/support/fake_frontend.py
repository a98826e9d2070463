"""A frontend without gRPC: takes workers, proves them, drains. Speaks the real protocol.

Run by the supervisor like the real one. What it is to do wrong stands in ``--weights``, as words:
``frontend-fails``, ``frontend-dies``, ``never-opens``, ``never-drains``.
"""

import os
import selectors
import socket
import sys

import msgspec

from corral.ipc import channel
from corral.ipc.messages import (
    AttachWorker,
    CellBoot,
    DetachWorker,
    Drain,
    Drained,
    FrontendFailed,
    FrontendUp,
    Open,
    Opened,
    Reconfigure,
    Reconfigured,
    WorkerGone,
    WorkerVerified,
    to_frontend_decoder,
)
from corral.ipc.packets import BATCH, RESULT


def main() -> None:
    with os.fdopen(int(sys.argv[2]), "rb") as file:
        boot = msgspec.json.decode(file.read(), type=CellBoot)
    faults = boot.settings.model.weights.split()
    supervisor = socket.socket(fileno=boot.control_fd)
    if "frontend-fails" in faults:
        channel.send(supervisor, FrontendFailed(cell=boot.cell, message="the port is haunted"))
        return
    if "frontend-dies" in faults:
        sys.exit("no luck today")
    channel.send(supervisor, FrontendUp(cell=boot.cell, port=boot.settings.listen.port))
    with selectors.DefaultSelector() as selector:
        selector.register(supervisor, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not supervisor:
                    hear_worker(key, selector, supervisor)
                    continue
                try:
                    message, fds = channel.receive(supervisor, to_frontend_decoder)
                except channel.Closed:
                    return
                match message:
                    case AttachWorker():
                        data_fd, region_fd = fds
                        os.close(region_fd)
                        data = socket.socket(fileno=data_fd)
                        data.send(BATCH.pack(0, 1, 1))
                        selector.register(data, selectors.EVENT_READ, message)
                    case DetachWorker():
                        leave(message.worker, selector, supervisor)
                    case Reconfigure():
                        mode = message.settings.model.mode
                        print(f"frontend {boot.cell}: {mode}", file=sys.stderr, flush=True)
                        channel.send(supervisor, Reconfigured(number=message.number))
                    case Open():
                        print(f"frontend {boot.cell}: open", file=sys.stderr, flush=True)
                        if "never-opens" not in faults:
                            channel.send(supervisor, Opened())
                    case Drain() if "never-drains" not in faults:
                        channel.send(supervisor, Drained(cell=boot.cell))


def leave(worker: int, selector: selectors.BaseSelector, supervisor: socket.socket) -> None:
    fed = (k for k in selector.get_map().values() if k.data)
    key = next((k for k in fed if k.data.worker == worker), None)
    if key is not None:
        selector.unregister(key.fileobj)
        assert isinstance(key.fileobj, socket.socket)
        key.fileobj.close()
        channel.send(supervisor, WorkerGone(worker=worker, pid=key.data.pid))


def hear_worker(
    key: selectors.SelectorKey, selector: selectors.BaseSelector, supervisor: socket.socket
) -> None:
    data = key.fileobj
    assert isinstance(data, socket.socket)
    try:
        answer = data.recv(RESULT.size)
    except ConnectionResetError:
        answer = b""
    if answer:
        channel.send(supervisor, WorkerVerified(worker=key.data.worker))
    else:
        selector.unregister(data)
        data.close()
        channel.send(supervisor, WorkerGone(worker=key.data.worker, pid=key.data.pid))


if __name__ == "__main__":
    main()
