"""How often the guard refuses INT8 that the search of layers passed, of small networks.

    PYTHONPATH=tests python -m support.search_beside_guard FOLDER openvino

writes networks of random convolutions, and beginnings of EfficientNet-Lite0 with its real weights
and a random head, into the folder; makes INT8 of each as a start does, and has the guard judge it.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from corral.accuracy import Thresholds, describe, faults
from corral.models import photos, registry
from corral.planning import topology
from corral.planning.plan import PlannedWorker
from corral.settings import BackendName, Precision, Settings
from corral.tuning.accuracy import measure_fidelity
from corral.tuning.bench import Bench
from corral.tuning.candidates import Candidate

if TYPE_CHECKING:
    import torch

_SIDE, _CLASSES, _SURE = 64, 10, 3.0
_RANDOM, _BEGINNINGS = 12, (1, 2, 3, 4, 5, 6)
_TOML = "[preprocessing]\nresize = 72\nmean = [127, 127, 127]\nstd = [128, 128, 128]\n"


def networks() -> Iterator[tuple[str, torch.nn.Module]]:
    """Names and modules: of each body one that classifies, and one that answers place by place."""
    import torch
    from torch import nn

    pixels = photos.crops(photos.CALIBRATION, 200, _SIDE).astype(np.float32)
    pictures = torch.from_numpy((pixels - 127) / 128).permute(0, 3, 1, 2).contiguous()
    bodies = {f"random{seed}": _random(seed) for seed in range(_RANDOM)}
    bodies |= {f"blocks{count}": _beginning(count) for count in _BEGINNINGS}
    for seed, (name, body) in enumerate(bodies.items()):
        torch.manual_seed(seed)
        channels = body(pictures[:1]).shape[1]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), _classifier(body, pictures)]
        yield f"{name}_classes", nn.Sequential(body, *head)
        yield f"{name}_places", nn.Sequential(body, nn.Conv2d(channels, 6, 1))


def _random(seed: int) -> torch.nn.Module:
    """Three to six convolutions whose channels differ in size."""
    import torch
    from torch import nn

    random, shape = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    channels, layers = 3, list[nn.Module]()
    for depth in range(int(shape.integers(3, 7))):
        layer = nn.Conv2d(channels, int(shape.choice([8, 16, 24])), 3, 2 - depth % 2, 1)
        sizes = torch.exp(torch.randn(layer.out_channels, 1, 1, 1, generator=random) / 2)
        weights = torch.randn(layer.weight.shape, generator=random) * (2 / channels / 9) ** 0.5
        layer.weight.copy_(weights * sizes)
        layers += [layer, nn.ReLU()]
        channels = layer.out_channels
    return nn.Sequential(*layers)


def _beginning(count: int) -> torch.nn.Module:
    """EfficientNet-Lite0's stem and its first blocks."""
    from torch import nn

    spec = registry.get("efficientnet_lite0")
    whole: Any = spec.build(spec.find_weights("auto", Path(), True))
    return nn.Sequential(whole._conv_stem, whole._bn0, nn.ReLU6(), *whole._blocks[:count]).eval()


def _classifier(body: torch.nn.Module, pictures: torch.Tensor) -> torch.nn.Module:
    """Random directions among the main ones of what the body tells pictures apart by."""
    import torch
    from torch import nn

    found = torch.cat([body(part).mean((2, 3)) for part in pictures.split(20)])
    mean = found.mean(0)
    _, sizes, main = torch.linalg.svd(found - mean, full_matrices=False)
    most = min(24, len(sizes))
    scales = sizes[:most] / len(found) ** 0.5
    turn = torch.randn(most, _CLASSES) * _SURE / most**0.5
    weights = main[:most].T / (scales + scales[0] / 1000) @ turn
    layer = nn.Linear(len(mean), _CLASSES)
    layer.weight.copy_(weights.T)
    layer.bias.copy_(-mean @ weights)
    return layer


def write(folder: Path) -> list[Path]:
    """Files of the networks, and how pictures are fed to them."""
    import torch

    torch.set_grad_enabled(False)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    files = []
    for name, network in networks():
        file = folder / f"{name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network.eval(), (torch.zeros(1, 3, _SIDE, _SIDE),), str(file), dynamo=False,
                input_names=["x"], output_names=["y"], opset_version=17,
                dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
            )  # fmt: skip
        file.with_suffix(".toml").write_text(_TOML)
        files.append(file)
    return files


def main(folder: Path, backend: BackendName) -> None:
    """Prints what the guard says of each, and how many it refuses."""
    logging.basicConfig(level=logging.WARNING, format="  %(message)s")
    machine = topology.read_machine()
    cpus = sorted(os.sched_getaffinity(0))[:1]
    folder.mkdir(parents=True, exist_ok=True)
    refused = 0
    files = write(folder)
    for file in files:
        bench = Bench(
            settings=Settings.flat(model=str(file), cache_dir=str(folder / "cache")),
            pen=PlannedWorker(id=0, cpus=cpus, cores=1, memory_node=None, env={}),
            environ={},
            isa=machine.isa,
            cpu_model=machine.model_name,
            progress=lambda phase, share: None,
        )
        pair = [
            Candidate(backend=backend, precision=one) for one in (Precision.INT8, Precision.FP32)
        ]
        made, exact = (bench.prepare(candidate, 0, 1) for candidate in pair)
        found = measure_fidelity(bench, pair[0], made, pair[1], exact)
        fault = faults(found, Thresholds(), synthetic=False)
        refused += bool(fault)
        print(f"{file.stem}: {'refused' if fault else 'passed'}: {describe(found)}", flush=True)
    print(f"{refused} of {len(files)} refused", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), BackendName(sys.argv[2]))
