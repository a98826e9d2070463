"""The request that a frontend sends to itself: of the size of a client's, and of zeros."""

from __future__ import annotations

from corral.tensors import Datatype, Signature
from corral_protos import open_inference_pb2 as pb

#: A larger one would keep the loop from clients for longer than some milliseconds.
MOST_BYTES = 4 * 2**20


class InnerCallFailed(Exception):
    """A call was answered with an error.

    Attributes:
        code: its status.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"status {code}")
        self.code = code


def inner_message(signature: Signature, model: str, datatype: Datatype) -> bytes | None:
    """A ModelInferRequest of one item, in bytes; None where it would be larger than MOST_BYTES.

    Args:
        signature: the model's shapes.
        model: its name.
        datatype: of the only input; several have their own.
    """
    if signature.input_bytes[datatype] > MOST_BYTES:
        return None
    request = pb.ModelInferRequest(model_name=model)
    for spec in signature.input_specs(datatype):
        request.inputs.add(name=spec.name, datatype=spec.datatype.name, shape=(1, *spec.shape))
        request.raw_input_contents.append(bytes(spec.item_bytes))
    return request.SerializeToString()
