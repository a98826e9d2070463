"""torch.compile's compiler ahead of time: what it makes is kept, and a second start only loads it.

inductor's own cache refuses graphs with frozen weights in oneDNN's layout, and these are what
makes it fast (torch 2.13: every start would compile for as long as the first). A package, which
AOTInductor writes, holds code and weights. It is checked (its CRCs) before it is loaded; one that
is broken, or does not load, is compiled again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corral.errors import PassingError
from corral.system import folders
from corral.system.owned_folder import OwnedFolder
from corral.system.process_group import end_with_us

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

#: raise it whenever what is compiled, or how, changes; here or in runtime.py
FORMAT = 1
_COMPILERS = ("g++", "c++", "clang++")


class PackageCache:
    """Compiled modules, one package each, in a folder; workers that want the same share it.

    Args:
        folder: made if it is missing.
        ingredients: what all of this worker's packages depend on, beyond shape and code.
    """

    def __init__(self, folder: Path, ingredients: Iterable[str]) -> None:
        self._folder = folder
        self._ingredients = list(ingredients)

    def load(self, make_entry: Callable[[], Any], example: torch.Tensor) -> Any:
        """The compiled form of a module for exactly this shape: from the cache, else made.

        Args:
            make_entry: makes the module, in inference form; called where it is not in the cache.
            example: its input.

        Raises:
            PassingError: there is no C++ compiler, and it is not in the cache.
        """
        package = self._folder / f"{self._key(example)}.pt2"
        before = _identity(package)
        # What is there needs no lock, so that a cache that cannot be written to serves, too.
        loaded = _load(package)
        if loaded is not None:
            return loaded
        try:
            folders.make(self._folder)
            opened = package.with_suffix(".lock").open("wb")
        except OSError as error:
            logger.warning(
                "%s cannot be written to (%s): what is compiled is not kept",
                self._folder,
                error.strerror,
            )
            return _compile_for_now(make_entry(), example, package.name)
        with opened as lock:
            # Of several workers, one compiles and the others wait for it.
            locked = _lock(lock.fileno(), package)
            if _identity(package) == before:
                if locked:
                    _sweep(package)
                _compile(make_entry(), example, package)
        return _open(package)

    def _key(self, example: torch.Tensor) -> str:
        import torch

        parts = [
            f"format {FORMAT}",
            *self._ingredients,
            str(example.dtype),
            str(list(example.shape)),
            torch.__version__,
            torch.backends.cpu.get_cpu_capability(),
            str(torch.get_num_threads()),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _lock(fd: int, package: Path) -> bool:
    """Waits for a lock; False with a warning where the file system has none (NFS, CIFS)."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        logger.warning(
            "%s has no locks (%s): each worker compiles for itself", package.parent, error.strerror
        )
        return False
    return True


def _identity(package: Path) -> tuple[int, int] | None:
    """Tells a package from one that another worker has put in its place; None without one."""
    try:
        found = package.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _load(package: Path) -> Any | None:
    """The package, loaded; None where it is missing or, with a warning, of no use.

    Raises:
        PassingError: nothing can be loaded here, whatever is wrong with it or not.
    """
    try:
        with zipfile.ZipFile(package) as archive:
            broken = archive.testzip()
        fault = "" if broken is None else f"is damaged ({broken} has another checksum)"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        fault = f"cannot be read ({error.strerror or error})"
    except MemoryError:
        raise
    # A parser that meets damage raises whatever it stumbles over.
    except Exception as error:
        fault = f"is damaged ({_reason(error)})"
    if not fault:
        try:
            return _open(package)
        except (MemoryError, PassingError):
            raise
        # torch raises whatever it likes. The package is whole: it fits no more, or not here.
        except Exception as error:
            fault = f"does not load ({_reason(error)})"
    logger.warning("cached package %s %s: it is compiled again", package, fault)
    return None


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _open(package: Path) -> Any:
    import torch

    with _own_temporary_folder(package.parent):
        # A process of one thread a core: the runner's own pool of threads is not needed.
        return torch._inductor.aoti_load_package(str(package), run_single_threaded=True)


@contextlib.contextmanager
def _own_temporary_folder(beside: Path) -> Iterator[None]:
    """Where torch unpacks a package: it would stay there, 100 MB, whenever a worker is killed.

    Once it is loaded the files are mapped, and need no names.

    Args:
        beside: the package's folder, where temporary folders let no program be loaded.
    """
    before, python = os.environ.get("TMPDIR"), tempfile.tempdir
    base = for_programs(folders.program_candidates(os.environ, last=beside))
    with OwnedFolder("corral-inductor-", base) as folder:
        os.environ["TMPDIR"] = str(folder.path)
        try:
            yield
        finally:
            # Python remembers where it was first asked for a file: not this, which is gone soon.
            tempfile.tempdir = python
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


def for_programs(candidates: Sequence[Path]) -> Path:
    """The first folder of these that programs can be loaded from.

    Raises:
        PassingError: there is none.
    """
    found = folders.for_programs(candidates)
    if found is None:
        raise PassingError(
            "--torch-mode compile needs a folder that programs can be loaded from, and none is to "
            "be had (mounted noexec, read-only or full): "
            f"{', '.join(map(str, candidates))}; TMPDIR names another"
        )
    return found


def _compile_for_now(entry: Any, example: torch.Tensor, name: str) -> Any:
    """Compiles and loads what is not kept."""
    base = for_programs(folders.program_candidates(os.environ))
    with OwnedFolder("corral-inductor-", base) as folder:
        package = folder.path / name
        _compile(entry, example, package)
        return _open(package)


def _sweep(package: Path) -> None:
    """Removes what compilers that were killed have left: the lock's holder is the only one now."""
    for draft in package.parent.glob(f".{package.stem}.*"):
        shutil.rmtree(draft, ignore_errors=True)


#: precompiled headers, of use to one package, would take longer than they save
_OPTIONS = {"freezing": True, "aot_inductor.precompile_headers": False}


def check_compiler() -> None:
    """Says so where there is no C++ compiler.

    Raises:
        PassingError: there is none.
    """
    if not any(shutil.which(name) for name in _COMPILERS):
        raise PassingError(
            "--torch-mode compile needs a C++ compiler (Debian, Ubuntu: apt-get install g++), "
            "or use --torch-mode traced"
        )


def _compile(entry: Any, example: torch.Tensor, package: Path) -> None:
    check_compiler()
    import torch

    drafts = tempfile.TemporaryDirectory(prefix=f".{package.stem}.", dir=package.parent)
    base = for_programs(folders.program_candidates(os.environ, first=package.parent))
    # What it tries out is loaded, which not every file system allows.
    tried = OwnedFolder(f".{package.stem}.", base)
    with end_with_us(), drafts as work, tried as programs:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(programs.path)
        # Its pool of compilers would outlive the warm-up on the worker's cores.
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        draft = Path(work) / "draft.pt2"
        with torch.no_grad():
            exported = torch.export.export(entry, (example,), strict=False)
            torch._inductor.aoti_compile_and_package(
                exported, package_path=str(draft), inductor_configs=_OPTIONS
            )
        draft.rename(package)
