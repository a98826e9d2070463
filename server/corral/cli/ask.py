"""``corral status``, ``reload``, ``mode``: what a running server is asked."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping

import msgspec

from corral.settings import Mode
from corral.supervisor import admin, views
from corral.system.terminal import standard_output


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Asks, and prints the answer; returns the exit code."""
    path = admin.find_socket(environ, options.port, options.admin_socket)
    mode = Mode(options.mode) if options.mode else None
    reply = admin.ask(path, admin.Request(command=options.command, mode=mode))
    if reply.status is None:
        if reply.exit_code:
            print(f"corral: {reply.text}", file=sys.stderr)
        else:
            print(reply.text)
    elif options.json:
        print(msgspec.json.format(msgspec.json.encode(reply.status)).decode())
    else:
        standard_output().print(views.render_status(reply.status, time.time()))
    return reply.exit_code
