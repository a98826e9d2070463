"""The names of ImageNet's 1,000 classes, in the order of the logits."""

from __future__ import annotations

import functools
import importlib.resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from corral.models.spec import ModelSpec


def labels_of(spec: ModelSpec) -> tuple[str, ...]:
    """The names of a model's classes, in the order of its answers; () where it has none."""
    return labels() if spec.label_names is None else spec.label_names


@functools.cache
def labels() -> tuple[str, ...]:
    """The 1,000 names; ``labels()[282]`` is "tiger cat"."""
    text = importlib.resources.files(__package__).joinpath("imagenet_labels.txt").read_text("utf-8")
    return tuple(text.splitlines())
