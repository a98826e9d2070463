"""Bars: what clears them, the page, the Poisson floor, and the modelled curve."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.planning.environment import frontend_environment
from corral_loadtest.bars import bar, bench, command, model_rows, null_rows, queue_rows, scaling
from corral_loadtest.bars.bar import Bar, Report
from corral_loadtest.result import Machine
from corral_loadtest.specification import OpenLoop

_COST = scaling.Cost(server_cpu_s=500e-6, frontend_per_s=2000.0, inference_cpu_s=50e-3)


def _report(*bars: Bar, **changes: object) -> Report:
    fields: dict[str, object] = {
        "date": "2026-11-21T15:00:00+00:00",
        "machine": Machine(cpu="AMD EPYC(TM)", cpus=2, kernel="6", python="3.11", grpcio="1"),
        "command": "corral-loadtest bars",
        "rounds": 3,
        "seconds": 2.0,
        "generator": "perf_analyzer",
        "bars": list(bars),
        "failed": {},
    }
    return Report(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "at_least", "pooled", "cleared"),
    [
        ([0.9, 0.97, 0.99], True, None, True),
        ([0.9, 0.96, 0.99], True, None, False),
        ([0.9, 0.97, 2.0], False, None, True),
        ([0.9, 0.98, 2.0], False, None, False),
        ([0.9, 0.9, 0.9], True, 1.0, True),
        ([0.9, 0.9, 0.9], False, math.inf, False),
    ],
)
def test_the_median_is_held_to_the_bound_unless_rounds_are_pooled(
    values: list[float], at_least: bool, pooled: float | None, cleared: bool
) -> None:
    one = Bar(row="r", name="n", values=values, bound=0.97, at_least=at_least, pooled=pooled)
    assert one.cleared is cleared


def test_a_figure_without_a_bound_neither_passes_nor_misses() -> None:
    one = Bar(row="r", name="n", values=[1.0])
    assert one.cleared is None
    assert bar.verdict(one) == ""


def test_the_page_says_what_missed_and_what_was_not_measured() -> None:
    found = _report(
        Bar(row="null", name="A", values=[0.5, 0.6, 0.7], bound=0.9, detail="1/s"),
        Bar(row="null", name="B", values=[0.1], bound=0.25, at_least=False),
        failed={"served": "the server ended"},
        cost=_COST,
    )
    page = bar.page(found)
    assert "| A | ≥ 0.9 | 0.6 | 0.5 to 0.7 | MISS | 1/s | null |" in page
    assert "| B | ≤ 0.25 | 0.1 | 0.1 to 0.1 | pass |  | null |" in page
    assert "- not measured: served: the server ended" in page
    assert page.count("corral-loadtest bars --rows null --rounds 3 --seconds 2") == 1
    assert "More cores" in page
    assert bar.stem(found) == "bars-2026-11-21-amd-epyc"


def test_a_report_survives_json() -> None:
    found = _report(Bar(row="null", name="A", values=[0.5], pooled=0.4), cost=_COST)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Report) == found


def test_the_curve_needs_all_that_it_starts_from() -> None:
    cpu = Bar(row="null", name="server CPU a request, UINT8, 17 clients, µs", values=[500.0])
    carried = Bar(row="null", name=null_rows.CARRIED, values=[2000.0])
    inference = Bar(row="served", name=model_rows.INFERENCE, values=[50.0])
    assert command.cost([cpu, carried]) is None
    assert command.cost([cpu, carried, inference]) == _COST


def test_unevenness_is_the_furthest_count() -> None:
    assert null_rows.unevenness([100.0, 100.0, 94.0, 106.0]) == pytest.approx(0.06)
    assert null_rows.unevenness([0.0, 0.0]) == math.inf


def test_one_cell_is_one_frontend_and_many_cells_are_the_cores() -> None:
    assert scaling.carried_per_s(_COST, 64, 1, inference=False) == 2000.0
    assert scaling.carried_per_s(_COST, 64, 16, inference=False) == 32_000.0
    assert scaling.carried_per_s(_COST, 2, 4, inference=False) == pytest.approx(4000.0)
    assert scaling.carried_per_s(_COST, 64, 32, inference=True) == pytest.approx(64 / 0.0505)
    with pytest.raises(ValueError, match="at least one"):
        scaling.carried_per_s(_COST, 0, 1, inference=False)


@given(
    st.floats(1e-5, 1e-1), st.floats(10, 1e5), st.floats(0, 1), st.integers(1, 256),
    st.integers(1, 64),
)  # fmt: skip
def test_more_cores_and_cells_never_carry_less(
    cpu_s: float, frontend_per_s: float, inference_s: float, cores: int, cells: int
) -> None:
    cost = scaling.Cost(
        server_cpu_s=cpu_s, frontend_per_s=frontend_per_s, inference_cpu_s=inference_s
    )
    here = scaling.carried_per_s(cost, cores, cells, inference=True)
    assert here <= scaling.carried_per_s(cost, cores + 1, cells, inference=True)
    assert here <= scaling.carried_per_s(cost, cores, cells + 1, inference=True)
    assert here <= scaling.carried_per_s(cost, cores, cells, inference=False)
    assert here <= cells * frontend_per_s


def test_enough_cells_are_the_fewest_that_leave_the_cores_as_the_limit() -> None:
    cells = scaling.enough_cells(_COST, 64, inference=False)
    assert cells == 64
    limit = 64 / _COST.server_cpu_s
    assert scaling.carried_per_s(_COST, 64, cells, inference=False) == pytest.approx(limit)
    assert scaling.carried_per_s(_COST, 64, cells - 1, inference=False) < limit
    assert scaling.enough_cells(_COST, 64, inference=True) == 1


def test_the_floor_is_of_the_requests_that_were_measured() -> None:
    load = OpenLoop(rate_per_s=10.0, seed=3)
    whole = queue_rows.floor_of(load, 0.05, (0.0, 20.0))
    later = queue_rows.floor_of(load, 0.05, (10.0, 20.0))
    assert 0 < len(later) < len(whole)
    # What was sent before still waits in front of it.
    np.testing.assert_array_equal(whole[-len(later) :], later)
    assert whole.min() == pytest.approx(0.05)


def test_the_tuned_baseline_has_what_the_frontend_has() -> None:
    assert frontend_environment() == bench.TUNED
