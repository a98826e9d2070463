"""The command line: what there is to set, in words for a newcomer.

The settings' own metadata make their options; see ``settings/groups.py``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from corral import __version__
from corral.cli import command_numbers
from corral.cli.parser import Parser, read_in_range, read_number, read_path, read_text
from corral.models import registry
from corral.settings import Mode, Option, Settings, options
from corral.settings.ranges import shortened

_DESCRIPTION = """\
Serves a model from the CPUs of this machine: pinned worker processes behind two ports that
speak the Open Inference Protocol over gRPC and HTTP, and Prometheus metrics beside them."""

_EPILOG = """\
examples:
  corral serve                                  ResNet50, real-time inference: every answer
                                                as soon as possible
  corral serve --mode throughput                as many answers as possible
  corral serve --model efficientnet_lite0 --precision int8
  corral serve --config corral.toml --dry-run   whether all that works: one request, exit code 0
  corral plan --explain                         what would run where, and why
  corral top                                    watch a running server
  corral doctor                                 what slows this machine down, and the remedy
  corral tune                                   measures which engine and precision is fastest
  corral tune --p99-ms 150                      which settings keep that at the highest rate
  corral evaluate pictures/                     measures how right each precision is
  corral prepare --precision int8               makes the model's artefact, prints its path

'corral --mode rti' means 'corral serve --mode rti'."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=100)


#: they talk to a running server
ADMIN_COMMANDS = {
    "status": "show a running server's processes and state",
    "top": "watch a running server: its numbers, its workers, its cores",
    "reload": "replace a running server's workers, with settings and weights read again",
    "mode": "switch a running server's mode",
}


def make_parser() -> argparse.ArgumentParser:
    """The parser; options that were not given are absent from its namespace."""
    parser = Parser(
        prog="corral", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=_Formatter
    )
    parser.add_argument("--version", action="version", version=f"corral {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    own = {"plan": _add_plan, "doctor": _add_doctor, "evaluate": _add_evaluate}
    own |= {"profile": _add_profile, "tune": _add_tune}
    for name, text in (
        ("serve", "serve the model (what 'corral' without a command does)"),
        ("plan", "print which CPUs every process would get"),
        ("prepare", "make the model's artefact and print its path"),
        ("ladder", "climb the ladder of optimizations on this machine"),
        ("doctor", "look for what keeps this machine, or a running server, from its best"),
        ("profile", "show where time goes: a request's phases, the engine's operators, threads"),
        ("tune", "measure the fastest engine, or the highest rate within --p99-ms"),
        ("evaluate", "measure how right each engine and precision is on labelled pictures"),
    ):
        command = commands.add_parser(
            name, help=text, description=text, formatter_class=_Formatter, allow_abbrev=False
        )
        _add_settings(command)
        if name == "serve":
            command.add_argument(
                "--dry-run",
                action="store_true",
                help="start on free ports, answer one request, and end: exit code 0, or the reason",
            )
        if name in own:
            own[name](command)
        if name == "ladder":
            # Another name for ``corral lab ladder``.
            command.set_defaults(command="lab", experiment="ladder")
            _add_ladder(command)
    _add_lab(commands)
    for name, text in ADMIN_COMMANDS.items():
        command = commands.add_parser(
            name, help=text, description=text, formatter_class=_Formatter, allow_abbrev=False
        )
        _add_admin(command, name)
    return parser


def _add_lab(commands: Any) -> None:
    text = "measure one thing at a time: the ladder, the engine alone, a wake-up, the overflow fix"
    lab = commands.add_parser("lab", help=text, description=text, formatter_class=_Formatter)
    experiments = lab.add_subparsers(dest="experiment", metavar="EXPERIMENT", required=True)
    for name, what in (
        ("ladder", "climb the ladder of optimizations on this machine"),
        ("raw", "run a worker with no server around it, for the seconds read from standard input"),
        ("wakeup", "measure how fast a sleeping worker wakes: socket, eventfd, futex, a spin"),
        ("overflow", "show what the fix for INT8 sums that overflow is worth on this CPU"),
    ):
        command = experiments.add_parser(
            name, help=what, description=what, formatter_class=_Formatter, allow_abbrev=False
        )
        _add_settings(command)
        if name == "ladder":
            _add_ladder(command)


def _add_admin(parser: argparse.ArgumentParser, name: str) -> None:
    parser.set_defaults(mode=None)
    if name == "mode":
        parser.add_argument("mode", choices=[m.value for m in Mode])
    if name in {"status", "top"}:
        parser.add_argument("--json", action="store_true", help="as JSON")
    if name == "top":
        _add_top(parser)
    parser.add_argument(
        "--port",
        type=read_in_range(options()["port"]),
        default=Settings().listen.port,
        metavar="PORT",
        help="the server's gRPC port, by which it is found (default: %(default)s)",
    )
    text, kind = "its admin socket, if it has its own", read_text(options()["admin_socket"])
    parser.add_argument("--admin-socket", type=kind, metavar="PATH", help=text)


def _add_top(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--once",
        action="store_true",
        help="print what happens within one interval, and end; so it is without a terminal",
    )
    parser.add_argument(
        "--interval",
        **command_numbers.reading("interval"),
        help="between two looks (default: 1)",
    )


def _add_plan(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("plan")
    group.add_argument("--json", action="store_true", help="as JSON")
    group.add_argument("--explain", action="store_true", help="with the reason of every choice")
    _add_sysfs(group, "plan for another machine")


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("doctor")
    group.add_argument("--json", action="store_true", help="as JSON")
    text = "also as one page, with the machine drawn"
    group.add_argument("--html", type=read_path, metavar="FILE", help=text)
    group.add_argument(
        "--probe",
        action="store_true",
        help="also measure: memory bandwidth, frequency under load, wake-up, the frontend's loop",
    )
    group.add_argument(
        "--fail-on",
        choices=("warning", "error"),
        default="warning",
        help="what makes the exit code 1 (warnings) or 2 (errors); error: only errors count "
        "(default: %(default)s)",
    )
    _add_sysfs(group, "look at another machine")


def _add_profile(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("profile")
    group.add_argument("--json", action="store_true", help="as JSON")
    group.add_argument("--html", type=read_path, metavar="FILE", help="also as one page")
    group.add_argument(
        "--trace", type=read_path, metavar="FILE", help="also as a trace for Perfetto and Chrome"
    )
    group.add_argument(
        "--seconds",
        **command_numbers.reading("profile_seconds") | {"default": None},
        help="of requests; the engine alone runs for as long (default: 5)",
    )
    group.add_argument(
        "--batch",
        **command_numbers.reading("profile_batch") | {"default": None},
        help="of the engine alone (default: 1)",
    )
    group.add_argument(
        "--live", action="store_true", help="look at the running server, and at its own traffic"
    )
    group.add_argument(
        "--compare",
        type=read_path,
        nargs=2,
        metavar=("A.json", "B.json"),
        help="measure nothing; say what became slower from one profile to the other",
    )


def _add_tune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--all",
        action="store_true",
        dest="every",
        help="also what takes minutes to prepare; some of it needs --worker-python",
    )
    group = parser.add_argument_group("tune with --p99-ms")
    group.add_argument(
        "--rate",
        **command_numbers.reading("rate"),
        help="the rate that you expect: says how much is left above it",
    )
    group.add_argument(
        "--arrivals",
        default="poisson",
        metavar="poisson|TRACE",
        help="or a file of arrival times in seconds, one a line (default: %(default)s)",
    )
    group.add_argument(
        "--budget-s",
        **command_numbers.reading("budget"),
        help="for measuring, starts of servers included; preparing models and the guard are not "
        "counted (default: 300; 56 where engine and precision are named)",
    )
    group.add_argument(
        "--exhaustive",
        action="store_true",
        help="put every configuration under load, however long that takes",
    )
    group.add_argument("--json", action="store_true", help="as JSON")
    group.add_argument(
        "--html",
        type=read_path,
        metavar="FILE",
        help="also as one page, and its chart as PNG beside it",
    )
    group.add_argument(
        "--out",
        type=read_path,
        metavar="FILE",
        help="settings for corral serve --config (default: tuned.toml)",
    )


def _add_sysfs(group: Any, what: str) -> None:
    group.add_argument(
        "--sysfs",
        type=read_path,
        metavar="DIR",
        help=f"{what}: DIR, or an archive of it, holds its /sys and /proc",
    )


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("evaluate")
    group.add_argument(
        "source",
        type=read_path,
        metavar="DIR",
        help="a folder for each class, named by its label or number; or a CSV of file,label",
    )
    group.add_argument(
        "--limit",
        **command_numbers.reading("limit"),
        help="at most N pictures, spread evenly (default: all)",
    )
    group.add_argument("--json", action="store_true", help="as JSON")
    group.add_argument("--html", type=read_path, metavar="FILE", help="also as one page of HTML")


def _keys(text: str) -> tuple[str, ...]:
    keys = tuple(key for key in text.split(",") if key.strip())
    if not keys:
        raise argparse.ArgumentTypeError(f"keys of rungs are needed, not {shortened(text)}")
    return keys


def _add_ladder(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("ladder")
    group.add_argument(
        "--repeats",
        **command_numbers.reading("repeats"),
        help="turns of every rung (default: 3)",
    )
    group.add_argument(
        "--seconds",
        **command_numbers.reading("rung_seconds"),
        help="of each turn and batch size (default: 2)",
    )
    group.add_argument(
        "--rungs",
        type=_keys,
        default=(),
        metavar="KEY,KEY",
        help="only these, in the ladder's order",
    )
    group.add_argument(
        "--out",
        type=read_path,
        default=Path(),
        metavar="DIR",
        help="folder for ladder-MODEL.json, .md, .png and .svg (default: this one)",
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    sections: dict[str, Any] = {}
    for option in options().values():
        if option.title not in sections:
            sections[option.title] = parser.add_argument_group(option.title)
        sections[option.title].add_argument(
            f"--{option.name}",
            help=help_text(option).replace("%", "%%"),
            default=argparse.SUPPRESS,
            **_reading(option),
        )
    parser.add_argument(
        "--config",
        type=read_path,
        metavar="FILE.toml",
        help="settings by the same names; the command line wins",
    )


def help_text(option: Option) -> str:
    """What an option does and what holds without it."""
    text = option.help
    if "{models}" in text:
        text = text.format(models=", ".join(registry.names()))
    return f"{text} (default: {option.default})" if option.default else text


def _reading(option: Option) -> dict[str, Any]:
    """How argparse takes an option's value; its range is checked with the other settings."""
    if option.kind is bool:
        on_by_default = option.fallback is True
        return {"action": argparse.BooleanOptionalAction if on_by_default else "store_true"}
    if option.kind is tuple:
        return {"action": "append", "metavar": option.metavar}
    if option.choices:
        return {"choices": option.choices}
    if option.unit == "%":
        return {"type": str, "metavar": option.metavar}
    read = read_number(option) if option.kind in {int, float} else option.kind
    return {"type": read, "metavar": option.metavar}
