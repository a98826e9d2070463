"""Two servers that all the clients ask, what their scripts found, and a table of it at the end.

Null: one that answers with each item's first value. Cats: the real model with its real weights.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.interop.clients import CLIENTS, HOME, ROOT, Foreign
from support.interop.install import why_not
from support.interop.outcomes import run_script
from support.running_server import Server, null_server, running

MODEL = "efficientnet_lite0"
Outcomes = dict[str, str | None]

_seen: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)


@pytest.fixture(scope="session")
def null() -> Iterator[Server]:
    with null_server("--workers", "2", "--oversubscribe", "--client-shared-memory") as server:
        yield server


@pytest.fixture(scope="session")
def cats() -> Iterator[Server]:
    cache = os.environ.get("CORRAL_TEST_CACHE", str(ROOT / ".cache" / "e2e"))
    command = [
        sys.executable, "-m", "corral", "serve", "--port", "0", "--metrics-port", "0",
        "--cache-dir", cache, "--backend", "openvino", "--precision", "fp32", "--model", MODEL,
    ]  # fmt: skip
    with running(command, ready=False) as server:
        server.wait_until_ready(timeout_s=300)
        yield server


@pytest.fixture(scope="session")
def servers(null: Server, cats: Server) -> str:
    """What the scripts are told, as JSON; see scripts/cases.py."""
    return json.dumps(
        {
            "grpc": f"127.0.0.1:{null.port}",
            "http": f"127.0.0.1:{null.http_port}",
            "metrics": f"127.0.0.1:{null.metrics_port}",
            "model": "resnet50",
            "cats_grpc": f"127.0.0.1:{cats.port}",
            "cats_http": f"127.0.0.1:{cats.http_port}",
            "cats_model": MODEL,
            "picture": str(ROOT / "tests" / "data" / "pictures" / "cat.jpg"),
            "protos": str(ROOT / "protos"),
            "home": str(HOME),
        }
    )


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest) -> Callable[[Foreign], Outcomes]:
    """What became of a client's cases; its script runs once, and only where it can."""
    found: dict[str, Outcomes] = {}

    def of(client: Foreign) -> Outcomes:
        if reason := why_not(client):
            pytest.skip(reason)
        if client.name not in found:
            found[client.name] = run_script(client, request.getfixturevalue("servers"))
        return found[client.name]

    return of


def pytest_runtest_logreport(report: Any) -> None:
    """Remembers what became of each case."""
    parts = dict(report.user_properties)
    if "client" in parts and (report.when == "call" or report.skipped):
        reason = report.longrepr[2].removeprefix("Skipped: ") if report.skipped else ""
        _seen[parts["client"]].append((parts["case"], report.outcome, reason))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table: each client, its versions, and what became of its cases."""
    if not _seen:
        return
    terminalreporter.section("other people's clients")
    for client in CLIENTS:
        rows = _seen.get(client.name, [])
        if not rows:
            continue
        versions = ", ".join(client.versions().values()) or "as installed"
        passed = [case for case, outcome, _ in rows if outcome == "passed"]
        differs = sum(case.startswith("differs_") for case in passed)
        line = f"{client.title:42} {versions:24} works {len(passed) - differs:2}, differs {differs}"
        if failed := [case for case, outcome, _ in rows if outcome == "failed"]:
            line += f", FAILED {len(failed)}: {', '.join(failed)}"
        for reason in {reason for _, outcome, reason in rows if outcome == "skipped"}:
            line += f", skipped: {reason}"
        with contextlib.suppress(UnicodeEncodeError):
            terminalreporter.write_line(line)
