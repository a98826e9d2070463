"""Real Prometheus scrapes corral, with the rules and for the dashboard of deploy/."""

from __future__ import annotations

import re
import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from support.certificates import Authority, private
from support.kustomize import documents
from support.otlp_receiver import OtlpReceiver
from support.prometheus import ROOT, Prometheus, filled, panels, promtool, scraping
from support.running_server import Server, null_server, wait_until

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None or shutil.which("prometheus") is None,
    reason="Prometheus is not installed (apt-get install prometheus)",
)

#: what promtool says of Triton's names, which are Triton's
TRITONS = re.compile(
    r"nv_inference_\w+ (counter metrics should have \"_total\" suffix"
    r"|use base unit \"seconds\" instead of \"microseconds\""
    r"|metric names should not contain abbreviated units"
    r"|non-histogram and non-summary metrics should not have \"_count\" suffix)"
)


@pytest.mark.parametrize(
    "words", [("check", "config", "prometheus.yml"), ("check", "rules", "rules.yml")]
)
def test_the_files_are_prometheus_own_kind(words: tuple[str, ...]) -> None:
    result = promtool(*words)
    assert result.returncode == 0, result.stdout
    assert "SUCCESS" in result.stdout


def test_the_rules_pass_their_unit_tests() -> None:
    result = promtool("test", "rules", "rules_test.yml")
    assert result.returncode == 0, result.stdout
    assert "SUCCESS" in result.stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "access.log"
    with OtlpReceiver() as collector:
        traced = ("--otlp-endpoint", collector.endpoint, "--trace-rate", "0.2")
        words = ("--workers", "2", "--oversubscribe", "--null-item-ms", "2", "--access-log")
        with null_server(*words, str(log), *traced) as started:
            yield started


@pytest.fixture(scope="module")
def prometheus(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has seen several seconds of load."""
    ending = threading.Event()

    def load() -> None:
        pixels = np.zeros((1, 224, 224, 3), np.uint8)
        tensor = triton.InferInput("input", list(pixels.shape), "UINT8")
        tensor.set_data_from_numpy(pixels)
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            while not ending.is_set():
                client.infer("resnet50", [tensor])
                time.sleep(0.01)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        with scraping(server.metrics_port, tmp_path_factory.mktemp("prometheus")) as found:
            wait_until(
                lambda: found.ask("instance:corral_request_seconds:p99_5m > 0"), "the recordings"
            )
            yield found
    finally:
        ending.set()
        thread.join()


def page(server: Server) -> str:
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=20) as response:
        text: str = response.read().decode()
        return text


def test_promtool_has_remarks_on_tritons_names_alone(server: Server) -> None:
    result = promtool("check", "metrics", text=page(server))
    remarks = [line for line in result.stdout.splitlines() if line.strip()]
    assert [line for line in remarks if not TRITONS.fullmatch(line)] == []


def test_it_scrapes_everything_that_the_page_has(server: Server, prometheus: Prometheus) -> None:
    names = set(re.findall(r"^([a-z_]+)", page(server), re.MULTILINE))
    assert len(names) >= 60
    assert names <= set(prometheus.get("label/__name__/values"))
    (scraped,) = prometheus.get("targets")["activeTargets"]
    assert (scraped["health"], scraped["lastError"]) == ("up", "")


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_every_panel_shows_something(
    panel: dict[str, Any], server: Server, prometheus: Prometheus
) -> None:
    if panel["title"] == "Stopped by the CPU quota" and "cpu_throttled" not in page(server):
        pytest.skip("the cgroup has no cpu.stat here")
    for target in panel["targets"]:
        found = prometheus.ask(filled(target["expr"]))
        assert found, target["expr"]
        # What names a legend is there to name it.
        for label in re.findall(r"{{(\w+)}}", target.get("legendFormat", "")):
            assert all(label in series["metric"] for series in found)


def test_recordings_are_made_and_nothing_alarms(prometheus: Prometheus) -> None:
    groups = prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
    for name in recorded:
        assert prometheus.ask(name), name
    assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == []


def test_a_slow_bucket_leads_to_its_trace(prometheus: Prometheus) -> None:
    now_s = time.time()

    def exemplars() -> Any:
        return prometheus.get(
            "query_exemplars",
            query="corral_request_seconds_bucket",
            start=str(now_s - 600),
            end=str(now_s + 60),
        )

    found = wait_until(exemplars, "an exemplar")
    labels = [one["labels"] for series in found for one in series["exemplars"]]
    assert labels
    assert all(re.fullmatch("[0-9a-f]{32}", label["trace_id"]) for label in labels)


def test_it_is_let_in_with_what_the_charts_pod_monitor_names(tmp_path: Path) -> None:
    """With TLS, client certificates and tokens: the operator hands on secrets' keys as they are."""
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")
    authority = Authority(tmp_path)
    served = authority.issue("server", "mine-corral")
    own = authority.issue("prometheus", "prometheus.example")
    tokens = private(tmp_path / "tokens", f"# of others\n{'a' * 32}\n{'b' * 32}\n")
    values = {
        "tls": {"secretName": "cert", "clientCaSecretName": "ca"},
        "auth": {"secretName": "tokens"},
        "podMonitor": {
            "enabled": True,
            "tokenSecretName": "prometheus-token",
            "clientSecretName": "prometheus-cert",
        },
    }
    chart = helm.Chart.load(str(ROOT / "deploy" / "helm" / "corral"))
    found = chart.render(values, name="mine", namespace="serving")
    (text,) = [text for path, text in found.items() if path.endswith("podmonitor.yaml")]
    (monitor,) = documents(text)
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    secrets = {
        ("cert", "ca.crt"): str(authority.file),
        ("prometheus-cert", "tls.crt"): str(own.cert),
        ("prometheus-cert", "tls.key"): str(own.key),
        ("prometheus-token", "token"): "b" * 32,
    }

    def secret(named: dict[str, str]) -> str:
        return secrets[named["name"], named["key"]]

    tls = endpoint["tlsConfig"]
    more = {
        "scheme": endpoint["scheme"],
        "tls_config": {
            "ca_file": secret(tls["ca"]["secret"]),
            "cert_file": secret(tls["cert"]["secret"]),
            "key_file": secret(tls["keySecret"]),
            "server_name": tls["serverName"],
        },
        "authorization": {"credentials": secret(endpoint["authorization"]["credentials"])},
    }
    asked = ["--tls-cert", str(served.cert), "--tls-key", str(served.key)]
    asked += ["--tls-client-ca", str(authority.file), "--auth-token-file", str(tokens)]
    with (
        null_server("--workers", "1", *asked) as server,
        scraping(server.metrics_port, tmp_path, more=more) as prometheus,
    ):
        (target,) = prometheus.get("targets")["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")


def test_a_server_that_ends_is_down(tmp_path: Path) -> None:
    with null_server("--workers", "1") as server, scraping(server.metrics_port, tmp_path) as found:
        server.stop()
        wait_until(lambda: found.ask('up{job="corral"} == 0'), "the end to be seen")
        wait_until(lambda: found.ask('ALERTS{alertname="CorralDown"}'), "the alert, pending")
