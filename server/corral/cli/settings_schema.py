"""Writes the settings' part of the Helm chart's schema: ``make configuration``.

A value of the chart that corral would refuse is refused by helm, with the same ranges and choices.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from corral.settings import Option, options

#: what the chart decides itself: addresses, files of secrets, draining, the log's form
CHART_DECIDES = (
    *("host", "port", "http-port", "metrics-host", "metrics-port", "unix-socket", "admin-socket"),
    *("tls-cert", "tls-key", "tls-client-ca", "auth-token-file", "cache-dir"),
    *("drain-delay-s", "grace-s", "log-format", "worker-user"),
)
_KINDS = {int: "integer", float: "number", bool: "boolean", str: "string"}


def properties() -> dict[str, Any]:
    """JSON Schema of every setting that the chart leaves to its user, by the option's name."""
    return {
        option.name: _property(option)
        for option in options().values()
        if option.name not in CHART_DECIDES
    }


def _property(option: Option) -> dict[str, Any]:
    if option.kind is tuple:
        return {"type": "array", "items": {"type": "string"}}
    if option.choices:
        return {"enum": list(option.choices)}
    found: dict[str, Any] = {"type": _KINDS[option.kind]}
    if option.least is not None:
        found["exclusiveMinimum" if option.above else "minimum"] = option.least
    if option.most is not None:
        found["maximum"] = option.most
    if option.pattern is not None:
        found["pattern"] = option.pattern
    if option.words:
        found = {"anyOf": [found, {"enum": list(option.words)}]}
    return found


def write(schema: Path) -> None:
    """Replaces the part of the chart's schema that holds settings."""
    content = json.loads(schema.read_text("utf-8"))
    content["properties"]["config"]["properties"] = properties()
    schema.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
