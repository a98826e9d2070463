"""Who may call: tokens and certificates of requests, before anything of their body is received."""

from __future__ import annotations

import logging
import time
from typing import Any

from corral.errors import PermissionDenied, Unauthenticated
from corral.priority import Priority
from corral.security.certificate_names import names_in
from corral.security.credentials import Access, Verdict

logger = logging.getLogger(__name__)

#: how often it is logged that somebody was refused
_NOTE_EVERY_S = 60.0
_UNAUTHENTICATED = "valid credentials are needed: a bearer token or client certificate"
_DENIED = "this client is not among those that are allowed"


class Auth:
    """Asks everybody who calls for credentials.

    Args:
        access: the rules. That certificates are verified is the TLS handshake's part.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._refused = 0
        self._next_note_s = 0.0

    def check(self, scope: dict[str, Any]) -> Priority:
        """Lets a request pass; returns the priority that it has at most.

        Args:
            scope: ASGI's, with its headers and what TLS says of the client.

        Raises:
            Unauthenticated: it has no credentials, or none that are valid.
            PermissionDenied: its client is known, and not allowed.
        """
        presented = []
        if self._access.by_header:
            presented = [
                value.decode("latin-1")
                for name, value in scope["headers"]
                if name == b"authorization"
            ]
        verdict = self._access.judge(presented, peer_names(scope))
        if verdict is Verdict.ALLOWED:
            return Priority.INTERACTIVE
        if verdict is Verdict.ALLOWED_IN_BULK:
            return Priority.BULK
        self._note(scope)
        if verdict is Verdict.DENIED:
            raise PermissionDenied(_DENIED)
        raise Unauthenticated(_UNAUTHENTICATED)

    def _note(self, scope: dict[str, Any]) -> None:
        """A line a minute says that there were such calls."""
        self._refused += 1
        now_s = time.monotonic()
        if now_s < self._next_note_s:
            return
        client = scope.get("client")
        logger.warning(
            "calls refused for want of valid credentials: %d; the last one came from %s",
            self._refused,
            f"{client[0]}:{client[1]}" if client else "a unix socket",
        )
        self._refused = 0
        self._next_note_s = now_s + _NOTE_EVERY_S


def peer_names(scope: dict[str, Any]) -> frozenset[str] | None:
    """The names in the verified certificate of a request's client; None without one."""
    chain = scope["extensions"].get("tls", {}).get("client_cert_chain")
    return names_in(chain[0]) if chain else None
