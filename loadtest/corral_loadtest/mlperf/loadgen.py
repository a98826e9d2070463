"""MLPerf's own load generator against a server: ``corral-loadtest mlperf``.

Scenarios, schedule, percentiles and verdict are LoadGen's (distribution ``mlcommons-loadgen``),
and its logs (mlperf_log_summary.txt, mlperf_log_detail.txt ...) are kept. Ours is only the system
under test: a gRPC client in a thread of its own that sends every sample as one request.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import grpc

from corral_client.addresses import grpc_target, proxy_options
from corral_loadtest.generator import channel, payload
from corral_loadtest.specification import Payload, Target, WrongInput

SCENARIOS = ("SingleStream", "MultiStream", "Server", "Offline")
#: what the rules ask of a run that is submitted, for ResNet50
RULES_DURATION_S = 600.0
RULES_SAMPLES = 1024
RULES_LATENCY_MS = 15.0
#: with fewer, LoadGen's early stopping cannot vouch for the percentile, however fast they were
LEAST_QUERIES = {"SingleStream": 64, "MultiStream": 662, "Server": 662, "Offline": 1}
_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_CONNECTIONS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One LoadGen run.

    Attributes:
        scenario: one of SCENARIOS.
        duration_s: at least; the rules ask for 600.
        min_queries: at least; None for LEAST_QUERIES, or the 100 of the rules if that is more.
        samples: different inputs held in memory; the rules ask for 1024.
        qps: of Server, its rate; of Offline, the expected rate, which sets its size.
        latency_ms: bound on Server's p99.
        streams: samples a MultiStream query.
        expected_ms: latency of one sample; LoadGen makes as many queries beforehand as would fill
            twice the duration at that latency, and ends early when they run out.
        window: requests in flight at once, Offline; LoadGen hands over all its samples at once.
        folder: for LoadGen's logs.
    """

    scenario: str
    duration_s: float = 60.0
    min_queries: int | None = None
    samples: int = 64
    qps: float = 10.0
    latency_ms: float = RULES_LATENCY_MS
    streams: int = 8
    expected_ms: float = 1.0
    window: int = 32
    folder: Path = Path("mlperf-logs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What LoadGen's summary says, and what the client saw.

    Attributes:
        scenario: as asked for.
        valid: LoadGen says VALID, and every request was answered.
        within: the percentile kept its bound, whether or not the run was long enough to be sure.
        figures: every "name : value" line of the summary, in its order.
        statuses: of the requests that failed, by gRPC status.
        remarks: why it is not valid.
        short_of: what keeps it from being a submission.
        folder: of the logs.
    """

    scenario: str
    valid: bool
    within: bool
    figures: dict[str, str]
    statuses: dict[str, int]
    remarks: tuple[str, ...]
    short_of: tuple[str, ...]
    folder: str

    def number(self, *names: str) -> float | None:
        """The first of these figures that the summary has."""
        for name in names:
            if name in self.figures:
                return float(self.figures[name])
        return None


def parse_summary(text: str) -> dict[str, str]:
    """The "name : value" lines of mlperf_log_summary.txt; of equal names, the first."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        name, value = re.sub(r"\s+", " ", name.strip(" *")), value.strip()
        if colon and name and value and name not in found:
            found[name] = value
    return found


def verdict(plan: Plan, summary: str, statuses: dict[str, int]) -> Verdict:
    """Judges a run by LoadGen's summary and by the requests that failed."""
    figures = parse_summary(summary)
    said = figures.get("Result is", "absent")
    remarks = []
    if said != "VALID":
        remarks.append(f"LoadGen's result is {said}")
    if statuses:
        told = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
        remarks.append(f"not valid, since requests failed: {told}")
    short = []
    if plan.duration_s < RULES_DURATION_S:
        short.append(f"{plan.duration_s:g} s where the rules ask for {RULES_DURATION_S:g} s")
    if plan.samples < RULES_SAMPLES:
        short.append(f"{plan.samples} samples where they ask for {RULES_SAMPLES}")
    if plan.scenario == "Server" and plan.latency_ms > RULES_LATENCY_MS:
        short.append(f"a bound of {plan.latency_ms:g} ms where they have {RULES_LATENCY_MS:g} ms")
    return Verdict(
        scenario=plan.scenario,
        valid=said == "VALID" and not statuses,
        within=figures.get("Performance constraints satisfied") == "Yes" and not statuses,
        figures=figures,
        statuses=statuses,
        remarks=tuple(remarks),
        short_of=tuple(short),
        folder=str(plan.folder),
    )


def _loadgen() -> Any:
    try:
        import mlperf_loadgen
    except ImportError:
        raise WrongInput(
            "MLPerf's LoadGen is not installed: pip install '.[loadtest]' in corral's checkout"
        ) from None
    return mlperf_loadgen


def settings(plan: Plan, lg: Any) -> Any:
    """LoadGen's TestSettings for a plan."""
    found = lg.TestSettings()
    found.scenario = getattr(lg.TestScenario, plan.scenario)
    found.mode = lg.TestMode.PerformanceOnly
    found.min_duration_ms = int(plan.duration_s * 1000)
    least = max(100, LEAST_QUERIES[plan.scenario])
    found.min_query_count = least if plan.min_queries is None else plan.min_queries
    found.performance_sample_count_override = plan.samples
    found.server_target_qps = plan.qps
    found.server_target_latency_ns = int(plan.latency_ms * 1e6)
    found.server_target_latency_percentile = 0.99
    found.offline_expected_qps = plan.qps
    found.multi_stream_samples_per_query = plan.streams
    found.multi_stream_target_latency_percentile = 0.99
    found.single_stream_target_latency_percentile = 0.9
    found.single_stream_expected_latency_ns = int(plan.expected_ms * 1e6)
    found.multi_stream_expected_latency_ns = int(plan.expected_ms * 1e6)
    if plan.scenario == "Offline":
        # The one query holds all samples: its size follows from rate and duration.
        found.min_query_count = 1
    return found


class _Client:
    """The system under test: requests from a loop in a thread of its own."""

    def __init__(self, lg: Any, target: Target, messages: list[bytes], window: int) -> None:
        self._lg = lg
        self._target = target
        self._messages = messages
        self._window = window
        self._waiting: deque[tuple[int, int]] = deque()
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    async def _open(self) -> None:
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
            *proxy_options(self._target.address),
        ]
        self._channels = [
            grpc.aio.insecure_channel(grpc_target(self._target.address), options=options)
            for _ in range(_CONNECTIONS)
        ]
        self._calls = [c.unary_unary(_METHOD) for c in self._channels]
        self._metadata = channel.metadata(self._target)
        for call in self._calls:
            await call(self._messages[0], metadata=self._metadata, timeout=60)

    def issue(self, samples: list[Any]) -> None:
        """LoadGen's thread hands samples over."""
        wanted = [(sample.id, sample.index) for sample in samples]
        self._loop.call_soon_threadsafe(self._take, wanted)

    def _take(self, wanted: list[tuple[int, int]]) -> None:
        self._waiting.extend(wanted)
        self._send()

    def _send(self) -> None:
        while self._waiting and self._running < self._window:
            self._running += 1
            task = self._loop.create_task(self._one(*self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, number: int, index: int) -> None:
        call = self._calls[number % len(self._calls)]
        try:
            await call(self._messages[index], metadata=self._metadata, timeout=120)
        except grpc.RpcError as error:
            self.failed[error.code().name] += 1
        # LoadGen knows no failures: every query is completed, and failures spoil the verdict.
        self._lg.QuerySamplesComplete([self._lg.QuerySampleResponse(number, 0, 0)])
        self._running -= 1
        self._send()

    def close(self) -> None:
        """Ends connections and thread."""

        async def close() -> None:
            for one in self._channels:
                await one.close()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def make_messages(target: Target, contents: Payload) -> list[bytes]:
    """Serialised requests for the server's own metadata.

    Raises:
        WrongInput: the server is out of reach, or its model takes no such input.
    """
    with channel.open_channel(target) as opened:
        channel.wait_connected(opened, target)
        return payload.messages(channel.model_metadata(opened, target), contents, target)


def least_latency_ms(target: Target, messages: list[bytes], count: int = 20) -> float:
    """The least latency of some requests, one after another.

    Raises:
        WrongInput: the server does not answer one.
    """
    latencies_s = []
    with channel.open_channel(target) as opened:
        for number in range(count):
            begin_s = time.perf_counter()
            channel.try_request(opened, target, messages[number % len(messages)])
            latencies_s.append(time.perf_counter() - begin_s)
    return min(latencies_s) * 1000


def run(plan: Plan, target: Target, messages: list[bytes]) -> Verdict:
    """Runs LoadGen; ``messages`` are the samples, ``plan.samples`` of them.

    Raises:
        WrongInput: LoadGen is not installed.
    """
    lg = _loadgen()
    plan.folder.mkdir(parents=True, exist_ok=True)
    window = plan.window if plan.scenario == "Offline" else 1 << 30
    client = _Client(lg, target, messages, window)
    output = lg.LogOutputSettings()
    output.outdir = str(plan.folder)
    output.copy_summary_to_stdout = False
    logs = lg.LogSettings()
    logs.log_output = output
    logs.enable_trace = False
    sut = lg.ConstructSUT(client.issue, _nothing)
    # The samples are in memory already, and stay there.
    qsl = lg.ConstructQSL(len(messages), len(messages), _ignore, _ignore)
    try:
        lg.StartTestWithLogSettings(sut, qsl, settings(plan, lg), logs, "")
    finally:
        lg.DestroyQSL(qsl)
        lg.DestroySUT(sut)
        client.close()
    summary = (plan.folder / "mlperf_log_summary.txt").read_text("utf-8")
    return verdict(plan, summary, dict(client.failed))


def _nothing() -> None:
    pass


def _ignore(_indices: list[int]) -> None:
    pass
