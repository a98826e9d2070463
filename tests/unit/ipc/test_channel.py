import os
import socket
from collections.abc import Iterator

import msgspec
import pytest

from corral.ipc import channel
from corral.ipc.messages import (
    AttachWorker,
    Open,
    WorkerFailed,
    WorkerVerified,
    from_child_decoder,
    to_frontend_decoder,
)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    a, b = channel.pair()
    with a, b:
        yield a, b


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_messages_keep_their_bounds_and_order(pair: Pair) -> None:
    for worker in range(3):
        channel.send(pair[0], WorkerVerified(worker=worker))
    received = [channel.receive(pair[1], from_child_decoder)[0] for _ in range(3)]
    assert received == [WorkerVerified(worker=worker) for worker in range(3)]


def test_descriptors_arrive_as_the_same_files_and_close_on_exec(pair: Pair) -> None:
    read, write = os.pipe()
    message = AttachWorker(
        worker=1, slot=0, pid=5, sizes=[1], costs_s={"FP32:1": 0.5}, region_batch=1
    )
    channel.send(pair[0], message, [read, write])
    received, fds = channel.receive(pair[1], to_frontend_decoder)
    assert received == message
    assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(read).st_ino, os.fstat(write).st_ino]
    assert not any(os.get_inheritable(fd) for fd in fds)
    for fd in (read, write, *fds):
        os.close(fd)


def test_end_comes_after_what_was_sent(pair: Pair) -> None:
    channel.send(pair[0], WorkerFailed(worker=0, message="no"))
    pair[0].close()
    assert channel.receive(pair[1], from_child_decoder)[0] == WorkerFailed(worker=0, message="no")
    with pytest.raises(channel.Closed):
        channel.receive(pair[1], from_child_decoder)


def test_sending_to_nobody_is_closed(pair: Pair) -> None:
    pair[1].close()
    with pytest.raises(channel.Closed):
        channel.send(pair[0], Open())


def test_nothing_to_read_does_not_block(pair: Pair) -> None:
    pair[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        channel.receive(pair[1], from_child_decoder)


def test_nonsense_leaves_no_descriptor_open(pair: Pair) -> None:
    before = open_fds()
    with open(os.devnull, "rb") as file:  # noqa: PTH123
        socket.send_fds(pair[0], [b'{"type":"Nobody"}'], [file.fileno()])
    with pytest.raises(msgspec.DecodeError):
        channel.receive(pair[1], from_child_decoder)
    assert open_fds() == before


def test_a_message_that_could_be_cut_is_not_sent(pair: Pair) -> None:
    with pytest.raises(ValueError, match="70"):
        channel.send(pair[0], WorkerFailed(worker=0, message="x" * 70_000))
