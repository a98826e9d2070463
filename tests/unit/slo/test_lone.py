"""A bound below one inference is refused by what is known; else by three items, before all else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support.surveyed import FAST, MODEL, SYSTEM, Table

from corral.artifacts.curve_cache import CurveCache
from corral.cli.main import run
from corral.errors import ConfigError
from corral.models import registry
from corral.planning import topology
from corral.settings import BackendName, Settings
from corral.slo.crew import Crew
from corral.slo.history import History
from corral.slo.lone import LoneItems
from corral.slo.space import Arithmetic, Shape
from corral.slo.survey import Engine

_SHAPE = Shape(workers=1, cores=2)
_MODEL = msgspec.structs.replace(MODEL, artefact="/cache/m-int8-0123/model.xml")
_ENGINE = Engine(arithmetic=FAST, model=lambda: _MODEL)

#: checks a bound in ms where an item takes so many: the refusal, and whether it was measured
Check = Callable[[float, float], tuple[str, bool]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Looked(Table):
    looks: list[Crew] = dataclasses.field(default_factory=list)

    def look(self, crew: Crew) -> float:
        self.looks.append(crew)
        return self.item_ms[crew.arithmetic] / 1000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings().replace(cache_dir=str(tmp_path))


@pytest.fixture
def check(settings: Settings) -> Check:
    machine = topology.read_machine()
    history = History(settings, "c", 2)
    lone = LoneItems(settings, machine, history, lambda _: None)
    crew = Crew(arithmetic=FAST, memory=SYSTEM, model=_MODEL, workers=[])

    def checked(bound_ms: float, item_ms: float) -> tuple[str, bool]:
        profiler = _Looked(
            settings=settings,
            spec=registry.get("resnet50"),
            environ={},
            bound_s=bound_ms / 1000,
            sizes=[1],
            item_ms={FAST: item_ms},
        )
        said = ""
        try:
            lone.check(profiler, _ENGINE, _SHAPE, crew)
        except ConfigError as error:
            said = str(error)
        return said, bool(profiler.looks)

    return checked


def test_what_nobody_knows_is_measured_once(check: Check) -> None:
    where = "(openvino int8, 1 worker of 2 cores)"
    said = f"one inference takes 20.0 ms here {where}"
    assert check(5, 20) == (f"--p99-ms 5: {said}; no rate keeps that bound", True)
    earlier = f"--p99-ms 6: {said}, as measured earlier; no rate keeps that bound"
    assert check(6, 1) == (earlier, False)
    assert check(50, 20) == ("", False)


def test_what_was_measured_in_bad_company_is_measured_again(check: Check) -> None:
    """Within a factor of two of the bound it tells nothing, and the last figure counts."""
    assert check(50, 40) == ("", True)
    assert check(35, 30) == ("", True)
    assert check(30, 25) == ("", True)
    said, looked = check(15, 16)
    assert "one inference takes 16.0 ms here" in said
    assert looked


def test_a_servers_curve_tells_it_too(settings: Settings, check: Check) -> None:
    machine = topology.read_machine()
    asked = settings.replace(backend=FAST.backend, precision=FAST.precision)
    cache = CurveCache(asked, _MODEL, _SHAPE.cores, machine.model_name, machine.isa)
    cache.save({"FP32:1": 0.02, "FP32:2": 0.03, "UINT8:1": 0.018})
    said, looked = check(5, 1)
    assert "takes 18.0 ms here" in said
    assert not looked
    assert check(40, 1) == ("", False)


def test_another_artefact_is_another_model(settings: Settings) -> None:
    history = History(settings, "c", 2)
    lone = LoneItems(settings, topology.read_machine(), history, lambda _: None)
    history.learn_lone(lone._item(_ENGINE, 2, 0.02))
    assert lone.known_s(_ENGINE, 2) == 0.02
    assert lone.known_s(_ENGINE, 1) is None
    other = msgspec.structs.replace(_MODEL, artefact="/cache/m-int8-4567/model.xml")
    assert lone.known_s(dataclasses.replace(_ENGINE, model=lambda: other), 2) is None
    torch = Arithmetic(backend=BackendName.TORCH, precision=FAST.precision)
    assert lone.known_s(dataclasses.replace(_ENGINE, arithmetic=torch), 2) is None


def test_the_null_backend_takes_what_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["tune", "--backend", "null", "--null-batch-ms", "5", "--null-item-ms", "10"]
    assert run([*words, "--cache-dir", "cache", "--p99-ms", "14"], {}) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("corral: --p99-ms 14: one inference takes 15.0 ms here (null")
    assert not list(tmp_path.iterdir())
