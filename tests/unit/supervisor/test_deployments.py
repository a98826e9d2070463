"""When a mode switch settles engine and precision anew, and on which CPUs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from corral.artifacts.figures import FigureCache
from corral.artifacts.served_model import served_model
from corral.errors import ConfigError
from corral.ipc.messages import ModelBoot
from corral.models import registry
from corral.planning.machine import Core, Machine, Node
from corral.planning.plan import PlannedWorker
from corral.planning.request import plan_for
from corral.settings import BackendName, Mode, Precision, Settings
from corral.supervisor.deployment import DeploymentSpec
from corral.supervisor.deployments import Deployments, Source

MACHINE = Machine(
    cores=tuple(Core(cpus=(n,), package=0, node=0, l3=0) for n in range(4)),
    nodes=(Node(id=0, cpus=(0, 1, 2, 3), memory_bytes=2**34),),
    model_name="CPU",
)
NAMED = Settings.flat(backend=BackendName.OPENVINO, precision=Precision.INT8)
MODEL = ModelBoot(name="resnet50", artefact="a", precision="int8", synthetic=True, weights="w")


class Bench:
    """Takes the preparing child's place: onnxruntime wins for throughput."""

    def __init__(self) -> None:
        self.calls: list[tuple[Settings, PlannedWorker]] = []

    async def prepare(self, asked: Settings, pen: PlannedWorker) -> DeploymentSpec:
        self.calls.append((asked, pen))
        settled = asked.replace(backend=BackendName.ONNXRUNTIME, precision=Precision.FP32)
        return DeploymentSpec(asked=asked, settings=settled, model=MODEL)


def _forge(bench: Bench, machine: Machine = MACHINE, cells: int = 1) -> Deployments:
    return Deployments(
        Settings(),
        served_model(registry.get("resnet50")),
        Source(read=Settings, prepare=bench.prepare),
        environ={},
        counters_fd=-1,
        page_slots=17,
        cells=cells,
        frontend_module="none",
        read_machine=lambda: machine,
    )


@pytest.mark.parametrize(
    "asked",
    [
        Settings.flat(workers=2),
        Settings.flat(workers=2, backend=BackendName.OPENVINO),
        Settings.flat(workers=2, precision=Precision.INT8),
    ],
    ids=["both", "the precision", "the engine"],
)
def test_what_a_search_settled_is_settled_again_for_the_other_mode(asked: Settings) -> None:
    bench = Bench()
    settings = asked.replace(backend=BackendName.OPENVINO, precision=Precision.INT8)
    now = DeploymentSpec(asked=asked, settings=settings, model=MODEL)
    new = asyncio.run(_forge(bench).in_mode(now, Mode.THROUGHPUT))
    assert new.asked == asked.replace(mode=Mode.THROUGHPUT)
    assert (new.settings.model.mode, new.settings.engine.backend) == (
        Mode.THROUGHPUT,
        BackendName.ONNXRUNTIME,
    )
    ((told, pen),) = bench.calls
    assert told == new.asked
    assert pen.cores == 2


@pytest.mark.parametrize("asked", [NAMED, Settings.flat(backend=BackendName.NULL)])
def test_what_was_named_is_kept(asked: Settings) -> None:
    bench = Bench()
    now = DeploymentSpec(asked=asked, settings=asked, model=MODEL)
    new = asyncio.run(_forge(bench).in_mode(now, Mode.THROUGHPUT))
    assert new.settings == asked.replace(mode=Mode.THROUGHPUT)
    assert new.model is MODEL
    assert not bench.calls


def test_int8_by_name_alone_is_a_warning_at_every_start(tmp_path: Path) -> None:
    """The artefact says so, whoever made it."""
    remark = "no layer is in INT8"
    model = msgspec.structs.replace(MODEL, remark=remark)
    asked = NAMED.replace(cache_dir=str(tmp_path))
    ready = DeploymentSpec(asked=asked, settings=asked, model=model)
    found = _forge(Bench()).first(ready, plan_for(asked, MACHINE), MACHINE)
    assert f"openvino int8: {remark}" in found.warnings


def test_nothing_is_measured_for_a_plan_that_does_not_fit() -> None:
    bench = Bench()
    with pytest.raises(ConfigError, match="workers"):
        asyncio.run(_forge(bench).prepare(Settings.flat(workers=99)))
    assert not bench.calls


@pytest.mark.parametrize("images_per_core_s", [21.0, 100.0])
def test_a_running_server_keeps_its_frontends_whatever_it_learns(
    tmp_path: Path, images_per_core_s: float
) -> None:
    """Their number is fixed while it runs: only a restart goes by new figures."""
    cores = tuple(Core(cpus=(n,), package=0, node=0, l3=0) for n in range(16))
    node = Node(id=0, cpus=tuple(range(16)), memory_bytes=2**34)
    machine = Machine(cores=cores, nodes=(node,), model_name="CPU")
    asked = NAMED.replace(cache_dir=str(tmp_path))
    figures = FigureCache(asked, "CPU")
    figures.learn_costs({"FP32:1": 1 / 197}, cores=1)
    plan = plan_for(asked, machine, figures.load())
    assert len(plan.cells) == 3
    bench = Bench()
    forge = _forge(bench, machine, cells=3)
    prepared = DeploymentSpec(asked=asked, settings=asked, model=MODEL)
    forge.first(prepared, plan, machine)
    figures.learn_costs({"FP32:1": 1 / images_per_core_s}, cores=1)
    assert len(plan_for(asked, machine, figures.load()).cells) != 3
    assert len(forge.make(prepared).plan.cells) == 3
    asyncio.run(forge.prepare(asked))
    assert len(bench.calls) == 1
