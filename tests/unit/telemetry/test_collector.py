"""What the settings of traces and log have to be, before anything starts."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from corral.errors import ConfigError
from corral.settings import TelemetrySettings, build
from corral.telemetry import collector
from corral.telemetry.exemplars import Example, Exemplars


def test_the_sdk_is_asked_for_by_name_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(name)
        return find(name, *rest)

    asked = TelemetrySettings(otlp_endpoint="http://localhost:4318")
    collector.check(asked)
    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(ConfigError, match=r"opentelemetry\.sdk.*pip install .*\[trace\]'"):
        collector.check(asked)
    collector.check(TelemetrySettings(access_log="-"))


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://there:99999",
        "http://there:x",
        "http://there:0",
        "http://a b:1",
        "localhost:4318",
        "grpc://localhost:4317",
        "http://",
        "http://[",
        "file:///x",
    ],
)
def test_an_endpoint_is_an_address(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"--otlp-endpoint .*http://localhost:4318"):
        build({"otlp-endpoint": endpoint})


@pytest.mark.parametrize(
    "endpoint",
    ["grpc://me:secret@there:1", "http://me:se@cret@there:99999/x?key=secret", "x?secret"],
)
def test_an_endpoint_that_is_refused_tells_no_password(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="--otlp-endpoint") as caught:
        build({"otlp-endpoint": endpoint})
    assert "cret" not in str(caught.value)


def test_a_rate_needs_a_collector_and_has_an_end() -> None:
    with pytest.raises(ConfigError, match="--trace-rate needs a collector"):
        build({"trace-rate": 0.5})
    with pytest.raises(ConfigError, match="--trace-rate"):
        build({"trace-rate": 1.5, "otlp-endpoint": "http://localhost:4318"})
    assert build({"otlp-endpoint": "https://there:4318/v1/traces"}).telemetry.rate == 0.01
    assert build({"otlp-endpoint": "http://[::1]:4318", "trace-rate": 0}).telemetry.rate == 0


def test_the_latest_request_of_each_bucket_is_the_example() -> None:
    exemplars = Exemplars((0.1, 1.0))
    assert exemplars.by_bucket() == [None, None, None]
    first, second = Example("a", 0.1, 1.0), Example("b", 0.05, 2.0)
    slow = Example("c", 7.0, 3.0)
    for example in (first, second, slow):
        exemplars.note(example)
    assert exemplars.by_bucket() == [second, None, slow]
