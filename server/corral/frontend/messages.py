"""A unary call's one message, received when there is room for it."""

from __future__ import annotations

from corral.errors import InvalidRequest
from corral.frontend.admission import Admission
from corral.frontend.grpc_asgi.call import Call, Pieces

#: the largest message of a call about the server itself
SHORT_MESSAGE_BYTES = 2**16
_TOO_LONG = "the message is larger than such a call's may be"
_NONE = "the call has no message"


async def one_message(call: Call, admission: Admission, most_bytes: int) -> bytes:
    """The message of a call about the server itself.

    Raises:
        RequestError, GrpcError, ClientGone: there is none that is taken.
    """
    with admission.turn(call.scope) as turn:
        pieces = await call.message(most_bytes, _TOO_LONG, turn.grow)
    return b"".join(existing(pieces))


def existing(pieces: Pieces | None) -> Pieces:
    """The message of a call that must have one; raises InvalidRequest where it has none."""
    if pieces is None:
        raise InvalidRequest(_NONE)
    return pieces
