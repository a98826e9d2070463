"""What children are told of a model: what a frontend serves, and what a worker loads."""

from __future__ import annotations

from corral.accuracy import AccuracyReport
from corral.artifacts.store import Artefact
from corral.ipc.messages import ModelBoot, ServedModel
from corral.models.labels import labels_of
from corral.models.spec import ModelSpec


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
        remark=artefact.remark,
        fixed_batch=artefact.fixed_batch,
    )


def served_model(spec: ModelSpec, name: str | None = None) -> ServedModel:
    """What frontends serve: they open no file of the model's, which may have moved since.

    Args:
        spec: of the model.
        name: what clients call it; the model's own name without one.
    """
    return ServedModel(
        name=name or spec.name,
        signature=spec.signature,
        classes=spec.classes,
        labels=labels_of(spec),
    )
