"""The chart's schema knows corral's settings, with their ranges, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from corral.cli.settings_schema import CHART_DECIDES, properties
from corral.settings import options

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "corral"


def _schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return found


def _values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def test_the_charts_schema_is_that_of_the_settings() -> None:
    """``make configuration`` writes it."""
    assert _schema()["properties"]["config"]["properties"] == properties()


def test_every_setting_is_the_users_or_the_charts() -> None:
    names = {option.name for option in options().values()}
    assert set(CHART_DECIDES) <= names
    assert set(properties()) == names - set(CHART_DECIDES)


def test_the_charts_own_values_fulfil_it_and_are_all_in_it() -> None:
    jsonschema.validate(_values(), _schema())
    assert set(_values()) == set(_schema()["properties"]) - {"global"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("cpus",), 2.5),
        (("cpus",), "4"),
        (("memory",), "4GB"),
        (("replicas",), -1),
        (("surprise",), 1),
        (("config", "modus"), "rti"),
        (("config", "mode"), "fast"),
        (("config", "max-batch"), 0),
        (("config", "max-batch"), 257),
        (("config", "host"), "0.0.0.0"),
        (("config", "model-name"), "a b"),
        (("image", "digest"), "sha256:12"),
        (("autoscaling", "kind"), "vpa"),
        (("autoscaling", "busyRatio"), 0.7),
        (("cache", "kind"), "hostPath"),
        (("tls", "clientCaSecretName"), "ca"),
        (("networkPolicy", "monitoring"), []),
        (("drain", "graceSeconds"), 0),
    ],
)
def test_what_corral_would_not_take_is_refused(path: tuple[str, ...], value: object) -> None:
    values = _values()
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, _schema())


@pytest.mark.parametrize(
    "config",
    [
        {"cores-per-worker": "node"},
        {"cores-per-worker": 4, "workers": 2, "backend": "openvino"},
        {"huge-pages": False, "hang-floor-s": 2.5, "model": "/mnt/models"},
    ],
)
def test_what_it_takes_is_let_through(config: dict[str, Any]) -> None:
    jsonschema.validate({**_values(), "config": config}, _schema())
