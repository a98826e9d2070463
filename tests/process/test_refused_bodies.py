"""Bodies that are refused before they have all come, and clients that see why."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from support.running_server import StartServer

CLASSIFY = "/v2/models/resnet50/classify"


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("how", ["--http1.1", "--http2-prior-knowledge"])
def test_curl_shows_why_a_long_body_is_refused(
    server: StartServer, tmp_path: Path, how: str
) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(20_000_000))
    with server("--workers", "1", "--max-message-bytes", "1000000") as s:
        for path, status, word in (
            (CLASSIFY, 413, "--max-message-bytes"),
            ("/v2", 405, "takes GET"),
            ("/v2/nothing", 404, "there is nothing"),
        ):
            url = f"http://127.0.0.1:{s.http_port}{path}"
            sent = ["--data-binary", f"@{body}", "-w", "\n%{http_code}", url]
            # It depends on what comes in one piece.
            for _ in range(6):
                command = ["curl", "-sS", how, *sent]
                done = subprocess.run(
                    command, check=False, capture_output=True, text=True, timeout=30
                )
                assert done.returncode == 0, (path, done.stderr)
                said, _, code = done.stdout.rpartition("\n")
                assert int(code) == status
                assert word in json.loads(said)["error"]
