"""Certificates for tests, made on the spot, and where they were written."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes


@dataclasses.dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority of a test's own."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._authority.cert_pem.bytes())

    def issue(
        self,
        name: str,
        *identities: str,
        common_name: str | None = None,
        valid_days: tuple[int, int] | None = None,
    ) -> Pair:
        """Writes ``name.pem`` and ``name.key``; what was there is replaced, as by an operator.

        ``valid_days`` are counted from now.
        """
        validity: dict[str, Any] = {}
        if valid_days is not None:
            days = [datetime.timedelta(days=day) for day in valid_days]
            now = datetime.datetime.now(datetime.UTC)
            validity = {"not_before": now + days[0], "not_after": now + days[1]}
        made = self._authority.issue_cert(*identities, common_name=common_name, **validity)
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        for path, content in ((pair.key, made.private_key_pem.bytes()), (pair.cert, chain)):
            fresh = path.with_suffix(path.suffix + ".new")
            fresh.write_bytes(content)
            fresh.chmod(0o600)
            fresh.replace(path)
        return pair


def private(path: Path, text: str) -> Path:
    """Writes a file that only its owner may read, in one step."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.chmod(0o600)
    fresh.replace(path)
    return path


def write_self_signed(pair: Pair, key: CertificateIssuerPrivateKeyTypes) -> None:
    """Puts a key of any kind, and a certificate that it signed itself, in the place of a pair."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )
    hashes_itself = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    made = builder.sign(key, None if hashes_itself else hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    private(pair.key, secret.decode())
    private(pair.cert, made.public_bytes(serialization.Encoding.PEM).decode())
