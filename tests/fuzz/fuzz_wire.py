"""atheris on requests: ``make fuzz``, or ``fuzz_wire.py [CORPUS] [-max_total_time=60]``.

Needs the extra ``fuzz``. Any exception but a RequestError ends it with the message that did it;
so does more than 512 MB (-rss_limit_mb), and more than 5 s (-timeout).
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(
    include=["corral.protocol.request", "corral.protocol.envelope", "corral.protocol.metadata"]
):
    from corral.errors import RequestError
    from corral.protocol import request
    from corral.protocol.contents import Limits
    from corral.protocol.metadata import resolve_view
    from corral.protocol.several import Several
    from corral.tensors import Datatype, Signature, View

SIGNATURE = Signature({Datatype.FP32: (3, 4, 4), Datatype.UINT8: (4, 4, 3)}, (10,))
READER = request.RequestReader(
    SIGNATURE,
    Limits(max_items=8, max_image_bytes=1000, classes=10),
    lambda name, version: resolve_view(name, version, "resnet50"),
)


def one_message(data: bytes) -> None:
    """Reads it; what comes out must be within the limits."""
    try:
        head, tensor = READER.read(data)
    except RequestError as error:
        assert len(str(error)) < 400
        assert error.view in set(View)
        return
    assert 1 <= head.count <= 8
    assert not isinstance(tensor, Several)
    if head.datatype is not None:
        assert len(tensor) == SIGNATURE.input_bytes[head.datatype] * head.count
    else:
        assert len(tensor) == head.count


if __name__ == "__main__":
    limits = ["-max_len=1048576", "-rss_limit_mb=512", "-timeout=5"]
    atheris.Setup([*sys.argv, *limits], one_message)
    atheris.Fuzz()
