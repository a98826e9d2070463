"""Which form of /metrics a client wants, by its ``Accept``. Pure."""

from __future__ import annotations

import re

#: Prometheus' text format
TEXT = "text/plain; version=0.0.4; charset=utf-8"
#: the form that can carry exemplars
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_WEIGHT = re.compile(r"[01](\.[0-9]{0,3})?")
_VERSIONS = frozenset({"", "0.0.1", "1.0.0"})


def wants_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics is named, and wanted no less than text.

    Args:
        accept: the header field; "" where there is none.
    """
    openmetrics = text = 0.0
    for part in accept.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        named = dict(p.replace('"', "").split("=", 1) for p in parameters if "=" in p)
        given = named.get("q", "1")
        weight = float(given) if _WEIGHT.fullmatch(given) else 0.0
        if kind == "application/openmetrics-text" and named.get("version", "") in _VERSIONS:
            openmetrics = max(openmetrics, weight)
        elif kind in {"text/plain", "text/*"}:
            text = max(text, weight)
    return openmetrics > 0 and openmetrics >= text
