"""What searches found, from one to the next."""

from __future__ import annotations

from pathlib import Path

import msgspec

from corral.settings import BackendName, Precision, Settings
from corral.slo.history import Entry, History, Past, Speed, slower, speed
from corral.slo.report import TuneReport
from corral.slo.space import Arithmetic


def seen(version: str, item_ms: float, engine: str = "openvino int8", cores: int = 1) -> Speed:
    return Speed(engine=engine, version=version, cores=cores, item_ms=item_ms)


def past(*speeds: Speed) -> Past:
    return Past(entries=[Entry(at_s=0.0, p99_ms=50, rate=9, name="", speeds=[s]) for s in speeds])


def day(at_s: float) -> str:
    return "a day"


def test_another_version_that_is_slower_is_told() -> None:
    (sentence,) = slower(past(seen("2026.3", 20.0)), [seen("2026.4", 23.0)], day)
    assert sentence == (
        "openvino int8 2026.4 takes 23.00 ms an item on 1 cores, 15% more than 2026.3 took on a day"
    )


def test_what_is_no_news_is_not() -> None:
    now = [seen("2026.4", 23.0)]
    # The same version, noise, other cores, another engine, and one that became faster.
    for before in (
        seen("2026.4", 20.0),
        seen("2026.3", 22.5),
        seen("2026.3", 20.0, cores=2),
        seen("2026.3", 20.0, engine="torch fp32"),
        seen("2026.3", 30.0),
    ):
        assert not slower(past(before), now, day)
    assert not slower(Past(), now, day)


def test_the_last_of_several_counts() -> None:
    assert not slower(past(seen("2026.2", 10.0), seen("2026.3", 23.0)), [seen("2026.4", 23.0)], day)


def test_a_machine_that_is_slower_is_no_slower_engine() -> None:
    before = past(seen("2026.3", 20.0), seen("2.9", 40.0, "torch fp32"), seen("1", 9.0, "null"))
    others = [seen("2.9", 46.0, "torch fp32"), seen("1", 10.4, "null")]
    assert not slower(before, [seen("2026.4", 23.0), *others], day)
    (sentence,) = slower(before, [seen("2026.4", 30.0), *others], day)
    assert "30% more than 2026.3" in sentence
    assert "beside the machine, which is at 1.15 of it" in sentence


def test_nothing_is_said_of_what_was_measured_beside_others() -> None:
    before, now = past(seen("2026.3", 20.0)), [seen("2026.4", 23.0)]
    assert slower(before, now, day, other_load=0.05)
    assert not slower(before, now, day, other_load=0.3)
    busy = msgspec.structs.replace(before.entries[0], other_load=0.3)
    assert not slower(Past(entries=[busy]), now, day)
    # The last quiet one is what counts.
    quick = Entry(at_s=1.0, p99_ms=50, rate=9, name="", speeds=[seen("2026.3", 15.0)])
    (sentence,) = slower(Past(entries=[quick, busy]), now, day)
    assert "53% more" in sentence


def test_it_is_kept_from_one_search_to_the_next_by_machine_and_model(tmp_path: Path) -> None:
    settings = Settings().replace(cache_dir=str(tmp_path))
    report = TuneReport(p99_ms=50.0, model="m", cpu="c", arrivals="Poisson")
    for item_ms in (1.0, 2.0):
        History(settings, "c", 2).add(report, [seen("1", item_ms)])
    found = History(settings, "c", 2).load().entries
    assert [entry.speeds[0].item_ms for entry in found] == [1.0, 2.0]
    assert not History(settings, "another CPU", 2).load().entries
    assert not History(settings.replace(model="another"), "c", 2).load().entries


def test_a_speed_has_the_version_of_the_engines_distribution() -> None:
    null = Arithmetic(backend=BackendName.NULL, precision=Precision.AUTO)
    found = speed(null, 1, {1: [0.001, 0.002, 0.009]})
    assert (found.engine, found.item_ms) == ("null", 2.0)
    assert found.version
