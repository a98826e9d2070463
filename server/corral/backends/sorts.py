"""Where a network ends and the choice among its answers begins: what sorts take, found in a graph.

A detector sorts its boxes by their scores and drops those that others cover. Two boxes of nearly
the same score change places for the smallest noise, and all that comes behind is another list then:
nothing there can be compared place by place. What goes into the choice can. So the graph is cut
**before its sorts**: at every float that a sort takes, or what comes behind one, and that hangs on
no sort itself. All that such a graph answers is a function of the floats at the cut.

**A decision counts as a sort**: it makes a truth or an integer of a float (scores above a bound, a
cast), or rounds it. Noise does not show in what it answers until that jumps.

Where a layer with weights comes behind a sort, the sort is inside the network (two-stage detectors,
mixtures of experts), and the cut would judge a part of it only: there is none then. A decision in
there (an activation that compares with zero) is a part of the network, and no cut.

An output may join what has nothing to do with each other, boxes in pixels and scores: it is taken
apart again, so that the large hide nothing. Pure.
"""

from __future__ import annotations

import dataclasses
import functools
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
#: what makes steps of a float, which stays one
_STEPS = frozenset({"Round", "Floor", "Ceil", "Ceiling", "Sign"})
#: a quantizer's own, which decide nothing
_QUANTIZERS = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "FakeQuantize"})
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
    """The floats at the cut, and outputs that hang on no sort and no decision, each once.

    Returns:
        None where nothing is sorted or decided of a float, where a sort is inside the network, and
        where the graph holds graphs of its own.
    """
    if any(node.kind in _NESTED for node in graph.nodes):
        return None
    inside = _ahead_of_layers(graph)
    varies = set(graph.inputs)
    sorted_ones: set[Tensor] = set()
    made_by = {tensor: node for node in graph.nodes for tensor in node.outputs}
    taken: list[Tensor] = []
    for node in graph.nodes:
        if node.kind in _SHAPES:
            continue
        behind = any(tensor in sorted_ones for tensor in node.inputs)
        moves = [tensor for tensor in node.inputs if tensor in varies]
        decides = inside.isdisjoint(node.outputs) and _decides(node, moves, graph.floats)
        if behind or (moves and (node.kind in _SORTS or decides)):
            still = [one for one in node.inputs if one not in varies and one not in sorted_ones]
            if behind and node.kind in _WEIGHTED and still:
                return None
            sorted_ones.update(node.outputs)
            taken += moves
        elif moves:
            varies.update(node.outputs)
    floats = functools.partial(_floats, graph, varies, made_by)
    left = [tensor for tensor in graph.outputs if tensor not in sorted_ones]
    # An output may be an integer that only a decision inside the network made.
    if len(left) == len(graph.outputs) and not any(
        floats(tensor) for tensor in left if tensor not in graph.floats
    ):
        return None
    return list(dict.fromkeys(one for tensor in [*taken, *left] for one in floats(tensor))) or None


def _decides(node: Node[Tensor], moves: Sequence[Tensor], floats: Set[Tensor]) -> bool:
    """Whether a node makes steps of a float that varies: what it answers jumps."""
    if node.kind in _QUANTIZERS or floats.isdisjoint(moves):
        return False
    return node.kind in _STEPS or floats.isdisjoint(node.outputs)


def _ahead_of_layers(graph: Graph[Tensor]) -> set[Tensor]:
    """Tensors that layers with weights of their own hang on."""
    varies = set(graph.inputs)
    for node in graph.nodes:
        if node.kind not in _SHAPES and not varies.isdisjoint(node.inputs):
            varies.update(node.outputs)
    found: set[Tensor] = set()
    for node in reversed(graph.nodes):
        layer = node.kind in _WEIGHTED and not varies.issuperset(node.inputs)
        if node.kind not in _SHAPES and (layer or not found.isdisjoint(node.outputs)):
            found.update(varies.intersection(node.inputs))
    return found


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
