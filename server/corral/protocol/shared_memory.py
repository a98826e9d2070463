"""Tensors in clients' shared memory: the regions they registered, read and written safely.

A region is a POSIX shared memory object of the client's, as Triton's protocol extension names it:
``shm_open``'s key, an offset and a length. It is never mapped: its owner may shrink it at any
time, and touching a mapping beyond the end would kill this process. It is read and written by
descriptor instead, where an end that has moved is a short count. What is read goes straight into
a worker's region, so the one copy of a request stays one.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from corral.errors import AlreadyExists, InvalidRequest, NotFound

#: where the C library keeps the objects that shm_open makes
FOLDER = Path("/dev/shm")  # noqa: S108
#: each holds a descriptor
MAX_REGIONS = 256
MAX_NAME_CHARS = 256

_KEY = re.compile(r"/?([A-Za-z0-9._-]{1,250})")
_QUOTED_CHARS = 80


class Region:
    """One registered region; its descriptor is closed when nobody holds the region any more.

    Attributes:
        name, key, offset, byte_size: as they were registered.
    """

    def __init__(self, fd: int, name: str, key: str, offset: int, byte_size: int) -> None:
        self._fd = fd
        self.name = name
        self.key = key
        self.offset = offset
        self.byte_size = byte_size

    def __del__(self) -> None:
        os.close(self._fd)

    def read_into(self, target: memoryview, offset: int) -> bool:
        """Fills ``target`` from ``offset`` in the region; False when the object has become short.

        Then the rest of ``target`` is zeros: what lay there is another request's.
        """
        at = 0
        while at < len(target):
            count = os.preadv(self._fd, [target[at:]], self.offset + offset + at)
            if not count:
                target[at:] = bytes(len(target) - at)
                return False
            at += count
        return True

    def write(self, content: bytes | bytearray | memoryview, offset: int) -> None:
        """Writes at ``offset`` in the region.

        Raises:
            InvalidRequest: the object has become shorter than the region.
        """
        start = self.offset + offset
        # A write behind the end would make the object grow again.
        if os.fstat(self._fd).st_size < start + len(content):
            raise InvalidRequest(_shrunk(self.name))
        os.pwrite(self._fd, content, start)


@dataclasses.dataclass(frozen=True, slots=True)
class Slice:
    """A part of a region, as a request names it: ``byte_size`` bytes from ``offset``."""

    region: str
    offset: int
    byte_size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """A slice that was found to lie inside its region."""

    region: Region
    offset: int
    byte_size: int

    def __len__(self) -> int:
        return self.byte_size

    def read_into(self, target: memoryview, start: int) -> bool:
        """Fills ``target`` with the tensor's bytes from ``start``; see Region.read_into."""
        return self.region.read_into(target, self.offset + start)

    def write(self, content: bytes | bytearray | memoryview) -> None:
        """Writes a result that fits; see Region.write."""
        self.region.write(content, self.offset)

    def shrunk(self) -> InvalidRequest:
        """The answer to a request whose tensor is no longer all there."""
        return InvalidRequest(_shrunk(self.region.name))


class ClientMemory:
    """The regions of one cell's clients, by name.

    Args:
        folder: where shared memory objects lie.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._regions: dict[str, Region] = {}

    def __iter__(self) -> Iterator[Region]:
        return iter(self._regions.values())

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Opens a client's object for as long as it is registered.

        Raises:
            AlreadyExists: there is a region of that name.
            InvalidRequest: with a sentence that says what is wrong with it.
        """
        if not 0 < len(name) <= MAX_NAME_CHARS:
            raise InvalidRequest(f"a region's name has 1 to {MAX_NAME_CHARS} characters")
        if name in self._regions:
            raise AlreadyExists(f"a region {name[:_QUOTED_CHARS]!r} is registered already")
        if len(self._regions) >= MAX_REGIONS:
            raise InvalidRequest(f"{MAX_REGIONS} regions are registered; unregister one first")
        if not byte_size:
            raise InvalidRequest("a region has at least one byte")
        fd = self._open(key)
        # From here on the region closes it.
        region = Region(fd, name, key, offset, byte_size)
        size = os.fstat(fd).st_size
        if offset + byte_size > size:
            raise InvalidRequest(
                f"the shared memory object has {size} bytes; "
                f"the region would end at {offset + byte_size}"
            )
        self._regions[name] = region

    def unregister(self, name: str) -> None:
        """Forgets a region, or all of them when ``name`` is empty; an unknown one is forgotten.

        Requests that were admitted keep what they need of it until they are answered.
        """
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

    def status(self, name: str) -> list[Region]:
        """The region of that name, or all when it is empty.

        Raises:
            NotFound: there is none of that name.
        """
        return [self._find(name)] if name else list(self)

    def tensor(self, part: Slice) -> Tensor:
        """Finds a request's slice.

        Raises:
            NotFound: no such region.
            InvalidRequest: it does not lie in the region.
        """
        region = self._find(part.region)
        if part.offset + part.byte_size > region.byte_size:
            raise InvalidRequest(
                f"the region {region.name[:_QUOTED_CHARS]!r} has {region.byte_size} bytes; "
                f"the tensor would end at {part.offset + part.byte_size}"
            )
        return Tensor(region, part.offset, part.byte_size)

    def _find(self, name: str) -> Region:
        region = self._regions.get(name)
        if region is None:
            raise NotFound(f"no region {name[:_QUOTED_CHARS]!r} is registered")
        return region

    def _open(self, key: str) -> int:
        """Opens an object that is the server's user's own, or that everybody may use.

        Without that rule a client could have the server read and write what is another's: over
        loopback, anybody on the machine is a client.
        """
        match = _KEY.fullmatch(key)
        if match is None or match[1] in (".", ".."):
            raise InvalidRequest(
                "a key is the name of a shared memory object, as shm_open takes it"
            )
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fd = os.open(self._folder / match[1], flags)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise InvalidRequest("there is no shared memory object of that key") from None
            raise InvalidRequest("the shared memory object cannot be opened") from None
        found = os.fstat(fd)
        everybodys = found.st_mode & 0o006 == 0o006
        if not stat.S_ISREG(found.st_mode) or not (found.st_uid == os.geteuid() or everybodys):
            os.close(fd)
            raise InvalidRequest(
                "the shared memory object must belong to the server's user, "
                "or everybody must be allowed to read and write it"
            )
        return fd


def _shrunk(name: str) -> str:
    return f"the shared memory object of region {name[:_QUOTED_CHARS]!r} has become too short"
