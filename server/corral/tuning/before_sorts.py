"""A worker under trial that answers with what its model's sorts take: see backends/sorts.py."""

from __future__ import annotations

import collections
import dataclasses
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from corral.backends.registry import engine
from corral.errors import telling_line
from corral.system.owned_folder import OwnedFolder
from corral.tensors import Signature, TensorSpec
from corral.tuning.trial_worker import TrialOrder

logger = logging.getLogger(__name__)

#: an artefact, its signature and a folder, to the file written there and its outputs
Writer = Callable[[Path, Signature, Path], tuple[Path, tuple[TensorSpec, ...]] | None]


@contextmanager
def cut_before_sorts(order: TrialOrder) -> Iterator[TrialOrder | None]:
    """The same worker with another model file, which is there as long as the context.

    None where answers are scores of classes, nothing is sorted or decided, or the engine cannot
    say.
    """
    with OwnedFolder("corral-cut-") as folder:
        found = _written(order, folder.path)
        if found is None:
            yield None
            return
        file, outputs = found
        yield dataclasses.replace(
            order,
            model=msgspec.structs.replace(order.model, artefact=str(file)),
            signature=msgspec.structs.replace(
                order.signature, outputs=outputs, output_shape=outputs[0].shape
            ),
        )


def _written(order: TrialOrder, folder: Path) -> tuple[Path, tuple[TensorSpec, ...]] | None:
    module = engine(order.settings.engine.backend).sorts
    if order.signature.by_classes or module is None or order.model.artefact is None:
        return None
    write: Writer = importlib.import_module(module).write_before_sorts
    try:
        return write(Path(order.model.artefact), order.signature, folder)
    # Frameworks raise whatever they like; there are still the outputs to judge by.
    except Exception as error:
        logger.warning(
            "%s is judged by its outputs, for its graph cannot be cut before its sorts: %s",
            order.model.name,
            telling_line(error),
        )
        return None


def pairs(reference: Signature, candidate: Signature) -> Mapping[str, str] | None:
    """Which output of a candidate each of the reference's is, by name; None where they differ.

    Engines may rename what lies inside a graph, and move a transposition behind it. Then shapes
    tell, whatever the order of their sizes, where no two are alike.
    """
    one, other = (
        {spec.name: spec.shape for spec in signature.output_specs}
        for signature in (reference, candidate)
    )
    if one == other:
        return {name: name for name in one}
    sizes = collections.Counter(tuple(sorted(shape)) for shape in one.values())
    others = {tuple(sorted(shape)): name for name, shape in other.items()}
    if set(sizes) != set(others) or not len(one) == len(other) == len(sizes):
        return None
    return {name: others[tuple(sorted(shape))] for name, shape in one.items()}


def arranged(
    reference: Mapping[str, NDArray[Any]],
    candidate: Mapping[str, NDArray[Any]],
    names: Mapping[str, str],
) -> dict[str, NDArray[Any]]:
    """A candidate's answers by the reference's names, transposed where theirs are, [n,...]."""
    found = {name: candidate[names[name]] for name in reference}
    return {
        name: values.swapaxes(1, 2)
        if values.ndim == 3 and values.shape != reference[name].shape
        else values
        for name, values in found.items()
    }
