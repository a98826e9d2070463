"""What children are told of a prepared model."""

from __future__ import annotations

from corral.accuracy import AccuracyReport
from corral.artifacts.store import Artefact
from corral.ipc.messages import ModelBoot


def boot_model(
    artefact: Artefact, guard: AccuracyReport | None = None, search: str = ""
) -> ModelBoot:
    """What children need to know of a prepared model."""
    return ModelBoot(
        name=artefact.model,
        artefact=str(artefact.path),
        precision=artefact.precision,
        synthetic=artefact.synthetic,
        weights=artefact.weights,
        guard=guard,
        search=search,
    )
