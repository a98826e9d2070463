"""Energy counters, in composed trees: this machine need not have any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.system import rapl

RANGE_UJ = 262_143_328_850


def write(root: Path, zone: str, name: str, uj: int | str, range_uj: int | str = RANGE_UJ) -> Path:
    folder = root / "class" / "powercap" / zone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
    (folder / "energy_uj").write_text(f"{uj}\n")
    return folder / "energy_uj"


def test_a_meter_counts_from_when_it_was_made_each_package_for_itself(tmp_path: Path) -> None:
    write(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    write(tmp_path, "intel-rapl:1", "package-1", 9_000_000)
    meter = rapl.Meter(tmp_path)
    assert meter.joules() == {"package-0": 0.0, "package-1": 0.0}
    write(tmp_path, "intel-rapl:0", "package-0", 7_500_000)
    write(tmp_path, "intel-rapl:1", "package-1", 9_250_000)
    assert meter.joules() == {"package-0": 2.5, "package-1": 0.25}
    assert meter.total() == 2.75
    assert meter.reason == ""


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    write(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 1_000_000)
    meter = rapl.Meter(tmp_path)
    write(tmp_path, "intel-rapl:0", "package-0", 500_000)
    assert meter.total() == pytest.approx(1.5)
    write(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 1)
    write(tmp_path, "intel-rapl:0", "package-0", 600_000)
    assert meter.total() == pytest.approx(1.6)


def test_no_joule_counts_twice(tmp_path: Path) -> None:
    write(tmp_path, "intel-rapl:0", "package-0", 0)
    write(tmp_path, "intel-rapl:0:0", "core", 0)
    write(tmp_path, "intel-rapl:0:1", "dram", 0)
    write(tmp_path, "intel-rapl:1", "psys", 0)
    write(tmp_path, "intel-rapl-mmio:0", "package-0", 77)
    assert rapl.read(tmp_path)[0] == {"package-0": rapl.Energy(uj=0, range_uj=RANGE_UJ)}


def test_a_machine_without_counters_is_unknown(tmp_path: Path) -> None:
    meter = rapl.Meter(tmp_path)
    assert (meter.joules(), meter.total()) == ({}, None)
    assert meter.reason == "this machine shows no RAPL counters"


@pytest.mark.parametrize(("uj", "range_uj"), [("", RANGE_UJ), ("-5", RANGE_UJ), (5, "much")])
def test_what_is_no_number_is_unknown(tmp_path: Path, uj: int | str, range_uj: int | str) -> None:
    write(tmp_path, "intel-rapl:0", "package-0", uj, range_uj)
    assert rapl.Meter(tmp_path).total() is None


def test_a_counter_that_is_roots_is_unknown_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = write(tmp_path, "intel-rapl:0", "package-0", 5)
    opened = os.open

    # Tests run as root, too, whom no mode keeps out.
    def refuse(path: str, flags: int) -> int:
        if path == str(counter):
            raise PermissionError(13, "Permission denied")
        return opened(path, flags)

    monkeypatch.setattr(os, "open", refuse)
    meter = rapl.Meter(tmp_path)
    assert meter.total() is None
    assert meter.reason == "/sys/class/powercap/intel-rapl:0/energy_uj: permission denied"


def test_a_counter_that_is_away_for_a_while_loses_nothing(tmp_path: Path) -> None:
    counter = write(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    meter = rapl.Meter(tmp_path)
    counter.unlink()
    assert meter.joules() == {}
    write(tmp_path, "intel-rapl:0", "package-0", 3_000_000)
    assert meter.joules() == {"package-0": 2.0}
