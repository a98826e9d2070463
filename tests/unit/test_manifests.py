"""deploy/kubernetes and deploy/kserve, as far as no cluster and no schema is needed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from support import kustomize
from support.manifests import CUSTOM, DEPLOY, check_pod, check_probe, server_settings

from corral.settings import Mode

OVERLAYS = sorted(path for path in (DEPLOY / "kubernetes" / "overlays").iterdir())
FOLDERS = [DEPLOY / "kubernetes" / "base", *OVERLAYS]


def _one(kind: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    (only,) = [document for document in found if document["kind"] == kind]
    return only


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_pods_are_guaranteed_restricted_and_drained(folder: Path, tmp_path: Path) -> None:
    found = kustomize.render(folder)
    template = _one("Deployment", found)["spec"]["template"]
    config = _one("ConfigMap", found)["data"]["corral.toml"]
    args = template["spec"]["containers"][0]["args"]
    settings = server_settings(args, tmp_path, config)
    check_pod(template, settings)
    wanted = Mode.THROUGHPUT if folder.name == "throughput" else Mode.RTI
    assert settings.model.mode is wanted


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_everything_selects_the_same_pods(folder: Path) -> None:
    found = kustomize.render(folder)
    labels = _one("Deployment", found)["spec"]["template"]["metadata"]["labels"]
    for document in found:
        spec = document.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector")
        if selector is not None:
            wanted = selector.get("matchLabels", selector)
            assert wanted.items() <= labels.items()
        target = spec.get("scaleTargetRef")
        assert target is None or target["name"] == "corral"


def test_an_autoscaler_has_the_replicas_to_itself() -> None:
    for name in ("hpa", "keda"):
        found = kustomize.render(DEPLOY / "kubernetes" / "overlays" / name)
        assert "replicas" not in _one("Deployment", found)["spec"]


@pytest.mark.parametrize("name", ["hpa", "keda"])
def test_what_an_autoscaler_goes_by_is_scraped(name: str) -> None:
    found = kustomize.render(DEPLOY / "kubernetes" / "overlays" / name)
    assert _one("PodMonitor", found)


def test_components_go_together(tmp_path: Path) -> None:
    """Each brings no base of its own, so that one kustomization takes several."""
    home = DEPLOY / "kubernetes"
    lines = ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization", "components:"]
    for name in ("throughput", "monitoring", "hpa"):
        lines.append(f"  - {home / 'components' / name}")
    lines.append(f"resources: [{home / 'base'}]")
    (tmp_path / "kustomization.yaml").write_text("\n".join(lines))
    found = kustomize.render(tmp_path)
    deployment = _one("Deployment", found)
    assert "replicas" not in deployment["spec"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["cpu"] == "16"
    assert _one("HorizontalPodAutoscaler", found)
    assert _one("PrometheusRule", found)


@pytest.mark.parametrize("namespace", ["default", "serving"])
def test_keda_asks_for_the_pods_of_its_own_namespace(namespace: str, tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "kubernetes", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "overlays" / "keda" / "kustomization.yaml"
    file.write_text(file.read_text().replace("namespace: default", f"namespace: {namespace}"))
    found = kustomize.render(file.parent)
    assert {document["metadata"].get("namespace") for document in found} == {namespace}
    queries = [
        trigger["metadata"]["query"] for trigger in _one("ScaledObject", found)["spec"]["triggers"]
    ]
    assert len(queries) == 2
    for query in queries:
        assert re.findall(r'namespace="([^"]*)"', query) == [namespace]
        (pods,) = re.findall(r'pod=~"([^"]*)"', query)
        assert re.fullmatch(pods, "corral-7d4b9c5f6d-x2k8p")
        # Another deployment's, whose name begins as this one's.
        assert not re.fullmatch(pods, "corral-canary-7d4b9c5f6d-x2k8p")


def test_custom_resources_have_fields_that_there_are() -> None:
    seen = set()
    for folder in OVERLAYS:
        for document in kustomize.render(folder):
            name = f"{document['apiVersion']} {document['kind']}"
            if name in CUSTOM:
                seen.add(name)
                jsonschema.validate(document["spec"], CUSTOM[name])
    assert seen == set(CUSTOM)


def test_rules_name_metrics_that_there_are() -> None:
    page = (DEPLOY.parent / "docs" / "metrics.md").read_text()
    text = (DEPLOY / "kubernetes" / "prometheus-adapter.yaml").read_text()
    for file in (DEPLOY / "kubernetes" / "components").rglob("*.yaml"):
        text += file.read_text()
    names = set(re.findall(r"(?<!:)\b(?:corral|nv)_[a-z_]+", text))
    assert len(names) >= 4
    for name in names:
        assert f"`{re.sub('_(bucket|sum|count)$', '', name)}" in page, name
    found = kustomize.render(DEPLOY / "kubernetes" / "overlays" / "hpa")
    hpa = _one("HorizontalPodAutoscaler", found)
    rule = yaml.safe_load((DEPLOY / "kubernetes" / "prometheus-adapter.yaml").read_text())
    metric = hpa["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert rule["rules"]["custom"][0]["name"]["as"] == metric


def test_the_operators_rules_are_prometheus_own() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    found = kustomize.render(DEPLOY / "kubernetes" / "overlays" / "monitoring")
    assert _one("PrometheusRule", found)["spec"] == rules


def test_kserve_starts_corral_with_options_that_there_are(tmp_path: Path) -> None:
    (runtime,) = kustomize.documents((DEPLOY / "kserve" / "clusterservingruntime.yaml").read_text())
    spec = runtime["spec"]
    (container,) = spec["containers"]
    assert container["name"] == "kserve-container"
    model = tmp_path / "models"
    model.mkdir()
    for file in (DEPLOY.parent / "tests" / "data" / "models").glob("colours.[ot]*"):
        shutil.copy(file, model)
    args = [
        word.replace("{{.Name}}", "classifier").replace("/mnt/models", str(model))
        for word in container["args"]
    ]
    settings = server_settings(args, tmp_path)
    assert settings.model.served_name == "classifier"
    (port,) = container["ports"]
    # KServe knows gRPC by this name.
    assert (port["name"], port["containerPort"]) == ("h2c", settings.listen.port)
    assert spec["protocolVersions"] == ["grpc-v2", "v2"]
    metrics = settings.listen.metrics_port
    assert spec["annotations"]["prometheus.kserve.io/port"] == str(metrics)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        check_probe(container[probe], {"metrics": metrics, "grpc": settings.listen.port})
    assert container["resources"]["requests"] == container["resources"]["limits"]
    own = container["securityContext"]
    assert own["runAsNonRoot"] and own["readOnlyRootFilesystem"]


def test_the_inference_service_asks_for_that_runtime() -> None:
    (service,) = kustomize.documents((DEPLOY / "kserve" / "inferenceservice.yaml").read_text())
    (runtime,) = kustomize.documents((DEPLOY / "kserve" / "clusterservingruntime.yaml").read_text())
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    formats = {f["name"] for f in runtime["spec"]["supportedModelFormats"]}
    assert model["modelFormat"]["name"] in formats
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
