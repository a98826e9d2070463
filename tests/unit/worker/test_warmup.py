import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corral.batching.cost_curve import REAL_TIME_SEARCH, THROUGHPUT_SEARCH, Search
from corral.errors import ConfigError, ModelError, PassingError, ValuesRefused
from corral.ipc.messages import ModelFindings, WorkerBoot
from corral.ipc.region import Region, create_region
from corral.tensors import Datatype, Recipe, Signature, TensorSpec
from corral.worker import filling, warmup

ONLY = (Datatype.FP32,)
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


def order(
    sizes: list[int],
    *,
    datatypes: tuple[Datatype, ...] = SIGNATURE.datatypes,
    search: Search | None = None,
    measured: bool = True,
) -> warmup.Order:
    """An engine's that answers nothing, so that its answers are not looked at."""
    return warmup.Order(
        datatypes=datatypes, sizes=sizes, search=search, measured=measured, probed=False
    )


def region(max_batch: int) -> Region:
    return Region(create_region(SIGNATURE, max_batch), SIGNATURE, max_batch)


def test_every_size_of_every_datatype_is_measured(clock: Clock) -> None:
    engine = Engine(clock, 0.010, 0.001)
    warmed = warmup.warm_up(engine, region(4), order([1, 2, 4]))
    assert warmed.sizes == [1, 2, 4]
    assert warmed.costs_s == pytest.approx(
        {f"{name}:{n}": 0.010 + n * 0.001 for name in ("FP32", "UINT8") for n in (1, 2, 4)}
    )


def test_where_batching_does_not_pay_one_is_kept_and_the_rest_discarded(clock: Clock) -> None:
    engine = Engine(clock, 0.0, 0.020)
    sizes = [1, 2, 4, 8, 16, 32]
    warmed = warmup.warm_up(engine, region(32), order(sizes, search=THROUGHPUT_SEARCH))
    assert warmed.sizes == [1]
    assert engine.compiled == {(Datatype.FP32, 1), (Datatype.UINT8, 1)}
    assert (Datatype.FP32, 8) not in engine.ever


def test_where_it_pays_all_sizes_up_to_the_knee_are_kept(clock: Clock) -> None:
    engine = Engine(clock, 0.100, 0.001)
    sizes = [1, 2, 4, 8]
    warmed = warmup.warm_up(engine, region(8), order(sizes, search=THROUGHPUT_SEARCH))
    assert warmed.sizes == sizes
    assert len(engine.compiled) == 8


class Disturbed(Engine):
    """One whose pace changes: at first it is as quick as it can be, then takes twice as long."""

    slow_from_s = 0.0

    def run(self, datatype: Datatype, count: int) -> None:
        super().run(datatype, count)
        if self.clock.now_s > self.slow_from_s:
            self.clock.now_s += self.batch_s + count * self.item_s


def test_a_pace_that_changes_does_not_say_that_batches_do_not_pay(clock: Clock) -> None:
    """As on a host that several share: one item was measured before it, larger batches after."""
    engine = Disturbed(clock, 0.006, 0.006)
    engine.slow_from_s = 0.3
    asked = order([1, 2, 4, 8], datatypes=ONLY, search=THROUGHPUT_SEARCH)
    warmed = warmup.warm_up(engine, region(8), asked)
    assert warmed.sizes == [1, 2, 4, 8]
    # As they would have been at the pace of the first.
    costs_s = {f"FP32:{n}": 0.006 + 0.006 * n for n in (1, 2, 4, 8)}
    assert warmed.costs_s == pytest.approx(costs_s)


@pytest.mark.parametrize(("share", "rounds"), [(0.0, 3), (0.2, 3), (0.3, 6)])
def test_where_batches_do_not_pay_they_are_compared_in_turns_before_it_is_said(
    clock: Clock, share: float, rounds: int
) -> None:
    """And oftener where others take much of the CPUs."""
    engine = Engine(clock, 0.0, 0.110)
    asked = order([1, 2, 4, 8], datatypes=ONLY, search=THROUGHPUT_SEARCH)
    asked = dataclasses.replace(asked, others=lambda: share)
    warmed = warmup.warm_up(engine, region(8), asked)
    # Each size: two runs that do not count, one in each turn, and five or two before.
    alone_s = 5 * 0.11 + 2 * (0.22 + 0.44)
    assert clock.now_s == pytest.approx(alone_s + (2 + rounds) * (0.11 + 0.22 + 0.44))
    assert (Datatype.FP32, 8) not in engine.ever
    assert warmed.sizes == [1]
    assert warmed.other_load == share


def test_a_slow_engine_is_measured_no_oftener_than_must_be(clock: Clock) -> None:
    engine = Engine(clock, 10.0, 0.0)
    warmup.warm_up(engine, region(1), order([1], datatypes=ONLY))
    # Two runs that do not count, five that do.
    assert clock.now_s == pytest.approx(70.0)


def test_what_is_known_is_hardly_run_and_corrects_what_a_busy_machine_said(clock: Clock) -> None:
    engine = Engine(clock, 0.010, 0.0)
    asked = order([1, 2, 4], datatypes=ONLY)
    known_s = {"FP32:1": 0.5, "FP32:2": 0.004, "FP32:4": 0.5}
    warmed = warmup.warm_up(engine, region(4), dataclasses.replace(asked, known_s=known_s))
    assert warmed.costs_s == pytest.approx({"FP32:1": 0.010, "FP32:2": 0.004, "FP32:4": 0.010})
    # A batch of one is run twice, the others once.
    assert clock.now_s == pytest.approx(0.040)


def test_a_trial_compiles_and_measures_nothing(clock: Clock) -> None:
    engine = Engine(clock, 0.010, 0.0)
    warmed = warmup.warm_up(engine, region(4), order([1, 4], datatypes=ONLY, measured=False))
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
    asked = order([1, 2, 4, 8], datatypes=ONLY, search=REAL_TIME_SEARCH)
    warmed = warmup.warm_up(engine, region(8), asked)
    assert warmed.sizes == kept
    assert [size for _, size in engine.ever] == compiled
    assert engine.compiled == {(Datatype.FP32, size) for size in kept}


def test_sizes_that_are_known_to_pay_take_little_of_the_start(clock: Clock) -> None:
    engine = Engine(clock, 0.004, 0.001)
    warmup.warm_up(engine, region(1), order([1], datatypes=ONLY))
    alone_s, clock.now_s = clock.now_s, 0.0
    warmup.warm_up(engine, region(8), order([1, 2, 4, 8], datatypes=ONLY))
    # Each takes two runs that do not count, then 0.1 s and at most one run more.
    assert clock.now_s - alone_s < 3 * (0.1 + 3 * 0.012)


class Computer(Engine):
    """Answers by a function of the whole batch; refuses what is larger than it takes."""

    def __init__(
        self,
        clock: Clock,
        answer: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        most: int = 99,
        error: type[Exception] = RuntimeError,
    ) -> None:
        # Batching pays.
        super().__init__(clock, 0.100, 0.001)
        self.answer, self.most, self.error = answer, most, error
        self.arrays: dict[tuple[Datatype, int], tuple[NDArray[Any], NDArray[np.float32]]] = {}

    def compile(
        self, datatype: Datatype, inputs: NDArray[np.generic], outputs: NDArray[np.float32]
    ) -> None:
        if len(inputs) > self.most:
            raise self.error(f"batch of {len(inputs)}\nand where in the engine")
        super().compile(datatype, inputs, outputs)
        self.arrays[datatype, len(inputs)] = inputs, outputs

    def run(self, datatype: Datatype, count: int) -> None:
        super().run(datatype, count)
        inputs, outputs = self.arrays[datatype, count]
        outputs[:] = self.answer(inputs.astype(np.float32))


def _warmed(
    engine: Engine,
    sizes: list[int],
    *,
    search: Search | None = THROUGHPUT_SEARCH,
    measured: bool = True,
    exact: bool = True,
) -> warmup.WarmedUp:
    asked = warmup.Order(datatypes=ONLY, sizes=sizes, search=search, measured=measured, exact=exact)
    return warmup.warm_up(engine, region(sizes[-1]), asked)


_WEIGHTS = np.random.default_rng(7).normal(size=(4, 3)).astype(np.float32)


def _scores(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x @ _WEIGHTS


def _softmax(x: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    shares: NDArray[np.float32] = powers / powers.sum(axis=axis, keepdims=True)
    return shares


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        shares = 1 / (1 + np.exp(-_scores(x)))
    return shares.astype(np.float32)


def _in_training(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """A batch normalisation that takes the batch's own mean and spread."""
    y = _scores(x)
    normal: NDArray[np.float32] = (y - y.mean(axis=0)) / np.sqrt(y.var(axis=0) + 1e-5)
    return normal


def _quantized_by_batch(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Activations in eight bits, by the range of the whole batch."""
    step = max(float(np.abs(x).max()), 1e-9) / 127
    return _scores((np.round(x / step) * step).astype(np.float32))


def _by_place(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Positions over the batch: the network takes the batch for a sequence."""
    return _scores(x) * (1 + np.arange(len(x), dtype=np.float32))[:, None]


@pytest.mark.parametrize(
    "answer", [lambda x: _softmax(_scores(x), 0), _in_training, _quantized_by_batch, _by_place]
)
@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("search", [THROUGHPUT_SEARCH, None])
def test_where_items_see_one_another_batches_are_of_one(
    clock: Clock,
    answer: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    measured: bool,
    search: Search | None,
) -> None:
    engine = Computer(clock, answer)
    warmed = _warmed(engine, [1, 2, 4], search=search, measured=measured)
    assert warmed.sizes == [1]
    assert engine.compiled == {(Datatype.FP32, 1)}
    assert "an answer changes by" in warmed.findings.batch_limit


_RAW = Recipe(resize=8, crop=8, mean=(0, 0, 0), std=(1, 1, 1))


def _largest(x: NDArray[np.float32]) -> float:
    return float(np.abs(x).max())


@pytest.mark.parametrize(
    ("signature", "asked", "threshold"),
    [
        # Pictures of a range that nobody knows: 0 to 1, normalised, or as they are.
        *((Signature({Datatype.FP32: (3, 8, 8)}, (3,)), np.max, one) for one in (0, 1, 3, 128)),
        *((Signature({Datatype.FP32: (3, 8, 8)}, (3,)), np.min, one) for one in (-3, -1, 0)),
        *((Signature({Datatype.FP32: (3, 8, 8)}, (3,)), _largest, one) for one in (1, 3, 128)),
        *((Signature({Datatype.FP32: (3, 8, 8)}, (3,)), np.mean, one) for one in (0, 0.5, 2)),
        (Signature({Datatype.FP32: (3, 8, 8)}, (3,), _RAW), np.mean, 100),
        (Signature({Datatype.FP32: (4,)}, (3,)), _largest, 0.5),
        *((Signature({Datatype.UINT8: (8, 8, 3)}, (3,)), np.max, one) for one in (1, 3, 200)),
        *((Signature({Datatype.UINT8: (8, 8, 3)}, (3,)), np.mean, one) for one in (3, 100)),
    ],
)
def test_a_branch_by_what_the_whole_batch_is_is_noticed(
    clock: Clock,
    signature: Signature,
    asked: Callable[[NDArray[np.float32]], float],
    threshold: float,
) -> None:
    weights = np.random.default_rng(7).normal(size=(192, 3)).astype(np.float32)

    def answer(x: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = 1 + x.reshape(len(x), -1) @ weights[: x[0].size]
        return scores * 2 if asked(x) > threshold else scores

    used = Region(create_region(signature, 2), signature, 2)
    sought = warmup.Order(datatypes=(signature.native,), sizes=[1, 2], measured=False)
    found = warmup.warm_up(Computer(clock, answer), used, sought)
    assert found.sizes == [1]
    assert "an answer changes by" in found.findings.batch_limit


class _Restless:
    """Answers the same batch otherwise each time."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        self.runs += 1
        return _scores(x) + 0.1 * (self.runs % 2)


@pytest.mark.parametrize(
    "answer",
    [
        _scores,
        lambda x: _softmax(_scores(x), 1),
        # An engine that repeats nothing exactly, a network that is out of numbers, one of zeros.
        _Restless(),
        lambda x: np.log(_scores(x)),
        lambda x: 0 * _scores(x),
        # Another kernel for a batch of one.
        lambda x: _scores(x) * (1.001 if len(x) == 1 else 1),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_where_they_do_not_batches_are_as_large_as_pays(
    clock: Clock, answer: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    warmed = _warmed(Computer(clock, answer), [1, 2, 4])
    assert warmed.sizes == [1, 2, 4]
    assert not warmed.findings.batch_limit


@pytest.mark.filterwarnings("error")
def test_a_class_that_is_ruled_out_is_no_difference_and_no_warning(clock: Clock) -> None:
    def masked(x: NDArray[np.float32]) -> NDArray[np.float32]:
        found = _scores(x)
        found[:, 0] = -np.inf
        return found

    warmed = _warmed(Computer(clock, masked), [1, 2, 4])
    assert warmed.sizes == [1, 2, 4]
    assert not warmed.findings.batch_limit


def test_another_kernel_may_round_more_where_the_arithmetic_is_coarse(clock: Clock) -> None:
    def rounded(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return _scores(x) * (1.1 if len(x) == 1 else 1)

    assert _warmed(Computer(clock, rounded), [1, 2], exact=False).sizes == [1, 2]
    assert _warmed(Computer(clock, rounded), [1, 2], exact=True).sizes == [1]


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("search", [THROUGHPUT_SEARCH, None])
@pytest.mark.parametrize("error", [ModelError, RuntimeError, OSError])
@pytest.mark.parametrize("most", [1, 3])
def test_the_sizes_end_before_one_that_the_graph_does_not_take(
    clock: Clock,
    most: int,
    error: type[Exception],
    search: Search | None,
    measured: bool,
) -> None:
    engine = Computer(clock, _scores, most, error)
    warmed = _warmed(engine, [1, 2, 4, 8], search=search, measured=measured)
    kept = [size for size in (1, 2) if size <= most]
    assert warmed.sizes == kept
    assert engine.compiled == {(Datatype.FP32, size) for size in kept}
    assert f"it takes no batch of {2 * kept[-1]} (" in warmed.findings.batch_limit
    assert "where in the engine" not in warmed.findings.batch_limit


@pytest.mark.parametrize("error", [MemoryError, PassingError, ConfigError])
def test_what_is_no_fault_of_the_graph_ends_the_start(clock: Clock, error: type[Exception]) -> None:
    with pytest.raises(error):
        _warmed(Computer(clock, _scores, 1, error), [1, 2])


def test_a_model_that_takes_not_even_one_item_cannot_start(clock: Clock) -> None:
    with pytest.raises(ModelError):
        _warmed(Computer(clock, _scores, 0, ModelError), [1, 2])


def test_the_input_is_left_as_zeros(clock: Clock) -> None:
    used = region(2)
    asked = warmup.Order(datatypes=ONLY, sizes=[1, 2])
    warmup.warm_up(Computer(clock, _scores), used, asked)
    assert not used.inputs(Datatype.FP32, 2).any()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (_scores, "logits"),
        (lambda x: _softmax(_scores(x), 1), "probabilities"),
        (lambda x: 100 * _softmax(_scores(x), 1), "percentages"),
        (lambda x: 10 * _softmax(_scores(x), 1), "logits"),
        (lambda x: np.log(_softmax(_scores(x), 1)), "logits"),
        (lambda x: np.abs(_scores(x)), "logits"),
        (_sigmoid, "independent_probabilities"),
        # Small logits, and answers that no item moves, are not taken for a sigmoid's.
        (lambda x: np.abs(_scores(x)) / 20, "logits"),
        (lambda x: np.full((len(x), 3), 0.7, np.float32), "logits"),
        # None of them is negative, and one of the three items adds up to 1.
        (lambda x: _softmax(_scores(x), 1) * (1 + (x[:, :1] > 0)), "logits"),
        (lambda x: np.full((len(x), 3), np.nan, np.float32), ""),
    ],
)
def test_what_the_output_is_shows_in_the_answers(
    clock: Clock, answer: Callable[[NDArray[np.float32]], NDArray[np.float32]], kind: str
) -> None:
    assert _warmed(Computer(clock, answer), [1]).findings.output_kind == kind


def test_an_output_that_is_no_list_of_classes_is_of_no_kind(clock: Clock) -> None:
    signature = Signature({Datatype.FP32: (4,)}, (2, 2))
    used = Region(create_region(signature, 1), signature, 1)
    engine = Computer(clock, lambda x: np.full((len(x), 2, 2), 0.25, np.float32))
    warmed = warmup.warm_up(engine, used, warmup.Order(datatypes=ONLY, sizes=[1]))
    assert not warmed.findings.output_kind


def test_an_engine_that_computes_nothing_is_not_looked_at(clock: Clock) -> None:
    engine = Engine(clock, 0.100, 0.001)
    warmed = warmup.warm_up(engine, region(2), order([1, 2], datatypes=ONLY))
    assert warmed.findings == ModelFindings()


#: token ids and half-precision features in; a class number, BF16 scores and large boxes out
PORTS = Signature(
    {Datatype.INT64: (4,)},
    (1,),
    None,
    inputs=(TensorSpec("ids", Datatype.INT64, (4,)), TensorSpec("half", Datatype.FP16, (4,))),
    outputs=(
        TensorSpec("best", Datatype.INT64, (1,)),
        TensorSpec("scores", Datatype.BF16, (3,)),
        TensorSpec("boxes", Datatype.FP32, (2,)),
    ),
)


class PortsEngine(Engine):
    """Several inputs and outputs; its scores see the batch, where it is told so."""

    def __init__(self, clock: Clock, leaks: bool) -> None:
        super().__init__(clock, 0.100, 0.001)
        self.leaks = leaks
        self.arrays: dict[int, tuple[list[NDArray[Any]], list[NDArray[Any]]]] = {}

    def compile_ports(
        self,
        datatype: Datatype,
        inputs: Sequence[NDArray[np.generic]],
        outputs: Sequence[NDArray[np.generic]],
    ) -> None:
        self.compiled.add((datatype, len(inputs[0])))
        self.arrays[len(inputs[0])] = list(inputs), list(outputs)

    def run(self, datatype: Datatype, count: int) -> None:
        super().run(datatype, count)
        (ids, half), (best, scores, boxes) = self.arrays[count]
        # What would be no place in a table of two rows is an error.
        features = np.array([[0.5], [1.5]], np.float32)[ids][..., 0] + half.astype(np.float32)
        found = features @ _WEIGHTS
        if self.leaks:
            found = _softmax(found, 0)
        best[:] = found.argmax(axis=1)[:, None]
        scores[:] = np.ascontiguousarray(found, np.float32).view(np.uint32) >> 16
        # Of another scale altogether.
        boxes[:] = 1e6 * features[:, :2]


@pytest.mark.parametrize("leaks", [False, True])
def test_each_of_several_outputs_is_looked_at_by_itself(clock: Clock, leaks: bool) -> None:
    used = Region(create_region(PORTS, 2), PORTS, 2)
    asked = warmup.Order(datatypes=PORTS.datatypes, sizes=[1, 2])
    warmed = warmup.warm_up(PortsEngine(clock, leaks), used, asked)
    assert warmed.sizes == ([1] if leaks else [1, 2])
    assert bool(warmed.findings.batch_limit) is leaks
    assert not warmed.findings.output_kind
    assert not any(array.any() for array in used.all_inputs(PORTS.native, 2))


class Refusing(Computer):
    """Takes no zero and nothing above ``most_value``, as a divisor and a place in a table."""

    def __init__(self, clock: Clock, most_value: float = 2) -> None:
        super().__init__(clock, lambda x: _scores(np.float32(1) / x))
        self.most_value = most_value

    def run(self, datatype: Datatype, count: int) -> None:
        inputs, _ = self.arrays[datatype, count]
        if not inputs.all():
            raise ValuesRefused("Div: Integer division by zero")
        if inputs.max() > self.most_value or inputs.min() < 0:
            raise ValuesRefused("Gather: indices element out of data bounds")
        super().run(datatype, count)


def test_a_model_that_takes_no_zeros_is_warmed_up_with_others_and_looked_at(clock: Clock) -> None:
    engine = Refusing(clock)
    memory = region(4)
    asked = warmup.Order(datatypes=SIGNATURE.datatypes, sizes=[1, 2, 4], search=THROUGHPUT_SEARCH)
    warmed = warmup.warm_up(engine, memory, asked)
    assert warmed.sizes == [1, 2, 4]
    assert (warmed.findings.batch_limit, warmed.findings.unsteady) == ("", "")
    # A frontend's first batch is what it finds.
    engine.run(Datatype.FP32, 1)


def test_items_that_see_one_another_are_noticed_where_zeros_are_refused(clock: Clock) -> None:
    engine = Refusing(clock)
    engine.answer = _by_place
    assert "an answer changes by" in _warmed(engine, [1, 2]).findings.batch_limit


def test_a_model_that_takes_none_of_the_values_says_why(clock: Clock) -> None:
    with pytest.raises(ValuesRefused, match="division by zero"):
        _warmed(Refusing(clock, most_value=0), [1])


def test_several_inputs_are_told_apart_where_ones_are_refused() -> None:
    integers = Signature(
        {Datatype.INT64: (2,)},
        (2,),
        inputs=tuple(TensorSpec(name, Datatype.INT64, (2,)) for name in "ab"),
        outputs=(TensorSpec("y", Datatype.INT64, (2,)),),
    )
    memory = Region(create_region(integers, 3), integers, 3)
    tried: list[list[int]] = []

    def attempt() -> str:
        a, b = memory.all_inputs(Datatype.INT64, 3)
        tried.append([int(a[2, 1]), int(b[2, 1])])
        if (a == b).any():
            raise ValuesRefused("Div: Integer division by zero")
        return "taken"

    made = filling.Filling(memory)
    assert made.until_taken(Datatype.INT64, 3, attempt) == "taken"
    assert tried == [[0, 0], [1, 1], [1, 2]]
    # What was taken is tried first.
    assert made.until_taken(Datatype.INT64, 3, attempt) == "taken"
    assert tried[3:] == [[1, 2]]


@pytest.mark.parametrize("sizes", [[1], [1, 2]])
def test_answers_that_do_not_repeat_are_told(clock: Clock, sizes: list[int]) -> None:
    calls: list[None] = []

    def counting(x: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(None)
        return _scores(x) + np.float32(len(calls))

    found = _warmed(Computer(clock, counting), sizes).findings
    assert "when the same input comes again" in found.unsteady
    assert found.batch_limit == ""


def test_a_factor_that_changes_shows_on_noise(clock: Clock) -> None:
    calls: list[None] = []

    def growing(x: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(None)
        return _scores(x) * np.float32(1.1) ** len(calls)

    assert "comes again" in _warmed(Computer(clock, growing), [1, 2]).findings.unsteady


def test_items_that_are_too_large_to_look_at_run_alone(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warmup, "_MOST_PROBED_BYTES", 15)
    engine = Computer(clock, _scores)
    found = _warmed(engine, [1, 2])
    assert found.sizes == [1]
    assert "too large" in found.findings.batch_limit
    assert [size for _, size in engine.ever] == [1]
    assert not _warmed(engine, [1]).findings.batch_limit
    monkeypatch.setattr(warmup, "_MOST_PROBED_BYTES", 16)
    assert _warmed(engine, [1, 2]).sizes == [1, 2]
