"""Who gets OpenMetrics."""

from __future__ import annotations

import pytest

from corral.metrics.negotiation import wants_openmetrics

#: what Prometheus 2 and 3 send
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS_2,
        PROMETHEUS_3,
        "application/openmetrics-text",
        "Application/OpenMetrics-Text ; q=1",
    ],
)
def test_who_names_it_gets_it(accept: str) -> None:
    assert wants_openmetrics(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/html,application/xhtml+xml,*/*;q=0.8",
        "text/plain;version=0.0.4",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0.4,text/plain;q=0.5",
        "application/openmetrics-text;version=9.9.9",
        "application/openmetrics-text;q=much",
        ",;=,q=;;",
    ],
)
def test_everybody_else_gets_text(accept: str) -> None:
    assert not wants_openmetrics(accept)
