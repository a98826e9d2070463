"""The request that a frontend sends to itself is one that its reader takes."""

from __future__ import annotations

import pytest

from corral.frontend.inner_message import MOST_BYTES, inner_message
from corral.protocol.contents import Limits
from corral.protocol.request import RequestReader
from corral.tensors import Datatype, Signature, TensorSpec, View

_ONE = Signature(
    input_shapes={Datatype.FP32: (3, 8, 8), Datatype.UINT8: (8, 8, 3)}, output_shape=(10,)
)
_SEVERAL = Signature(
    input_shapes={Datatype.INT64: (4,)},
    output_shape=(2,),
    recipe=None,
    inputs=(TensorSpec("ids", Datatype.INT64, (4,)), TensorSpec("mask", Datatype.BOOL, (4, 2))),
)


def _reader(signature: Signature) -> RequestReader:
    limits = Limits(max_items=8, max_image_bytes=1000, classes=10)
    return RequestReader(signature, limits, lambda _name, _version: View.TENSOR)


@pytest.mark.parametrize(
    ("signature", "datatype"),
    [(_ONE, Datatype.FP32), (_ONE, Datatype.UINT8), (_SEVERAL, Datatype.INT64)],
)
def test_it_is_one_item_of_the_models_size(signature: Signature, datatype: Datatype) -> None:
    message = inner_message(signature, "pets", datatype)
    assert message is not None
    head, _ = _reader(signature).read(message)
    assert (head.model_name, head.count, head.datatype) == ("pets", 1, datatype)
    assert len(message) >= signature.input_bytes[datatype]


def test_one_that_would_keep_the_loop_for_long_is_not_made() -> None:
    large = Signature(input_shapes={Datatype.UINT8: (MOST_BYTES + 1,)}, output_shape=(10,))
    assert inner_message(large, "pets", Datatype.UINT8) is None
