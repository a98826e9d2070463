"""What all tiers share."""

from __future__ import annotations

import signal

# Children inherit what is ignored: a shell's background jobs ignore SIGINT, and nohup's SIGHUP.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
