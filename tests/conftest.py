"""What all tiers share."""

from __future__ import annotations

import signal

from corral.backends.telemetry import silence_telemetry

# Children inherit what is ignored: a shell's background jobs ignore SIGINT, and nohup's SIGHUP.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Tests that ask an engine in their own process must not report its use either. Servers under test
# inherit nothing of this.
silence_telemetry()
