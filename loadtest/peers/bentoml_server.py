"""BentoML: a service with an ASGI route that takes the tensor's bytes as the body.

BentoML's own bodies are JSON, forms and pickle. Numbers as JSON cost more than the model, and
pickle is no format for strangers, so the route is an ASGI application mounted into the service, as
its documentation describes. Such a route does not go through adaptive batching.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from engine import options


def main() -> None:
    """Becomes ``bentoml serve``."""
    given = options()
    environment = {
        **os.environ,
        "PEER_MODEL": given.model,
        "PEER_THREADS": str(given.threads),
        "PEER_WORKERS": str(given.workers),
        "BENTOML_HOME": str(Path(given.folder).absolute()),
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    binary = Path(sys.executable).with_name("bentoml")
    command = [
        str(binary), "serve", "bentoml_service:ResNet50", "--host", "127.0.0.1",
        "--port", str(given.port), "--working-dir", str(Path(__file__).parent),
    ]  # fmt: skip
    os.execve(binary, command, environment)


if __name__ == "__main__":
    main()
