"""Control sockets: one JSON message a packet over SOCK_SEQPACKET, descriptors by SCM_RIGHTS."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from corral.ipc.messages import MAX_CONTROL_BYTES, encode

_MAX_FDS = 8
_INT = struct.Struct("i")

Message = TypeVar("Message")


class Closed(Exception):
    """The other end is gone."""


def pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair of SOCK_SEQPACKET sockets, both blocking and not inheritable."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(sock: socket.socket, message: msgspec.Struct, fds: Sequence[int] = ()) -> None:
    """Sends one message; the descriptors are duplicated, the caller keeps its own.

    Raises:
        Closed: the other end is gone.
        BlockingIOError: a non-blocking socket whose buffer is full.
        ValueError: the message is larger than MAX_CONTROL_BYTES.
    """
    data = encode(message)
    if len(data) > MAX_CONTROL_BYTES:
        raise ValueError(f"control message of {len(data)} bytes")
    try:
        socket.send_fds(sock, [data], list(fds), socket.MSG_NOSIGNAL)
    except (BrokenPipeError, ConnectionResetError):
        raise Closed from None


def receive(
    sock: socket.socket, decoder: msgspec.json.Decoder[Message]
) -> tuple[Message, list[int]]:
    """Receives one message and the descriptors that came with it (close-on-exec, now yours).

    Raises:
        Closed: the other end is gone and everything it sent was received.
        BlockingIOError: a non-blocking socket with nothing to read.
        msgspec.DecodeError: not a message that the decoder knows; no descriptor stays open.
    """
    try:
        # Not socket.recv_fds: that of Python 3.11 ignores its flags.
        data, ancillary, _, _ = sock.recvmsg(
            MAX_CONTROL_BYTES, socket.CMSG_LEN(_MAX_FDS * _INT.size), socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        raise Closed from None
    fds = [
        fd
        for level, kind, content in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for (fd,) in _INT.iter_unpack(content[: len(content) // _INT.size * _INT.size])
    ]
    if not data:
        raise Closed
    try:
        return decoder.decode(data), fds
    except msgspec.DecodeError:
        for fd in fds:
            os.close(fd)
        raise
