"""What an inference is answered with over HTTP."""

from __future__ import annotations

from corral.frontend.rest.exchange import OCTETS, Reply
from corral.protocol.response import Answer
from corral.protocol.rest import response

#: how long the JSON of a number is, by its bytes
_JSON_OF_A_BYTE = 5


def json_bytes(got: Answer, binary: tuple[bool, ...]) -> int:
    """About how long the answer's JSON is."""
    if all(binary):
        return 0
    values = sum(len(output.content) for output in got.outputs) or len(got.content)
    return values * _JSON_OF_A_BYTE


def inference_reply(got: Answer, binary: tuple[bool, ...]) -> Reply:
    """The answer; ``binary`` says it of each output that was named, or of all."""
    if got.part is None and binary == (True,) and len(got.outputs) <= 1:
        body, header_bytes = response.binary(
            got.model_name,
            got.request_id,
            got.datatype,
            got.shape,
            got.content,
            name=got.output_name,
        )
    else:
        body, header_bytes = response.in_parts(got, binary)
        if header_bytes == len(body):
            return Reply(body, may_be_packed=True)
    more = ((b"inference-header-content-length", b"%d" % header_bytes),)
    return Reply(body, content_type=OCTETS, more=more, may_be_packed=True)
