"""Artefacts of the torch and ipex backends.

FP32 and BF16 share one file, the module's state dict as safetensors: loading it executes nothing,
and synthetic weights need not be made again. INT8 is quantized after training: for torch a PT2E
export with X86InductorQuantizer's annotations, which inductor lowers in the worker; for IPEX a
traced and frozen module. Both are calibrated on crops of photographs.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corral.models.spec import ModelSpec, Weights
from corral.settings import BackendName, Precision

if TYPE_CHECKING:
    import torch

    from corral.backends.job import BuildJob

#: batches that an export allows; 1 would make torch.export take the size for a constant
_MAX_BATCH = 1024
#: IPEX's histograms take seconds a call, nearly whatever its size
_IPEX_PICTURES = 64
_IPEX_BATCH = 16


def write(job: BuildJob) -> None:
    """Writes what a job asks for: a state dict, or INT8 in the engine's own form."""
    spec, weights, file = job.spec, job.weights, job.file
    job.at("build model")
    if job.precision is not Precision.INT8:
        write_state(spec, weights, file)
    elif job.backend is BackendName.IPEX:
        write_ipex_int8(spec, weights, file, job.pictures())
    else:
        write_pt2e(spec, weights, file, job.pictures(), reduce_range=job.narrow_sums)


def write_state(spec: ModelSpec, weights: Weights, file: Path) -> None:
    """Writes the filled module's state dict."""
    import safetensors.torch

    module = spec.build(weights)
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    safetensors.torch.save_file(state, file)


def write_pt2e(
    spec: ModelSpec,
    weights: Weights,
    file: Path,
    pictures: Iterable[NDArray[np.float32]],
    *,
    reduce_range: bool,
) -> None:
    """Quantizes with PT2E and writes the exported program, its batch dimension dynamic.

    Args:
        spec: the model.
        weights: its weights.
        file: where to.
        pictures: FP32 [1,3,crop,crop], normalised.
        reduce_range: leave activations one bit, so that sums of u8 x i8 fit 16 bits.
    """
    import torch

    silence_torchao()
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    example = (torch.randn(2, 3, spec.recipe.crop, spec.recipe.crop),)
    dynamic = ({0: torch.export.Dim("n", min=1, max=_MAX_BATCH)},)
    with torch.no_grad():
        exported = torch.export.export(
            _quantizable(spec.build(weights)), example, dynamic_shapes=dynamic
        )
        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(
            x86.get_default_x86_inductor_quantization_config(reduce_range=reduce_range)
        )
        prepared = prepare_pt2e(exported.module(), quantizer)
        for picture in pictures:
            prepared(torch.from_numpy(picture))
        converted = convert_pt2e(prepared)
        torch.export.save(torch.export.export(converted, example, dynamic_shapes=dynamic), file)


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


def write_ipex_int8(
    spec: ModelSpec, weights: Weights, file: Path, pictures: Iterable[NDArray[np.float32]]
) -> None:
    """Quantizes with IPEX's static recipe; writes the traced and frozen module."""
    ipex = import_ipex()
    import torch
    from intel_extension_for_pytorch.quantization import convert, prepare

    example = torch.randn(1, 3, spec.recipe.crop, spec.recipe.crop)
    example = example.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        module = spec.build(weights).to(memory_format=torch.channels_last)
        prepared = prepare(
            module, ipex.quantization.default_static_qconfig_mapping, example, inplace=False
        )
        for batch in _batches(itertools.islice(pictures, _IPEX_PICTURES), _IPEX_BATCH):
            prepared(torch.from_numpy(batch).contiguous(memory_format=torch.channels_last))
        traced = torch.jit.freeze(torch.jit.trace(convert(prepared), example))
        # The fusions are made in the first runs, and saved with it.
        traced(example)
        traced(example)
        torch.jit.save(traced, str(file))


def _batches(pictures: Iterator[NDArray[np.float32]], size: int) -> Iterator[NDArray[np.float32]]:
    while some := list(itertools.islice(pictures, size)):
        yield np.concatenate(some)


def import_ipex() -> Any:
    """IPEX, before torch is imported in this process: without its advice, and without helpers."""
    # Its kernels replace torch's own, and torch would say so on standard error.
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"
    # inductor starts a pool of processes when it is imported.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    import intel_extension_for_pytorch as ipex

    return ipex


def read_pt2e(file: str) -> Any:
    """The quantized module of a PT2E artefact, in inference form."""
    import torch

    silence_torchao()
    # The operators of quantized graphs are registered by importing these.
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401

    return torch.export.load(file).module()


def read_state(spec: ModelSpec, file: str) -> torch.nn.Module:
    """The module of a state-dict artefact, in eval mode."""
    found = Weights(source="file", description="", path=Path(file), digest="")
    return spec.build(found)


def silence_torchao() -> None:
    """Keeps torchao from telling on each import which CUDA kernels it could not load."""
    logging.getLogger("torchao").setLevel(logging.ERROR)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
