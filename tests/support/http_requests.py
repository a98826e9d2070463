"""Requests to a server's HTTP port by the standard library."""

from __future__ import annotations

import http.client
import json
from typing import Any

from support.running_server import Server


def ask(
    server: Server, method: str, path: str, body: bytes | None = None, **fields: str
) -> tuple[int, Any]:
    """One request to the HTTP port, by the standard library; the answer as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
