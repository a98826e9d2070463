"""Where a graph is cut so that what it answers can be compared place by place."""

from __future__ import annotations

import pytest

from corral.backends.sorts import Graph, Node, before_sorts, parts

_BODY = [
    Node("Conv", ("picture", "weights"), ("map",)),
    Node("Sigmoid", ("map",), ("scores",)),
    Node("Mul", ("map", "strides"), ("boxes",)),
]
_SORTED = [
    Node("ReduceMax", ("scores",), ("best",)),
    Node("ArgMax", ("scores",), ("classes",)),
    Node("TopK", ("best", "k"), ("top", "order")),
    Node("GatherElements", ("boxes", "order"), ("top boxes",)),
    Node("GatherElements", ("classes", "order"), ("top classes",)),
]
_OUTPUTS = ["top boxes", "top", "top classes"]
_INTEGERS = {"k", "classes", "order", "top classes", "mask", "shape"}


def _graph(nodes: list[Node[str]], outputs: list[str]) -> Graph[str]:
    tensors = {name for node in nodes for name in (*node.inputs, *node.outputs)}
    return Graph(nodes=nodes, inputs={"picture"}, outputs=outputs, floats=tensors - _INTEGERS)


def test_the_cut_is_what_sorts_and_what_comes_behind_them_take() -> None:
    found = before_sorts(_graph([*_BODY, *_SORTED], _OUTPUTS))
    assert found == ["scores", "best", "boxes"]


def test_outputs_that_hang_on_no_sort_are_compared_as_they_are() -> None:
    found = before_sorts(_graph([*_BODY, *_SORTED], [*_OUTPUTS, "map"]))
    assert found == ["scores", "best", "boxes", "map"]


def test_a_network_that_sorts_nothing_has_no_cut() -> None:
    assert before_sorts(_graph(_BODY, ["scores", "boxes"])) is None


def test_a_sort_that_no_output_hangs_on_is_none() -> None:
    assert before_sorts(_graph([*_BODY, *_SORTED], ["scores", "boxes"])) is None


@pytest.mark.parametrize("kind", ["Conv", "MatMul", "Gemm"])
def test_where_layers_come_behind_a_sort_there_is_no_cut(kind: str) -> None:
    # A second stage, whose arithmetic the cut would not see.
    second = Node(kind, ("top boxes", "more weights"), ("moved",))
    assert before_sorts(_graph([*_BODY, *_SORTED, second], ["moved", "top"])) is None


def test_a_product_without_weights_is_no_layer() -> None:
    overlap = Node("MatMul", ("top boxes", "top boxes"), ("overlap",))
    found = before_sorts(_graph([*_BODY, *_SORTED, overlap], ["overlap"]))
    assert found == ["scores", "best", "boxes"]


def test_a_second_sort_adds_nothing() -> None:
    more = [
        Node("TopK", ("top", "k"), ("few", "few places")),
        Node("GatherElements", ("top boxes", "few places"), ("few boxes",)),
    ]
    found = before_sorts(_graph([*_BODY, *_SORTED, *more], ["few boxes", "few"]))
    assert found == ["scores", "best", "boxes"]


def test_what_is_chosen_by_a_bound_is_compared_by_the_floats_below() -> None:
    nodes = [
        *_BODY,
        Node("Greater", ("scores", "bound"), ("mask",)),
        Node("NonZero", ("mask",), ("order",)),
        Node("GatherND", ("boxes", "order"), ("top boxes",)),
    ]
    assert before_sorts(_graph(nodes, ["top boxes"])) == ["scores", "boxes"]


_MASK = Node("Greater", ("scores", "bound"), ("mask",))


@pytest.mark.parametrize(
    ("decision", "output"),
    [
        (_MASK, "mask"),
        (Node("Cast", ("scores",), ("classes",)), "classes"),
        (Node("IsNaN", ("scores",), ("mask",)), "mask"),
        (Node("Round", ("scores",), ("rounded",)), "rounded"),
    ],
)
def test_a_decision_is_compared_by_the_last_float_before_it(
    decision: Node[str], output: str
) -> None:
    nodes = [*_BODY, decision]
    assert before_sorts(_graph(nodes, [output])) == ["scores"]
    assert before_sorts(_graph(nodes, ["map", output])) == ["scores", "map"]


def test_what_hangs_on_a_decision_is_compared_before_it() -> None:
    nodes = [
        *_BODY,
        _MASK,
        Node("Round", ("boxes",), ("rounded",)),
        Node("Cast", ("rounded",), ("order",)),
        Node("Where", ("mask", "scores", "zero"), ("kept",)),
    ]
    # Not the rounded one: noise does not show there until it jumps.
    assert before_sorts(_graph(nodes, ["order", "kept"])) == ["scores", "boxes"]


def test_a_decision_inside_the_network_is_a_part_of_it() -> None:
    leaky = [
        Node("Greater", ("picture", "zero"), ("mask",)),
        Node("Where", ("mask", "picture", "slope"), ("active",)),
        Node("Conv", ("active", "weights"), ("map",)),
        *_BODY[1:],
    ]
    assert before_sorts(_graph(leaky, ["scores"])) is None
    assert before_sorts(_graph([*leaky, *_SORTED], _OUTPUTS)) == ["scores", "best", "boxes"]
    # Answered besides, it is compared by its float.
    assert before_sorts(_graph(leaky, ["scores", "mask"])) == ["scores", "picture"]


def test_a_quantizer_decides_nothing() -> None:
    nodes = [
        *_BODY,
        Node("QuantizeLinear", ("scores", "scale", "zero"), ("classes",)),
        Node("DequantizeLinear", ("classes", "scale", "zero"), ("kept",)),
    ]
    assert before_sorts(_graph(nodes, ["kept"])) is None
    mask = Node("Greater", ("kept", "bound"), ("mask",))
    assert before_sorts(_graph([*nodes, mask], ["mask"])) == ["kept"]


def test_integers_that_no_float_is_behind_have_no_cut() -> None:
    nodes = [
        Node("Add", ("order", "k"), ("classes",)),
        Node("Shape", ("order",), ("shape",)),
    ]
    graph = Graph(nodes=nodes, inputs={"order"}, outputs=["classes", "shape"], floats=set[str]())
    assert before_sorts(graph) is None


def test_a_shape_hangs_on_no_value() -> None:
    nodes = [
        *_BODY,
        *_SORTED,
        Node("Shape", ("top boxes",), ("shape",)),
        Node("Expand", ("map", "shape"), ("wide",)),
    ]
    assert before_sorts(_graph(nodes, ["wide", "top"])) == ["scores", "best", "boxes", "wide"]


def test_what_holds_graphs_of_its_own_is_left_alone() -> None:
    nodes = [*_BODY, *_SORTED, Node("Loop", ("top",), ("looped",))]
    assert before_sorts(_graph(nodes, ["looped"])) is None


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ([4, 80], [(0, 4), (4, 84)]),
        ([4, 1, 20], [(0, 4), (4, 5), (5, 25)]),
        # A box stays whole.
        ([2, 2], []),
        ([4], []),
        ([4, None], []),
    ],
)
def test_an_output_that_was_joined_is_taken_apart(
    sizes: list[int | None], found: list[tuple[int, int]]
) -> None:
    assert parts(sizes) == found
