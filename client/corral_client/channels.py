"""How connections are set up, and when to try again or to give up. No I/O here.

Retries of UNAVAILABLE are gRPC's own (the service config's retryPolicy): they know the deadline,
obey the server's ``grpc-retry-pushback-ms``, and keep the serialised message. Retries of
RESOURCE_EXHAUSTED are the client's (``OverloadRetries``), because gRPC cannot tell a full queue
from a message above the server's limit, and would send that five times. Inference changes nothing
in a server, so a request may safely be sent again.
"""

from __future__ import annotations

import json
import random
import time

from corral_client.addresses import proxy_options
from corral_client.errors import CorralClientError, DeadlineExceeded, Overloaded

SERVICE = "inference.GRPCInferenceService"
DEFAULT_URL = "127.0.0.1:8001"
DEFAULT_HTTP_URL = "127.0.0.1:8000"
DEFAULT_MODEL = "resnet50"
DEFAULT_DEADLINE_S = 30.0
#: The longest that sockets can wait; a deadline beyond it is as good as none.
_MOST_DEADLINE_S = 2_000_000.0
#: A server spreads connections over its cells, not requests.
DEFAULT_CONNECTIONS = 4

#: gRPC takes no more than five
_MAX_ATTEMPTS = 5
#: Not the probes: who asks whether a server is there wants to know now.
RETRIED = ("ModelInfer", "ModelMetadata", "ModelConfig", "ModelStatistics")
#: gRPC forgets a message larger than this once it is sent, and so cannot retry it. Its own
#: 256 KiB would leave every FP32 tensor without retries.
_RETRY_BUFFER_BYTES = 64 * 2**20
_MAX_ANSWER_BYTES = 64 * 2**20

#: what is said of a server that answers, but not yes
NOT_READY = "it is still starting"

_MAX_ATTEMPT_S = 1.0
_MAX_PAUSE_S = 0.5


def deadline_s(wanted_s: float) -> float:
    """A deadline that gRPC and sockets can count to."""
    return min(wanted_s, _MOST_DEADLINE_S)


def method_path(method: str) -> str:
    """The path of a method on the wire."""
    return f"/{SERVICE}/{method}"


def options(url: str, user_agent: str) -> list[tuple[str, str | int]]:
    """The options of each of a client's channels.

    Args:
        url: of the server.
        user_agent: what the server's logs show.
    """
    return [
        # Without this, channels to one address share one connection.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.primary_user_agent", user_agent),
        # The server knows its limit, and says so.
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
        ("grpc.service_config", service_config()),
        ("grpc.per_rpc_retry_buffer_size", _RETRY_BUFFER_BYTES),
        # The shortest interval that servers with gRPC's defaults do not punish. It also turns
        # TCP_USER_TIMEOUT on, so that a connection into nowhere ends after keepalive_timeout.
        ("grpc.keepalive_time_ms", 300_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # gRPC's own up to two minutes would outlast a server's restart by far.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        *proxy_options(url),
    ]


def service_config() -> str:
    """The retry policy, as gRPC wants it: after about 0.1, 0.2, 0.4 and 0.8 s.

    UNAVAILABLE means that the server is starting, stopping or not there: always worth another
    try. RESOURCE_EXHAUSTED means that it has more work than it can do; a caller who would rather
    shed load or go elsewhere must hear of it, so retries of that are asked for.
    """
    policy = {
        "name": [{"service": SERVICE, "method": method} for method in RETRIED],
        "retryPolicy": {
            "maxAttempts": _MAX_ATTEMPTS,
            "initialBackoff": "0.1s",
            "maxBackoff": "2s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        },
    }
    return json.dumps({"methodConfig": [policy]})


class OverloadRetries:
    """Paces what is sent again after the server had no room for it, within a deadline.

    Args:
        deadline_s: of the call with all its attempts.
    """

    def __init__(self, deadline_s: float) -> None:
        self._end_s = time.monotonic() + deadline_s
        self._attempts = 0

    def left_s(self) -> float:
        """What is left of the deadline for the next attempt."""
        return max(0.0, self._end_s - time.monotonic())

    def pause_s(self, refusal: Overloaded) -> float | None:
        """How long to wait before the next attempt; None where there is none.

        As long as the server suggests, or else about 0.1, 0.2, 0.4 and 0.8 s. The fifth refusal is
        the last, and so is one after which the deadline would pass.
        """
        self._attempts += 1
        if self._attempts >= _MAX_ATTEMPTS or not refusal.may_retry:
            return None
        if refusal.retry_after_ms is None:
            # Clients that were refused together must not come back together.
            pause_s = 0.1 * 2 ** (self._attempts - 1) * random.uniform(0.8, 1.2)  # noqa: S311
        else:
            pause_s = refusal.retry_after_ms / 1000
        return pause_s if pause_s < self.left_s() else None


class Patience:
    """Paces repeated attempts until a time is up.

    Args:
        what: what is waited for, "127.0.0.1:8001 to be ready".
        timeout_s: how long in all.
    """

    def __init__(self, what: str, timeout_s: float) -> None:
        self._what = what
        self._timeout_s = timeout_s
        self._end_s = time.monotonic() + timeout_s
        self._pause_s = 0.02
        self._reason: str | None = None

    def attempt_s(self) -> float:
        """How long the next attempt may take."""
        return max(0.001, min(_MAX_ATTEMPT_S, self._end_s - time.monotonic()))

    def pause_s(self, error: CorralClientError) -> float:
        """How long to wait after an attempt that failed; longer each time.

        Raises:
            DeadlineExceeded: the time is up; the text says what the attempts failed of.
        """
        # That an attempt was cut short says less than what the one before it failed of.
        if self._reason is None or not isinstance(error, DeadlineExceeded):
            self._reason = str(error)
        self._pause_s = min(_MAX_PAUSE_S, self._pause_s * 1.5)
        left_s = self._end_s - time.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded(
                f"waited {self._timeout_s:g} s for {self._what} in vain: {self._reason}"
            )
        return min(self._pause_s, left_s)
