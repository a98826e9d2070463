"""How close a model's answers are to FP32's where they are no classes: tensor by tensor.

Of a detector these are what its sorts take (backends/sorts.py). Scores are compared in all places.
**Boxes are compared where FP32's best scores are**, at most 100 a picture, as many as COCO's
evaluation counts: in most of the places where a detector could have found something it found
nothing, and nobody sees their boxes. And **their noise counts against their own sizes**, not
against where in the picture they lie: at 20 dB edges are off by a tenth of a box's width or height.
Of everything else the signal is what changes with the picture (accuracy.compare_outputs). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corral.accuracy import Fidelity, compare_outputs

#: boxes of a picture that count
MOST_BOXES = 100
#: of FP32's boxes, as many must have their corners in order to be taken for corners
_CORNERS = 0.99

Answers = Mapping[str, NDArray[Any]]


def compare_tensors(
    reference: Answers, candidate: Answers, pictures: NDArray[np.intp] | None = None
) -> Fidelity:
    """What the tensor with the lowest signal-to-noise ratio has.

    Args:
        reference: FP32's, [crops,...], floats.
        candidate: the other's.
        pictures: which photograph each crop is of, [crops].

    Raises:
        ValueError: names or shapes differ, or there is nothing.
    """
    if reference.keys() != candidate.keys():
        raise ValueError(f"outputs {sorted(candidate)} against {sorted(reference)}")
    exact, other, sizes = dict(reference), dict(candidate), set()
    for name in reference:
        pair = _as_sizes(name, reference, candidate)
        if pair is not None:
            exact[name], other[name] = pair
            sizes.add(name)
    return compare_outputs(exact, other, pictures, whole=sizes)


def _as_sizes(
    name: str, reference: Answers, candidate: Answers
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Of boxes beside scores, what is to be compared; None for any other tensor."""
    pair = reference[name], candidate[name]
    shape = pair[0].shape
    if len(shape) != 3 or shape != pair[1].shape or 4 not in shape[1:]:
        return None
    if shape[2] != 4:
        # Places last.
        pair = pair[0].swapaxes(1, 2), pair[1].swapaxes(1, 2)
    best = _best_places(reference, name, pair[0])
    return None if best is None else _boxes(*pair, best)


def _best_places(reference: Answers, name: str, boxes: NDArray[Any]) -> NDArray[np.intp] | None:
    """Where FP32's best scores for these boxes are, [crops,best]; None where there are none.

    Boxes are [crops,places,4]. Scores are one a place, or one a place and class.
    """
    count, places, _ = boxes.shape
    best = np.full((count, places), -np.inf, np.float32)
    for other, scores in reference.items():
        if other == name or scores.ndim not in {2, 3}:
            continue
        if scores.shape == (count, places):
            found = scores
        elif scores.ndim == 3 and scores.shape[1] == places:
            found = scores.max(axis=2)
        elif scores.ndim == 3 and scores.shape[2] == places:
            found = scores.max(axis=1)
        else:
            continue
        best = np.maximum(best, np.nan_to_num(found, nan=-np.inf))
    if not np.isfinite(best).any():
        return None
    return np.argsort(-best, axis=1, kind="stable")[:, :MOST_BOXES]


def _boxes(
    exact: NDArray[Any], other: NDArray[Any], best: NDArray[np.intp]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both at the best places, as sizes: of FP32's boxes, and the same with the other's errors."""
    exact = np.take_along_axis(exact, best[:, :, None], axis=1).astype(np.float64)
    other = np.take_along_axis(other, best[:, :, None], axis=1).astype(np.float64)
    sizes = exact[..., 2:]
    spans = exact[..., 2:] - exact[..., :2]
    # Corners, or the centre with width and height: no width is larger than all centres.
    if np.mean((spans >= 0).all(axis=2)) >= _CORNERS:
        sizes = spans
    sizes = np.concatenate([sizes, sizes], axis=2)
    return sizes, sizes + (other - exact)
