"""A real Prometheus: its tool, and a server of it that scrapes one corral."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from support.running_server import wait_until

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana-dashboard.json"


def promtool(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs promtool in deploy/prometheus, with ``text`` on its standard input."""
    program = shutil.which("promtool")
    assert program
    return subprocess.run(
        [program, *words],
        cwd=FILES,
        input=text,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )


class Prometheus:
    """One that runs.

    Args:
        port: of its HTTP port.
    """

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"

    def get(self, path: str, **query: str) -> Any:
        """What its API answers."""
        url = f"{self._address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=20) as response:
            return json.load(response)["data"]

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression now."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def ask_range(
        self, expression: str, start_s: float, end_s: float, step_s: float
    ) -> list[dict[str, Any]]:
        """The series of an expression over a time."""
        found: list[dict[str, Any]] = self.get(
            "query_range",
            query=expression,
            start=str(start_s),
            end=str(end_s),
            step=str(step_s),
        )["result"]
        return found


@contextlib.contextmanager
def scraping(
    metrics_port: int, home: Path, *, interval: str = "1s", more: Mapping[str, Any] | None = None
) -> Iterator[Prometheus]:
    """A Prometheus with deploy/prometheus' rules that scrapes a server, often.

    Args:
        metrics_port: of the server.
        home: an empty folder.
        interval: between scrapes, and between evaluations of the rules.
        more: what else the job says: its scheme, credentials, certificates.
    """
    program = shutil.which("prometheus")
    assert program
    config = yaml.safe_load((FILES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    config["rule_files"] = [str(FILES / "rules.yml")]
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{metrics_port}"]}]
    job.update(more or {})
    file = home / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [
        program,
        f"--config.file={file}",
        f"--storage.tsdb.path={home / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            found = Prometheus(port)

            def is_up() -> bool:
                assert process.poll() is None, (home / "log").read_text()
                with contextlib.suppress(OSError):
                    return [row["value"][1] for row in found.ask("up")] == ["1"]
                return False

            wait_until(is_up, "a scrape that worked")
            yield found
        finally:
            process.terminate()
            process.wait()


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def filled(expression: str, *, window: str = "10s") -> str:
    """A panel's expression with the dashboard's variables filled in, as Grafana does."""
    return expression.replace("$instance", ".*").replace("$__rate_interval", window)
