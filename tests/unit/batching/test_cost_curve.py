"""Cost curves: the knee, when to stop measuring, and the cache."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.artifacts import curve_cache
from corral.batching import cost_curve
from corral.batching.cost_curve import CostCurve
from corral.system.ingredients import ingredients_key
from corral.tensors import Datatype

_COSTS = st.dictionaries(
    st.integers(1, 256), st.floats(1e-6, 100, allow_nan=False), min_size=1, max_size=10
)


@pytest.mark.parametrize(
    ("max_batch", "sizes"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])],
)
def test_candidate_sizes(max_batch: int, sizes: list[int]) -> None:
    assert cost_curve.candidate_sizes(max_batch) == sizes


@given(st.integers(1, 256))
def test_candidate_sizes_climb_from_1_to_the_largest(max_batch: int) -> None:
    sizes = cost_curve.candidate_sizes(max_batch)
    assert sizes[0] == 1
    assert sizes[-1] == max_batch
    assert all(a < b <= 2 * a for a, b in itertools.pairwise(sizes))


def test_knee_of_a_linear_cost_is_1() -> None:
    assert cost_curve.knee({n: 0.024 * n for n in (1, 2, 4, 8)}) == 1


def test_knee_of_a_fixed_cost_is_the_largest() -> None:
    assert cost_curve.knee(dict.fromkeys((1, 2, 4, 8), 0.01)) == 8


def test_knee_ignores_less_than_3_percent() -> None:
    assert cost_curve.knee({1: 0.1, 2: 0.15, 4: 0.4 / 1.34, 8: 0.8 / 1.36}) == 2
    assert cost_curve.knee({1: 0.1, 2: 0.15, 4: 0.4 / 1.34, 8: 0.8 / 1.40}) == 8


def test_knee_of_a_clock_that_stood_still() -> None:
    assert cost_curve.knee({1: 0.0, 2: 0.0}) == 2


@given(_COSTS)
def test_knee_is_the_smallest_within_3_percent(costs_s: dict[int, float]) -> None:
    rates = {n: n / cost_s for n, cost_s in costs_s.items()}
    chosen = cost_curve.knee(costs_s)
    assert rates[chosen] >= 0.97 * max(rates.values())
    assert all(rate < 0.97 * max(rates.values()) for n, rate in rates.items() if n < chosen)


def test_measuring_stops_after_two_doublings_without_gain() -> None:
    assert cost_curve.keep_going({})
    assert cost_curve.keep_going({1: 1.0, 2: 2.0})
    assert not cost_curve.keep_going({1: 1.0, 2: 2.0, 4: 4.0})
    assert not cost_curve.keep_going({1: 1.0, 2: 1.0, 4: 2.0, 8: 4.0})
    assert cost_curve.keep_going({1: 1.0, 2: 1.0, 4: 2.0})


def test_measuring_goes_on_past_one_flat_step() -> None:
    assert cost_curve.keep_going({1: 1.0, 2: 2.0, 4: 3.0})
    assert cost_curve.keep_going({1: 1.0, 2: 1.5, 4: 3.0, 8: 4.0})


def test_sizes_up_to() -> None:
    assert cost_curve.sizes_up_to(4, [8, 4, 2, 1]) == [1, 2, 4]


def _curve() -> CostCurve:
    return CostCurve(
        {
            (Datatype.FP32, 1): 0.010,
            (Datatype.FP32, 2): 0.012,
            (Datatype.FP32, 4): 0.020,
            (Datatype.UINT8, 1): 0.011,
            (Datatype.UINT8, 2): 0.022,
        }
    )


def test_cost_between_and_beyond() -> None:
    curve = _curve()
    assert curve.cost_s(Datatype.FP32, 2) == 0.012
    assert curve.cost_s(Datatype.FP32, 3) == pytest.approx(0.016)
    assert curve.cost_s(Datatype.FP32, 8) == pytest.approx(0.040)
    assert curve.cost_s(Datatype.UINT8, 4) == pytest.approx(0.044)


def test_cost_below_the_smallest_measured_is_no_less() -> None:
    curve = CostCurve({(Datatype.FP32, 4): 0.02})
    assert curve.cost_s(Datatype.FP32, 1) == 0.02
    with pytest.raises(KeyError):
        curve.cost_s(Datatype.UINT8, 1)


@given(_COSTS, st.integers(1, 300))
def test_cost_lies_between_its_neighbours(costs_s: dict[int, float], count: int) -> None:
    curve = CostCurve({(Datatype.FP32, n): cost_s for n, cost_s in costs_s.items()})
    cost_s = curve.cost_s(Datatype.FP32, count)
    below = [n for n in costs_s if n <= count]
    above = [n for n in costs_s if n >= count]
    if below and above:
        ends = sorted((costs_s[max(below)], costs_s[min(above)]))
        assert ends[0] * (1 - 1e-9) <= cost_s <= ends[1] * (1 + 1e-9)
    assert cost_s > 0


def test_knee_of_a_curve_is_the_largest_of_its_datatypes() -> None:
    assert _curve().knee() == 4


def test_names_there_and_back() -> None:
    assert _curve().names()["FP32:4"] == 0.020
    assert CostCurve.from_names(_curve().names()) == _curve()
    assert _curve().of(Datatype.UINT8) == {1: 0.011, 2: 0.022}


@pytest.mark.parametrize(
    "names", [{"FP8:1": 1.0}, {"FP32:one": 1.0}, {"FP32": 1.0}, {"FP32:1": -1.0}, {"FP32:0": 1.0}]
)
def test_names_that_make_no_sense(names: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        CostCurve.from_names(names)


_OF: Mapping[str, str] = {"artefact": "resnet50", "cores": "2"}


def _content(costs_s: bytes) -> bytes:
    """A whole entry with these costs."""
    ingredients = json.dumps(_OF).encode()
    return b'{"format": %d, "ingredients": %s, "content": {"costs_s": %s}}' % (
        curve_cache.FORMAT, ingredients, costs_s
    )  # fmt: skip


def test_cached_curve_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "not yet there"
    assert curve_cache.load_curve(folder, _OF) is None
    curve_cache.save_curve(folder, _OF, _curve())
    assert curve_cache.load_curve(folder, _OF) == _curve()
    assert curve_cache.load_curve(folder, {**_OF, "cores": "4"}) is None
    assert [file.name for file in folder.iterdir()] == [f"costs-{ingredients_key(_OF)[:12]}.json"]


@given(
    st.lists(st.floats(0.5, 4.0), min_size=1, max_size=6),
    st.lists(st.floats(0.001, 1.0), min_size=1, max_size=5),
)
def test_sizes_compared_in_turns_do_not_hang_on_the_pace_of_a_turn(
    paces: list[float], costs: list[float]
) -> None:
    true_s = {1 << place: cost_s for place, cost_s in enumerate(costs)}
    rounds_s = [{size: cost_s * pace for size, cost_s in true_s.items()} for pace in paces]
    found = cost_curve.compared(true_s[1], rounds_s)
    least = min(1.0, *paces)
    assert found == pytest.approx({size: cost_s * least for size, cost_s in true_s.items()})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"FP32:1": "fast"}',
        b'{"FP8:1": 1.0}',
        b"\xff",
        _content(b'{"FP32:1": "fast"}'),
        _content(b'{"FP8:1": 1.0}'),
        _content(b'{"FP32:1": -1.0}'),
    ],
)
def test_broken_curve_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    curve_cache.save_curve(tmp_path, _OF, _curve())
    next(tmp_path.iterdir()).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert curve_cache.load_curve(tmp_path, _OF) is None
    assert "ignored" in caplog.text


def test_a_curve_without_costs_is_none(tmp_path: Path) -> None:
    curve_cache.save_curve(tmp_path, _OF, _curve())
    next(tmp_path.iterdir()).write_bytes(_content(b'{"FP32:1": 0.5}'))
    assert curve_cache.load_curve(tmp_path, _OF) == CostCurve({(Datatype.FP32, 1): 0.5})
    next(tmp_path.iterdir()).write_bytes(_content(b"{}"))
    assert curve_cache.load_curve(tmp_path, _OF) is None


def test_curve_that_cannot_be_cached_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    curve_cache.save_curve(tmp_path / "file", _OF, _curve())
    assert "not cached" in caplog.text
