"""torch's INT8: a PT2E export with X86InductorQuantizer's observers, which inductor lowers in the
worker.

A layer is in INT8 where its inputs pass observers. Observers measure ranges once; a layer stays in
FP32 where those before it are taken away. backends/layer_search.py decides which. It judges by the
quantized graph as torch runs it without a compiler, rounding and clipping in FP32: a compiler's run
for every try would take minutes each. Sums of the compiled form do not saturate, since activations
have 7 bits where the CPU sums in 16.
"""

from __future__ import annotations

import copy
import functools
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corral.backends.layer_search import Judge, Layer, Quantized, within_thresholds
from corral.backends.mixed_precision import ELEMENT_COST

if TYPE_CHECKING:
    import torch

    from corral.backends.job import BuildJob

#: batches that an export allows; 1 would make torch.export take the size for a constant
_MAX_BATCH = 1024


def quantize(job: BuildJob) -> None:
    """Writes the exported program that a job asks for, its batch dimension dynamic."""
    import torch

    silence_torchao()
    crop = job.spec.recipe.crop
    example = (torch.randn(2, 3, crop, crop),)
    dynamic = ({0: torch.export.Dim("n", min=1, max=_MAX_BATCH)},)
    with torch.no_grad():
        module = _quantizable(job.spec.build(job.weights))
        exported = torch.export.export(module, example, dynamic_shapes=dynamic)
        pictures = job.pictures()
        observed = observe(exported.module(), pictures, reduce_range=job.narrow_sums)
        made = convert(observed, frozenset())
        if not job.weights.synthetic:
            way = Quantized(
                f"activations of {7 if job.narrow_sums else 8} bits",
                made,
                lambda: layers(observed),
                {"FP32": functools.partial(convert, observed)},
            )
            by_classes = job.spec.signature.by_classes
            judge = Judge(_answers, module, *pictures.judging(), by_classes=by_classes)
            made = within_thresholds([way], judge, job)
        torch.export.save(torch.export.export(made, example, dynamic_shapes=dynamic), job.file)


def observe(exported: Any, pictures: Iterable[NDArray[np.float32]], *, reduce_range: bool) -> Any:
    """The module with observers that have seen pictures.

    Args:
        exported: torch.export's module; it is changed.
        pictures: FP32 [1,3,crop,crop], normalised.
        reduce_range: leave activations one bit, so that sums of u8 x i8 fit 16 bits.
    """
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(
        x86.get_default_x86_inductor_quantization_config(reduce_range=reduce_range)
    )
    observed = prepare_pt2e(exported, quantizer)
    for picture in pictures:
        observed(torch.from_numpy(picture))
    return observed


def convert(observed: Any, left_out: frozenset[str]) -> Any:
    """The module in INT8, the nodes of these names in FP32; ``observed`` stays as it is."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    observed = copy.deepcopy(observed)
    for node in observed.graph.nodes:
        if node.name in left_out:
            for observer in list(_observers(node)):
                node.replace_input_with(observer, observer.args[0])
    # An observer that nobody reads would still be made a quantizer.
    observed.graph.eliminate_dead_code(lambda node: node.op not in {"call_module", "get_attr"})
    observed.recompile()
    return convert_pt2e(observed)


def layers(observed: Any) -> list[Layer]:
    """The quantized layers of a module with observers, first to last."""
    import torch

    aten = torch.ops.aten
    weighted = {
        *(aten.conv1d.default, aten.conv2d.default, aten.conv3d.default),
        *(aten.linear.default, aten.matmul.default),
    }
    found: list[list[torch.fx.Node]] = []
    for node in observed.graph.nodes:
        if node.op != "call_function" or not any(_observers(node)):
            continue
        if node.target in weighted or not found:
            found.append([])
        found[-1].append(node)
    return [
        Layer(
            tuple(node.name for node in nodes),
            sum(_cost(node, weighted=node.target in weighted) for node in nodes),
            nodes[0].target in weighted,
        )
        for nodes in found
    ]


def _observers(node: torch.fx.Node) -> Iterator[torch.fx.Node]:
    """What measures the range of a node's inputs."""
    return (source for source in node.all_input_nodes if source.op == "call_module")


def _cost(node: torch.fx.Node, *, weighted: bool) -> float:
    """See Layer; in multiplications."""
    sources = [
        source.args[0] if source.op == "call_module" else source for source in node.all_input_nodes
    ]
    shapes = [_shape(one) for one in (*sources, node)]
    elements = float(sum(math.prod(shape) for shape in shapes)) * ELEMENT_COST
    if not weighted:
        return elements
    convolves = "conv" in str(node.target)
    each = math.prod(shapes[1][1:]) if convolves else shapes[0][-1]
    return elements + float(math.prod(shapes[-1])) * each


def _shape(node: Any) -> tuple[int, ...]:
    """Of one item: what is dynamic counts as one."""
    shape = getattr(node.meta.get("val"), "shape", (1,))
    return tuple(size if isinstance(size, int) else 1 for size in shape)


def _answers(model: Any, inputs: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The model's answers, [n,...], one item at a time."""
    import torch

    return {"output": np.concatenate([model(torch.from_numpy(item)).numpy() for item in inputs])}


def _quantizable(module: torch.nn.Module) -> torch.nn.Module:
    """Takes apart what the quantizer cannot see through.

    Convolutions that pad by a layer of their own become both, one after the other.

    The quantizer finds convolutions by their class, and passes subclasses over without a word:
    of EfficientNet-Lite0 it would quantize the last layer alone.
    """
    from torch import nn

    found = [
        (name, layer)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d) and hasattr(layer, "static_padding")
    ]
    for name, layer in found:
        plain = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            stride=layer.stride,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=layer.bias is not None,
        )
        plain.weight, plain.bias = layer.weight, layer.bias
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, nn.Sequential(layer.static_padding, plain))
    functions = {nn.ReLU: nn.functional.relu, nn.ReLU6: nn.functional.relu6}
    for block in list(module.modules()):
        for name, layer in list(block.named_children()):
            # One activation called twice counts as one node with two outputs, which the quantizer
            # refuses; a function is a node at each call.
            function = functions.get(type(layer))
            if function is not None and not isinstance(block, nn.Sequential):
                delattr(block, name)
                setattr(block, name, function)
    return module.eval()


def silence_torchao() -> None:
    """Keeps torchao from telling on each import which CUDA kernels it could not load."""
    logging.getLogger("torchao").setLevel(logging.ERROR)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
