"""The words of the ``corral-client`` command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from corral_client import channels
from corral_client.one_line_parser import OneLineParser
from corral_client.version import __version__

_DESCRIPTION = """\
Sends pictures and tensors to a corral server, or to any other server of the
Open Inference Protocol, and shows what comes back."""

_EPILOG = """\
examples:
  corral-client wait                            until the server is ready
  corral-client classify cat.jpg dog.png -k 3   what is in two pictures
  corral-client infer --random uint8            one made-up picture, and how long it took
  corral-client infer ids=a.npy mask=b.npy --save answers.npz
                                                a model of several inputs
  corral-client wait --http                     the same over the REST form

exit codes: 0 done, 1 the server refused or could not be reached, 2 wrong usage
or a file that cannot be read."""


#: items and labels: what the protocol's numbers hold
_MOST = 2**63 - 1
_SHOWN_CHARACTERS = 60


def _shown(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]!r}…"


class _Parser(OneLineParser):
    """Commands, each with options of its own."""

    def parse_known_args(  # type: ignore[override]  # argparse's has overloads for namespaces
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse's, but what is left over is refused by the command that it was meant for."""
        found, surplus = super().parse_known_args(args, namespace)
        if surplus:
            self.error(f"no option or argument {_shown(surplus[0])}")
        return found, surplus


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = _Parser(
        prog="corral-client",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_url()],
    )
    parser.add_argument("--version", action="version", version=f"corral-client {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_classify(commands)
    _add_infer(commands)
    _add_pages(commands)
    _add_wait(commands)
    return parser


def _add_classify(commands: argparse._SubParsersAction[_Parser]) -> None:
    classify = commands.add_parser(
        "classify", help="say what is in pictures", parents=[_connection(), _model()]
    )
    classify.add_argument(
        "pictures", nargs="+", type=Path, metavar="PICTURE", help="a JPEG or PNG file"
    )
    classify.add_argument(
        "-k", type=_count, default=5, metavar="K", help="labels a picture (default: 5)"
    )
    classify.add_argument("--json", action="store_true", help="a JSON object a picture and line")


def _add_infer(commands: argparse._SubParsersAction[_Parser]) -> None:
    infer = commands.add_parser(
        "infer", help="run the model on tensors", parents=[_connection(), _model()]
    )
    source = infer.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "files",
        nargs="*",
        default=[],
        metavar="FILE",
        help="FILE.npy: a numpy array with the model's only input, for a picture float32 "
        "[n,3,224,224], normalised, or uint8 [n,224,224,3], pixels; NAME=FILE.npy for each of "
        "several inputs; FILE.npz: arrays by the inputs' names. The n may be missing",
    )
    source.add_argument(
        "--random",
        nargs="?",
        const="",
        choices=("", "uint8", "fp32"),
        metavar="uint8|fp32",
        help="make the inputs up instead, as the model's metadata says; a picture as pixels "
        "(uint8) or as floats (fp32)",
    )
    infer.add_argument(
        "--items", type=_count, default=1, metavar="N", help="with --random: items (default: 1)"
    )
    infer.add_argument(
        "--output",
        type=_text,
        action="append",
        default=[],
        metavar="NAME",
        help="an output that is wanted; may be given again (default: all)",
    )
    infer.add_argument(
        "--save", type=Path, metavar="FILE.npz", help="keep the outputs, by their names"
    )
    infer.add_argument("--json", action="store_true", help="all values, as a JSON object")


def _add_pages(commands: argparse._SubParsersAction[_Parser]) -> None:
    metadata = commands.add_parser(
        "metadata", help="what a model takes and gives", parents=[_connection(), _model()]
    )
    metadata.add_argument("--json", action="store_true", help="as JSON")
    statistics = commands.add_parser(
        "statistics", help="what the models have done so far", parents=[_connection()]
    )
    statistics.add_argument("--model", type=_text, default="", help="one of them (default: all)")
    statistics.add_argument("--json", action="store_true", help="as JSON")


def _add_wait(commands: argparse._SubParsersAction[_Parser]) -> None:
    wait = commands.add_parser(
        "wait", help="return when the server is ready", parents=[_url(again=True)]
    )
    wait.add_argument(
        "--timeout-s", type=_seconds, default=60.0, metavar="S", help="give up after (default: 60)"
    )


def _url(*, again: bool = False) -> _Parser:
    """Where the server is; ``again``: after the command as well, where it goes before."""
    parent = _Parser(add_help=False, argument_default=argparse.SUPPRESS if again else None)
    parent.add_argument(
        "--url",
        metavar="HOST:PORT",
        help=f"of the server, or unix:PATH (default: {channels.DEFAULT_URL}; "
        f"with --http {channels.DEFAULT_HTTP_URL}); grpcs:// or https:// before it encrypt",
    )
    parent.add_argument("--http", action="store_true", help="speak the REST form, not gRPC")
    security = parent.add_argument_group("security")
    security.add_argument(
        "--tls", action="store_true", help="encrypt; implied by --ca and by --cert"
    )
    security.add_argument("--ca", type=Path, metavar="FILE", help="certificates to trust, PEM")
    security.add_argument("--cert", type=Path, metavar="FILE", help="our certificate, PEM")
    security.add_argument("--key", type=Path, metavar="FILE", help="its private key, PEM")
    security.add_argument(
        "--token-file", type=Path, metavar="FILE", help="the bearer token is in its first line"
    )
    return parent


def _connection() -> _Parser:
    parent = _Parser(add_help=False, parents=[_url(again=True)])
    parent.add_argument(
        "--deadline-s",
        type=_seconds,
        default=channels.DEFAULT_DEADLINE_S,
        metavar="S",
        help=f"for each request (default: {channels.DEFAULT_DEADLINE_S:g})",
    )
    return parent


def _model() -> _Parser:
    parent = _Parser(add_help=False)
    parent.add_argument(
        "--model", type=_text, help="name of the model (default: the one the server has)"
    )
    return parent


def _text(text: str) -> str:
    """A text that the protocol can carry."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8") from None
    return text


def _count(text: str) -> int:
    # Longer ones are no numbers to Python.
    value = int(text) if text.isdecimal() and len(text) <= len(str(_MOST)) else 0
    if not 1 <= value <= _MOST:
        raise argparse.ArgumentTypeError(f"{_shown(text)} is no whole number from 1 to {_MOST}")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{_shown(text)} is no number of seconds above 0")
    return value
