"""The Helm chart, rendered by Helm's own library and held against Kubernetes' schemas."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from support import kustomize
from support.manifests import CUSTOM, DEPLOY, VERSIONS, check_pod, server_settings

helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="is not installed")

CHART = DEPLOY / "helm" / "corral"
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "hpa": {"autoscaling": {"kind": "hpa"}},
    "keda": {"autoscaling": {"kind": "keda"}, "podMonitor": {"enabled": True}},
    "tls": {
        "tls": {"secretName": "cert", "clientCaSecretName": "ca"},
        "auth": {"secretName": "tokens"},
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    },
    "own model": {
        "config": {
            "model": "/mnt/models",
            "model-name": "mine",
            "max-image-bytes": 16777216,
            "max-queue-delay-ms": 0.5,
            "allow-client": [],
        },
        "modelVolume": {"persistentVolumeClaim": {"claimName": "models", "readOnly": True}},
        "cache": {"kind": "claim", "claimName": "cache"},
        "extraArgs": ["--max-queue=100"],
        "env": [{"name": "CORRAL_OFFLINE", "value": "1"}],
        "drain": {"by": "preStop", "delaySeconds": 15},
        "cpus": 32,
        "memory": "64Gi",
    },
    "image cache": {
        "cache": {"kind": "image"},
        "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "registry"}]},
        "nodeSelector": {"cpu": "amx"},
        "tolerations": [{"key": "cpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "runtimeClassName": "crun",
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "vision"},
        "service": {"type": "LoadBalancer", "annotations": {"x": "y"}, "headless": False},
        "serviceAccount": {"annotations": {"role": "none"}},
        "dashboard": {"enabled": True},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "podDisruptionBudget": {"maxUnavailable": "25%"},
        "probes": {"readiness": "http"},
        "networkPolicy": {
            "clients": [{"podSelector": {"matchLabels": {"app": "web"}}}],
            "egress": [{"ports": [{"port": 443}]}],
        },
    },
    "least": {
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "service": {"headless": False},
        "topologySpreadConstraints": [],
    },
}


@pytest.fixture(scope="module")
def chart() -> Any:
    return helm.Chart.load(str(CHART))


def rendered(chart: Any, values: dict[str, Any], name: str = "mine") -> list[dict[str, Any]]:
    found = []
    for path, text in sorted(chart.render(values, name=name, namespace="serving").items()):
        if not path.endswith(".txt"):
            found += kustomize.documents(text)
    return found


def _one(kind: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    (only,) = [document for document in found if document["kind"] == kind]
    return only


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_kubernetes_takes_it(chart: Any, case: str, version: str) -> None:
    for document in rendered(chart, CASES[case]):
        name = f"{document['apiVersion']} {document['kind']}"
        if name in CUSTOM:
            jsonschema.validate(document["spec"], CUSTOM[name])
        elif "sleep" not in str(document) or version >= "1.30":
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", ["base", *(f"overlays/{n}" for n in ("throughput", "hpa"))])
def test_kubernetes_takes_the_plain_manifests(folder: str, version: str) -> None:
    for document in kustomize.render(DEPLOY / "kubernetes" / folder):
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_kserves_container(version: str) -> None:
    text = (DEPLOY / "kserve" / "clusterservingruntime.yaml").read_text()
    (runtime,) = kustomize.documents(text)
    pod = {"containers": runtime["spec"]["containers"], "volumes": runtime["spec"]["volumes"]}
    wrapped = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
    kubernetes_validate.validate(wrapped, version, strict=True)


@pytest.mark.parametrize("case", CASES)
def test_pods_are_guaranteed_restricted_and_drained(chart: Any, case: str, tmp_path: Path) -> None:
    found = rendered(chart, CASES[case])
    deployment = _one("Deployment", found)
    template = deployment["spec"]["template"]
    (config,) = [d for d in found if d["kind"] == "ConfigMap" and "corral.toml" in d["data"]]
    text = config["data"]["corral.toml"]
    if case == "own model":
        models = DEPLOY.parent / "tests" / "data" / "models"
        text = text.replace("/mnt/models", str(models / "colours.onnx"))
    settings = server_settings(template["spec"]["containers"][0]["args"], tmp_path, text)
    check_pod(template, settings)
    assert ("replicas" in deployment["spec"]) == (case not in {"hpa", "keda"})
    values = chart.merge_values(CASES[case])
    container = template["spec"]["containers"][0]
    assert container["resources"]["limits"]["cpu"] == str(int(values["cpus"]))
    probe = container["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] >= values["startupSeconds"]
    if case == "own model":
        assert settings.queue.max_image_bytes == 16777216
        assert settings.queue.max_queue == 100


def _paths(values: Any, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(values, dict) and values and before != ("config",):
        return [p for key, value in values.items() for p in _paths(value, (*before, key))]
    return [before]


#: another value than the chart's, where turning it round or one more is none
OTHER: dict[tuple[str, ...], Any] = {
    ("memory",): "9Gi",
    ("cache", "size"): "9Gi",
    ("cache", "kind"): "image",
    ("cache", "claimName"): "other",
    ("config",): {"mode": "throughput"},
    ("image", "digest"): "sha256:" + "1" * 64,
    ("image", "pullPolicy"): "Always",
    ("drain", "by"): "preStop",
    ("probes", "readiness"): "http",
    ("service", "type"): "NodePort",
    ("autoscaling", "kind"): "hpa",
    ("autoscaling", "busyRatio"): "0.5",
    ("autoscaling", "itemsPending"): "99",
    ("autoscaling", "prometheus"): "http://elsewhere:9090",
    ("podMonitor", "interval"): "99s",
    ("networkPolicy", "monitoring"): [{"podSelector": {}}],
    ("modelVolume",): {"emptyDir": {}},
    ("affinity",): {"podAffinity": {}},
    ("extraArgs",): ["--seccomp"],
    ("podSecurityContext", "seccompProfile", "type"): "Localhost",
    ("dashboard", "labels", "grafana_dashboard"): "2",
}
#: what has to hold for a value to mean anything
WHERE: dict[str, dict[str, Any]] = {
    "autoscaling.queueTimeUs": {"autoscaling": {"kind": "hpa"}},
    "autoscaling": {"autoscaling": {"kind": "keda"}},
    "cache.claimName": {"cache": {"kind": "claim", "claimName": "cache"}},
    "podMonitor.enabled": {},
    "dashboard.enabled": {},
    "podMonitor": {"podMonitor": {"enabled": True}},
    "dashboard": {"dashboard": {"enabled": True}},
    "prometheusRule.enabled": {},
    "prometheusRule": {"prometheusRule": {"enabled": True}},
    "tls.clientCaSecretName": {"tls": {"secretName": "cert"}},
    "auth.key": {"auth": {"secretName": "tokens"}},
}


def _other(path: tuple[str, ...], value: Any) -> Any:
    if path in OTHER:
        return OTHER[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return int(value) + 1
    if isinstance(value, str):
        return "other"
    return [{"name": "other"}] if isinstance(value, list) else {"other": "other"}


def test_every_value_changes_what_is_rendered(chart: Any) -> None:
    """A value that nothing reads is a lie to its user."""
    dead = []
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in _paths(values):
        where = WHERE.get(".".join(path), WHERE.get(path[0], {}))
        before = copy.deepcopy(where)
        after = copy.deepcopy(where)
        value = values
        for key in path:
            value = value[key]
        place = after
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = _other(path, value)
        if rendered(chart, before) == rendered(chart, after):
            dead.append(".".join(path))
    assert not dead


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cpus": 2.5}, "cpus"),
        ({"config": {"max-batch": 0}}, "max-batch"),
        ({"config": {"modus": "rti"}}, "modus"),
        ({"cache": {"kind": "claim"}}, "cache.claimName"),
        ({"tls": {"clientCaSecretName": "ca"}}, "tls"),
    ],
)
def test_a_wrong_value_is_named(chart: Any, values: dict[str, Any], said: str) -> None:
    with pytest.raises(helm.HelmError) as caught:
        chart.render(values, name="mine", namespace="serving")
    assert said in str(caught.value)


def test_the_plain_manifests_are_the_charts(chart: Any) -> None:
    """deploy/kubernetes/base says what the chart says without any value."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: plain(found)
                for key, found in value.items()
                if not re.match(r"(helm\.sh/|checksum/|app\.kubernetes\.io/(?!name))", key)
            }
        return [plain(found) for found in value] if isinstance(value, list) else value

    def by_name(documents: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
        found = {}
        for document in copy.deepcopy(documents):
            if document["kind"] in {"ConfigMap", "Pod"}:
                continue
            if document["kind"] == "Deployment":
                template = document["spec"]["template"]
                template["metadata"].pop("annotations", None)
                volume = template["spec"]["volumes"][0]
                volume["configMap"]["name"] = volume["configMap"]["name"][:6]
            found[document["kind"], document["metadata"]["name"]] = plain(document)
        return found

    base = kustomize.render(DEPLOY / "kubernetes" / "base")
    assert by_name(rendered(chart, {}, name="corral")) == by_name(base)


def test_helm_has_nothing_to_say() -> None:
    found = helm.lint(str(CHART))
    assert "ERROR" not in str(found)
    assert "WARNING" not in str(found)
