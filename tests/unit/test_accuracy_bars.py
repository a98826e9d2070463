"""The guard's bars: bad quantizations are refused, and its verdict agrees with true accuracy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from support.quantized_network import FAULTS, Floats, Network, make_world, quantized, spoiled

from corral.accuracy import Thresholds, compare, faults

#: as corral ships: photographs, and crops of each
_PICTURES, _CROPS = 40, 10
_WORLD = make_world()
_SEEN = _WORLD.pictures(np.random.default_rng(1), _PICTURES, _CROPS)[0]
_JUDGED = _WORLD.pictures(np.random.default_rng(2), _PICTURES, _CROPS)


@dataclasses.dataclass(frozen=True)
class _Noisy:
    """A network with noise on its logits."""

    network: Network
    size: float

    def answer(self, inputs: Floats) -> NDArray[np.float32]:
        logits = self.network.answer(inputs)
        noise = np.random.default_rng(8).normal(size=logits.shape)
        return np.asarray(logits + self.size * noise, np.float32)


def _passes(candidate: Network | _Noisy, sure: float = 1.0) -> bool:
    inputs, groups, _ = _JUDGED
    exact, other = (network.answer(inputs) for network in (_WORLD.network, candidate))
    scale = np.float32(sure)
    found = compare(exact * scale, other * scale, groups)
    return not faults(found, Thresholds(), synthetic=False)


def test_fp32_against_itself_passes() -> None:
    assert _passes(_WORLD.network)


def test_a_good_quantization_passes() -> None:
    assert _passes(quantized(_WORLD.network, _SEEN))


@pytest.mark.parametrize("how", FAULTS)
def test_a_bad_quantization_is_refused(how: str) -> None:
    assert not _passes(spoiled(quantized(_WORLD.network, _SEEN), _SEEN, how))


@pytest.mark.parametrize("how", FAULTS)
def test_a_bad_quantization_is_refused_by_labels(how: str) -> None:
    inputs, groups, labels = _WORLD.pictures(np.random.default_rng(3), 500, 1)
    bad = spoiled(quantized(_WORLD.network, _SEEN), _SEEN, how)
    found = compare(_WORLD.network.answer(inputs), bad.answer(inputs), groups, labels)
    assert found.labelled
    assert faults(found, Thresholds(), synthetic=False)


def _perturbed(random: np.random.Generator) -> Network | _Noisy:
    """Noise on weights or logits, from what 12 bits leave to more than there is."""
    network = _WORLD.network
    share = 10 ** random.uniform(-3.5, 0.5)

    def noisy(weights: Floats) -> Floats:
        sizes = np.abs(weights).mean(axis=1, keepdims=True)
        return np.asarray(weights + share * sizes * random.normal(size=weights.shape))

    match random.integers(4):
        case 0:
            return dataclasses.replace(network, first=noisy(network.first))
        case 1:
            return dataclasses.replace(network, second=noisy(network.second))
        case 2:
            return dataclasses.replace(
                network, first=noisy(network.first), second=noisy(network.second)
            )
        case _:
            return _Noisy(network, 10 * share)


#: the truth: 20,000 labelled pictures
_LABELLED = _WORLD.pictures(np.random.default_rng(4), 20_000, 1)


def _accuracy(network: Network | _Noisy) -> float:
    inputs, _, labels = _LABELLED
    return float((network.answer(inputs).argmax(axis=1) == labels).mean())


@pytest.mark.parametrize("sure", [1.0, 0.3, 0.2, 0.1, 0.05])
def test_the_verdict_agrees_with_true_accuracy(sure: float) -> None:
    """Whether FP32 is as sure as it is right, or less sure, as after smoothing of labels."""
    random = np.random.default_rng(6)
    exact = _accuracy(_WORLD.network)
    verdicts = []
    for _ in range(200):
        candidate = _perturbed(random)
        verdicts.append((_passes(candidate, sure), _accuracy(candidate) >= 0.99 * exact))
    agreed = sum(passed == right for passed, right in verdicts)
    passed_wrongly = sum(passed and not right for passed, right in verdicts)
    assert agreed >= 190, agreed
    assert passed_wrongly <= 4
    # Neither is rare: a guard that always says the same would not agree.
    assert 50 <= sum(right for _, right in verdicts) <= 150


@pytest.mark.parametrize("count", [11, 20, 40, 100])
@pytest.mark.parametrize("labelled", [True, False])
def test_few_pictures_let_nothing_pass_that_loses_more(count: int, *, labelled: bool) -> None:
    """A bootstrap alone lets up to 15 of these 200 pass by 11 or 20 labelled pictures."""
    random, pictures = np.random.default_rng(6), np.random.default_rng(77)
    exact = _accuracy(_WORLD.network)
    passed_wrongly = passed = 0
    for _ in range(200):
        candidate = _perturbed(random)
        inputs, groups, labels = _WORLD.pictures(pictures, count, 1)
        found = compare(
            _WORLD.network.answer(inputs),
            candidate.answer(inputs),
            groups,
            labels if labelled else None,
        )
        if not faults(found, Thresholds(), synthetic=False):
            passed += 1
            passed_wrongly += _accuracy(candidate) < 0.99 * exact
    assert passed_wrongly <= 1
    # It is no guard that lets nothing pass.
    assert passed >= 40
