"""Regions of clients: what is registered, what is refused, and what happens when one shrinks."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.errors import AlreadyExists, InvalidRequest, NotFound, RequestError
from corral.protocol.shared_memory import MAX_REGIONS, ClientMemory, Slice

SIZE = 64


@pytest.fixture(name="folder")
def shared_memory_folder(tmp_path: Path) -> Path:
    (tmp_path / "cats").write_bytes(bytes(range(SIZE)))
    return tmp_path


@pytest.fixture(name="memory")
def memory_with_a_region(folder: Path) -> ClientMemory:
    memory = ClientMemory(folder)
    memory.register("r", "/cats", 8, 40)
    return memory


def open_objects(folder: Path) -> int:
    """Descriptors of this process that lie below the folder."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += link.readlink().is_relative_to(folder)
    return found


def read(memory: ClientMemory, part: Slice, start: int = 0) -> bytes:
    target = bytearray(b"\xff" * (part.byte_size - start))
    assert memory.tensor(part).read_into(memoryview(target), start)
    return bytes(target)


def test_a_slice_is_read_where_it_lies(memory: ClientMemory) -> None:
    assert read(memory, Slice("r", 2, 4)) == bytes([10, 11, 12, 13])
    assert read(memory, Slice("r", 2, 4), start=3) == bytes([13])
    assert read(memory, Slice("r", 0, 40)) == bytes(range(8, 48))


def test_a_result_is_written_where_it_belongs(memory: ClientMemory, folder: Path) -> None:
    memory.tensor(Slice("r", 38, 2)).write(b"ab")
    expected = bytearray(range(SIZE))
    expected[46:48] = b"ab"
    assert (folder / "cats").read_bytes() == expected


def test_status_tells_what_was_registered(memory: ClientMemory) -> None:
    [region] = memory.status("")
    assert (region.name, region.key, region.offset, region.byte_size) == ("r", "/cats", 8, 40)
    assert memory.status("r") == [region]
    with pytest.raises(NotFound):
        memory.status("other")


def test_an_admitted_tensor_outlives_its_registration(memory: ClientMemory) -> None:
    tensor = memory.tensor(Slice("r", 0, 4))
    memory.unregister("r")
    target = bytearray(4)
    assert tensor.read_into(memoryview(target), 0)
    assert bytes(target) == bytes([8, 9, 10, 11])


def test_descriptors_are_closed_with_the_last_user(folder: Path) -> None:
    memory = ClientMemory(folder)
    memory.register("a", "cats", 0, 1)
    memory.register("b", "cats", 0, 1)
    assert open_objects(folder) == 2
    memory.unregister("a")
    memory.unregister("unknown")
    assert open_objects(folder) == 1
    memory.unregister("")
    assert open_objects(folder) == 0


def test_an_object_that_shrinks_is_a_short_read_and_never_grows_again(
    memory: ClientMemory, folder: Path
) -> None:
    tensor = memory.tensor(Slice("r", 0, 40))
    os.truncate(folder / "cats", 20)
    target = bytearray(b"\xff" * 40)
    assert not tensor.read_into(memoryview(target), 0)
    assert bytes(target) == bytes(range(8, 20)) + bytes(28), "nothing of another request is left"
    with pytest.raises(InvalidRequest, match="too short"):
        tensor.write(bytes(40))
    assert (folder / "cats").stat().st_size == 20


@pytest.mark.parametrize(
    ("region", "says"),
    [
        (("", "cats", 0, 1), "name"),
        (("n" * 257, "cats", 0, 1), "name"),
        (("r", "cats", 0, 1), "already"),
        (("x", "cats", 0, 0), "at least one byte"),
        (("x", "cats", 0, SIZE + 1), "64 bytes"),
        (("x", "cats", SIZE, 1), "64 bytes"),
        (("x", "cats", 2**64 - 1, 2**64 - 1), "64 bytes"),
        (("x", "dogs", 0, 1), "no shared memory object"),
        (("x", "../secret", 0, 1), "key"),
        (("x", "/..", 0, 1), "key"),
        (("x", "//cats", 0, 1), "key"),
        (("x", "", 0, 1), "key"),
        (("x", "cats\0", 0, 1), "key"),
        (("x", "k" * 300, 0, 1), "key"),
        (("x", "link", 0, 1), "cannot be opened"),
        (("x", "folder", 0, 1), "cannot be opened"),
        (("x", "pipe", 0, 1), "must belong"),
    ],
)
def test_a_wrong_registration_is_refused(
    memory: ClientMemory, folder: Path, region: tuple[str, str, int, int], says: str
) -> None:
    (folder.parent / "secret").write_bytes(bytes(8))
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    kind = AlreadyExists if says == "already" else InvalidRequest
    with pytest.raises(kind, match=says):
        memory.register(*region)
    assert len(memory.status("")) == 1
    assert open_objects(folder) == 1


def test_anothers_object_is_refused_unless_everybody_may_use_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = ClientMemory(folder)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    (folder / "cats").chmod(0o644)
    with pytest.raises(InvalidRequest, match="must belong"):
        memory.register("x", "cats", 0, 1)
    (folder / "cats").chmod(0o666)
    memory.register("x", "cats", 0, 1)


def test_there_is_a_limit(folder: Path) -> None:
    memory = ClientMemory(folder)
    for number in range(MAX_REGIONS):
        memory.register(str(number), "cats", 0, 1)
    with pytest.raises(InvalidRequest, match="unregister"):
        memory.register("one more", "cats", 0, 1)
    memory.unregister("")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(offset=st.integers(0, 2**64 - 1), byte_size=st.integers(0, 2**64 - 1))
def test_no_slice_reaches_outside_its_region(
    memory: ClientMemory, offset: int, byte_size: int
) -> None:
    try:
        tensor = memory.tensor(Slice("r", offset, byte_size))
    except RequestError:
        assert offset + byte_size > 40
    else:
        assert tensor.offset + tensor.byte_size <= 40
