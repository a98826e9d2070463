"""TLS and credentials of a client: what it trusts, and what it shows."""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path
from typing import Any

import grpc

PathLike = str | Path


@dataclasses.dataclass(frozen=True)
class Security:
    """How a client's connections are made safe. Nothing in it is shown when it is printed.

    Attributes:
        credentials: gRPC's channel credentials; None: connections are not encrypted.
        metadata: sent along with every call; None: nothing.
    """

    credentials: Any = dataclasses.field(default=None, repr=False)
    metadata: tuple[tuple[str, str], ...] | None = dataclasses.field(default=None, repr=False)


def make_security(
    *,
    tls: bool = False,
    ca: PathLike | None = None,
    cert: PathLike | None = None,
    key: PathLike | None = None,
    token: str | None = None,
) -> Security:
    """Reads the files.

    Args:
        tls: encrypt; implied by ``ca`` and ``cert``.
        ca: PEM certificates to trust; gRPC's own list if None.
        cert: the client's certificate chain, PEM, for servers that want one.
        key: its private key, PEM.
        token: sent as ``authorization: Bearer TOKEN``.

    Raises:
        OSError: a file cannot be read.
        ValueError: a certificate without its key or the other way round; a token that no header
            can carry.
    """
    metadata = bearer(token)
    _check_pair(cert, key)
    if not (tls or ca or cert):
        return Security(metadata=metadata)
    root, chain, secret = (
        None if path is None else Path(path).read_bytes() for path in (ca, cert, key)
    )
    return Security(
        credentials=grpc.ssl_channel_credentials(root, secret, chain), metadata=metadata
    )


def make_context(
    *, ca: PathLike | None = None, cert: PathLike | None = None, key: PathLike | None = None
) -> ssl.SSLContext:
    """TLS for the REST form; see ``make_security``. ssl.SSLError, of bad PEM, is an OSError."""
    _check_pair(cert, key)
    context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    if cert is not None:
        context.load_cert_chain(str(cert), None if key is None else str(key))
    return context


def bearer(token: str | None) -> tuple[tuple[str, str], ...] | None:
    """The header that shows a token; None: nothing. Raises ValueError: no header can carry it."""
    if token is None:
        return None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("a token is printable ASCII without spaces")
    return (("authorization", f"Bearer {token}"),)


def _check_pair(cert: PathLike | None, key: PathLike | None) -> None:
    if (cert is None) != (key is None):
        raise ValueError("a client certificate and its key are only of use together")


def read_token(path: PathLike) -> str:
    """The first token in a file; lines that begin with # are skipped.

    Raises:
        OSError: it cannot be read.
        ValueError: there is no token in it.
    """
    for line in Path(path).read_text("utf-8-sig").splitlines():
        token = line.strip()
        if token and not token.startswith("#"):
            return token
    raise ValueError(f"{path}: there is no token in it")
