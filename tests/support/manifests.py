"""What must hold of every Kubernetes manifest of corral; schemas of custom resources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corral.cli.command_line import settings_of
from corral.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
#: releases of Kubernetes whose schemas the manifests must fulfil
VERSIONS = ("1.28", "1.30", "1.32", "1.34", "1.36")
_TEXT: dict[str, Any] = {"type": "string"}
_LABELS = {"type": "object", "additionalProperties": _TEXT}
_SELECTOR = {
    "type": "object",
    "additionalProperties": False,
    "required": ["matchLabels"],
    "properties": {"matchLabels": _LABELS},
}


def _closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": properties,
    }


_SECRET_KEY = _closed(["name", "key"], name=_TEXT, key=_TEXT)
#: what the manifests use of the custom resources' own definitions, field by field
CUSTOM: dict[str, dict[str, Any]] = {
    "keda.sh/v1alpha1 ScaledObject": _closed(
        ["scaleTargetRef", "triggers"],
        scaleTargetRef=_closed(["name"], name=_TEXT),
        minReplicaCount={"type": "integer"},
        maxReplicaCount={"type": "integer"},
        pollingInterval={"type": "integer"},
        cooldownPeriod={"type": "integer"},
        advanced={"type": "object"},
        triggers={
            "type": "array",
            "minItems": 1,
            "items": _closed(
                ["type", "metadata"],
                type={"const": "prometheus"},
                metricType={"enum": ["AverageValue", "Value"]},
                # KEDA takes texts only, numbers too.
                metadata=_closed(
                    ["serverAddress", "query", "threshold"],
                    serverAddress=_TEXT,
                    query=_TEXT,
                    threshold={"type": "string", "pattern": r"^[0-9.]+$"},
                ),
            ),
        },
    ),
    "monitoring.coreos.com/v1 PodMonitor": _closed(
        ["selector", "podMetricsEndpoints"],
        selector=_SELECTOR,
        podMetricsEndpoints={
            "type": "array",
            "items": _closed(
                ["port"],
                port=_TEXT,
                path=_TEXT,
                interval={"type": "string", "pattern": "^[0-9]+(ms|s|m)$"},
                scheme={"enum": ["http", "https"]},
                tlsConfig=_closed(
                    ["ca"],
                    ca=_closed(["secret"], secret=_SECRET_KEY),
                    cert=_closed(["secret"], secret=_SECRET_KEY),
                    keySecret=_SECRET_KEY,
                    serverName=_TEXT,
                ),
                authorization=_closed(["credentials"], credentials=_SECRET_KEY),
            ),
        },
    ),
    "monitoring.coreos.com/v1 PrometheusRule": _closed(
        ["groups"],
        groups={
            "type": "array",
            "minItems": 1,
            "items": _closed(
                ["name", "rules"],
                name=_TEXT,
                rules={
                    "type": "array",
                    "items": {
                        "oneOf": [
                            _closed(["record", "expr"], record=_TEXT, expr=_TEXT),
                            _closed(
                                ["alert", "expr", "labels", "annotations"],
                                alert=_TEXT,
                                expr=_TEXT,
                                labels={"type": "object"},
                                annotations={"type": "object"},
                                **{"for": {"type": "string", "pattern": "^[0-9]+(s|m|h)$"}},
                            ),
                        ]
                    },
                },
            ),
        },
    ),
}


def server_settings(args: list[str], home: Path, config: str | None = None) -> Settings:
    """What a container's arguments ask for.

    Args:
        args: of the container, from ``serve`` on.
        home: an empty folder.
        config: the text of /etc/corral/corral.toml.
    """
    file = home / "corral.toml"
    if config is not None:
        file.write_text(config)
    words = [word.replace("/etc/corral/corral.toml", str(file)) for word in args]
    assert words[0] == "serve"
    return settings_of(words, {"HOME": str(home)})


def check_pod(template: dict[str, Any], settings: Settings) -> None:
    """Guaranteed, restricted, drained in time, and probed where it listens."""
    spec = template["spec"]
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    resources = container["resources"]
    assert resources["requests"] == resources["limits"]
    assert int(resources["limits"]["cpu"]) >= 1
    check_restricted(spec, container)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {
        "grpc": settings.listen.port,
        "http": settings.listen.http_port,
        "metrics": settings.listen.metrics_port,
    }
    assert settings.listen.host == settings.listen.metrics_host == "0.0.0.0"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        check_probe(container[probe], ports)
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    lifecycle = settings.lifecycle
    needed_s = sleep + lifecycle.drain_delay_s + lifecycle.grace_s
    assert spec["terminationGracePeriodSeconds"] > needed_s
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}


def check_probe(probe: dict[str, Any], ports: dict[str, int]) -> None:
    """It asks what corral answers there."""
    if "grpc" in probe:
        assert probe["grpc"]["port"] == ports["grpc"]
    else:
        assert probe["httpGet"]["path"] in {"/readyz", "/livez"}
        assert probe["httpGet"]["port"] in {"metrics", ports["metrics"]}


def check_restricted(spec: dict[str, Any], container: dict[str, Any]) -> None:
    """Pod security "restricted", as Kubernetes' policy says it, and a read-only root."""
    pod = spec["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"]["type"] == "RuntimeDefault"
    own = container["securityContext"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    allowed = {"configMap", "emptyDir", "secret", "persistentVolumeClaim", "name"}
    for volume in spec.get("volumes", []):
        assert set(volume) <= allowed | {"csi", "projected"}
