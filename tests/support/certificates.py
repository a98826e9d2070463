"""Certificates for tests, made on the spot, and where they were written."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any

import trustme


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
