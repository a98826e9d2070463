"""A model as a frontend's pages describe it: ResNet50 on the null backend, but for what is said."""

from __future__ import annotations

from typing import Any

from corral.protocol.metadata import ModelDescription
from corral.tensors import Datatype, Signature

RESNET50 = Signature({Datatype.FP32: (3, 224, 224), Datatype.UINT8: (224, 224, 3)}, (1000,))


def describe(**fields: Any) -> ModelDescription:
    """The description, with other values for the fields of these names."""
    usual: dict[str, Any] = {
        "name": "resnet50",
        "signature": RESNET50,
        "max_items": 32,
        "workers": 1,
        "backend": "null",
        "precision": "fp32",
        "weights": "none",
        "synthetic": True,
        "mode": "rti",
    }
    return ModelDescription(**(usual | fields))
