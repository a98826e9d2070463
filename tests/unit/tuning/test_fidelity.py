"""How close answers are to FP32's, by what a model's signature says of them."""

from __future__ import annotations

import numpy as np
import pytest

from corral.tensors import Datatype, Signature
from corral.tuning.accuracy import fidelity_of

_RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize("item", [(10,), (10, 1, 1), (1, 1, 10)], ids=str)
def test_labels_count_in_a_list_of_classes_of_any_rank(item: tuple[int, ...]) -> None:
    signature = Signature({Datatype.FP32: (3, 8, 8)}, item)
    labels = np.arange(40) % 10
    exact = _RANDOM.normal(size=(40, 10)).astype(np.float32)
    exact[np.arange(40), labels] += 8
    other = exact.copy()
    other[:4] = np.roll(other[:4], 1, axis=1)
    answers, others = ({"output": one.reshape(40, *item)} for one in (exact, other))
    found = fidelity_of(signature, answers, others, labels=labels)
    assert found.labelled
    assert found.loss == pytest.approx(0.1)
    assert found.top1 == 0.9


@pytest.mark.parametrize("item", [(), (10, 2), (1, 10, 10)], ids=str)
def test_a_map_is_no_list_of_classes(item: tuple[int, ...]) -> None:
    signature = Signature({Datatype.FP32: (3, 8, 8)}, item)
    exact = np.asarray(_RANDOM.normal(size=(40, *item)), np.float32)
    found = fidelity_of(signature, {"output": exact}, {"output": exact + np.float32(0.01)})
    assert found.loss is None
    assert found.snr_db > 20
