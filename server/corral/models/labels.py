"""The names of ImageNet's 1,000 classes, in the order of the logits."""

from __future__ import annotations

import functools
import importlib.resources


@functools.cache
def labels() -> tuple[str, ...]:
    """The 1,000 names; ``labels()[282]`` is "tiger cat"."""
    text = importlib.resources.files(__package__).joinpath("imagenet_labels.txt").read_text("utf-8")
    return tuple(text.splitlines())
