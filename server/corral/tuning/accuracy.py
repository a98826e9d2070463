"""The precision guard at work: a candidate's answers beside FP32's, on held-out pictures.

A model that sorts its answers, or makes integers and truths of floats, is judged by what goes into
that (backends/sorts.py).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from corral.accuracy import Fidelity, as_lists, compare
from corral.artifacts.json_cache import JsonCache
from corral.artifacts.order import made_of_the_same, versions
from corral.artifacts.store import Artefact
from corral.backends.boxes import compare_tensors
from corral.backends.registry import ENGINES, packages
from corral.errors import ModelError
from corral.images import picture_folder
from corral.images.picture_folder import PictureFolder
from corral.models import evaluation
from corral.models.evaluation import HeldOut
from corral.models.labels import labels_of
from corral.tensors import Datatype, Signature
from corral.tuning import trial_worker
from corral.tuning.before_sorts import arranged, cut_before_sorts, pairs
from corral.tuning.bench import Bench
from corral.tuning.candidates import Candidate
from corral.tuning.fallback import float_outputs
from corral.tuning.trial_worker import Trial, TrialOrder

#: raise it whenever a fidelity is measured in another way, or Fidelity changes
FIDELITY_FORMAT = 13
#: of a user's own pictures: fewer say little, more would keep a start waiting
_LEAST, _MOST = 20, 1000
#: of one candidate's answers, and FP32's are as large: noise differs little from crop to crop
_MOST_BYTES = 256 * 10**6
#: why nothing is compared of a model that takes pictures
NOTHING = (
    "none of its outputs is a float, and no float that they are made of can be compared picture by "
    "picture"
)


class NothingToCompareError(ModelError):
    """A model whose answers hold nothing that noise can be measured of; the message is NOTHING."""


def measure_fidelity(
    bench: Bench, candidate: Candidate, made: Artefact, reference: Candidate, exact: Artefact
) -> Fidelity:
    """How close a candidate is to FP32: from the cache, else measured and cached.

    Args:
        bench: where.
        candidate: what is judged, prepared as ``made``.
        made: its artefact.
        reference: the FP32 candidate, prepared as ``exact``.
        exact: its artefact.

    Raises:
        NothingToCompareError: no float is answered, and none is found that answers are made of.
        ModelError: a worker failed.
        ConfigError: torch cannot run the precision in the mode that was asked for.
    """
    cache = _fidelities(bench)
    ingredients = fidelity_ingredients(bench, candidate, made, reference, exact)
    known = cache.read(made.model, ingredients)
    known = known or cache.read_like(made.model, functools.partial(_measured_like, ingredients))
    if known is not None:
        return known
    bench.progress(f"guard: {candidate.name} against FP32", 0.7)
    orders = bench.order(reference, exact, [1]), bench.order(candidate, made, [1])
    with contextlib.ExitStack() as stack:
        one, other, names = _judged(orders, stack)
        if not float_outputs(one.signature):
            raise NothingToCompareError(NOTHING)
        held_out = _held_out(bench, one.signature, synthetic=made.synthetic)
        asked = (
            *(exact.key, bench.title(reference), pictures_name(bench, synthetic=made.synthetic)),
            *names,
        )
        if asked not in bench.references:
            bench.references[asked] = _answers(bench, one, held_out)
        expected = bench.references[asked]
        answers = _answers(bench, other, held_out)
    found = arranged(expected, answers, names)
    fidelity = fidelity_of(one.signature, expected, found, held_out.pictures, held_out.labels)
    cache.write(made.model, ingredients, fidelity)
    return fidelity


def _judged(
    orders: tuple[TrialOrder, TrialOrder], stack: contextlib.ExitStack
) -> tuple[TrialOrder, TrialOrder, Mapping[str, str]]:
    """Both before their sorts where there are any, else as they are, and which output is which."""
    one, other = (stack.enter_context(cut_before_sorts(order)) for order in orders)
    names = pairs(one.signature, other.signature) if one and other else None
    if one is None or other is None or names is None:
        one, other = orders
        names = {spec.name: spec.name for spec in one.signature.output_specs}
    return one, other, names


def _measured_like(wanted: Mapping[str, str], found: Mapping[str, str]) -> bool:
    """Whether a fidelity that was measured of ``found`` counts here.

    Other threads sum in another order, which moves a loss by far less than INT8 does; and packages
    that are absent here were not what ran.
    """
    return made_of_the_same({**wanted, "cores": found.get("cores", "")}, found)


def _answers(bench: Bench, order: TrialOrder, held_out: HeldOut) -> dict[str, NDArray[Any]]:
    """Answers by output, of those that are floats."""
    with trial_worker.start(order, bench.environ) as trial:
        return float_answers(trial, order.signature, held_out.items(bench.spec))


def float_answers(
    trial: Trial, signature: Signature, items: Iterable[NDArray[np.generic]]
) -> dict[str, NDArray[Any]]:
    """Each float output's answers to items by its name, [n,...], one item at a time."""
    found = trial.answer_all(items, signature.native)
    return {
        output.name: as_floats(found[output.name], output.datatype)
        for output in float_outputs(signature)
    }


def fidelity_of(
    signature: Signature,
    expected: Mapping[str, NDArray[Any]],
    found: Mapping[str, NDArray[Any]],
    pictures: NDArray[np.intp] | None = None,
    labels: NDArray[np.intp] | None = None,
) -> Fidelity:
    """How close answers are to FP32's; of several outputs, and tensors, the worst decides.

    Args:
        signature: of what answered.
        expected: FP32's answers, as ``float_answers`` has them.
        found: the other's.
        pictures, labels: see ``compare``.
    """
    if signature.by_classes:
        (exact,), (other,) = expected.values(), found.values()
        return compare(as_lists(exact), as_lists(other), pictures, labels)
    fidelity = compare_tensors(expected, found, pictures)
    # The only one needs no name.
    return msgspec.structs.replace(fidelity, output="") if signature.plain else fidelity


def as_floats(values: NDArray[Any], datatype: Datatype) -> NDArray[Any]:
    """An output's values as numpy's floats, which know no BF16: FP32 with 16 bits more."""
    if datatype is not Datatype.BF16:
        return values
    return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)


def fidelity_ingredients(
    bench: Bench, candidate: Candidate, made: Artefact, reference: Candidate, exact: Artefact
) -> dict[str, str]:
    """All that a candidate's fidelity depends on, by name; see measure_fidelity."""
    return {
        "artefact": made.key,
        "reference": exact.key,
        "candidate": f"{bench.title(candidate)} against {bench.title(reference)}",
        "runners": runners([candidate, reference]),
        "cpu": bench.cpu_model,
        "isa": " ".join(sorted(bench.isa)),
        "cores": str(bench.pen.cores),
        "pictures": pictures_name(bench, synthetic=made.synthetic),
        "worker python": bench.settings.engine.worker_python or "",
        **versions(sorted(packages())),
    }


def _fidelities(bench: Bench) -> JsonCache[Fidelity]:
    folder = Path(bench.settings.model.cache_dir) / "guard"
    return JsonCache(folder, Fidelity, format_number=FIDELITY_FORMAT, title="guard result")


def runners(candidates: Iterable[Candidate]) -> str:
    """How corral runs these candidates' engines, in their backends' own numbers."""
    names = sorted({candidate.backend for candidate in candidates})
    return ", ".join(f"{name.value} {ENGINES[name].revision}" for name in names)


def pictures_name(bench: Bench, *, synthetic: bool) -> str:
    """What decides which pictures the guard compares on, beside the model's recipe."""
    own = evaluation_pictures(bench)
    if own is not None:
        return f"a user's {own.digest()}"
    return evaluation.held_out_name(synthetic=synthetic)


def evaluation_pictures(bench: Bench) -> PictureFolder | None:
    """A user's own pictures to judge on, at most ``_MOST``; None where none were named.

    Raises:
        ConfigError: there are too few, or a label is no class of the model.
    """
    path = bench.settings.accuracy.evaluation
    if path is None:
        return None
    found = picture_folder.read(Path(path), "--evaluation", labels_of(bench.spec))
    found.check_count(_LEAST)
    return found.spread(_MOST)


def _held_out(bench: Bench, signature: Signature, *, synthetic: bool) -> HeldOut:
    """What is compared on: of large answers that are no scores of classes, fewer crops do."""
    most = None if signature.by_classes else max(1, _MOST_BYTES // signature.output_bytes)
    own = evaluation_pictures(bench)
    if own is None:
        return evaluation.held_out(bench.spec, synthetic=synthetic, most=most)
    own = own.spread(max(_LEAST, most or _MOST))
    return HeldOut(
        crop=lambda index: own.crop(index, bench.spec.recipe),
        pictures=np.arange(len(own)),
        labels=None if own.labels is None else np.asarray(own.labels),
    )
