"""Outputs that are an input as it came, which OpenVINO would give the input's own memory.

A model passes an identifier through, or a reader leaves nothing of a node that does nothing
(a Dropout). Input and output are one tensor to the engine then: the memory that is set for the
one takes the place of the other's, and the answer is what lay there before.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino


def copy_passed_through(model: openvino.Model, *, but: Collection[str] = ()) -> None:
    """Puts a node that copies between each such input and output; the output keeps its names.

    Args:
        model: changed.
        but: names of outputs that stay as they are.
    """
    from openvino import opset16

    for result in model.get_results():
        source = result.input(0).get_source_output()
        names = result.output(0).get_names()
        if source.get_node().get_type_name() == "Parameter" and names.isdisjoint(but):
            copy = opset16.identity(source).output(0)
            result.input(0).replace_source_output(copy)
            copy.get_tensor().set_names(names)


def of_64_bits(model: openvino.Model) -> list[tuple[int, int]]:
    """Numbers of inputs and outputs, of 64 bits, where the output is that input as it came.

    The engine computes in 32 bits, and copies no more of them: a large identifier would be another.

    Args:
        model: as ``copy_passed_through`` left it.
    """
    inputs = [parameter.get_name() for parameter in model.get_parameters()]
    found = []
    for number, result in enumerate(model.get_results()):
        node = result.input(0).get_source_output().get_node()
        while node.get_type_name() == "Identity":
            node = node.input_value(0).get_node()
        if node.get_name() in inputs and result.output(0).get_element_type().size == 8:
            found.append((inputs.index(node.get_name()), number))
    return found


def tell_apart(model: openvino.Model) -> None:
    """Gives outputs that are one tensor a tensor each: a name of the one would be the other's.

    TorchScript may return a tensor twice. The first keeps its names, the others have none yet.

    Args:
        model: changed.
    """
    from openvino import opset16

    taken: set[tuple[str, int]] = set()
    for result in model.get_results():
        source = result.input(0).get_source_output()
        # An operator's own name is unique; friendly names are people's.
        key = source.get_node().get_name(), source.get_index()
        if key in taken:
            result.input(0).replace_source_output(opset16.identity(source).output(0))
        taken.add(key)
    model.validate_nodes_and_infer_types()
