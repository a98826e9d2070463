"""The Helm chart, rendered by Helm's own library and held against Kubernetes' schemas."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from support import kustomize
from support.certificates import Authority, private
from support.machines import ComposedRoot
from support.manifests import (
    CUSTOM,
    DEPLOY,
    VERSIONS,
    check_pod,
    check_restricted,
    server_settings,
)
from support.running_server import null_server

from corral.cli.command_line import settings_of
from corral.errors import ConfigError
from corral.planning.machine import Core
from corral.planning.request import plan_for
from corral.planning.topology import read_machine

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
        "podMonitor": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "tokenSecretName": "prometheus-token",
            "clientSecretName": "prometheus-cert",
        },
        "test": {"tokenSecretName": "test-token", "clientSecretName": "test-cert"},
    },
    # What could meet something of the chart's own, or look like a number.
    "names that meet": {
        "podSecurityContext": {"fsGroup": 5},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"a": "b"}},
            }
        ],
        "podLabels": {"team": "1e3"},
        "podAnnotations": {"a": "true"},
        "priorityClassName": "123",
        "runtimeClassName": "123",
        "tls": {"secretName": "123", "clientCaSecretName": "123"},
        "auth": {"secretName": "123", "key": "123"},
        "cache": {"kind": "claim", "claimName": "123"},
        "autoscaling": {"kind": "keda", "prometheus": "http://prometheus:9090/#a: b"},
        "podMonitor": {
            "enabled": True,
            "tokenSecretName": "123",
            "tokenKey": "123",
            "clientSecretName": "123",
        },
        "test": {
            "labels": {"app.kubernetes.io/name": "web"},
            "tokenSecretName": "123",
            "tokenKey": "123",
            "clientSecretName": "123",
        },
    },
    # Helm keeps numbers as floating-point ones, and writes large ones as 1e+06.
    "large numbers": {
        "replicas": 1000000,
        "cpus": 1024,
        "fsGroup": 1000770000,
        "startupSeconds": 1000000,
        "drain": {"by": "preStop", "delaySeconds": 1000000, "graceSeconds": 1000000},
        "autoscaling": {"kind": "hpa", "queueTimeUs": 5000000, "maxReplicas": 1000000},
        "podDisruptionBudget": {"maxUnavailable": 1000000},
        "config": {"max-queue": 9007199254740991, "max-image-pixels": 1000000000},
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


FOLDERS = ["base", *(f"overlays/{n}" for n in ("throughput", "hpa", "keda", "monitoring"))]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_kubernetes_takes_the_plain_manifests(folder: str, version: str) -> None:
    for document in kustomize.render(DEPLOY / "kubernetes" / folder):
        # The others are held against their schemas in tests/unit/test_manifests.py.
        if f"{document['apiVersion']} {document['kind']}" not in CUSTOM:
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
    values = chart.merge_values(CASES[case])
    assert ("replicas" in deployment["spec"]) == (values["autoscaling"]["kind"] == "none")
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
    ("cache", "kind"): "emptyDir",
    ("cache", "claimName"): "other",
    ("podMonitor", "tokenKey"): "other",
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
    ("networkPolicy", "clients"): [{"namespaceSelector": {}}],
    ("networkPolicy", "egress"): [{"ports": [{"port": 443}]}],
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
    "image.canPrepare": {"cache": {"kind": "emptyDir"}},
    "cache.kind": {"image": {"canPrepare": True}},
    "cache.size": {"cache": {"kind": "emptyDir"}, "image": {"canPrepare": True}},
    "cache.claimName": {"cache": {"kind": "claim", "claimName": "cache"}},
    "podMonitor.enabled": {},
    "podMonitor.tokenKey": {"podMonitor": {"enabled": True, "tokenSecretName": "token"}},
    "podMonitor.clientSecretName": {
        "podMonitor": {"enabled": True},
        "tls": {"secretName": "cert"},
    },
    "test.tokenKey": {"test": {"tokenSecretName": "token"}},
    "fsGroup": {},
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


def _rendered_or_refused(chart: Any, values: dict[str, Any]) -> Any:
    try:
        return rendered(chart, values)
    except helm.HelmError as error:
        return str(error)


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
        if _rendered_or_refused(chart, before) == rendered(chart, after):
            dead.append(".".join(path))
    assert not dead


def refusal(chart: Any, values: dict[str, Any]) -> str:
    """What Helm says of values that it refuses."""
    with pytest.raises(helm.HelmError) as caught:
        chart.render(values, name="mine", namespace="serving")
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cpus": 2.5}, "cpus"),
        ({"config": {"max-batch": 0}}, "max-batch"),
        ({"config": {"modus": "rti"}}, "modus"),
        ({"cache": {"kind": "claim"}}, "cache.claimName"),
        ({"tls": {"clientCaSecretName": "ca"}}, "tls"),
        # What neither corral nor Kubernetes would take, though each value alone might do.
        ({"autoscaling": {"kind": "hpa", "minReplicas": 10, "maxReplicas": 2}}, "maxReplicas"),
        ({"podDisruptionBudget": {"maxUnavailable": "0%"}}, "maxUnavailable"),
        ({"podDisruptionBudget": {"maxUnavailable": "999%"}}, "maxUnavailable"),
        ({"memory": "1Ki"}, "memory"),
        ({"autoscaling": {"busyRatio": "0.0"}}, "busyRatio"),
        ({"networkPolicy": {"clients": [{}]}}, "clients"),
        ({"networkPolicy": {"monitoring": [{}]}}, "monitoring"),
        ({"image": {"tag": "bad tag!"}}, "tag"),
        ({"image": {"repository": "corral:1"}}, "repository"),
        ({"config": {"max-queue": 9007199254740993}}, "max-queue"),
        ({"podLabels": {"app.kubernetes.io/name": "x"}}, "podLabels"),
        ({"podLabels": {"team": "a b"}}, "podLabels"),
        ({"podAnnotations": {"checksum/config": "x"}}, "podAnnotations"),
        ({"env": [{"name": "CORRAL_CACHE", "value": "/x"}]}, "env"),
        ({"modelVolume": {"name": "x"}}, "modelVolume"),
        # Prometheus sends a secret's key as it is; tokens one a line are no credential.
        ({"auth": {"secretName": "t"}, "podMonitor": {"enabled": True}}, "tokenSecretName"),
        (
            {
                "tls": {"secretName": "cert", "clientCaSecretName": "ca"},
                "podMonitor": {"enabled": True},
            },
            "clientSecretName",
        ),
        # An image without torch, and an empty folder over what it holds.
        ({"cache": {"kind": "emptyDir"}}, "canPrepare"),
        ({"config": {"model": "/mnt/models"}}, "modelVolume"),
        ({"test": {"labels": {"app.kubernetes.io/name": "corral"}}}, "test.labels"),
        ({"podSecurityContext": {"runAsUser": 0}}, "runAsUser"),
    ],
)
def test_a_wrong_value_is_named(chart: Any, values: dict[str, Any], said: str) -> None:
    assert said in refusal(chart, values)


@pytest.mark.parametrize("name", ["1", "x.y", "7-corral"])
def test_a_release_whose_services_could_have_no_such_name_is_told(chart: Any, name: str) -> None:
    with pytest.raises(helm.HelmError, match=f"release {name}: services"):
        chart.render({}, name=name, namespace="serving")


@pytest.mark.parametrize(
    "values",
    [
        {"dashboard": {"enabled": True, "labels": None}},
        {"test": {"labels": None}},
        {"podSecurityContext": None},
        {"podMonitor": {"enabled": True, "labels": None}},
        {"prometheusRule": {"enabled": True, "labels": None}},
    ],
    ids=str,
)
def test_a_map_may_be_taken_away(chart: Any, values: dict[str, Any]) -> None:
    assert rendered(chart, values)


@pytest.mark.parametrize("name", ["corral", "corral-canary", "a" * 53])
def test_keda_asks_for_the_pods_of_its_own_release(chart: Any, name: str) -> None:
    found = _one("ScaledObject", rendered(chart, {"autoscaling": {"kind": "keda"}}, name=name))
    deployment = found["spec"]["scaleTargetRef"]["name"]
    for trigger in found["spec"]["triggers"]:
        (pods,) = re.findall(r'pod=~"([^"]*)"', trigger["metadata"]["query"])
        assert re.fullmatch(pods, f"{deployment}-7d4b9c5f6d-x2k8p")
        # A ReplicaSet with a long name has it cut before its pods' own five characters.
        assert re.fullmatch(pods, f"{deployment}-7d4b9c5f6d-"[:58] + "x2k8p")
        assert not re.fullmatch(pods, f"{deployment}-canary-7d4b9c5f6d-x2k8p")


#: config that corral refuses on 4 CPUs, whatever machine it is
REFUSED_BY_CORRAL: list[dict[str, Any]] = [
    {"otlp-endpoint": "foo"},
    {"otlp-endpoint": "http://"},
    {"otlp-endpoint": "http://:4318"},
    {"otlp-endpoint": "grpc://collector:4317"},
    {"otlp-endpoint": "http://collector:99999"},
    {"otlp-endpoint": "http://collector:4318x/v1/traces"},
    {"otlp-endpoint": "http://collector:0"},
    {"otlp-endpoint": "http://a b:4318"},
    {"trace-rate": 0.5},
    {"allow-client": ["alice"]},
    {"client-shared-memory": True},
    {"model": "resnet51"},
    {"model": ""},
    {"weights": ""},
    {"shape": ["input=3,224,224"]},
    {"workers": 8},
    {"workers": 2, "cores-per-worker": 3},
    {"cores-per-worker": 5},
    {"cells": 5},
    {"workers": 2, "cells": 3},
]


@pytest.mark.parametrize("config", REFUSED_BY_CORRAL, ids=str)
def test_what_corral_refuses_helm_refuses(
    chart: Any, config: dict[str, Any], tmp_path: Path
) -> None:
    said = refusal(chart, {"config": config, "cpus": 4})
    assert next(reversed(config)).split("-")[0] in said
    lines = [f"{name} = {json.dumps(value)}" for name, value in config.items()]
    root = ComposedRoot(tmp_path)
    root.add_machine([Core(cpus=(n,), package=0, node=0, l3=0) for n in range(4)])
    with pytest.raises(ConfigError):
        settings = server_settings(["serve", *_arguments(chart)], tmp_path, "\n".join(lines))
        plan_for(settings, read_machine(root.root, live=False))


@pytest.mark.parametrize(
    "endpoint",
    ["http://collector:4318", "https://user@[::1]:4318/v1/traces", "HTTP://a", "http://a:65535?x"],
)
def test_collectors_that_corral_takes_helm_takes(chart: Any, endpoint: str, tmp_path: Path) -> None:
    config = {"otlp-endpoint": endpoint, "trace-rate": 0.5}
    assert rendered(chart, {"config": config})
    text = f"otlp-endpoint = {json.dumps(endpoint)}"
    assert server_settings(["serve", *_arguments(chart)], tmp_path, text)


def _arguments(chart: Any) -> list[str]:
    template = _one("Deployment", rendered(chart, {}))["spec"]["template"]
    (container,) = template["spec"]["containers"]
    return [word for word in container["args"] if word != "serve"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({}, None),
        ({"config": {"model": "/mnt/models"}, "modelVolume": {"emptyDir": {}}}, "emptyDir"),
        ({"cache": {"kind": "emptyDir"}, "image": {"canPrepare": True}}, "emptyDir"),
        ({"cache": {"kind": "emptyDir"}, "config": {"backend": "null"}}, "emptyDir"),
        ({"cache": {"kind": "claim", "claimName": "c"}}, "persistentVolumeClaim"),
    ],
)
def test_what_the_image_holds_is_hidden_only_where_it_can_be_made_anew(
    chart: Any, values: dict[str, Any], kind: str | None
) -> None:
    spec = _one("Deployment", rendered(chart, values))["spec"]["template"]["spec"]
    found = [volume for volume in spec["volumes"] if volume["name"] == "cache"]
    assert [kind in volume for volume in found] == ([] if kind is None else [True])


def test_the_image_is_built_with_what_the_chart_serves(chart: Any, tmp_path: Path) -> None:
    """`make image` prepares a model without a word; the chart asks for that one without a word."""
    prepared = settings_of(["prepare", "--backend", "openvino"], {"HOME": str(tmp_path)})
    (config,) = [d for d in rendered(chart, {}) if "corral.toml" in d.get("data", {})]
    text = config["data"]["corral.toml"]
    served = server_settings(["serve", *_arguments(chart)], tmp_path, text)
    assert served.model.name == prepared.model.name
    assert served.model.mode == prepared.model.mode
    assert served.engine.precision == prepared.engine.precision
    assert served.engine.backend.value in {"auto", "openvino"}


def test_with_tls_nobody_is_told_of_plaintext(chart: Any) -> None:
    def protocols(values: dict[str, Any]) -> set[str]:
        services = [d for d in rendered(chart, values) if d["kind"] == "Service"]
        assert len(services) == 2
        return {port["appProtocol"] for d in services for port in d["spec"]["ports"]}

    assert protocols({"tls": {"secretName": "cert"}}) == {"https"}
    assert protocols({}) == {"kubernetes.io/h2c", "http"}


def test_names_can_be_looked_up_where_anything_may_be_reached(chart: Any) -> None:
    egress = [{"ports": [{"port": 4318}]}]
    policy = _one("NetworkPolicy", rendered(chart, {"networkPolicy": {"egress": egress}}))
    own, names = policy["spec"]["egress"]
    assert own == egress[0]
    assert {(p["port"], p["protocol"]) for p in names["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert _one("NetworkPolicy", rendered(chart, {}))["spec"]["egress"] == []


@pytest.mark.parametrize("case", CASES)
def test_helm_tests_pod_is_a_client_and_no_server(chart: Any, case: str) -> None:
    found = rendered(chart, CASES[case])
    (pod,) = [document for document in found if document["kind"] == "Pod"]
    labels = pod["metadata"]["labels"]
    selectors = [d["spec"]["selector"] for d in found if d["kind"] == "Service"]
    for document in found:
        if document["kind"] in {"PodDisruptionBudget", "PodMonitor", "Deployment"}:
            selectors.append(document["spec"]["selector"]["matchLabels"])
        if document["kind"] == "NetworkPolicy":
            selectors.append(document["spec"]["podSelector"]["matchLabels"])
    assert len(selectors) >= 2
    for selector in selectors:
        assert not selector.items() <= labels.items()
    check_restricted(pod["spec"], pod["spec"]["containers"][0])


def test_helm_test_can_have_the_labels_of_a_client(chart: Any) -> None:
    clients = [{"podSelector": {"matchLabels": {"app": "web"}}}]
    values = {"networkPolicy": {"clients": clients}, "test": {"labels": {"app": "web"}}}
    (pod,) = [d for d in rendered(chart, values) if d["kind"] == "Pod"]
    assert pod["metadata"]["labels"]["app"] == "web"


@pytest.mark.parametrize(
    "values",
    [
        {"auth": {"secretName": "tokens"}},
        {"tls": {"secretName": "cert", "clientCaSecretName": "ca"}},
    ],
)
def test_without_credentials_there_is_no_helm_test(chart: Any, values: dict[str, Any]) -> None:
    found = chart.render(values, name="mine", namespace="serving")
    assert not [d for d in rendered(chart, values) if d["kind"] == "Pod"]
    (notes,) = [text for path, text in found.items() if path.endswith("NOTES.txt")]
    assert "No helm test" in notes


def test_helm_test_succeeds_with_tls_certificates_and_tokens(chart: Any, tmp_path: Path) -> None:
    """Its words, said to a server with what the chart's words ask for."""
    authority = Authority(tmp_path)
    served = authority.issue("server", "mine-corral", "127.0.0.1")
    client = authority.issue("client", "client.example")
    tokens = private(tmp_path / "tokens", f"{'a' * 32}\n{'b' * 32}\n")
    found = rendered(chart, CASES["tls"])
    template = _one("Deployment", found)["spec"]["template"]
    (pod,) = [document for document in found if document["kind"] == "Pod"]
    there = {
        "/etc/corral-tls/tls.crt": served.cert,
        "/etc/corral-tls/tls.key": served.key,
        "/etc/corral-tls/ca.crt": authority.file,
        "/etc/corral-ca/ca.crt": authority.file,
        "/etc/corral-auth/tokens": tokens,
        "/etc/corral-client/tls.crt": client.cert,
        "/etc/corral-client/tls.key": client.key,
        "/etc/corral-token/token": private(tmp_path / "token", "b" * 32),
    }

    def words(container: dict[str, Any]) -> list[str]:
        found = []
        for word in container["args"]:
            option, _, value = word.partition("=")
            found.append(f"{option}={there[value]}" if value in there else word)
        return found

    asked = [word for word in words(template["spec"]["containers"][0]) if str(tmp_path) in word]
    assert len(asked) == 4
    with null_server("--workers", "1", *asked) as server:
        said = words(pod["spec"]["containers"][0])
        assert "--url=mine-corral:8001" in said
        said = [word.replace("mine-corral:8001", f"127.0.0.1:{server.port}") for word in said]
        done = subprocess.run(
            [str(Path(sys.executable).with_name("corral-client")), *said],
            capture_output=True, text=True, check=False, timeout=90,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("folder", FOLDERS)
def test_kustomize_itself_renders_the_same(folder: str) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes" / folder)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    def by_name(documents: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
        found = {}
        for document in copy.deepcopy(documents):
            name = document["metadata"]["name"]
            if document["kind"] == "ConfigMap":
                # Its hash is the renderer's own.
                name = document["metadata"]["name"] = name.rpartition("-")[0]
            if document["kind"] == "Deployment":
                volume = document["spec"]["template"]["spec"]["volumes"][0]
                volume["configMap"]["name"] = volume["configMap"]["name"].rpartition("-")[0]
            found[document["kind"], name] = document
        return found

    ours = kustomize.render(DEPLOY / "kubernetes" / folder)
    assert by_name(kustomize.documents(done.stdout)) == by_name(ours)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_takes_the_pages_own_kustomization(tmp_path: Path) -> None:
    page = (DEPLOY.parent / "docs" / "deployment.md").read_text()
    (example,) = re.findall(r"```yaml\n(apiVersion: kustomize.*?)```", page, re.DOTALL)
    shutil.copytree(DEPLOY / "kubernetes", tmp_path / "deploy" / "kubernetes")
    (tmp_path / "kustomization.yaml").write_text(example)
    done = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = kustomize.documents(done.stdout)
    (container,) = _one("Deployment", found)["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/corral:0.1.0"
    assert container["resources"]["limits"]["cpu"] == "16"
    assert _one("HorizontalPodAutoscaler", found) and _one("PodMonitor", found)


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
