"""What all tiers share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from corral.backends.telemetry import silence_telemetry

# Children inherit what is ignored: a shell's background jobs ignore SIGINT, and nohup's SIGHUP.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Tests that ask an engine in their own process must not report its use either. Servers under test
# inherit nothing of this.
silence_telemetry()

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Commands that tests run in their own process do what they like about signals.

    The next test's servers would inherit it: one that ignores SIGHUP outlives its terminal.
    """
    before = {number: signal.getsignal(number) for number in _ENDS}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
