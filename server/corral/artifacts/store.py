"""Artefacts: models prepared once, kept by a hash of all that went into them.

An artefact is a folder, ``<cache>/artefacts/<model>-<precision>-<12 digits of the key>``, with
the engine's files (``model.xml`` and ``model.bin`` for OpenVINO) and ``meta.json``. It is written
beside its place, synced and renamed into it, so that it is there whole or not at all; a file
that has changed since is noticed by its size and SHA-256 (0.1 s for ResNet50's 102 MB with SHA-NI)
when a start looks it up. It is never
written to again: workers map its weights read-only, so that the page cache holds them once.

Nothing is removed but what is broken: a server that still runs may start a worker from an
older artefact. Imports no framework.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from corral.artifacts import refusals
from corral.artifacts.order import ABSENT, Order, made_of_the_same
from corral.errors import PassingError
from corral.system import folders

_log = logging.getLogger(__name__)

#: says what is in an artefact's folder; one without it is not whole
_META = "meta.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Artefact:
    """A prepared model.

    Attributes:
        path: the file that the engine loads: an OpenVINO IR, an ONNX file, a state dict.
        model: name as on the command line.
        precision: the arithmetic it is to run in, "fp32", "bf16" or "int8".
        synthetic: True when the weights carry no knowledge.
        weights: one phrase for a person.
        key: SHA-256, in hex, of all that went into it.
        remark: a phrase on why it is not what was asked for; empty where it is.
        fixed_batch: what the user's file fixes its batch at; None for any.
    """

    path: Path
    model: str
    precision: str
    synthetic: bool
    weights: str
    key: str
    remark: str = ""
    fixed_batch: int | None = None


class _File(msgspec.Struct, frozen=True):
    size_bytes: int
    sha256: str


class _Meta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """meta.json; the ingredients are there for people."""

    key: str
    model: str
    precision: str
    synthetic: bool
    weights: str
    ingredients: dict[str, str]
    files: dict[str, _File]
    remark: str = ""


def to_be_run(found: Artefact, precision: str, fixed_batch: int | None) -> Artefact:
    """The same file, to be run in another arithmetic (BF16 from FP32), or one by one."""
    return dataclasses.replace(found, precision=precision, fixed_batch=fixed_batch)


def find(cache_dir: Path, order: Order) -> Artefact | None:
    """The artefact of this order if it is there and whole; a broken one is a warning and None.

    What is not installed here made nothing here: one that was made elsewhere (when an image was
    built) of all that is here, and of whatever version is not, is it as well.
    """
    folder = _home(cache_dir) / order.folder_name
    meta, fault = _examine(folder, order)
    if fault is None and ABSENT in order.ingredients.values():
        for found in _made_elsewhere(cache_dir, order):
            folder, order = _home(cache_dir) / found.folder_name, found
            meta, fault = _examine(folder, order)
            if not fault:
                break
    if fault:
        _log.warning("cached artefact %s is damaged (%s): it is prepared again", folder, fault)
    return None if meta is None else _artefact(folder, order, meta.remark)


def _made_elsewhere(cache_dir: Path, order: Order) -> Iterator[Order]:
    """Orders of what is cached that differ from this one in versions of what is absent here."""
    for meta_file in sorted(_home(cache_dir).glob(f"{order.model}-{order.precision}-*/{_META}")):
        with contextlib.suppress(OSError, ValueError, msgspec.DecodeError):
            meta = _read_meta(meta_file.parent)
            other = dataclasses.replace(order, ingredients=meta.ingredients)
            if made_of_the_same(order.ingredients, meta.ingredients):
                yield other


@contextlib.contextmanager
def exclusive(cache_dir: Path, order: Order, on_wait: Callable[[], None]) -> Iterator[None]:
    """Holds the order's lock, so that of several starts one prepares and the others find.

    Where the file system has no locks, a warning says so and each start prepares for itself: what
    they store is the same, and is put in place whole.

    Args:
        cache_dir: the cache folder; made if it is missing.
        order: what is to be prepared.
        on_wait: called once if somebody else holds the lock.

    Raises:
        PassingError: the cache folder cannot be written to.
    """
    home = _home(cache_dir)
    try:
        folders.make(home)
        lock = (home / f".{order.folder_name}.lock").open("wb")
    except OSError as error:
        raise PassingError(
            f"--cache-dir {cache_dir}: {error.strerror}; CORRAL_CACHE or --cache-dir names "
            "another folder"
        ) from None
    with lock:
        try:
            refused = refusals.lock(lock.fileno(), on_wait)
        except OSError as error:
            raise PassingError(f"--cache-dir {cache_dir}: {error.strerror}") from None
        if refused:
            _log.warning(
                "%s has no locks (%s): starts at the same time prepare the same model",
                home,
                ", ".join(refused),
            )
        else:
            # A draft that is there under the lock is of a start that died.
            _sweep(home, order)
        yield


def store(cache_dir: Path, order: Order, write: Callable[[Path], str | None]) -> Artefact:
    """Writes an artefact; call it while holding the order's lock.

    Args:
        cache_dir: the cache folder.
        order: what it is made of.
        write: writes the order's files; it is given the path of the first, and returns the
            artefact's remark where there is one.

    Raises:
        PassingError: the disk is full or cannot be written to.
    """
    home = _home(cache_dir)
    try:
        draft = Path(tempfile.mkdtemp(prefix=f".{order.folder_name}.", dir=home))
        try:
            remark = write(draft / order.files[0]) or ""
            refused = _seal(draft, order, remark)
            _place(draft, home / order.folder_name, order)
            refused |= refusals.refusal(lambda: refusals.sync(home))
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise PassingError(
            f"the artefact cannot be written below --cache-dir {cache_dir}: "
            f"{error.strerror or error}"
        ) from None
    if refused:
        _log.warning(
            "%s: its file system takes no modes or does not sync (%s); the artefact is used as it "
            "is, and its SHA-256 is checked at each start",
            home,
            ", ".join(sorted(refused)),
        )
    return _artefact(home / order.folder_name, order, remark)


def _place(draft: Path, folder: Path, order: Order) -> None:
    """Renames a sealed draft into its place, unless another process has just put a whole one there.

    That happens on file systems without locks only.
    """
    if _examine(folder, order)[0] is not None:
        return
    if folder.exists():
        # Renamed away first: a folder cannot replace one that is not empty.
        try:
            folder.rename(draft / "damaged")
            shutil.rmtree(draft / "damaged", ignore_errors=True)
        except OSError:
            # A layer of a container's image lets no folder be renamed.
            shutil.rmtree(folder)
    try:
        draft.rename(folder)
    except OSError as error:
        if _examine(folder, order)[0] is not None:
            return
        if error.errno != errno.EXDEV:
            raise
        _copy(draft, folder)


def _copy(draft: Path, folder: Path) -> None:
    """Puts a draft in place where folders cannot be renamed; what makes it whole comes last."""
    _log.warning("%s: its file system renames no folders; the artefact is copied", folder.parent)
    try:
        folder.mkdir()
        for path in sorted(draft.iterdir(), key=lambda path: path.name == _META):
            # Without modes and times, which may be lacking as well.
            shutil.copyfile(path, folder / path.name)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _home(cache_dir: Path) -> Path:
    return cache_dir / "artefacts"


def _artefact(folder: Path, order: Order, remark: str) -> Artefact:
    return Artefact(
        path=(folder / order.files[0]).absolute(),
        model=order.model,
        precision=order.precision,
        synthetic=order.synthetic,
        weights=order.weights,
        key=order.key,
        remark=remark,
    )


def _read_meta(folder: Path) -> _Meta:
    return msgspec.json.decode((folder / _META).read_bytes(), type=_Meta)


def _examine(folder: Path, order: Order) -> tuple[_Meta | None, str | None]:
    """What meta.json says of an artefact that is whole; and what is wrong, empty when nothing is.

    What is wrong is None where there is no artefact. It is read once: another process may replace
    it at any time.
    """
    try:
        meta = _read_meta(folder)
        fault = _fault(folder, meta, order)
    except (FileNotFoundError, NotADirectoryError):
        return None, "meta.json is missing" if folder.exists() else None
    except (OSError, ValueError, msgspec.DecodeError) as error:
        return None, f"meta.json cannot be read: {error}"
    return (None if fault else meta), fault


def _fault(folder: Path, meta: _Meta, order: Order) -> str:
    """What is wrong with a folder; empty when nothing is."""
    if meta.key != order.key:
        return "it was made of something else"
    for name in order.files:
        if name not in meta.files:
            return f"{name} is not listed"
        try:
            if (folder / name).stat().st_size != meta.files[name].size_bytes:
                return f"{name} has another size"
            if _sha256(folder / name) != meta.files[name].sha256:
                return f"{name} has other content"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return ""


def _seal(draft: Path, order: Order, remark: str) -> set[str]:
    """Adds meta.json, makes everything readable, and syncs it; returns what was refused."""
    files = {
        name: _File((draft / name).stat().st_size, _sha256(draft / name)) for name in order.files
    }
    meta = _Meta(
        key=order.key,
        model=order.model,
        precision=order.precision,
        synthetic=order.synthetic,
        weights=order.weights,
        ingredients=dict(order.ingredients),
        files=files,
        remark=remark,
    )
    (draft / _META).write_bytes(msgspec.json.format(msgspec.json.encode(meta), indent=2))
    modes = {draft / name: 0o644 for name in (*order.files, _META)}
    # mkdtemp's 0700 would keep the workers of another user out.
    modes[draft] = 0o755
    refused = set()
    for path, mode in modes.items():
        refused |= refusals.refusal(functools.partial(path.chmod, mode))
        refused |= refusals.refusal(functools.partial(refusals.sync, path))
    return refused


def _sweep(home: Path, order: Order) -> None:
    """Removes an order's drafts; only for the process that holds its lock."""
    for draft in home.glob(f".{order.folder_name}.*"):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
