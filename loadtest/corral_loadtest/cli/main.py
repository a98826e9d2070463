"""The commands of ``corral-loadtest`` by name."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from corral_loadtest.bars import command as bars
from corral_loadtest.cli import run
from corral_loadtest.command_line import Parser, shown
from corral_loadtest.comparison import command as comparison
from corral_loadtest.comparison import peers
from corral_loadtest.engines import served, starts
from corral_loadtest.mlperf import command as mlperf
from corral_loadtest.servers import process_tree
from corral_loadtest.settings import command as settings
from corral_loadtest.specification import WrongInput

#: the exit code, as a shell has it
_INTERRUPTED = 130


class Command(NamedTuple):
    """A command.

    Attributes:
        main: takes its words; ends the process if its exit code is not 0.
        help: what it does, for people.
    """

    main: Callable[[Sequence[str]], None]
    help: str


COMMANDS = {
    "run": Command(run.run, "one load on any server of the Open Inference Protocol (the default)"),
    "ramp": Command(run.ramp_up, "rising load: the server's capacity"),
    "bars": Command(bars.main, "every figure of corral that has a bound"),
    "settings": Command(settings.main, "files of settings in turns: the rates that keep a p99"),
    "compare": Command(comparison.main, "corral, other servers and the raw engine, in turns"),
    "engines": Command(served.main, "every engine served, against the same engine raw"),
    "starts": Command(starts.main, "how long every engine takes to start"),
    "mlperf": Command(mlperf.main, "MLPerf's LoadGen, all four scenarios"),
    "peers": Command(peers.main, "installs the servers that corral is compared with"),
}


def overview() -> str:
    """The commands and what they do, a line each."""
    lines = [f"  {name:<9} {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: corral-loadtest [COMMAND] [OPTIONS]",
            "",
            *lines,
            "",
            "corral-loadtest COMMAND --help shows a command's options.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of the command. Words that begin with an option belong to ``run``.

    SIGTERM ends it as Ctrl-C does: servers and commands that it started end with it.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _obey(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except WrongInput as error:
        _end(2, str(error))
    except subprocess.CalledProcessError as error:
        _end(1, f"{shlex.join(map(str, error.cmd))} ended with exit code {error.returncode}")
    except (RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.filename is None:
            raise  # standard output's: the entry says so
        _end(1, str(error))
    finally:
        # What a signal met while it was being started has no owner that would end it.
        process_tree.end_below(os.getpid())


def _end(code: int, said: str) -> NoReturn:
    plain = "".join(c if c.isprintable() else " " for c in " ".join(said.split()))
    sys.stderr.write(f"corral-loadtest: {plain}\n")
    sys.exit(code)


def _interrupt(*_: object) -> None:
    ctrl_c = signal.getsignal(signal.SIGINT)
    # It may be ignored, as in the background of a shell's script.
    if not callable(ctrl_c):
        raise KeyboardInterrupt
    ctrl_c(signal.SIGINT, None)


def _obey(words: Sequence[str]) -> None:
    name = words[0] if words else ""
    if name in COMMANDS:
        COMMANDS[name].main(words[1:])
    elif name in {"-h", "--help"}:
        print(overview())
    elif name.startswith("-") or not words:
        run.run(words)
    else:
        Parser(prog="corral-loadtest").error(
            f"no command {shown(name)}; there are {', '.join(COMMANDS)}"
        )
