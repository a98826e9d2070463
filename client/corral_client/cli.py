"""The ``corral-client`` command."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from corral_client import channels, model_inputs, tensor_files, views
from corral_client.caller import Caller
from corral_client.client import Client
from corral_client.codec import Label
from corral_client.errors import CorralClientError, NotFound, Unavailable
from corral_client.http import HttpClient
from corral_client.options import make_parser
from corral_client.pages import ModelMetadata
from corral_client.security import read_token
from corral_client.tensor_files import UnreadableFile

_REFUSED, _UNREADABLE, _INTERRUPTED = 1, 2, 130
#: pictures on their way at once
_PICTURES_AT_ONCE = 4
#: a device has no end
_MOST_PICTURE_BYTES = 512 * 2**20


def main(argv: Sequence[str] | None = None) -> None:
    """Entry of the command; ends the process with the exit code."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Runs one command; returns its exit code."""
    options = make_parser().parse_args(argv)
    options.url = options.url or (
        channels.DEFAULT_HTTP_URL if options.http else channels.DEFAULT_URL
    )
    try:
        with _connect(options) as client:
            return _COMMANDS[options.command](client, options)
    except Unavailable as error:
        tls = ", and with TLS" if "handshake" in str(error).lower() else ""
        _complain(f"no server at {options.url} to answer this; is it running{tls}? ({error})")
        return _REFUSED
    except CorralClientError as error:
        _complain(str(error))
        return _REFUSED
    except UnreadableFile as error:
        _complain(str(error))
        return _UNREADABLE
    except KeyboardInterrupt:
        return _INTERRUPTED


def _connect(options: argparse.Namespace) -> Caller:
    pictures = getattr(options, "pictures", ())
    try:
        token = None if options.token_file is None else read_token(options.token_file)
        return _client(options, pictures, token)
    except OSError as error:
        raise UnreadableFile(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise UnreadableFile(str(error)) from None


def _client(options: argparse.Namespace, pictures: Sequence[Path], token: str | None) -> Caller:
    kind = HttpClient if options.http else Client
    return kind(
        options.url,
        tls=options.tls,
        ca=options.ca,
        cert=options.cert,
        key=options.key,
        token=token,
        deadline_s=getattr(options, "deadline_s", channels.DEFAULT_DEADLINE_S),
        connections=max(1, min(_PICTURES_AT_ONCE, len(pictures))),
        # A person at a terminal would try again by hand.
        retry_overloaded=True,
    )


def _complain(message: str) -> None:
    # A file's name may hold line ends, and worse.
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    print(f"corral-client: {shown}", file=sys.stderr)


def _model(client: Caller, options: argparse.Namespace) -> str:
    """The model asked for, or else the one that the server has."""
    if options.model:
        return str(options.model)
    try:
        names = [model.name for model in client.statistics()]
    except NotFound:  # a server without Triton's ModelStatistics
        names = []
    if not names or channels.DEFAULT_MODEL in names:
        return channels.DEFAULT_MODEL
    return names[0]


def _classify(client: Caller, options: argparse.Namespace) -> int:
    metadata = client.metadata(_model(client, options))
    warning = views.SYNTHETIC_WARNING.format(metadata.name) if metadata.synthetic else ""

    def ask(picture: Path) -> list[Label] | CorralClientError | UnreadableFile:
        try:
            content = _read(picture)
            # All of them, as percentages need them all.
            return client.classify(content, metadata.classes or options.k, model=metadata.name)
        except (CorralClientError, UnreadableFile) as error:
            return error

    code = 0
    # A request each: one bad picture must not cost the others their answers.
    with ThreadPoolExecutor(_PICTURES_AT_ONCE) as pool:
        for picture, answer in zip(options.pictures, pool.map(ask, options.pictures), strict=True):
            if isinstance(answer, UnreadableFile):
                _complain(str(answer))
                code = _UNREADABLE
            elif isinstance(answer, CorralClientError):
                _complain(f"{picture}: {answer}")
                code = max(code, _REFUSED)
            else:
                if warning:
                    # It is about labels: a refusal needs none.
                    print(warning, file=sys.stderr)
                    warning = ""
                _show_labels(picture, answer, metadata, options)
    return code


def _show_labels(
    picture: Path, labels: list[Label], metadata: ModelMetadata, options: argparse.Namespace
) -> None:
    chances = None
    if labels and len(labels) == metadata.classes:
        chances = views.probabilities(labels, metadata.output_kind)[: options.k]
    view = views.labels_json if options.json else views.labels_text
    print(view(str(picture), labels[: options.k], chances), flush=True)


def _infer(client: Caller, options: argparse.Namespace) -> int:
    given = tensor_files.read(options.files)
    metadata = client.metadata(_model(client, options))
    try:
        made_up = options.random is not None
        inputs = (
            model_inputs.made_up(metadata, options.random, options.items)
            if made_up
            else model_inputs.fit(given, metadata)
        )
        model_inputs.check_names("output", metadata, options.output)
    except model_inputs.Unfit as error:
        raise UnreadableFile(str(error)) from None
    started_s = time.perf_counter()
    outputs = client.infer_all(inputs, outputs=options.output, model=metadata.name)
    took_s = time.perf_counter() - started_s
    if options.json:
        print(views.inference_json(metadata.name, inputs, outputs, took_s))
    else:
        print(views.inference_text(inputs, outputs, took_s))
    if options.save is not None:
        tensor_files.write(options.save, outputs)
    return 0


def _metadata(client: Caller, options: argparse.Namespace) -> int:
    metadata = client.metadata(_model(client, options))
    print(views.json_text(metadata) if options.json else views.metadata_text(metadata))
    return 0


def _statistics(client: Caller, options: argparse.Namespace) -> int:
    models = client.statistics(options.model)
    print(views.json_text(models) if options.json else views.statistics_text(models))
    return 0


def _wait(client: Caller, options: argparse.Namespace) -> int:
    client.wait_until_ready(options.timeout_s)
    print(f"{options.url} is ready")
    return 0


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_PICTURE_BYTES + 1)
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror}") from None
    if len(content) > _MOST_PICTURE_BYTES:
        raise UnreadableFile(f"{path}: more than {_MOST_PICTURE_BYTES >> 20} MiB are no picture")
    return content


_COMMANDS = {
    "classify": _classify,
    "infer": _infer,
    "metadata": _metadata,
    "statistics": _statistics,
    "wait": _wait,
}
