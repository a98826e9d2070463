"""TLS and credentials of a client: what it trusts, and what it shows."""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path
from typing import Any

import grpc

PathLike = str | Path
#: all the world's authorities take 1 MB
_MOST_BYTES = 16 * 2**20


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
        ValueError: a certificate without its key or the other way round; a file that holds
            something else; a token that no header can carry.
    """
    metadata = bearer(token)
    check_pair(cert, key)
    if not (tls or ca or cert):
        return Security(metadata=metadata)
    check_files(ca=ca, cert=cert, key=key)
    root, chain, secret = (None if path is None else read_file(path) for path in (ca, cert, key))
    return Security(
        credentials=grpc.ssl_channel_credentials(root, secret, chain), metadata=metadata
    )


def make_context(
    *, ca: PathLike | None = None, cert: PathLike | None = None, key: PathLike | None = None
) -> ssl.SSLContext:
    """TLS for the REST form; see ``make_security``."""
    check_pair(cert, key)
    check_files(ca=ca, cert=cert, key=key)
    context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    if cert is not None:
        context.load_cert_chain(str(cert), None if key is None else str(key))
    return context


def check_files(
    *, ca: PathLike | None = None, cert: PathLike | None = None, key: PathLike | None = None
) -> None:
    """Makes sure that files hold what they are to: gRPC says so only when it connects, again and
    again.

    Raises:
        OSError: one cannot be read.
        ValueError: one holds something else; the text names it.
    """
    for path in (ca, cert, key):
        if path is not None:
            read_file(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # How strong a key is, is for those to judge who use it.
    context.set_ciphers("ALL:@SECLEVEL=0")
    if ca is not None:
        try:
            context.load_verify_locations(str(ca))
        except ssl.SSLError:
            raise ValueError(f"{ca}: no certificates in PEM are in it") from None
    if cert is None or key is None:
        return
    try:
        context.load_cert_chain(str(cert), str(key), password=_no_password)
    except ssl.SSLError as error:
        raise ValueError(_wrong_pair(cert, key, error)) from None


def _no_password() -> str:
    # Without one, OpenSSL would ask at the terminal.
    return ""


def _wrong_pair(cert: PathLike, key: PathLike, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{key}: it is not the key of {cert}"
    if b"-----BEGIN CERTIFICATE-----" not in read_file(cert):
        return f"{cert}: no certificate in PEM is in it"
    if b"ENCRYPTED" in read_file(key):
        return f"{key}: the key is encrypted; one without a password is needed"
    if b"PRIVATE KEY-----" not in read_file(key):
        return f"{key}: no private key in PEM is in it"
    return f"{cert}, {key}: no certificate and key that can be read ({error.reason})"


def read_file(path: PathLike) -> bytes:
    """A file of certificates, a key or tokens.

    Raises:
        OSError: it cannot be read.
        ValueError: it is far too large for that, as a device without an end.
    """
    with Path(path).open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{path}: more than {_MOST_BYTES >> 20} MiB are no certificates")
    return content


def bearer(token: str | None) -> tuple[tuple[str, str], ...] | None:
    """The header that shows a token; None: nothing. Raises ValueError: no header can carry it."""
    if token is None:
        return None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("a token is printable ASCII without spaces")
    return (("authorization", f"Bearer {token}"),)


def check_pair(cert: PathLike | None, key: PathLike | None) -> None:
    """Raises ValueError: a certificate without its key, or the other way round."""
    if (cert is None) != (key is None):
        raise ValueError("a client certificate and its key are only of use together")


def read_token(path: PathLike) -> str:
    """The first token in a file; lines that begin with # are skipped.

    Raises:
        OSError: it cannot be read.
        ValueError: there is no token in it.
    """
    try:
        lines = read_file(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: it is not UTF-8") from None
    for line in lines:
        token = line.strip()
        if token and not token.startswith("#"):
            return token
    raise ValueError(f"{path}: there is no token in it")
