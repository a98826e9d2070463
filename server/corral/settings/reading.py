"""Settings from what people wrote: layers of option names, checked against every later use."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from corral.errors import ConfigError, without_secrets
from corral.settings import files
from corral.settings.ranges import refusal, suggestion
from corral.settings.server_groups import ListenSettings, SecuritySettings, TelemetrySettings
from corral.settings.whole import Settings, field_names, options

_MAX_SOCKET_PATH = 107
#: what the server makes or writes itself
_OWN_PLACES = ("unix_socket", "admin_socket", "access_log")
_COLLECTORS = ("http://", "https://")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        # A zone says which interface, and Python 3.11 keeps it with a link's own addresses only.
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def build(*layers: dict[str, Any]) -> Settings:
    """Builds the settings from layers of option-name keys; later layers win.

    Raises:
        ConfigError: an unknown key or a value that cannot be, in one line.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer)
    known = {option.name: option for option in options().values()}
    unknown = sorted(set(merged) - set(known))
    if unknown:
        raise ConfigError(
            f"unknown setting {unknown[0]!r}{suggestion(unknown[0], known)}; the settings are: "
            f"{', '.join(sorted(known))}"
        )
    nested: dict[str, dict[str, Any]] = {}
    for name, value in merged.items():
        _check_text(name, value)
        read = _share(value) if known[name].unit == "%" else value
        nested.setdefault(known[name].group, {})[known[name].field] = read
    try:
        settings = msgspec.convert(nested, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), merged)) from None
    _check_security(settings.security)
    _check_client_memory(settings.listen)
    _check_socket_paths(settings.listen)
    _check_own_places(settings)
    _check_traces(settings.telemetry)
    return settings


def _check_text(name: str, value: Any) -> None:
    """Boot messages are UTF-8, and no system call takes a NUL."""
    for text in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(text, str):
            continue
        if "\0" in text:
            raise ConfigError(f"--{name}: a NUL character cannot be in it")
        if any("\ud800" <= character <= "\udfff" for character in text):
            shown = os.fsencode(text) if _is_escaped(text) else text
            raise ConfigError(f"--{name} {shown!r}: not UTF-8")


def _share(value: Any) -> Any:
    """A percentage as a share: "1%" is 0.01; what is a number already stays."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        # What reads all settings says what is needed.
        return value


def _is_escaped(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _check_security(asked: SecuritySettings) -> None:
    """Half of what makes a server safe must not look like all of it."""
    if asked.tls_cert and not asked.tls_key:
        raise ConfigError("--tls-cert needs the certificate's private key, too: --tls-key FILE")
    if asked.tls_key and not asked.tls_cert:
        raise ConfigError("--tls-key needs the key's certificate, too: --tls-cert FILE")
    if asked.tls_client_ca and not asked.tls_cert:
        raise ConfigError("--tls-client-ca needs TLS: --tls-cert FILE --tls-key FILE")
    if asked.allow_client and not asked.tls_client_ca:
        raise ConfigError(
            "--allow-client goes by client certificates, so it needs --tls-client-ca FILE"
        )


def _check_client_memory(listen: ListenSettings) -> None:
    """A client on another machine shares no memory with the server, and must not be able to try."""
    if listen.client_shared_memory and not is_loopback(listen.host):
        raise ConfigError(
            f"--client-shared-memory is for clients on this machine; --host {listen.host} "
            "lets others in"
        )


def _check_socket_paths(listen: ListenSettings) -> None:
    """The kernel's limit, said before anything is started."""
    for name, path in (
        ("--unix-socket", listen.unix_socket),
        ("--admin-socket", listen.admin_socket),
    ):
        if path and len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            raise ConfigError(
                f"{name} {path}: a unix socket's path has at most {_MAX_SOCKET_PATH} bytes"
            )


def _check_own_places(settings: Settings) -> None:
    """What the server makes or writes replaces nothing that it reads, nor one another."""
    paths = {
        option.flat: os.path.normpath(path)
        for option in options().values()
        if option.path and (path := settings.value(option.flat))
    }
    if paths.get("access_log") == "-":
        del paths["access_log"]
    names = field_names()
    for own in _OWN_PLACES:
        path = paths.pop(own, None)
        for other, taken in paths.items():
            if path == taken:
                # Of two that the server makes, the later one is said to be in the way.
                first, last = (own, other) if other in _OWN_PLACES else (other, own)
                raise ConfigError(
                    f"--{names[last]} {settings.value(last)}: the same as --{names[first]}"
                )


def _check_traces(asked: TelemetrySettings) -> None:
    """A rate without an end says less than somebody thinks."""
    endpoint = asked.otlp_endpoint
    if endpoint is None:
        if asked.trace_rate is not None:
            raise ConfigError("--trace-rate needs a collector, too: --otlp-endpoint URL")
        return
    try:
        parts = urlsplit(endpoint)
        host = parts.hostname or ""
        # To read a port that cannot be is a ValueError.
        is_address = (
            endpoint.lower().startswith(_COLLECTORS)
            and bool(host)
            and not any(map(str.isspace, host))
            and parts.port != 0
        )
    except ValueError:
        is_address = False
    if not is_address:
        raise ConfigError(
            f"--otlp-endpoint {without_secrets(endpoint)!r}: an address such as "
            "http://localhost:4318 is needed, for OTLP over HTTP"
        )


def _explain(message: str, given: dict[str, Any]) -> str:
    """Turns msgspec's "… - at `$.queue.max_batch`" into "--max-batch: … is needed, not 0"."""
    _, _, where = message.partition(" - at `$.")
    group, _, field = where.rstrip("`").partition(".")
    field = field.partition("[")[0]
    for option in options().values():
        if (option.group, option.field) == (group, field):
            return f"--{option.name}: {refusal(option, given[option.name])}"
    return message


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a settings file: the option names as keys.

    Raises:
        ConfigError: the file cannot be read or is no TOML.
    """
    try:
        return files.read_toml(path)
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    # A path with a NUL in it is a ValueError, too.
    except ValueError as error:
        raise ConfigError(f"--config {path}: {error}") from None
