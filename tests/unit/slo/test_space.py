"""What there is to choose from."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from corral.errors import ConfigError
from corral.planning import topology
from corral.planning.machine import Machine
from corral.settings import Allocator, BackendName, Mode, Precision, Settings, TorchMode, build
from corral.slo.gaps import read_gaps
from corral.slo.shapes import plans
from corral.slo.space import (
    Arithmetic,
    Batching,
    Configuration,
    Memory,
    Shape,
    Space,
    as_toml,
    batchings,
)

INT8 = Arithmetic(backend=BackendName.OPENVINO, precision=Precision.INT8)
PLAIN = Memory(allocator=Allocator.SYSTEM, huge_pages=True, openmp_spin_ms=1)


def one(**changes: object) -> Configuration:
    parts = {
        "arithmetic": INT8,
        "shape": Shape(workers=2, cores=1),
        "batching": Batching(max_batch=4, mode=Mode.RTI, delay_ms=0.0),
        "memory": PLAIN,
    }
    return Configuration(**{**parts, **changes})  # type: ignore[arg-type]


def test_batches_of_one_have_no_rule_and_wait_for_nobody() -> None:
    found = batchings(100.0, modes=list(Mode), largest=[1, 4])
    assert [(b.max_batch, b.mode, b.delay_ms) for b in found] == [
        (1, Mode.RTI, 0.0),
        (4, Mode.RTI, 0.0),
        (4, Mode.THROUGHPUT, 0.0),
        (4, Mode.THROUGHPUT, 5.0),
        (4, Mode.THROUGHPUT, 20.0),
    ]


def test_what_was_named_is_not_searched_for() -> None:
    found = batchings(100.0, modes=[Mode.THROUGHPUT], largest=[8], delays_ms=[3.0])
    assert found == [Batching(max_batch=8, mode=Mode.THROUGHPUT, delay_ms=3.0)]


def test_a_space_counts_what_it_gives() -> None:
    torch = Arithmetic(backend=BackendName.TORCH, precision=Precision.FP32)
    other = Memory(allocator=Allocator.SYSTEM, huge_pages=True, openmp_spin_ms=200)
    space = Space(
        arithmetics=[INT8, torch],
        shapes=[Shape(workers=2, cores=1), Shape(workers=1, cores=2)],
        batchings=batchings(50.0, modes=list(Mode)),
        memories={INT8: [PLAIN], torch: [PLAIN, other]},
    )
    found = [c for one in space.arithmetics for c in space.configurations(one)]
    assert len(found) == len(set(found)) == len(space) == 2 * 17 * 3


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"arithmetic": Arithmetic(backend=BackendName.NULL, precision=Precision.AUTO)},
        {
            "arithmetic": Arithmetic(
                backend=BackendName.TORCH, precision=Precision.FP32, torch_mode=TorchMode.TRACED
            )
        },
    ],
)
def test_a_configuration_as_toml_is_read_as_the_same_settings(
    changes: dict[str, Arithmetic], tmp_path: Path
) -> None:
    made = one(**changes)
    text = as_toml({**made.settings(), "model": 'a "model"\x7f', "shape": ["x=1,2"]}, ["a", "b"])
    read = build(tomllib.loads(text))
    expected = Settings().replace(**made.flat(), model='a "model"\x7f', shape=("x=1,2",))
    assert read == expected


@pytest.fixture(scope="module")
def machine() -> Machine:
    return topology.read_machine()


def test_shapes_are_plans_the_widest_first(machine: Machine) -> None:
    found = plans(Settings(), machine, set())
    assert [shape.cores for shape in found] == sorted((s.cores for s in found), reverse=True)
    for shape, plan in found.items():
        assert shape.workers == sum(len(cell.workers) for cell in plan.cells)
        assert shape.cores == plan.first_worker.cores
    if machine.cpu_budget >= 2:
        assert {Shape(workers=2, cores=1), Shape(workers=1, cores=1)} <= found.keys()


def test_named_workers_stay(machine: Machine) -> None:
    settings = Settings().replace(workers=1)
    assert {shape.workers for shape in plans(settings, machine, {"workers"})} == {1}


def test_what_does_not_fit_is_refused(machine: Machine) -> None:
    settings = Settings().replace(workers=4000, cores_per_worker=64)
    with pytest.raises(ConfigError):
        plans(settings, machine, {"workers", "cores_per_worker"})


def test_a_trace_is_read_as_gaps(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text("# seconds\n\n" + "\n".join(str(1e9 + 0.5 * i) for i in range(150)))
    found = read_gaps(str(file))
    assert set(found) == {0.5}
    assert len(found) >= 5000


def test_several_may_arrive_at_once(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text("".join(f"{i // 2}\n" for i in range(200)))
    assert set(read_gaps(str(file))) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        ("a\nb\n", "no trace"),
        ("1\n2\n3\n", "100 finite times"),
        ("nan\n" * 200, "100 finite times"),
        ("7\n" * 200, "at once"),
        ("\x00\xff", "no trace"),
        ("".join(f"{200 - i}\n" for i in range(200)), "199.0 s comes after 200.0 s"),
        ("".join(f"{i - 1}\n" for i in range(200)), "begins at -1 s"),
        ("".join(f"{i}e300\n" for i in range(200)), "1e-300 requests/s is no rate"),
        ("".join(f"{i}e-12\n" for i in range(200)), "1e\\+12 requests/s is no rate"),
    ],
)
def test_no_trace_is_one_line(content: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=said) as caught:
        read_gaps(str(file))
    assert "\n" not in str(caught.value)
