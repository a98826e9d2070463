"""The command line: what there is to set, in words for a newcomer.

Every option is declared here once; config.Settings holds its type, bounds and default.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from corral import __version__
from corral.backends.registry import BRINGS_ENVIRONMENT, ENGINES
from corral.models import registry
from corral.settings import (
    Allocator,
    BackendName,
    LogFormat,
    LogLevel,
    Mode,
    Precision,
    Settings,
    TorchMode,
)

_DESCRIPTION = """\
Serves a model from the CPUs of this machine: pinned worker processes behind one gRPC port that
speaks the Open Inference Protocol, and Prometheus metrics beside it."""

_EPILOG = """\
examples:
  corral serve                                  ResNet50, one answer as soon as possible
  corral serve --mode throughput                as many answers as possible
  corral serve --model efficientnet_lite0 --precision int8
  corral plan --explain                         what would run where, and why
  corral tune                                   measures which engine and precision is fastest
  corral prepare --precision int8               makes the model's artefact, prints its path

'corral --mode rti' means 'corral serve --mode rti'."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=100)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and not the whole usage with it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _cores(text: str) -> int | str:
    return text if text == "node" else int(text)


_cores.__name__ = "number of cores"


#: they talk to a running server
ADMIN_COMMANDS = {
    "status": "show a running server's processes and state",
    "reload": "replace a running server's workers, with settings and weights read again",
    "mode": "switch a running server's mode",
}


def make_parser() -> argparse.ArgumentParser:
    """The parser; options that were not given are absent from its namespace."""
    parser = _Parser(
        prog="corral", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=_Formatter
    )
    parser.add_argument("--version", action="version", version=f"corral {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in (
        ("serve", "serve the model (what 'corral' without a command does)"),
        ("plan", "print which CPUs every process would get"),
        ("prepare", "make the model's artefact and print its path"),
        ("ladder", "climb the ladder of optimizations on this machine"),
        ("tune", "measure again which engine and precision is fastest here, and remember it"),
    ):
        command = commands.add_parser(
            name, help=text, description=text, formatter_class=_Formatter, allow_abbrev=False
        )
        _add_settings(command)
        if name == "plan":
            _add_plan(command)
        if name == "tune":
            command.add_argument(
                "--all",
                action="store_true",
                dest="every",
                help="also what takes minutes to prepare; some of it needs --worker-python",
            )
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
    text = "measure one thing at a time: the ladder, the engine without a server, the overflow fix"
    lab = commands.add_parser("lab", help=text, description=text, formatter_class=_Formatter)
    experiments = lab.add_subparsers(dest="experiment", metavar="EXPERIMENT", required=True)
    for name, what in (
        ("ladder", "climb the ladder of optimizations on this machine"),
        ("raw", "run a worker with no server around it, for the seconds read from standard input"),
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
    if name == "status":
        parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--port",
        type=int,
        default=Settings().port,
        metavar="PORT",
        help="the server's gRPC port, by which it is found (default: %(default)s)",
    )
    parser.add_argument(
        "--admin-socket", type=Path, metavar="PATH", help="its admin socket, if it has its own"
    )


def _add_plan(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("plan")
    group.add_argument("--json", action="store_true", help="as JSON")
    group.add_argument("--explain", action="store_true", help="with the reason of every choice")
    group.add_argument(
        "--sysfs",
        type=Path,
        metavar="DIR",
        help="plan for another machine: DIR holds its /sys and /proc",
    )


def _add_security(group: Callable[[str], Any]) -> None:
    """TLS, who may come, what workers give up, and what clients may take."""
    security = group("security (see SECURITY.md)")
    security("tls-cert", "serve TLS with this certificate chain, PEM", metavar="FILE")
    security("tls-key", "its private key, PEM", metavar="FILE")
    security(
        "tls-client-ca",
        "clients need a certificate that one of these vouches for, PEM",
        metavar="FILE",
    )
    security(
        "allow-client",
        "a name in client certificates that are let in; may be repeated (default: any that is "
        "vouched for)",
        action="append",
        metavar="NAME",
    )
    security(
        "auth-token-file",
        "clients need one of these bearer tokens, one a line",
        metavar="FILE",
    )
    security("worker-user", "run the workers as this user, when started as root", metavar="NAME")
    security(
        "seccomp",
        "workers may not start programs, use the network or debug, once they are ready",
        action="store_true",
    )

    limits = group("limits")
    limits("max-connections", "connections of a cell", type=int, metavar="N")
    limits("max-streams", "requests at once on a connection", type=int, metavar="N")
    limits(
        "max-requests",
        "requests of a cell under way, those still arriving included (default: what may wait "
        "and 1024)",
        type=int,
        metavar="N",
    )
    limits(
        "max-message-bytes",
        "bytes of a message (default: what --max-items and --max-image-bytes need)",
        type=int,
        metavar="BYTES",
    )
    limits("max-metadata-bytes", "bytes of a request's metadata", type=int, metavar="BYTES")
    limits(
        "max-connection-idle-s",
        "close connections without a request for that long, 0: never",
        type=float,
        metavar="S",
    )
    limits(
        "max-connection-age-s",
        "ask clients to reconnect after that long, 0: never",
        type=float,
        metavar="S",
    )
    limits(
        "min-ping-interval-s",
        "close connections whose clients ping more often while nothing is answered",
        type=float,
        metavar="S",
    )


def _add_ladder(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("ladder")
    group.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="turns of every rung (default: 3)"
    )
    group.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        metavar="S",
        help="of each turn and batch size (default: 2)",
    )
    group.add_argument(
        "--rungs", default="", metavar="KEY,KEY", help="only these, in the ladder's order"
    )
    group.add_argument(
        "--out",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder for ladder-MODEL.json, .md, .png and .svg (default: this one)",
    )


def _torch_mode_help() -> str:
    modes = {row.name: row.torch_modes.preferred for row in ENGINES.values() if row.torch_modes}
    preferred = ", ".join(f"{mode} for {name}" for name, mode in modes.items())
    return f"how {' and '.join(modes)} run the model; auto is {preferred}"


def _add_settings(parser: argparse.ArgumentParser) -> None:
    defaults = {field.encode_name: field.default for field in msgspec.structs.fields(Settings)}

    def group(title: str) -> Any:
        section = parser.add_argument_group(title)

        def option(name: str, text: str, **details: Any) -> None:
            default = defaults[name]
            if details.get("action") is None and default is not None:
                text += f" (default: {default})"
            section.add_argument(f"--{name}", help=text, default=argparse.SUPPRESS, **details)

        return option

    what = group("what to serve")
    what(
        "mode",
        "rti: one answer as soon as possible; throughput: as many as possible",
        choices=[m.value for m in Mode],
    )
    what(
        "model",
        f"one of: {', '.join(registry.names())}; or a path of an ONNX file or OpenVINO IR",
        metavar="NAME",
    )
    what(
        "backend",
        "the engine; auto measures what is installed, once; null answers without computing, for "
        "tests of the data path",
        choices=[b.value for b in BackendName],
    )
    what(
        "precision",
        "the arithmetic; auto is the fastest that agrees with fp32",
        choices=[p.value for p in Precision],
    )
    what(
        "weights",
        "a file (safetensors or state dict), imagenet, synthetic, or auto: cached, "
        "else downloaded, else synthetic",
        metavar="WEIGHTS",
    )
    what(
        "torch-mode",
        _torch_mode_help(),
        choices=[m.value for m in TorchMode],
    )
    what(
        "worker-python",
        f"interpreter of the workers, of an environment of their own ({BRINGS_ENVIRONMENT})",
        metavar="PATH",
    )

    guard = group("precision guard (what must hold of logits below fp32, against fp32's)")
    guard("accuracy-top1", "share of pictures that keep their label", type=float, metavar="SHARE")
    guard("accuracy-cosine", "mean cosine similarity", type=float, metavar="COSINE")
    guard("accuracy-snr-db", "signal-to-noise ratio in dB", type=float, metavar="DB")

    where = group("where to run")
    where("workers", "worker processes (default: what the cores allow)", type=int, metavar="N")
    where(
        "cores-per-worker",
        "physical cores a worker, or node for a whole NUMA node (default: 2 to 4)",
        type=_cores,
        metavar="N",
    )
    where(
        "cells",
        "groups of workers with a gRPC front each (default: one a NUMA node)",
        type=int,
        metavar="N",
    )
    where(
        "oversubscribe",
        "let workers share CPUs (for tests with the null backend)",
        action="store_true",
    )
    where(
        "front-us",
        "microseconds of CPU that a request costs the frontend (default: as measured here)",
        type=float,
        metavar="US",
    )
    where(
        "images-per-core-s",
        "images/s that a core of the workers makes (default: as measured here)",
        type=float,
        metavar="N",
    )
    where("allocator", "the workers' malloc", choices=[a.value for a in Allocator])
    where(
        "huge-pages",
        "ask for transparent huge pages in the workers, where malloc or torch can (default: on)",
        action=argparse.BooleanOptionalAction,
    )

    queue = group("queue and batches")
    queue(
        "max-batch",
        "most items one execution takes; 1 for never more than one (default: what pays by the "
        "measured cost curve)",
        type=int,
        metavar="N",
    )
    queue("max-queue-delay-ms", "how long a request may wait for company", type=float, metavar="MS")
    queue(
        "max-queue",
        "items that may wait in a cell (default: 64 a worker, for throughput 64 of "
        "its largest batches)",
        type=int,
        metavar="N",
    )
    queue("max-items", "items a request", type=int, metavar="N")
    queue("max-image-bytes", "bytes of one encoded picture", type=int, metavar="BYTES")
    queue("max-image-pixels", "pixels of one encoded picture", type=int, metavar="PIXELS")

    network = group("addresses")
    network("host", "address of the gRPC and the HTTP port", metavar="HOST")
    network("port", "the gRPC port, 0 for a free one", type=int, metavar="PORT")
    network(
        "http-port",
        "the HTTP port, 0 for a free one; both ports speak both (default: 8000, or a free one "
        "with --port 0)",
        type=int,
        metavar="PORT",
    )
    network("metrics-host", "address of the metrics port", metavar="HOST")
    network(
        "metrics-port", "/metrics, /livez and /readyz, 0 for a free one", type=int, metavar="PORT"
    )

    network(
        "unix-socket",
        "a unix socket beside the gRPC port, with one cell; who may enter its folder may connect",
        metavar="PATH",
    )

    _add_security(group)

    network(
        "client-shared-memory",
        "take tensors out of the shared memory of clients on this machine (Triton's extension)",
        action="store_true",
    )

    _add_null(group)
    _add_life(group)
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE.toml",
        help="settings by the same names; the command line wins",
    )


def _add_life(group: Callable[[str], Any]) -> None:
    life = group("life")
    life("boot-timeout-s", "give up when no worker is ready by then", type=float, metavar="S")
    life(
        "restart-backoff-s",
        "first pause after a worker died before it was ready",
        type=float,
        metavar="S",
    )
    life("restart-backoff-max-s", "longest such pause", type=float, metavar="S")
    life("grace-s", "time to answer what was accepted, on SIGTERM", type=float, metavar="S")
    life(
        "hang-floor-s",
        "least time before a worker that does not answer is killed; ten times what its batch "
        "should take, if that is more",
        type=float,
        metavar="S",
    )
    life(
        "cache-dir",
        "folder for artefacts and weights (default: $CORRAL_CACHE, else ~/.cache/corral)",
        metavar="DIR",
    )
    life("offline", "ask no network for weights (also: CORRAL_OFFLINE=1)", action="store_true")
    life(
        "admin-socket",
        "unix socket for corral status, reload and mode (default: PORT.sock in "
        "$XDG_RUNTIME_DIR/corral, else in /tmp/corral-UID)",
        metavar="PATH",
    )
    life("log-level", "least severe log lines shown", choices=[x.value for x in LogLevel])
    life("log-format", "form of the log lines", choices=[f.value for f in LogFormat])


def _add_null(group: Callable[[str], Any]) -> None:
    null = group("the null backend")
    null("null-batch-ms", "what a batch takes", type=float, metavar="MS")
    null("null-item-ms", "what each item of it takes", type=float, metavar="MS")
    null("null-spin", "compute meanwhile instead of sleeping", action="store_true")
