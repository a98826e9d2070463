"""The options of ``corral-loadtest run`` and ``ramp``, and the specification that they describe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from corral_loadtest.command_line import Parser, address, number, text
from corral_loadtest.measure.floor import check
from corral_loadtest.specification import (
    ArrivalKind,
    Batch,
    Clients,
    Connections,
    Distinct,
    InputKind,
    NotNegative,
    OutOfRange,
    Pid,
    Positive,
    Priority,
    Processes,
    Quality,
    Rate,
    Seed,
    Share,
    Specification,
    Window,
    WrongInput,
    make,
)


def make_parser(command: str, description: str, epilog: str) -> Parser:
    """A parser of a measurement's options; those that were not given are absent from its namespace.

    Args:
        command: of ``corral-loadtest``.
        description: above the options.
        epilog: below them.
    """
    parser = Parser(
        prog=f"corral-loadtest {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    _add_target(parser.add_argument_group("server"))
    _add_payload(parser.add_argument_group("input"))
    _add_load(parser.add_argument_group("load"))
    _add_measurement(parser.add_argument_group("measurement"))
    output = parser.add_argument_group("results")
    output.add_argument("--json", type=Path, default=None, metavar="PATH", help="write as JSON")
    output.add_argument("--html", type=Path, default=None, metavar="PATH", help="write a page")
    output.add_argument("--json-schema", action="store_true", help="print JSON's schema and end")
    return parser


def _add_target(add: Any) -> None:
    where = add.add_mutually_exclusive_group()
    where.add_argument(
        "--address", type=address, metavar="HOST:PORT", help="default: 127.0.0.1:8001"
    )
    where.add_argument("--unix-socket", metavar="PATH", help="a unix socket instead")
    add.add_argument(
        "--model", type=text, metavar="NAME", help="its name there (default: resnet50)"
    )
    add.add_argument("--version", type=text, metavar="V", help="of the model")
    add.add_argument("--ca", metavar="FILE.pem", help="TLS, with this authority")
    add.add_argument("--token-file", metavar="FILE", help="bearer token to send")
    add.add_argument(
        "--server-pid",
        type=number(Pid),
        metavar="PID",
        help="measure this process tree's CPU and memory",
    )


def _add_payload(add: Any) -> None:
    add.add_argument(
        "--input", choices=[k.value for k in InputKind], help="default: what the metadata says"
    )
    add.add_argument(
        "--batch", type=number(Batch, "items"), metavar="N", help="items a request (default: 1)"
    )
    add.add_argument(
        "--distinct",
        type=number(Distinct, "requests"),
        metavar="N",
        help="different requests (default: 4)",
    )
    add.add_argument(
        "--shape", metavar="N,N,...", help="of one item, where the model leaves it open"
    )
    add.add_argument(
        "--input-name", type=text, metavar="NAME", help="default: the model's only input"
    )
    add.add_argument("--pictures", nargs="+", metavar="FILE", help="JPEG or PNG files to send")
    add.add_argument("--picture-size", metavar="WxH", help="of generated ones (default: 500x375)")
    add.add_argument(
        "--quality", type=number(Quality), metavar="N", help="of generated JPEG (default: 90)"
    )
    add.add_argument(
        "--priority", type=number(Priority), metavar="N", help="of the requests: 1 comes first"
    )


def _add_load(add: Any) -> None:
    add.add_argument(
        "--clients", type=number(Clients), metavar="N", help="closed loop (default: 1)"
    )
    add.add_argument(
        "--rate", type=number(Rate, "requests a second"), metavar="R", help="open loop, requests/s"
    )
    add.add_argument(
        "--arrivals", choices=["poisson", "constant", "bursts"], help="default: poisson"
    )
    add.add_argument(
        "--burst",
        type=number(Clients, "requests"),
        metavar="N",
        help="requests at once (default: 8)",
    )
    add.add_argument("--trace", metavar="FILE", help="open loop: arrival offsets in s, one a line")
    add.add_argument(
        "--seed", type=number(Seed), metavar="N", help="of arrivals and contents (default: 0)"
    )
    add.add_argument(
        "--connections", type=number(Connections), metavar="N", help="default: one a generator"
    )
    add.add_argument(
        "--processes", type=number(Processes), metavar="N", help="generators (default: by the CPUs)"
    )
    add.add_argument(
        "--deadline-ms",
        type=number(Positive, "milliseconds"),
        metavar="MS",
        help="of every request",
    )


def _add_measurement(add: Any) -> None:
    add.add_argument(
        "--duration", type=number(Positive, "seconds"), metavar="S", help="measured (default: 10)"
    )
    add.add_argument(
        "--warm-up", type=number(NotNegative, "seconds"), metavar="S", help="at least (default: 1)"
    )
    add.add_argument(
        "--warm-up-limit",
        type=number(NotNegative, "seconds"),
        metavar="S",
        help="at most (default: 15)",
    )
    add.add_argument(
        "--stability", type=number(Positive), metavar="X", help="of steady windows (default: 0.1)"
    )
    add.add_argument(
        "--window",
        type=number(Window, "seconds"),
        metavar="S",
        help="of the timeline (default: 0.5)",
    )
    add.add_argument(
        "--max-error-share", type=number(Share), metavar="X", help="to be valid (default: 0.01)"
    )
    add.add_argument(
        "--drain",
        type=number(NotNegative, "seconds"),
        metavar="S",
        help="wait for late answers (default: 30)",
    )
    add.add_argument(
        "--workers", type=number(Clients), metavar="C", help="simulate the queue of C workers"
    )
    add.add_argument(
        "--service-ms",
        type=number(Positive, "milliseconds"),
        metavar="MS",
        help="of one request (default: measured first)",
    )


_FIELDS = {
    "target": {"model": "model", "version": "version", "ca": "ca", "token_file": "token_file"},
    "payload": {
        "input": "kind", "batch": "batch", "distinct": "distinct", "quality": "quality",
        "input_name": "input_name", "pictures": "files", "seed": "seed",
        "priority": "priority",
    },
    "": {
        "duration": "duration_s", "warm_up": "warm_up_s", "warm_up_limit": "warm_up_limit_s",
        "stability": "stability", "window": "window_s", "max_error_share": "max_error_share",
        "drain": "drain_s", "connections": "connections", "processes": "processes",
        "deadline_ms": "deadline_ms", "server_pid": "server_pid",
    },
}  # fmt: skip

#: fields that ``specify`` makes itself, and their options
_MADE = {
    "target": {"address": "address"},
    "payload": {
        "shape": "shape",
        "picture_width": "picture-size",
        "picture_height": "picture-size",
    },
    "load": {"clients": "clients", "rate_per_s": "rate", "burst": "burst", "seed": "seed"},
    "floor": {"workers": "workers", "service_ms": "service-ms"},
}


def _numbers(text: str, separator: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(separator)]
    except ValueError:
        raise WrongInput(f"{option} takes numbers with '{separator}' between: {text}") from None


def specify(given: dict[str, Any]) -> Specification:
    """The specification that options describe.

    Raises:
        WrongInput: they contradict one another, or one is out of bounds.
    """
    fields: dict[str, Any] = {
        group: {name: given[option] for option, name in names.items() if option in given}
        for group, names in _FIELDS.items()
    }
    fields |= fields.pop("")
    if path := given.get("unix_socket"):
        fields["target"]["address"] = f"unix:{path}"
    elif "address" in given:
        fields["target"]["address"] = given["address"]
    if "pictures" in given:
        fields["payload"].setdefault("kind", InputKind.JPEG.value)
    if "shape" in given:
        fields["payload"]["shape"] = _numbers(given["shape"], ",", "--shape")
    if "picture_size" in given:
        size = _numbers(given["picture_size"].lower(), "x", "--picture-size")
        if len(size) != 2:
            raise WrongInput("--picture-size takes WIDTHxHEIGHT")
        fields["payload"] |= {"picture_width": size[0], "picture_height": size[1]}
    fields["load"] = _load(given)
    if "workers" in given:
        fields["floor"] = {"workers": given["workers"], "service_ms": given.get("service_ms")}
    elif "service_ms" in given:
        raise WrongInput("--service-ms needs --workers")
    try:
        found = make(fields)
    except OutOfRange as error:
        raise WrongInput(f"{_option(error.field)}: {error.needed}") from None
    check(found)
    return found


def _option(field: str) -> str:
    """The option that a field of the specification comes from; its path where none does."""
    group, _, name = field.rpartition(".")
    names = {
        **{field: option for option, field in _FIELDS.get(group, {}).items()},
        **_MADE.get(group, {}),
    }
    return f"--{names[name]}".replace("_", "-") if name in names else field


def _load(given: dict[str, Any]) -> dict[str, Any]:
    is_open = "rate" in given or "trace" in given
    if "clients" in given and is_open:
        raise WrongInput("--clients is a closed loop, --rate and --trace are open ones: give one")
    if "trace" in given and "arrivals" in given:
        raise WrongInput("a trace has its own arrivals: leave --arrivals out")
    if not is_open:
        for option in ("arrivals", "burst"):
            if option in given:
                raise WrongInput(f"--{option} needs --rate")
        return {"type": "closed", "clients": given.get("clients", 1)}
    load = {"type": "open", "rate_per_s": given.get("rate"), "seed": given.get("seed", 0)}
    if "burst" in given:
        load["burst"] = given["burst"]
    if "trace" in given:
        return load | {"arrivals": ArrivalKind.TRACE.value, "trace": given["trace"]}
    return load | {"arrivals": given.get("arrivals", "poisson")}
