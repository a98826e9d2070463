"""What serves where nothing can be compared, or an engine throws: the first that works here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from corral.artifacts.store import Artefact
from corral.errors import ConfigError, ModelError, PassingError
from corral.tensors import Datatype, Signature, TensorSpec
from corral.tuning import trial_worker
from corral.tuning.candidates import Candidate, Row, Search

if TYPE_CHECKING:
    from corral.tuning.bench import Bench

logger = logging.getLogger(__name__)

_FLOATS = {Datatype.FP32, Datatype.FP16, Datatype.BF16, Datatype.FP64}


def is_measured(bench: Bench) -> bool:
    """Whether there are pictures to measure engines on."""
    return bench.spec.takes_pictures and bench.spec.signature.plain


def is_judged(bench: Bench) -> bool:
    """Whether precisions can be compared with FP32, which a file in INT8 has not."""
    return is_measured(bench) and not bench.spec.quantized


def float_outputs(signature: Signature) -> list[TensorSpec]:
    """The outputs whose noise can be measured."""
    return [spec for spec in signature.output_specs if spec.datatype in _FLOATS]


def judges_outputs(bench: Bench) -> bool:
    """Whether a model of other outputs than one in FP32 is to be compared with FP32.

    Where none is a float, only the graph tells whether they are made of floats.
    """
    spec = bench.spec
    return spec.takes_pictures and not spec.signature.plain and not spec.quantized


def first_that_runs(bench: Bench, options: Sequence[Candidate]) -> tuple[Search, Artefact]:
    """The first that is prepared, and of which a worker gets ready; the last is only prepared.

    Args:
        bench: where and how.
        options: one or more, the best first.

    Returns:
        a search with it as its winner, and its artefact.

    Raises:
        ModelError: none does; the sentence says why of each.
    """
    rows: list[Row] = []
    for index, candidate in enumerate(options):
        try:
            made = bench.prepare(candidate, 0.0, 0.3)
            # Nothing comes after the last: its worker says what is wrong with it.
            if index + 1 < len(options):
                bench.progress(f"try {candidate.name}", 0.3)
                with trial_worker.start(bench.order(candidate, made, [1]), bench.environ):
                    pass
        except (ModelError, ConfigError) as error:
            passing = isinstance(error, PassingError)
            rows.append(Row(candidate=candidate, excluded=str(error), passing=passing))
            logger.warning("%s does not run here: %s", candidate.name, error)
            continue
        return Search(winner=candidate, rows=[Row(candidate=candidate), *rows]), made
    # One cause may stand in the way of all.
    causes = list(dict.fromkeys(row.excluded for row in rows))
    if len(causes) > 1:
        causes = [f"{row.candidate.name}: {row.excluded}" for row in rows]
    kind = PassingError if all(row.passing for row in rows) else ModelError
    raise kind("; ".join(causes))
