"""An engine with a model, in the test's own process, as a worker has it after its load."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from corral.artifacts.build import prepare
from corral.artifacts.served_model import boot_model
from corral.backends.base import Backend
from corral.backends.registry import create
from corral.ipc.region import Region, create_region
from corral.models import registry
from corral.planning import topology
from corral.settings import BackendName, Precision, Settings
from corral.tensors import Signature
from support.worker_boot import worker_boot


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What is loaded; the region holds the largest of its batches.

    Attributes:
        engine: has the model, and nothing compiled.
        region: for inputs and outputs.
        signature: of the model.
        precision: that the artefact was made in.
    """

    engine: Backend
    region: Region
    signature: Signature
    precision: str


def load(
    file: str,
    backend: BackendName,
    cache: Path,
    sizes: Sequence[int],
    precision: Precision = Precision.FP32,
) -> Loaded:
    """Prepares a model, and loads it for batches of these sizes, ascending."""
    settings = Settings.flat(model=file, backend=backend, precision=precision, cache_dir=str(cache))
    made = prepare(settings, lambda step, share: None, topology.read_machine().isa)
    signature = registry.get(file).signature
    engine = create(backend)
    engine.load(
        worker_boot(
            signature,
            settings,
            boot_model(made),
            sizes=sizes,
            cpus=sorted(os.sched_getaffinity(0))[:1],
        )
    )
    region = Region(create_region(signature, sizes[-1]), signature, sizes[-1])
    return Loaded(engine, region, signature, made.precision)
