"""How much of what a cell takes at once."""

from __future__ import annotations

from corral.frontend.listeners import connections_allowed
from corral.protocol.shared_memory import MAX_REGIONS
from corral.settings import LimitSettings, Settings
from corral.tensors import Signature

#: room in a message for everything but the tensor
_ENVELOPE_BYTES = 64 * 2**10
#: What messages may hold that are there in part; see ``Incoming`` for what may be above it.
ARRIVING_BYTES = 256 * 2**20
#: What long answers may hold that their clients have not taken; see ``Outgoing`` for more.
OUTGOING_BYTES = 256 * 2**20
#: room for requests about the server itself when the queue is full
_SPARE_REQUESTS = 1024
#: requests of one connection, where nobody says how many
_LEAST_STREAMS, _MOST_STREAMS = 128, 1024
#: descriptors of a connection that ``UnixRelay`` passes on, besides the one that the port has
_RELAYED = 2


def message_limit(settings: Settings, signature: Signature) -> int:
    """The largest message: a full request of tensors, or one of the largest pictures."""
    if settings.limits.max_message_bytes is not None:
        return settings.limits.max_message_bytes
    tensors = settings.queue.max_items * max(signature.input_bytes.values())
    return max(tensors, settings.queue.max_image_bytes) + _ENVELOPE_BYTES


def max_requests(limits: LimitSettings, max_queue: int) -> int:
    """How many requests may be under way in a cell; as many more may wait for their client."""
    return limits.max_requests or max_queue + _SPARE_REQUESTS


def max_streams(limits: LimitSettings, max_queue: int) -> int:
    """How many requests a connection may have at once; its client keeps further ones.

    So many that one connection fills the queue, and that those beyond it are refused; and no more,
    because all that begin at one moment are in everybody's way.
    """
    return limits.max_streams or min(max(2 * max_queue, _LEAST_STREAMS), _MOST_STREAMS)


def most_connections(settings: Settings) -> int:
    """How many connections an HTTP server takes, and a relay as many."""
    # Those of a server that is replaced may stay as long as their requests.
    is_replaced = settings.security.tls_cert or settings.limits.max_connection_age_s
    is_relayed = settings.listen.unix_socket and settings.security.tls_cert
    return connections_allowed(
        settings.limits.max_connections,
        each=(2 if is_replaced else 1) + (_RELAYED if is_relayed else 0),
        others=MAX_REGIONS if settings.listen.client_shared_memory else 0,
    )
