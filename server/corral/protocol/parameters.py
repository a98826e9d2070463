"""A request's parameters, as values."""

from __future__ import annotations

from collections.abc import Mapping

from corral.errors import InvalidRequest
from corral.priority import Priority
from corral.protocol.shared_memory import Slice
from corral_protos import open_inference_pb2 as pb


def integer(parameter: pb.InferParameter) -> int | None:
    """The whole number that a parameter is; None where it is something else."""
    which = parameter.WhichOneof("parameter_choice")
    if which == "int64_param":
        return parameter.int64_param
    if which == "uint64_param":
        return parameter.uint64_param
    return None


def read_classification(parameters: Mapping[str, pb.InferParameter]) -> int:
    """The parameter ``classification``: the top k wanted; 0 where it is not given."""
    # Looking a missing key up in a protobuf map would insert it.
    if "classification" not in parameters:
        return 0
    top = integer(parameters["classification"])
    if top is None or top < 1:
        raise InvalidRequest("classification takes a whole number, 1 or more")
    return top


def read_timeout(request: pb.ModelInferRequest) -> float | None:
    """The parameter ``timeout``, microseconds on the wire; 0 means none, as in Triton."""
    if "timeout" not in request.parameters:
        return None
    timeout_us = integer(request.parameters["timeout"])
    if timeout_us is None or timeout_us < 0:
        raise InvalidRequest("the parameter timeout takes a whole number of microseconds")
    return timeout_us / 1e6 if timeout_us else None


def read_priority(request: pb.ModelInferRequest) -> Priority:
    """The parameter ``priority``: as in Triton, 1 comes first and 0 is the default, 1 here."""
    if "priority" not in request.parameters:
        return Priority.INTERACTIVE
    priority = integer(request.parameters["priority"])
    if priority is None or priority < 0:
        raise InvalidRequest("the parameter priority takes a whole number: 1 interactive, 2 bulk")
    return Priority.INTERACTIVE if priority < Priority.BULK else Priority.BULK


def read_slice(parameters: Mapping[str, pb.InferParameter]) -> Slice:
    """Where a tensor lies in shared memory; ``shared_memory_region`` is among the parameters."""
    region = parameters["shared_memory_region"]
    if region.WhichOneof("parameter_choice") != "string_param":
        raise InvalidRequest("the parameter shared_memory_region takes a region's name")
    numbers = {"shared_memory_offset": 0, "shared_memory_byte_size": 0}
    for name in numbers:
        if name in parameters:
            value = integer(parameters[name])
            if value is None or value < 0:
                raise InvalidRequest(f"the parameter {name} takes a whole number of bytes")
            numbers[name] = value
    if not numbers["shared_memory_byte_size"]:
        raise InvalidRequest("the parameter shared_memory_byte_size is missing")
    return Slice(region.string_param, *numbers.values())
