"""The server's certificate, its key, and whose client certificates it trusts, from files.

The files are read again when they change, which new connections notice and old ones do not.
"""

from __future__ import annotations

import dataclasses
import datetime
import ssl
from pathlib import Path
from typing import Any

from corral.errors import ConfigError, os_reason
from corral.security.certificate_names import has_served_key, validity
from corral.settings.files import read_file
from corral.system.watched_file import WatchedFile, read_private

#: the same kind of key, another kind
_MISMATCHES = {"KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}


@dataclasses.dataclass(frozen=True, eq=False)
class Material:
    """Files that were found to fit together.

    Attributes:
        certificate: the chain, PEM.
        key: the private key, PEM.
        client_ca: certificates of those who vouch for clients, PEM; None: clients need none.
        context: for Python's own sockets. It asks for a client certificate if there is a
            ``client_ca``, and verifies it, but leaves to others what becomes of those without.
    """

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext

    @property
    def doubt(self) -> str | None:
        """Why clients will not trust the certificate now, as far as it says so itself."""
        found = validity(self.certificate.decode("latin-1"))
        if found is None:
            return None
        now, (start, end) = datetime.datetime.now(datetime.UTC), found
        if now > end:
            return f"--tls-cert: the certificate expired on {end:%Y-%m-%d %H:%M} UTC"
        if now < start:
            return f"--tls-cert: the certificate is not valid before {start:%Y-%m-%d %H:%M} UTC"
        return None


def load(certificate: Path, key: Path, client_ca: Path | None) -> Material:
    """Reads the files and makes sure that they can be used.

    Raises:
        ConfigError: which one cannot, and why.
    """
    content = _read(certificate, "--tls-cert")
    secret = read_private(key, "--tls-key")
    authority = None if client_ca is None else _read(client_ca, "--tls-client-ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password given, OpenSSL would ask the terminal for an encrypted key's.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason in _MISMATCHES:
            reason = f"the key in {key} is another certificate's"
        elif error.reason == "EE_KEY_TOO_SMALL":
            reason = f"with --tls-key {key}: the key is too short for this machine's OpenSSL"
        else:
            reason = f"with --tls-key {key}: not a PEM certificate with an unencrypted PEM key"
        raise ConfigError(f"--tls-cert {certificate}: {reason}") from None
    except OSError as error:
        raise ConfigError(f"--tls-cert {certificate}: {error.strerror}") from None
    # OpenSSL, which the metrics port is served by, takes more.
    if not has_served_key(content.decode("latin-1")):
        raise ConfigError(
            f"--tls-cert {certificate}: with --tls-key {key}: a key of a kind that is not served; "
            "RSA of at most 8192 bits, ECDSA over P-256, P-384 or P-521, or Ed25519 is"
        )
    if authority is not None:
        try:
            context.load_verify_locations(cadata=authority.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise ConfigError(f"--tls-client-ca {client_ca}: no PEM certificates") from None
        context.verify_mode = ssl.CERT_OPTIONAL
    return Material(certificate=content, key=secret, client_ca=authority, context=context)


def _read(path: Path, option: str) -> bytes:
    try:
        return read_file(path, once=False)[0]
    except OSError as error:
        raise ConfigError(f"{option} {path}: {os_reason(error)}") from None


def watch(
    certificate: str | None, key: str | None, client_ca: str | None
) -> WatchedFile[Material] | None:
    """What the settings' files hold, always the newest that works; None without TLS.

    Raises:
        ConfigError: the files are of no use.
    """
    if certificate is None or key is None:
        return None
    paths = [Path(certificate), Path(key)]
    authority = None if client_ca is None else Path(client_ca)
    if authority is not None:
        paths.append(authority)
    return WatchedFile(paths, lambda: load(paths[0], paths[1], authority), every_s=0.0)


def peer_names(connection: Any) -> frozenset[str] | None:
    """The names in the verified certificate of an ``ssl.SSLSocket``'s peer; None without one."""
    certificate: dict[str, Any] | None = None
    if isinstance(connection, ssl.SSLSocket):
        # typeshed knows no relation between a field's name and the shape of its value.
        certificate = connection.getpeercert()
    if not certificate:
        return None
    names = {value for _, value in certificate.get("subjectAltName", ())}
    for relative in certificate.get("subject", ()):
        names.update(value for kind, value in relative if kind == "commonName")
    return frozenset(names)
