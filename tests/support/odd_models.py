"""Models that are odd and legal, written with ONNX's helpers: [n,3,8,8] to [n,4], as a rule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, load, numpy_helper, save

_WEIGHTS = np.random.default_rng(0).normal(size=(4, 3, 1, 1)).astype(np.float32)
#: scores of four classes, in "scores"
_BODY = (
    helper.make_node("Conv", ["x", "w"], ["a"]),
    helper.make_node("GlobalAveragePool", ["a"], ["b"]),
    helper.make_node("Flatten", ["b"], ["scores"]),
)


def _write(
    path: Path,
    nodes: Sequence[NodeProto],
    output: Sequence[int | str] = ("n", 4),
    batch: int | str = "n",
    **constants: NDArray[Any],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [
            numpy_helper.from_array(value, name)
            for name, value in {"w": _WEIGHTS, **constants}.items()
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def plain(path: Path) -> Path:
    """Scores of four classes."""
    return _write(path, [*_BODY, helper.make_node("Identity", ["scores"], ["y"])])


def softmaxed(path: Path) -> Path:
    """Their probabilities."""
    return _write(path, [*_BODY, helper.make_node("Softmax", ["scores"], ["y"], axis=1)])


def in_percent(path: Path) -> Path:
    """The same times 100."""
    nodes = [
        *_BODY,
        helper.make_node("Softmax", ["scores"], ["p"], axis=1),
        helper.make_node("Mul", ["p", "hundred"], ["y"]),
    ]
    return _write(path, nodes, hundred=np.array(100, np.float32))


def sigmoided(path: Path) -> Path:
    """Probabilities of four classes that do not exclude one another."""
    return _write(path, [*_BODY, helper.make_node("Sigmoid", ["scores"], ["y"])])


def across(path: Path) -> Path:
    """A softmax over the batch: every item sees the others."""
    return _write(path, [*_BODY, helper.make_node("Softmax", ["scores"], ["y"], axis=0)])


def by_the_mean(path: Path) -> Path:
    """Scores plus or minus one, by whether the mean of all that is in the batch is above -1."""
    nodes = [
        *_BODY,
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "one"], ["more"]),
        helper.make_node("Sign", ["more"], ["sign"]),
        helper.make_node("Add", ["scores", "sign"], ["y"]),
    ]
    return _write(path, nodes, one=np.array(1, np.float32))


def by_the_largest(path: Path) -> Path:
    """Scores, negative where the largest value of all that is in the batch is above zero."""
    ends = []
    for kind in ("Neg", "Identity"):
        nodes = [helper.make_node(kind, ["scores"], [f"of{kind}"])]
        tensor = helper.make_tensor_value_info(f"of{kind}", TensorProto.FLOAT, ["n", 4])
        ends.append(helper.make_graph(nodes, kind, [], [tensor]))
    nodes = [
        *_BODY,
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "nothing"], ["is"]),
        helper.make_node("If", ["is"], ["y"], then_branch=ends[0], else_branch=ends[1]),
    ]
    return _write(path, nodes, nothing=np.array(0, np.float32))


def in_training(path: Path) -> Path:
    """Scores normalised by the batch's own mean and spread, as an export in training mode does."""
    nodes = [
        *_BODY,
        helper.make_node("ReduceMean", ["scores"], ["mean"], axes=[0]),
        helper.make_node("Sub", ["scores", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "centred"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["spread"], axes=[0]),
        helper.make_node("Add", ["spread", "one"], ["safe"]),
        helper.make_node("Div", ["centred", "safe"], ["y"]),
    ]
    return _write(path, nodes, one=np.ones(1, np.float32))


def baked(path: Path) -> Path:
    """A reshape to one item, whatever the batch: it takes one, and says that it takes any."""
    shape = np.array([1, -1], np.int64)
    return _write(path, [helper.make_node("Reshape", ["x", "s"], ["y"])], ["n", 192], s=shape)


def one_out(path: Path) -> Path:
    """The same with four scores, and an output that says so: of its input's batch alone any."""
    nodes = [*_BODY, helper.make_node("Reshape", ["scores", "s"], ["y"])]
    return _write(path, nodes, [1, 4], s=np.array([1, 4], np.int64))


def said_to_be_one(path: Path) -> Path:
    """Scores of four classes; only the output's declaration knows no batch."""
    return _write(path, [*_BODY, helper.make_node("Identity", ["scores"], ["y"])], [1, 4])


def of_four(path: Path, way: str) -> Path:
    """Probabilities of four classes of four items, and of no other number.

    Args:
        path: of the file.
        way: what says so: "declared", only the declarations; "reshaped", a reshape besides;
            "inside", a reshape to four rows and back, which gives one item the right shape and
            wrong numbers; "answered", a reshape and the output's declaration; "hidden", only the
            reshape; "halved", only a reshape to [4,-1], of whose rows the length is not known
            before the batch is; "expanded", only a bias of four rows.
    """
    soft = helper.make_node("Softmax", ["rows"], ["y"], axis=1)
    nodes = {
        "declared": [helper.make_node("Identity", ["scores"], ["rows"]), soft],
        "inside": [
            helper.make_node("Reshape", ["scores", "four"], ["rows"]),
            helper.make_node("Softmax", ["rows"], ["soft"], axis=1),
            helper.make_node("Reshape", ["soft", "back"], ["y"]),
        ],
        "halved": [helper.make_node("Reshape", ["scores", "four"], ["rows"]), soft],
        "expanded": [
            helper.make_node("Expand", ["zero", "four_rows"], ["zeros"]),
            helper.make_node("Add", ["scores", "zeros"], ["rows"]),
            soft,
        ],
    }.get(way, [helper.make_node("Reshape", ["scores", "four_rows"], ["rows"]), soft])
    fixed = way in {"declared", "reshaped", "inside"}
    return _write(
        path,
        [*_BODY, *nodes],
        [4 if fixed or way == "answered" else "n", "k" if way == "halved" else 4],
        4 if fixed else "n",
        four=np.array([4, -1], np.int64),
        four_rows=np.array([4, 4], np.int64),
        back=np.array([-1, 4], np.int64),
        zero=np.zeros((1, 1), np.float32),
    )


def one_of_all(path: Path) -> Path:
    """Four rows of four, the mean of all items: rows that are equal, and no batch."""
    nodes = [
        *_BODY,
        helper.make_node("ReduceMean", ["scores"], ["mean"], axes=[0]),
        helper.make_node("Expand", ["mean", "s"], ["y"]),
    ]
    return _write(path, nodes, [4, 4], s=np.array([4, 4], np.int64))


def with_a_matrix(path: Path, way: str) -> Path:
    """Items [n,4] beside a matrix [4,4] that is no batch.

    Args:
        path: of the file.
        way: "multiplied" by it; or by the mean of its rows, "averaged".
    """
    nodes = {
        "multiplied": [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "averaged": [
            helper.make_node("ReduceMean", ["w"], ["mean"], axes=[0]),
            helper.make_node("Mul", ["x", "mean"], ["y"]),
        ],
    }[way]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["n", 4]), ("w", [4, 4]), ("y", ["n", 4]))
    ]
    graph = helper.make_graph(nodes, "matrix", ports[:2], ports[2:])
    opset = helper.make_opsetid("", 17)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


def at_random_of_four(path: Path) -> Path:
    """Scores of four items, noise added."""
    nodes = [
        *_BODY,
        helper.make_node("RandomNormalLike", ["scores"], ["noise"]),
        helper.make_node("Add", ["scores", "noise"], ["y"]),
    ]
    return _write(path, nodes, [4, 4], 4)


def baked_inside(path: Path) -> Path:
    """A reshape to one item and back: another batch gets the right shape and wrong answers."""
    nodes = [
        *_BODY,
        helper.make_node("Reshape", ["scores", "one"], ["row"]),
        helper.make_node("Softmax", ["row"], ["soft"], axis=1),
        helper.make_node("Reshape", ["soft", "rows"], ["y"]),
    ]
    one, rows = np.array([1, -1], np.int64), np.array([-1, 4], np.int64)
    return _write(path, nodes, one=one, rows=rows)


def as_in_a_hub(path: Path, *, is_open: bool = False) -> Path:
    """Scores whose weights lie in a file of their own, as a hub's cache lays both out: by links.

    Args:
        path: of the model among the links, but for its folder.
        is_open: whether the file leaves the output's shape open, so that an engine is asked.
    """
    blobs, snapshot = path.parent / "blobs", path.parent / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    model = load(plain(path))
    if is_open:
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "classes"
    path.unlink()
    save(model, blobs / path.name, save_as_external_data=True, location="weights", size_threshold=0)
    for number, name in enumerate((path.name, "weights")):
        (blobs / name).rename(blobs / f"{number:064x}")
        (snapshot / name).symlink_to(Path("../../blobs") / f"{number:064x}")
    return snapshot / path.name


def quantized(path: Path) -> Path:
    """Scores in INT8: a quantizer has put its operators around the convolution's weights."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("QuantizeLinear", ["w", "scale", "zero"], ["wq"]),
        helper.make_node("DequantizeLinear", ["wq", "scale", "zero"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], ["a"]),
        *_BODY[1:],
        helper.make_node("Identity", ["scores"], ["y"]),
    ]
    return _write(path, nodes, scale=np.asarray(0.05, np.float32), zero=np.asarray(0, np.int8))
