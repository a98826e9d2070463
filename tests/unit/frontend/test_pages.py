"""What the server says of itself and of its model."""

from __future__ import annotations

import pytest
from support.described import describe

from corral.errors import NotFound
from corral.frontend.pages import Pages
from corral.metrics import counters
from corral.tensors import Datatype, Signature, View
from corral_protos import open_inference_pb2 as pb


@pytest.fixture
def words() -> Pages:
    """Those of a model that takes no pictures."""
    layout = counters.make_layout(1)
    counted = counters.Pages(counters.create_memory(layout, 1), layout, 1)
    model = describe(name="words", signature=Signature({Datatype.FP32: (5,)}, (3,)))
    return Pages(model, (View.TENSOR,), ready=lambda: True, counts=counted.snapshot, memory=None)


def test_statistics_are_of_the_names_that_the_model_has(words: Pages) -> None:
    kind, page = words.methods()["ModelStatistics"]
    assert kind is pb.ModelStatisticsRequest
    for name in ("", "words"):
        found = page(pb.ModelStatisticsRequest(name=name))
        assert isinstance(found, pb.ModelStatisticsResponse)
        assert [one.name for one in found.model_stats] == ["words"]
    for name, version in (("other", ""), ("words", "2"), ("", "2"), ("words_uint8", "")):
        with pytest.raises(NotFound) as caught:
            page(pb.ModelStatisticsRequest(name=name, version=version))
        assert "words_image" not in str(caught.value)
