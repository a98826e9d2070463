import numpy as np
import pytest
from numpy.typing import NDArray

from corral.batching.cost_curve import REAL_TIME_SEARCH, THROUGHPUT_SEARCH
from corral.ipc.messages import WorkerBoot
from corral.ipc.region import Region, create_region
from corral.tensors import Datatype, Signature
from corral.worker import warmup

SIGNATURE = Signature({Datatype.FP32: (4,), Datatype.UINT8: (4,)}, (3,))


class Clock:
    """time.perf_counter, moved by the engine alone."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s


class Engine:
    """CostModel what a function says, and remembers what it was asked."""

    def __init__(self, clock: Clock, batch_s: float, item_s: float) -> None:
        self.clock, self.batch_s, self.item_s = clock, batch_s, item_s
        self.compiled: set[tuple[Datatype, int]] = set()
        self.ever: list[tuple[Datatype, int]] = []

    def load(self, boot: WorkerBoot) -> None: ...

    def compile(
        self, datatype: Datatype, inputs: NDArray[np.generic], outputs: NDArray[np.float32]
    ) -> None:
        assert len(inputs) == len(outputs)
        self.compiled.add((datatype, len(inputs)))
        self.ever.append((datatype, len(inputs)))

    def run(self, datatype: Datatype, count: int) -> None:
        assert (datatype, count) in self.compiled
        self.clock.now_s += self.batch_s + count * self.item_s

    def discard(self, datatype: Datatype, count: int) -> None:
        self.compiled.remove((datatype, count))

    def describe(self) -> dict[str, str]:
        return {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(warmup, "time", clock)
    return clock


def region(max_batch: int) -> Region:
    return Region(create_region(SIGNATURE, max_batch), SIGNATURE, max_batch)


def test_every_size_of_every_datatype_is_measured(clock: Clock) -> None:
    engine = Engine(clock, 0.010, 0.001)
    warmed = warmup.warm_up(engine, region(4), SIGNATURE.datatypes, [1, 2, 4], search=None)
    assert warmed.sizes == [1, 2, 4]
    assert warmed.costs_s == pytest.approx(
        {f"{name}:{n}": 0.010 + n * 0.001 for name in ("FP32", "UINT8") for n in (1, 2, 4)}
    )


def test_where_batching_does_not_pay_one_is_kept_and_the_rest_discarded(clock: Clock) -> None:
    engine = Engine(clock, 0.0, 0.020)
    sizes = [1, 2, 4, 8, 16, 32]
    warmed = warmup.warm_up(
        engine, region(32), SIGNATURE.datatypes, sizes, search=THROUGHPUT_SEARCH
    )
    assert warmed.sizes == [1]
    assert engine.compiled == {(Datatype.FP32, 1), (Datatype.UINT8, 1)}
    assert (Datatype.FP32, 8) not in engine.ever


def test_where_it_pays_all_sizes_up_to_the_knee_are_kept(clock: Clock) -> None:
    engine = Engine(clock, 0.100, 0.001)
    sizes = [1, 2, 4, 8]
    warmed = warmup.warm_up(engine, region(8), SIGNATURE.datatypes, sizes, search=THROUGHPUT_SEARCH)
    assert warmed.sizes == sizes
    assert len(engine.compiled) == 8


def test_a_slow_engine_is_measured_no_oftener_than_must_be(clock: Clock) -> None:
    engine = Engine(clock, 10.0, 0.0)
    warmup.warm_up(engine, region(1), (Datatype.FP32,), [1], search=None)
    # Two runs that do not count, five that do.
    assert clock.now_s == pytest.approx(70.0)


def test_a_trial_compiles_and_measures_nothing(clock: Clock) -> None:
    engine = Engine(clock, 0.010, 0.0)
    only = (Datatype.FP32,)
    warmed = warmup.warm_up(engine, region(4), only, [1, 4], search=None, measured=False)
    assert warmed == warmup.WarmedUp([1, 4], {})
    assert engine.compiled == {(Datatype.FP32, 1), (Datatype.FP32, 4)}
    # Two runs of each.
    assert clock.now_s == pytest.approx(0.040)


@pytest.mark.parametrize(
    ("batch_s", "item_s", "kept", "compiled"),
    [
        # Batching pays nothing, as with AVX2: two sizes are tried once, and none is kept.
        (0.0, 0.020, [1], [1, 2, 4]),
        # 4 % for a batch of four is not worth that its first item waits for its last.
        (0.0005, 0.0095, [1], [1, 2, 4]),
        # As with AMX: a pair takes 1.5 times what one takes, four 2.5 times.
        (0.005, 0.005, [1, 2, 4, 8], [1, 2, 4, 8]),
        (0.0002, 0.0008, [1, 2, 4], [1, 2, 4, 8]),
    ],
)
def test_real_time_inference_keeps_only_sizes_that_shorten_a_backlog(
    clock: Clock, batch_s: float, item_s: float, kept: list[int], compiled: list[int]
) -> None:
    engine = Engine(clock, batch_s, item_s)
    only = (Datatype.FP32,)
    warmed = warmup.warm_up(engine, region(8), only, [1, 2, 4, 8], search=REAL_TIME_SEARCH)
    assert warmed.sizes == kept
    assert [size for _, size in engine.ever] == compiled
    assert engine.compiled == {(Datatype.FP32, size) for size in kept}


def test_sizes_that_are_known_to_pay_take_little_of_the_start(clock: Clock) -> None:
    engine = Engine(clock, 0.004, 0.001)
    only = (Datatype.FP32,)
    warmup.warm_up(engine, region(1), only, [1], search=None)
    alone_s, clock.now_s = clock.now_s, 0.0
    warmup.warm_up(engine, region(8), only, [1, 2, 4, 8], search=None)
    # Each takes two runs that do not count, then 0.1 s and at most one run more.
    assert clock.now_s - alone_s < 3 * (0.1 + 3 * 0.012)
