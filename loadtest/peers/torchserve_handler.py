"""TorchServe's handler: bodies in, logits' bytes out."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from engine import Engine, as_item


class Handler:
    """The engine; TorchServe makes one a worker."""

    def initialize(self, context: Any) -> None:
        """Compiles the model."""
        self.context = context
        self._engine = Engine(os.environ["PEER_MODEL"], int(os.environ["PEER_THREADS"]))

    def handle(self, data: list[dict[str, Any]], _context: Any) -> list[bytes]:
        """Runs the requests of one batch."""
        bodies = [entry.get("body") or entry.get("data") for entry in data]
        found = self._engine.infer(np.concatenate([as_item(body) for body in bodies if body]))
        return [logits.tobytes() for logits in found]
