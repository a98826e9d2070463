"""Where a network ends and the choice among its answers begins: what sorts take, found in a graph.

A detector sorts its boxes by their scores and drops those that others cover. Two boxes of nearly
the same score change places for the smallest noise, and all that comes behind is another list then:
nothing there can be compared place by place. What goes into the choice can. So the graph is cut
**before its sorts**: at every float that a sort takes, or what comes behind one, and that hangs on
no sort itself. All that such a graph answers is a function of the floats at the cut.

Where a layer with weights comes behind a sort, the sort is inside the network (two-stage detectors,
mixtures of experts), and the cut would judge a part of it only: there is none then.

An output may join what has nothing to do with each other, boxes in pixels and scores: it is taken
apart again, so that the large hide nothing. Pure.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Sequence, Set
from typing import Generic, TypeVar

Tensor = TypeVar("Tensor", bound=Hashable)

#: operations whose answer jumps where two inputs are nearly the same, by both engines' names
_SORTS = frozenset(
    {
        "TopK", "ArgMax", "ArgMin", "NonZero", "Unique", "NonMaxSuppression", "MatrixNms",
        "MulticlassNms", "NMSRotated", "DetectionOutput",
    }
)  # fmt: skip
#: layers with weights
_WEIGHTED = frozenset(
    {
        "Conv", "ConvTranspose", "Gemm", "MatMul", "Convolution", "GroupConvolution",
        "ConvolutionBackpropData", "GroupConvolutionBackpropData", "DeformableConvolution",
        "LSTM", "GRU", "RNN", "LSTMSequence", "GRUSequence", "RNNSequence",
    }
)  # fmt: skip
#: what holds a graph of its own, which nobody looks into here
_NESTED = frozenset({"If", "Loop", "Scan", "TensorIterator"})
#: what tells a shape, whatever the values are
_SHAPES = frozenset({"Shape", "Size", "ShapeOf"})


@dataclasses.dataclass(frozen=True)
class Node(Generic[Tensor]):
    """An operation.

    Attributes:
        kind: as the engine calls it.
        inputs: what it reads.
        outputs: what it makes.
    """

    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graph(Generic[Tensor]):
    """A network.

    Attributes:
        nodes: in an order in which they can be computed.
        inputs: of the network.
        outputs: of the network.
        floats: its tensors that are floats.
    """

    nodes: Sequence[Node[Tensor]]
    inputs: Set[Tensor]
    outputs: Sequence[Tensor]
    floats: Set[Tensor]


def before_sorts(graph: Graph[Tensor]) -> list[Tensor] | None:
    """The floats at the cut, and outputs that hang on no sort, each once.

    Returns:
        None where nothing is sorted, where a sort is inside the network, and where the graph holds
        graphs of its own.
    """
    varies = set(graph.inputs)
    sorted_ones: set[Tensor] = set()
    made_by = {tensor: node for node in graph.nodes for tensor in node.outputs}
    taken: list[Tensor] = []
    for node in graph.nodes:
        if node.kind in _NESTED:
            return None
        if node.kind in _SHAPES:
            continue
        behind = any(tensor in sorted_ones for tensor in node.inputs)
        moves = [tensor for tensor in node.inputs if tensor in varies]
        if behind or (moves and node.kind in _SORTS):
            still = [one for one in node.inputs if one not in varies and one not in sorted_ones]
            if behind and node.kind in _WEIGHTED and still:
                return None
            sorted_ones.update(node.outputs)
            taken += moves
        elif moves:
            varies.update(node.outputs)
    if not sorted_ones.intersection(graph.outputs):
        return None
    taken += [tensor for tensor in graph.outputs if tensor not in sorted_ones]
    # An output may be an integer that hangs on no sort: its floats are as good.
    return list(
        dict.fromkeys(one for tensor in taken for one in _floats(graph, varies, made_by, tensor))
    )


def _floats(
    graph: Graph[Tensor], varies: Set[Tensor], made_by: dict[Tensor, Node[Tensor]], tensor: Tensor
) -> list[Tensor]:
    """A float itself; of anything else (where scores are above a bound), what it is made of."""
    found: dict[Tensor, None] = {}
    seen: set[Tensor] = set()
    ahead = [tensor]
    while ahead:
        one = ahead.pop()
        if one in seen:
            continue
        seen.add(one)
        if one in graph.floats:
            found[one] = None
        elif one in made_by:
            ahead += [source for source in reversed(made_by[one].inputs) if source in varies]
    return list(found)


#: what joins tensors
JOINS = "Concat"
#: numbers of a box, which stay together
_BOX = 4


def parts(sizes: Sequence[int | None]) -> list[tuple[int, int]]:
    """Where each of the tensors that were joined begins and ends, along the axis of the join.

    Args:
        sizes: of each along the axis; None where the graph does not say.

    Returns:
        nothing where there is nothing to take apart.
    """
    known = [size for size in sizes if size]
    if len(known) != len(sizes) or len(known) < 2 or sum(known) == _BOX:
        return []
    ends = list(itertools.accumulate(known))
    return list(zip([0, *ends[:-1]], ends, strict=True))
