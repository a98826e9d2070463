"""tritony: a small client that reads the configuration, splits into batches and retries."""

from __future__ import annotations

import cases
import numpy as np
from cases import Servers
from tritony import InferenceClient

BATCH = np.stack([np.full((3, 224, 224), n, np.float32) for n in range(12)])


def works_grpc_one_after_another(servers: Servers) -> None:
    client = InferenceClient.create_with(
        servers.model, servers.grpc, input_dims=4, protocol="grpc", run_async=False
    )
    found = client(BATCH)
    assert np.asarray(found)[:, 0].tolist() == list(range(12))


def works_grpc_and_http_side_by_side(servers: Servers) -> None:
    for protocol, where in (("grpc", servers.grpc), ("http", servers.http)):
        client = InferenceClient.create_with(
            servers.model, where, input_dims=4, protocol=protocol, run_async=True
        )
        found = client(BATCH)
        assert np.asarray(found)[:, 0].tolist() == list(range(12))


if __name__ == "__main__":
    cases.run(globals())
