"""One picture in, its best labels out: the request for that, and which models have an answer."""

from __future__ import annotations

from collections.abc import Sequence

from corral.protocol.contents import shape_text
from corral.tensors import Datatype, Signature, TensorSpec
from corral_protos import open_inference_pb2 as pb

#: inputs and outputs that a refusal names
_SHOWN = 4


def labels_request(
    model_name: str, model_version: str, top: int, timeout_us: int, priority: int
) -> pb.ModelInferRequest:
    """The request for the ``top`` best labels of one encoded picture.

    Args:
        model_name, model_version: from the path.
        top: how many.
        timeout_us: 0 for none.
        priority: as the request parameter; 0 for the usual one.
    """
    message = pb.ModelInferRequest(model_name=model_name, model_version=model_version)
    message.inputs.add(name="input", datatype="BYTES", shape=[1])
    message.parameters["classification"].int64_param = top
    if timeout_us:
        message.parameters["timeout"].int64_param = timeout_us
    if priority:
        message.parameters["priority"].int64_param = priority
    return message


def without_labels(signature: Signature) -> str:
    """Why a model has no labels for one picture, and what to send instead; empty where it has.

    The address that it is to be sent to follows.
    """
    if not signature.takes_pictures:
        specs = signature.input_specs(signature.native)
        way = "" if len(specs) > 1 else "give it [preprocessing] in the TOML file beside it, or "
        return f"the model takes no pictures, but {_listed(specs)}: {way}send tensors"
    outputs = signature.output_specs
    if len(outputs) == 1 and outputs[0].datatype is Datatype.FP32:
        return ""
    return (
        f"labels are of one output of FP32 scores, and the model answers {_listed(outputs)}: send "
        "the picture as a BYTES input"
    )


def _listed(specs: Sequence[TensorSpec]) -> str:
    texts = [f"{spec.name!r} {spec.datatype.name} {shape_text(spec, 'n')}" for spec in specs]
    more = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
