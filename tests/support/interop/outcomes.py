"""A client's script, run by its interpreter; what became of its cases."""

from __future__ import annotations

import json
import os
import subprocess

from support.interop.clients import Foreign
from support.interop.install import interpreter

_LONGEST_S = 800
#: no client of this machine goes through a proxy, and none reports to its maker
_ENVIRONMENT = {
    "no_proxy": "*",
    "NO_PROXY": "*",
    "PYTHONWARNINGS": "ignore",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def run_script(client: Foreign, servers: str) -> dict[str, str | None]:
    """Runs all cases of a client.

    Args:
        client: whose.
        servers: what the script is told, as JSON.

    Returns:
        by case: what went wrong, or None.
    """
    try:
        done = subprocess.run(
            [str(interpreter(client)), str(client.script), servers],
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_S,
            env={**os.environ, **_ENVIRONMENT},
        )
        out, err = done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        out, err = (late.stdout or b"").decode(), f"not done after {_LONGEST_S} s"
    found: dict[str, str | None] = {}
    for line in out.splitlines():
        # Clients print, too.
        if line.startswith('{"case"'):
            outcome = json.loads(line)
            found[outcome["case"]] = outcome["wrong"]
    missing = [case for case in client.cases() if case not in found]
    return {**found, **dict.fromkeys(missing, f"the script did not get there:\n{err[-4000:]}")}
