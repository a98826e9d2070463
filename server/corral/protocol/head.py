"""What a request says beside its tensors, and where those are."""

from __future__ import annotations

import dataclasses

from corral.priority import Priority
from corral.protocol.ports import InputHead, Wanted
from corral.protocol.scattered import Scattered
from corral.protocol.several import Several
from corral.protocol.shared_memory import Slice, Tensor
from corral.tensors import OUTPUT_NAME, Datatype, View

#: a request's tensor where it lies: in the message, in shared memory, or as encoded pictures; or
#: several of them
Data = memoryview | Scattered | Tensor | Several | list[memoryview]
#: where the output, or each one that is wanted, is left in shared memory; None: in the answer
Places = Tensor | tuple[Tensor | None, ...] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """Everything of a request but its tensor.

    Attributes:
        view: which of the model's signatures was asked for, see tensors.View.
        datatype: None when the input is encoded pictures (BYTES); of several, the first's.
        count: items, 1 or more.
        classification: top k wanted, at most all classes; 0 for the logits.
        timeout_s: the request parameter ``timeout``: how long it will wait in the queue, where
            the server bounds that; None when not given.
        priority: the request parameter ``priority``: 1 or none is interactive, 2 and more bulk.
        contents: the tensor where it came typed instead of raw: its bytes, or the pictures.
        input_slice: where the tensor lies in the client's shared memory; None: in the message.
        output_slice: where the result is wanted; None: in the answer.
        output_name: what the only output was asked for as.
        inputs: where the model has several, each; else ().
        wanted: the outputs to answer with, where the model's outputs have names; else ().
        raw_bytes: what the tensor beside it holds, where it is one tensor, of bytes as they are,
            so that nothing else is to be checked; -1 where it is not.
        is_plain: whether the answer is the one output as it is, in the message.
    """

    view: View
    model_name: str
    request_id: str
    datatype: Datatype | None
    count: int
    classification: int
    timeout_s: float | None
    priority: Priority
    contents: bytes | tuple[bytes, ...] | None
    input_slice: Slice | None = None
    output_slice: Slice | None = None
    output_name: str = OUTPUT_NAME
    inputs: tuple[InputHead, ...] = ()
    wanted: tuple[Wanted, ...] = ()
    raw_bytes: int = -1
    is_plain: bool = False
