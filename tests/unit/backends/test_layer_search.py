"""Which layers a search leaves out, of a model whose noise is known layer by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corral.accuracy import Fidelity, Thresholds
from corral.backends.job import BuildJob
from corral.backends.layer_search import (
    Judge,
    Layer,
    Quantized,
    forecast,
    within_thresholds,
)
from corral.models.spec import ModelSpec, Recipe, Weights
from corral.settings import BackendName, Precision

_LAYERS = 50
_CLASSES = 40
#: energies that INT8 adds by layer, as shares of the answers': three layers carry nearly all of it
_NOISES = np.full(_LAYERS, 2e-5)
_NOISES[[0, 1, 49]] = (2e-2, 5e-3, 4e-3)
_PICTURES = 40
#: of BF16, 23.5 dB: EfficientNet-Lite0's
_BF16 = 10**-2.35


@dataclasses.dataclass(frozen=True)
class _Model:
    """Layers in INT8, and the noise of the arithmetic of the others where there are any."""

    quantized: frozenset[int]
    others: float = 0.0


def _answers(model: _Model, inputs: Sequence[NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Noise of one sign after another: two layers' are orthogonal, so that energies add up."""
    random = np.random.default_rng(1)
    exact = random.normal(size=(_PICTURES, _CLASSES))
    directions = random.normal(size=(_LAYERS + 1, *exact.shape))
    found = exact.copy()
    energies = np.zeros(_LAYERS + 1)
    energies[sorted(model.quantized)] = _NOISES[sorted(model.quantized)]
    energies[_LAYERS] = model.others * (1 - len(model.quantized) / _LAYERS)
    for energy, direction in zip(energies, directions, strict=True):
        found += np.sqrt(energy) * direction
    return {"logits": found.astype(np.float32)[: len(inputs)]}


def _with_boxes(model: _Model, inputs: Sequence[NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """Noise is in the second output; the first one knows of none."""
    calm = np.random.default_rng(2).normal(size=(_PICTURES, 100, 4)).astype(np.float32)
    return {"boxes": calm[: len(inputs)], **_answers(model, inputs)}


def _about_constants(
    model: _Model, inputs: Sequence[NDArray[Any]]
) -> dict[str, NDArray[np.float32]]:
    """The same about a constant of each place, which noise is small beside."""
    places = np.random.default_rng(3).uniform(50, 100, _CLASSES).astype(np.float32)
    return {name: found + places for name, found in _answers(model, inputs).items()}


def _search(
    bf16: float | None,
    snr_db: float = 20.0,
    answers: Callable[..., dict[str, NDArray[np.float32]]] = _answers,
    pictures: int = _PICTURES,
    unseen: NDArray[np.bool_] | None = None,
    *,
    remark: Callable[[str], None] = pytest.fail,
    multiplies: Callable[[int], bool] = lambda number: True,
) -> _Model:
    every = frozenset(range(_LAYERS))

    def left(names: frozenset[str], others: float) -> _Model:
        return _Model(every - {int(name) for name in names}, others)

    without = {"FP32": lambda names: left(names, 0.0)}
    if bf16 is not None:
        without = {"BF16": lambda names: left(names, bf16), **without}
    way = Quantized(
        "weights of 8 bits",
        _Model(every),
        lambda: [Layer((str(n),), 1.0, multiplies(n)) for n in range(_LAYERS)],
        without,
    )
    inputs = [np.zeros(1, np.float32)] * pictures
    exact, groups = _Model(frozenset()), np.arange(pictures)
    unseen = groups % 4 == 3 if unseen is None else unseen
    judge = Judge(answers, exact, inputs, groups, unseen, by_classes=answers is _answers)
    return within_thresholds([way], judge, _job(snr_db, remark))


def _judge(answers: Callable[..., dict[str, NDArray[np.float32]]]) -> Judge[_Model]:
    inputs, groups = [np.zeros(1, np.float32)] * _PICTURES, np.arange(_PICTURES)
    return Judge(answers, _Model(frozenset()), inputs, groups, groups % 4 == 3, by_classes=True)


def _job(snr_db: float, remark: Callable[[str], None]) -> BuildJob:
    weights = Weights(source="file", description="", path=None, digest="1")
    spec = ModelSpec(
        name="net", recipe=Recipe(), classes=_CLASSES, find_weights=lambda *_: weights,
        build=lambda _: None,
    )  # fmt: skip
    return BuildJob(
        backend=BackendName.OPENVINO, spec=spec, weights=weights, precision=Precision.INT8,
        narrow_sums=False, left_out_in_bf16=True, thresholds=Thresholds(loss=0.5, snr_db=snr_db),
        calibration=None, at=lambda step, share=0.0: None, remark=remark, fp32=Path,
        file=Path("model.xml"),
    )  # fmt: skip


@pytest.mark.parametrize("bf16", [None, 1e-6, _BF16], ids=["fp32", "quiet bf16", "noisy bf16"])
def test_the_few_layers_that_carry_the_noise_are_left_out(bf16: float | None) -> None:
    found = _search(bf16)
    left = set(range(_LAYERS)) - found.quantized
    # Blocks of three or four, and BF16's own noise may cost one block more.
    assert {0, 1} <= left
    assert len(left) <= 13
    assert found.others == (bf16 or 0.0)


def test_where_bf16_is_too_noisy_by_itself_layers_go_to_fp32() -> None:
    found = _search(2e-2)
    assert found.others == 0.0
    assert 0 < _LAYERS - len(found.quantized) <= 13


def test_the_search_goes_by_the_worst_of_several_outputs() -> None:
    left = set(range(_LAYERS)) - _search(None, answers=_with_boxes).quantized
    assert left == set(range(_LAYERS)) - _search(None).quantized
    assert {0, 1} <= left


def test_what_answers_to_every_picture_alike_hides_no_layer() -> None:
    assert _search(None, answers=_about_constants) == _search(None)


def test_where_nothing_can_be_compared_all_of_it_is_quantized(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = _search(None, answers=lambda model, inputs: {})
    assert found.quantized == frozenset(range(_LAYERS))
    assert "no answer is a float, nor known to be made of one" in caplog.text


def test_where_no_layer_may_be_quantized_a_warning_and_the_artefact_say_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    remarks: list[str] = []
    assert _search(None, snr_db=80.0, remark=remarks.append).quantized == frozenset()
    assert remarks == ["no layer stays in INT8"]
    assert "no layer stays in INT8: what is called int8 is FP32" in caplog.text
    caplog.clear()
    _search(None)
    assert "no layer stays" not in caplog.text


@pytest.mark.parametrize("answers", [_answers, lambda model, inputs: {}])
@pytest.mark.parametrize("snr_db", [15.0, 20.0])
def test_int8_of_what_multiplies_nothing_is_told(
    snr_db: float, answers: Callable[..., dict[str, NDArray[np.float32]]]
) -> None:
    """Pools and sums, all of them in INT8 or some: a network without a layer that INT8 is for."""
    remarks: list[str] = []
    _search(None, snr_db, answers, remark=remarks.append, multiplies=lambda number: False)
    assert remarks == ["no convolution and no matrix product is in INT8"]
    # Those that carry the noise go back, and what stays are pools.
    remarks.clear()
    _search(None, answers=answers, remark=remarks.append, multiplies=lambda number: number < 2)
    assert len(remarks) == (answers is _answers)
    _search(None, answers=answers, multiplies=lambda number: number == 20)


@pytest.mark.parametrize("uneven", [False, True])
def test_noise_of_few_pictures_counts_for_more_than_it_is(*, uneven: bool) -> None:
    """Where a search meets one such picture, the guard may meet two."""
    shares = np.ones((10, 1))
    if uneven:
        shares[:] = 0.2
        shares[3] = 10 - 9 * 0.2
    random = np.random.default_rng(6)
    exact = random.normal(size=(10, 1000))
    signs = random.choice([-1.0, 1.0], size=exact.shape)

    def answers(model: _Model, inputs: Sequence[Any]) -> dict[str, NDArray[np.float32]]:
        energy = 8e-3 * len(model.quantized) / _LAYERS
        found = (exact + signs * np.sqrt(energy * shares)).astype(np.float32)
        return {"map": found[: len(inputs)], "boxes": found[: len(inputs)]}

    left = _LAYERS - len(_search(None, answers=answers, pictures=10).quantized)
    # All of it has 21 dB on these pictures.
    assert (left > 0) is uneven


def test_where_noise_does_not_add_up_layers_go_back_until_it_passes() -> None:
    """What was predicted of each block alone is far too little: as many go back as have to."""

    def answers(model: _Model, inputs: Sequence[Any]) -> dict[str, NDArray[np.float32]]:
        share = len(model.quantized) / _LAYERS
        # A block alone is as good as nothing.
        quiet = _Model(frozenset(), 1e-6 * share if share < 0.3 else 0.5)
        return _answers(quiet, inputs)

    left = _LAYERS - len(_search(None, answers=answers).quantized)
    assert 0.7 * _LAYERS <= left < _LAYERS


def test_a_class_that_the_graph_rules_out_hides_no_layers_noise() -> None:
    def with_one_ruled_out(
        model: _Model, inputs: Sequence[NDArray[Any]]
    ) -> dict[str, NDArray[np.float32]]:
        (found,) = _answers(model, inputs).values()
        return {"logits": np.where(np.arange(_CLASSES) == 7, np.float32(-np.inf), found)}

    whole, ruled_out = (
        _judge(answers).noise(_Model(frozenset({0}))) for answers in (_answers, with_one_ruled_out)
    )
    assert ruled_out == pytest.approx(whole, rel=0.2)


def test_the_guard_is_expected_to_find_more_than_the_search() -> None:
    found = Fidelity(
        loss=0.004, loss_most=0.008, loss_shown=0.008, blind_loss=0.8, cosine=1.0,
        snr_db=23.0, snr_db_least=21.0, snr_telling_db=20.0, pictures=10,
    )  # fmt: skip
    expected = forecast(found)
    assert expected.snr_telling_db == pytest.approx(expected.snr_db - 3.0)
    # One mean of ten and one of forty; and the bound of forty, which is half as far as that of ten.
    assert expected.loss_most == pytest.approx(0.004 + (np.sqrt(1.25) + 0.5) * 0.004)
    assert expected.loss_shown == expected.loss_most
    noise, most = 10**-2.3, 10**-2.1
    assert 10 ** (-expected.snr_db / 10) == pytest.approx(noise + np.sqrt(1.25) * (most - noise))
    assert (expected.loss, expected.cosine) == (found.loss, found.cosine)


def test_of_too_few_pictures_nothing_more_is_expected() -> None:
    found = Fidelity(loss=0.004, cosine=1.0, snr_db=23.0, pictures=5)
    assert forecast(found).snr_db == pytest.approx(23.0)
    assert forecast(found).loss_most is None
