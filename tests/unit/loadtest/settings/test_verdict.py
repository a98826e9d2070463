"""What turns say of settings: which rate holds, and how sure a ratio is."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from corral_loadtest.cli.main import main
from corral_loadtest.result import Machine, encode
from corral_loadtest.settings import verdict
from corral_loadtest.settings.command import parser
from corral_loadtest.settings.verdict import Report, Step


def turn(*p99_ms: float | None, failed: int = 0) -> dict[float, Step]:
    """One of 10, 20, 30 … requests a second."""
    return {
        10.0 * number: Step(p99_ms=one, failed=failed) for number, one in enumerate(p99_ms, start=1)
    }


def test_a_round_goes_there_and_the_next_one_back() -> None:
    assert [verdict.turn(["a", "b"], number) for number in range(3)] == [
        ["a", "b"], ["b", "a"], ["a", "b"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("step", "holds"),
    [
        (Step(p99_ms=50.0), True),
        (Step(p99_ms=50.1), False),
        # The fastest of all is a server that refuses.
        (Step(p99_ms=1.0, failed=1), False),
        (Step(p99_ms=None), False),
    ],
)
def test_a_rate_holds_where_all_is_answered_in_time(step: Step, holds: bool) -> None:
    assert step.holds(50.0) is holds


def test_the_highest_rate_held_in_more_than_half_of_the_rounds() -> None:
    rounds = [turn(10, 40, 60), turn(10, 45, 45), turn(10, 60, 45), turn(10, 45, 60)]
    assert verdict.highest(rounds, 50.0) == 20.0
    # Two of four are no majority.
    assert verdict.highest(rounds[:2], 50.0) == 20.0
    assert verdict.highest(rounds[1:3], 50.0) == 30.0
    assert verdict.highest([turn(60, 70, None)], 50.0) == 0.0
    assert verdict.highest([], 50.0) == 0.0


def test_a_ratio_is_of_each_round_by_itself() -> None:
    found = verdict.ratio([20.0, 30.0, 0.0, 30.0], [10.0, 30.0, 20.0, 0.0])
    assert found is not None
    assert (found.median, found.least, found.most) == (1.0, 0.0, 2.0)
    assert verdict.ratio([20.0], [0.0]) is None


def test_rows_tell_each_file_beside_the_first() -> None:
    found = verdict.rows(
        {"a": [turn(10, 60), turn(10, 60)], "b": [turn(10, 40), turn(20, 45)]}, 50.0
    )
    first, second = found
    assert (first.highest_per_s, first.by_round) == (10.0, [10.0, 10.0])
    assert (second.highest_per_s, second.by_round) == (20.0, [20.0, 20.0])
    assert first.ratio == verdict.Ratio(median=1.0, least=1.0, most=1.0)
    assert second.ratio == verdict.Ratio(median=2.0, least=2.0, most=2.0)


def test_the_table_marks_what_did_not_hold_and_json_can_carry_it() -> None:
    turns = {"a.toml": [turn(10, 60), turn(10, None, failed=3)]}
    report = Report(
        machine=Machine(cpu="a CPU", cpus=2, kernel="6", python="3", grpcio="1"),
        command="corral-loadtest settings a.toml", p99_ms=50.0, rates=[10.0, 20.0], seconds=1.0,
        complete=True, rows=verdict.rows(turns, 50.0),
    )  # fmt: skip
    table = verdict.table(report)
    assert "| a.toml | 10, **10** (3 failed) | **60**, **-** (3 failed) |" in table
    assert "| a.toml | 0 | 10, 0 | 1.00 (1.00 to 1.00) |" in table
    assert b'"p99_ms": null' in encode(report)


def test_rates_to_try_are_shares_of_a_capacity() -> None:
    found = verdict.shares(187.3)
    assert found == [93.7, 112.0, 131.0, 150.0, 169.0, 178.0]
    assert all(math.isclose(one, share) for one, share in zip(verdict.shares(0.01), (
        0.005, 0.006, 0.007, 0.008, 0.009, 0.0095), strict=True))  # fmt: skip


def test_rates_are_read_as_they_come() -> None:
    options = parser().parse_args(["a.toml", "--p99-ms", "50", "--rates", "30,10,30"])
    assert options.rates == [10.0, 30.0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.toml"], "--p99-ms"),
        (["a.toml", "--p99-ms", "50", "--rates", "10,x"], "requests a second"),
        (["a.toml", "--p99-ms", "0"], "milliseconds"),
        (["missing.toml", "--p99-ms", "50"], "missing.toml: No such file"),
        (["wrong.toml", "--p99-ms", "50"], "wrong.toml: "),
        (["a.toml", "a.toml", "--p99-ms", "50"], "named twice"),
    ],
)
def test_wrong_input_is_one_line_before_anything_is_started(
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_text('backend = "null"\n')
    (tmp_path / "wrong.toml").write_text("no settings\n")
    with pytest.raises(SystemExit) as ended:
        main(["settings", *words, "--corral", "/bin/false"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert said in line
