"""The ``corral`` command: reads argv and the environment, builds the settings, calls a room.

argv and the environment are read here and in the children's entry points, nowhere else. A command
imports what it needs when it is called: ``corral serve`` waits for nothing that only others use.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

from corral import logs
from corral.backends.registry import engine
from corral.cli import cache_folder
from corral.cli.command_line import settings_from
from corral.cli.interrupting import INTERRUPTED, interrupts
from corral.cli.options import ADMIN_COMMANDS, make_parser
from corral.cli.output import printing
from corral.errors import ConfigError, CorralError, one_line
from corral.launch import early_end
from corral.models import custom
from corral.settings import Settings
from corral.settings.ranges import shortened, suggestion
from corral.system.limits import (
    REFUSED,
    check_descriptors,
    check_memory,
    out_of_memory,
    start_refusal,
)

_COMMANDS = (
    *("serve", "plan", "doctor", "profile", "prepare", "ladder", "lab", "tune", "evaluate"),
    *ADMIN_COMMANDS,
)
#: they look first, and say by themselves where they need a cache
_LOOKING = {"plan", "doctor", "profile"}
#: they take minutes, and end on SIGTERM as on Ctrl-C; what else they know they say by themselves
_MEASURING = {"prepare", "lab", "tune", "evaluate"}
#: to read a file that imports another, in the middle of something
_DESCRIPTORS = 5
#: what a server's own process takes at the least from here on; measured, and rounded down
_ADDRESSES_BYTES, _DATA_BYTES = 96 * 2**20, 56 * 2**20
_ABOUT = {"-h", "--help", "--version"}


class _Command(Protocol):
    """What a command's module has."""

    def run(
        self, settings: Settings, options: argparse.Namespace, environ: Mapping[str, str]
    ) -> int:
        """Does what it is for; returns the exit code."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry of the command; ends the process with the exit code."""
    with printing():
        code = run(sys.argv[1:] if argv is None else argv, os.environ)
    sys.exit(code)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Runs one command; returns its exit code."""
    words = list(argv)
    if not words or (words[0].startswith("-") and words[0] not in _ABOUT):
        words.insert(0, "serve")
    try:
        if words[0] not in {*_COMMANDS, *_ABOUT}:
            raise ConfigError(
                f"no command {shortened(words[0])}{suggestion(words[0], _COMMANDS)}; "
                f"the commands are: {', '.join(_COMMANDS)}"
            )
        check_descriptors(_DESCRIPTORS)
        if words[0] == "serve":
            check_memory(_ADDRESSES_BYTES, _DATA_BYTES)
        options = make_parser().parse_args(words)
        return _run(options, environ)
    except CorralError as error:
        print(f"corral: {one_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        print(f"corral: {start_refusal(error)}", file=sys.stderr)
        return ConfigError.exit_code
    except (MemoryError, RuntimeError) as error:
        # A thread that cannot be had is no OSError.
        if not (isinstance(error, MemoryError) or "new thread" in str(error)):
            raise
        print(f"corral: {out_of_memory(error)}", file=sys.stderr)
        return ConfigError.exit_code


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if options.command == "top":
        from corral.cli import top

        early_end.as_usual()
        return top.run(options, environ)
    if options.command in ADMIN_COMMANDS:
        from corral.cli import ask

        early_end.as_usual()
        return ask.run(options, environ)
    command = cast("_Command", importlib.import_module(f"corral.cli.{options.command}"))
    early_end.as_usual()
    settings = settings_from(options, environ)
    if options.command not in _LOOKING:
        logs.configure(
            settings.logging, "supervisor" if options.command == "serve" else options.command
        )
        cache_folder.require(settings, environ)
        if engine(settings.engine.backend).computes and custom.is_path(settings.model.name):
            custom.check_name(Path(settings.model.name))
    if options.command not in _MEASURING:
        return command.run(settings, options, environ)
    try:
        with interrupts():
            return command.run(settings, options, environ)
    except KeyboardInterrupt:
        print("corral: interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
