"""Any value of any option is refused in one line, or every later consumer takes it."""

from __future__ import annotations

import asyncio
import datetime
import io
import math
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import msgspec
import pytest
from h2corn._lib import prepare_tls
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corral.batching.policy import queue_policy
from corral.batching.sizes import batch_sizes
from corral.cli.command_line import settings_of
from corral.cli.main import run
from corral.errors import ConfigError, ModelError
from corral.frontend.http_server import make_config
from corral.frontend.limits import max_requests, max_streams, message_limit
from corral.models import registry
from corral.planning import topology
from corral.planning.request import plan_for
from corral.settings import Option, Settings, build, options
from corral.supervisor.lifecycle import Backoff

_POWERS = [2**power + one for power in (15, 16, 31, 32, 53, 63, 64) for one in (-1, 0, 1)]
_INTEGERS = [0, 1, -1, *_POWERS, *(-number for number in _POWERS), 10**20, 10**400]
_FLOATS = [-0.0, 5e-324, 1e-9, 2592000.0, 1.8e16, 1.9e19, 1e20, 1.7e308, math.inf, -math.inf]
_WORDS = ["", " ", "\t", "\n", "nan", "inf", "-Infinity", "1e20", "1e400", "0x10", "1_000", "١٢"]
_WORDS += ["node", "auto", "\udcff", "é", "/", "-", "--", "%s", "{models}", "x" * 5000, "9" * 5000]
_OBJECTS: list[Any] = [True, None, [], ["a"], [1], {}, {"a": 1}, datetime.date(2026, 11, 26)]
_OBJECTS += ["\0", "a\0b", "\ud800", ["\0"], ["\udcff"], math.nan]

_options = st.sampled_from(list(options().values()))
_texts = st.sampled_from([*_WORDS, *(repr(x) for x in _FLOATS), *map(str, _INTEGERS[:-1])])
_values = st.one_of(
    st.sampled_from([*_OBJECTS, *_WORDS, *_INTEGERS, *_FLOATS]), st.integers(), st.floats()
)


def _serve_with(made: Settings) -> None:
    """What children and the supervisor do with settings, without a process."""
    assert msgspec.json.decode(msgspec.json.encode(made), type=Settings) == made
    signature = registry.get("resnet50").signature
    policy = queue_policy(made, 8192, 256)
    assert max_requests(made.limits, policy.max_queue) > 0
    assert message_limit(made, signature) > 0
    assert round(made.queue.max_queue_delay_ms * 1000) < 2**64
    assert batch_sizes(made, None).sizes
    streams = max_streams(made.limits, policy.max_queue)
    prepare_tls(
        make_config(
            made,
            listeners=1,
            connections=1,
            streams=streams,
            tls=bool(made.security.tls_cert),
            client_certificates=False,
        ),
        None,
    )
    lifecycle = made.lifecycle
    backoff = Backoff(lifecycle.restart_backoff_s, lifecycle.restart_backoff_max_s)
    loop = asyncio.new_event_loop()
    try:
        for duration_s in (
            backoff.delay_s(1),
            backoff.delay_s(2**70),
            policy.max_delay_s,
            lifecycle.boot_timeout_s,
            lifecycle.grace_s,
            lifecycle.hang_floor_s,
            made.limits.max_connection_age_s,
        ):
            loop.call_later(duration_s, int)
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()


def _refused_in_one_line(error: Exception) -> None:
    assert str(error).strip()
    assert "\n" not in str(error)


@settings(max_examples=300, deadline=None)
@given(option=_options, value=_values)
@example(option=options()["grace_s"], value=math.inf)
@example(option=options()["max_queue"], value=10**20)
@example(option=options()["max_connection_idle_s"], value=1e20)
@example(option=options()["max_metadata_bytes"], value=2**32 - 1)
@example(option=options()["max_streams"], value=2**32)
def test_a_file_s_values(option: Option, value: Any) -> None:
    fixed = {} if option.flat in {"tls_cert", "tls_key"} else {"backend": "null"}
    try:
        made = build({**fixed, option.name: value})
    except ConfigError as error:
        _refused_in_one_line(error)
    else:
        _serve_with(made)


@settings(max_examples=150, deadline=None)
@given(option=_options, text=_texts)
def test_a_command_line_s_values(option: Option, text: str) -> None:
    argument = f"--{option.name}" if option.kind is bool else f"--{option.name}={text}"
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            made = settings_of(["serve", argument], {"HOME": "/nowhere"})
    except SystemExit as end:
        assert end.code == 2
        assert said.getvalue().count("\n") == 1, said.getvalue()
    except (ConfigError, ModelError) as error:
        _refused_in_one_line(error)
        assert error.exit_code == 2
    else:
        _serve_with(made)


@settings(max_examples=60, deadline=None)
@given(option=_options, text=_texts)
def test_a_plan_is_printed_or_refused(option: Option, text: str) -> None:
    argument = f"--{option.name}" if option.kind is bool else f"--{option.name}={text}"
    said = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(said):
        try:
            code = run(["plan", "--json", argument], {"HOME": "/nowhere"})
        except SystemExit as end:
            code = end.code  # type: ignore[assignment]  # argparse ends with a number
    assert (code, said.getvalue().count("\n")) in {(0, 0), (2, 1)}, said.getvalue()


@pytest.mark.parametrize("flat", [o.flat for o in options().values() if o.kind in {int, float}])
def test_both_ends_of_a_range_are_taken(flat: str) -> None:
    option = options()[flat]
    assert option.least is not None
    assert option.most is not None
    least = math.nextafter(option.least, math.inf) if option.above else option.least
    # A rate of traces is refused without a collector.
    beside = {"otlp-endpoint": "http://127.0.0.1:9"} if flat == "trace_rate" else {}
    for end in (least, option.most):
        _serve_with(build({**beside, option.name: option.kind(end)}))
    below = option.least if option.above else math.nextafter(option.least, -math.inf)
    above = math.nextafter(option.most, math.inf)
    for beyond in (below, above, option.most + 1 if option.kind is int else math.inf, math.nan):
        with pytest.raises(ConfigError, match=f"^--{option.name}: "):
            build({option.name: beyond})


def test_the_planner_takes_both_ends_of_what_it_measures() -> None:
    machine = topology.read_machine()
    for flat in ("front_us", "images_per_core_s"):
        for end in (5e-324, options()[flat].most):
            assert plan_for(Settings.flat(backend="null", **{flat: end}), machine).cells
