"""What a load test's requests carry."""

from __future__ import annotations

import pytest

from corral_loadtest.generator import payload
from corral_loadtest.specification import InputKind, Payload, Target
from corral_protos import open_inference_pb2 as pb


@pytest.mark.parametrize("priority", [None, 1, 2])
def test_a_priority_is_the_request_parameter(priority: int | None) -> None:
    tensor = pb.ModelMetadataResponse.TensorMetadata(
        name="x", datatype="UINT8", shape=[-1, 2, 2, 3]
    )
    page = pb.ModelMetadataResponse(name="m", inputs=[tensor])
    wanted = Payload(kind=InputKind.UINT8, distinct=2, priority=priority)
    for message in payload.messages(page, wanted, Target(model="m")):
        request = pb.ModelInferRequest.FromString(message)
        given = {name: each.int64_param for name, each in request.parameters.items()}
        assert given == ({} if priority is None else {"priority": priority})
