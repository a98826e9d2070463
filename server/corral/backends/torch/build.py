"""Artefacts of the torch and ipex backends.

FP32 and BF16 share one file, the module's state dict as safetensors: loading it executes nothing,
and synthetic weights need not be made again. INT8 is quantized after training: for torch a PT2E
export (quantize.py); for IPEX a traced and frozen module. Both are calibrated on crops of
photographs.
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

from corral.backends.torch.quantize import quantize, silence_torchao
from corral.models.spec import ModelSpec, Weights
from corral.settings import BackendName, Precision

if TYPE_CHECKING:
    import torch

    from corral.backends.job import BuildJob

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
        quantize(job)


def write_state(spec: ModelSpec, weights: Weights, file: Path) -> None:
    """Writes the filled module's state dict."""
    import safetensors.torch

    module = spec.build(weights)
    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    safetensors.torch.save_file(state, file)


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
