"""--keep-warm on keeps the CPUs from sleeping deeply, where the kernel lets it."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest

from corral.frontend import shallow_sleep
from corral.frontend.shallow_sleep import MOST_US, ShallowSleep
from corral.settings import KeepWarm, Settings

_ON, _OFF = Settings.flat(keep_warm=KeepWarm.ON), Settings.flat(keep_warm=KeepWarm.OFF)


def _held(device: Path) -> int:
    """Descriptors of this process that are open on it."""
    found = 0
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += fd.readlink() == device
    return found


def test_it_is_held_while_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "latency"
    device.touch()
    monkeypatch.setattr(shallow_sleep, "DEVICE", device)
    asleep = ShallowSleep(_OFF)
    assert _held(device) == 0
    assert not asleep.keeps_warm
    for _ in range(2):
        asleep.follow(_ON)
        assert _held(device) == 1
        assert asleep.keeps_warm
    assert struct.unpack("=i", device.read_bytes()) == (MOST_US,)
    asleep.follow(Settings.flat(keep_warm=KeepWarm.AUTO))
    assert _held(device) == 0
    assert asleep.keeps_warm


@pytest.mark.parametrize("device", ["/nowhere/latency", "/dev/full"])
def test_who_may_not_is_told_once(
    device: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shallow_sleep, "DEVICE", Path(device))
    before = _held(Path(device))
    with caplog.at_level("INFO"):
        asleep = ShallowSleep(_ON)
        asleep.follow(_ON)
    assert len(caplog.records) == 1
    assert f"CPUs may sleep deeply; {device}: " in caplog.text
    assert _held(Path(device)) == before
