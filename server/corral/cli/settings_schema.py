"""Writes the settings' part of the Helm chart's schema: ``make configuration``.

A value of the chart that corral would refuse is refused by helm, with the same ranges and choices,
as far as a schema sees it: not whether a file is there, or the engine can do it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from corral.models import registry
from corral.settings import Option, options

#: what the chart decides itself: addresses (and so that clients are on other machines), files of
#: secrets, draining, the log's form
CHART_DECIDES = (
    *("host", "port", "http-port", "metrics-host", "metrics-port", "unix-socket", "admin-socket"),
    "client-shared-memory",
    *("tls-cert", "tls-key", "tls-client-ca", "auth-token-file", "cache-dir"),
    *("drain-delay-s", "grace-s", "log-format", "worker-user"),
)
_KINDS = {int: "integer", float: "number", bool: "boolean", str: "string"}
#: Helm keeps numbers as floating-point ones: a larger one is silently another.
_LARGEST_INTEGER = 2**53 - 1
_PORT = r"0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^\]/?#:@\[\s]+)"
#: what texts have to look like that corral reads as something else than text
_PATTERNS = {
    "otlp-endpoint": rf"^[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*@)?{_HOST}(:({_PORT})?)?([/?#]|$)"
}


def properties() -> dict[str, Any]:
    """JSON Schema of every setting that the chart leaves to its user, by the option's name."""
    return {
        option.name: _property(option)
        for option in options().values()
        if option.name not in CHART_DECIDES
    }


def dependencies() -> dict[str, list[str]]:
    """What a setting is nothing without, by its option's name."""
    return {"trace-rate": ["otlp-endpoint"]}


def _property(option: Option) -> dict[str, Any]:
    if option.kind is tuple:
        return {"type": "array", "items": {"type": "string", "minLength": 1}}
    if option.name == "model":
        return {"anyOf": [{"enum": registry.names()}, {"type": "string", "pattern": "/"}]}
    if option.choices:
        return {"enum": list(option.choices)}
    found: dict[str, Any] = {"type": _KINDS[option.kind]}
    if option.least is not None:
        found["exclusiveMinimum" if option.above else "minimum"] = option.least
    if option.most is not None:
        found["maximum"] = option.most
    if option.kind is int:
        found["maximum"] = min(found["maximum"], _LARGEST_INTEGER)
    pattern = option.pattern or _PATTERNS.get(option.name)
    if pattern is not None:
        # JSON Schema's $ is the very end, and it has no \Z.
        found["pattern"] = pattern.replace(r"\Z", "$")
    elif option.kind is str:
        found["minLength"] = 1
    if option.words:
        found = {"anyOf": [found, {"enum": list(option.words)}]}
    return found


def write(schema: Path) -> None:
    """Replaces the part of the chart's schema that holds settings."""
    content = json.loads(schema.read_text("utf-8"))
    content["properties"]["config"]["properties"] = properties()
    content["properties"]["config"]["dependencies"] = dependencies()
    schema.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
