"""What the tests take for a leak in a message for a client."""

from __future__ import annotations

import pytest
from support.requests_by_hand import leak

SIZE = "the picture has 16411 x 15614 = 256,241,354 pixels"
HEAD = b"\xff\xc0\x00\x11\x08\x3c\xfe\x40\x1b\x03"


@pytest.mark.parametrize(
    ("details", "said", "found"),
    [
        ("worker 15614 died", b"", "pid 15614"),
        ("worker 15614 died", HEAD, "pid 15614"),
        (SIZE, b"", "pid 15614"),
        (SIZE, HEAD, ""),
        (f"{SIZE} in 15614", HEAD, "pid 15614"),
        ("no such file: /tmp/x", b"", "/tmp"),
        ("'/tmp/x' is no name", b"/tmp/x", ""),
    ],
)
def test_a_process_number_is_one_unless_it_is_the_clients_own_picture(
    details: str, said: bytes, found: str
) -> None:
    assert leak(details, [448, 15614], said) == found
