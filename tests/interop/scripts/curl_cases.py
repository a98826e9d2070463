"""curl, as people type it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import cases
from cases import CATS, Servers


def curl(*arguments: str) -> str:
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def classified(text: str) -> Any:
    return json.loads(text)["labels"][0]["label"]


def works_a_picture_as_the_body(servers: Servers) -> None:
    where = f"{servers.cats_http}/v2/models/{servers.cats_model}/classify?k=2"
    assert classified(curl("--data-binary", f"@{servers.picture}", where)) in CATS


def works_a_picture_as_an_upload_and_as_a_form(servers: Servers) -> None:
    where = f"{servers.cats_http}/v2/models/{servers.cats_model}/classify"
    assert classified(curl("-X", "POST", "-T", servers.picture, where)) in CATS
    assert classified(curl("-F", f"file=@{servers.picture}", where)) in CATS
    assert classified(curl("--compressed", "-F", f"file=@{servers.picture}", where)) in CATS


def works_http_2(servers: Servers) -> None:
    shown = curl("--http2-prior-knowledge", "-w", "\n%{http_version}", f"{servers.http}/v2")
    page, version = shown.splitlines()
    assert json.loads(page)["name"] == "corral"
    assert version == "2"
    # An upgrade that the server passes over.
    assert json.loads(curl("--http2", f"{servers.http}/v2"))["name"] == "corral"


def works_pages_and_heads(servers: Servers) -> None:
    head = curl("--head", f"{servers.http}/v2/health/ready")
    assert head.startswith("HTTP/1.1 200")
    index = json.loads(curl("-X", "POST", f"{servers.http}/v2/repository/index"))
    assert servers.model in {model["name"] for model in index}
    assert json.loads(curl("--compressed", f"{servers.http}/openapi.json"))["openapi"]


def works_json(servers: Servers) -> None:
    body = {
        "inputs": [{"name": "input", "shape": [1], "datatype": "BYTES", "data": ["no picture"]}]
    }
    where = f"{servers.cats_http}/v2/models/{servers.cats_model}/infer"
    answer = curl("-d", json.dumps(body), "-w", "\n%{http_code}", where)
    text, _, status = answer.rpartition("\n")
    assert status == "400"
    assert "picture" in json.loads(text)["error"]


def differs_http_1_0_is_refused(servers: Servers) -> None:
    shown = curl("--http1.0", "-o", "/dev/null", "-w", "%{http_code}", f"{servers.http}/v2")
    assert shown == "400"


if __name__ == "__main__":
    cases.run(globals())
