"""The cache of what was measured: whole entries or none, formats, damage, folders that refuse."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from corral.artifacts.json_cache import JsonCache
from corral.system.ingredients import ingredients_key

_OF = {"cpu": "a CPU", "cores": "2"}


class _Speed(msgspec.Struct):
    images_per_s: float
    notes: str = ""


def _cache(folder: Path, format_number: int = 2) -> JsonCache[_Speed]:
    return JsonCache(folder, _Speed, format_number=format_number, title="speed")


def _stored(folder: Path, format_number: int = 2) -> Path:
    """The file of an entry that was just written."""
    cache = _cache(folder, format_number)
    cache.write("model", _OF, _Speed(12.5))
    return cache.file("model", _OF)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    cache = _cache(tmp_path / "not yet there")
    assert cache.read("model", _OF) is None
    cache.write("model", _OF, _Speed(12.5))
    assert cache.read("model", _OF) == _Speed(12.5)
    assert cache.read("other", _OF) is None
    assert cache.read("model", {**_OF, "cores": "4"}) is None
    assert cache.read("model", {**_OF, "more": ""}) is None


def test_an_entry_like_it_is_found_by_what_it_is_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = _cache(tmp_path)
    cache.write("model[1]", {**_OF, "cores": "4"}, _Speed(12.5))
    cache.write("model[1]-other", {**_OF, "cores": "8"}, _Speed(1.0))

    def on_a_cpu(found: Mapping[str, str]) -> bool:
        return found["cpu"] == "a CPU" and found["cores"] != "8"

    assert cache.read_like("model[1]", on_a_cpu) == _Speed(12.5)
    assert cache.read_like("model1", on_a_cpu) is None
    assert cache.read_like("model[1]", lambda found: found["cpu"] == "another") is None
    assert _cache(tmp_path, 3).read_like("model[1]", on_a_cpu) is None
    cache.file("model[1]", {**_OF, "cores": "4"}).write_bytes(b"{")
    assert cache.read_like("model[1]", on_a_cpu) is None
    assert caplog.text == ""


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_an_entry_holds_nothing_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = _stored(tmp_path)
    file.unlink()
    os.mkfifo(file)
    assert _cache(tmp_path).read("model", _OF) is None
    assert "not a regular file" in caplog.text
    assert _cache(tmp_path).read_like("model", lambda _: True) is None


def test_an_entry_tells_a_person_what_it_is_of(tmp_path: Path) -> None:
    file = _stored(tmp_path)
    assert file.name == f"model-{ingredients_key(_OF)[:12]}.json"
    content = b'{"images_per_s":12.5,"notes":""}'
    assert json.loads(file.read_text()) == {
        "format": 2,
        "ingredients": _OF,
        "content": json.loads(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_key_depends_on_names_and_values_and_not_on_order() -> None:
    assert ingredients_key({"a": "1", "b": "2"}) == ingredients_key({"b": "2", "a": "1"})
    others = [{"a": "2", "b": "1"}, {"a": "1"}, {"a": "1", "b": "2", "c": ""}, {"b": "1", "a": "2"}]
    assert ingredients_key({"a": "1", "b": "2"}) not in map(ingredients_key, others)


def test_a_figure_that_changed_on_disk_is_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = _stored(tmp_path)
    written = file.read_text()
    assert "12.5" in written
    file.write_text(written.replace("12.5", "92.5"))
    assert _cache(tmp_path).read("model", _OF) is None
    assert _cache(tmp_path).read_like("model", lambda found: True) is None
    assert "measured again: its content is not what was written" in caplog.text
    # One of before has no such sum.
    file.write_text(json.dumps({"format": 2, "ingredients": _OF, "content": {"images_per_s": 3.5}}))
    assert _cache(tmp_path).read("model", _OF) == _Speed(3.5)


@pytest.mark.parametrize("format_number", [1, 3])
def test_another_format_is_not_there_and_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, format_number: int
) -> None:
    _stored(tmp_path, format_number)
    assert _cache(tmp_path).read("model", _OF) is None
    _stored(tmp_path)
    assert _cache(tmp_path).read("model", _OF) == _Speed(12.5)
    assert len(list(tmp_path.iterdir())) == 1
    assert not caplog.messages


def test_another_format_may_have_another_form(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _stored(tmp_path).write_bytes(b'{"format": 3, "ingredients": ["cpu"], "rows": []}')
    assert _cache(tmp_path).read("model", _OF) is None
    assert not caplog.messages


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"images_per_s": 12.5}',
        b'{"format": "2"}',
        b'{"format": 2}',
        b'{"format": 2, "ingredients": {"cpu": "a CPU", "cores": "2"}, "content": {}}',
        b'{"format": 2, "ingredients": {"cpu": "a CPU", "cores": "2"}, "content": null}',
        b'{"format":2,"ingredients":{"cpu":"a CPU","cores":"4"},"content":{"images_per_s":1.0}}',
        b'{"format": 2, "ingredients": {"cpu": "\xff", "cores": "2"}, "content": {}}',
    ],
    ids=lambda content: content[:70].decode(errors="replace"),
)
def test_damage_is_a_warning_and_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    file = _stored(tmp_path)
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert _cache(tmp_path).read("model", _OF) is None
    (warning,) = caplog.messages
    assert f"the cached speed {file} is ignored" in warning
    _stored(tmp_path)
    assert _cache(tmp_path).read("model", _OF) == _Speed(12.5)


def _refuse(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    ("function", "number"),
    [("mkstemp", errno.EROFS), ("mkstemp", errno.EACCES), ("rename", errno.ENOSPC)],
)
def test_a_folder_that_refuses_is_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    function: str,
    number: int,
) -> None:
    owner = "tempfile.mkstemp" if function == "mkstemp" else "pathlib.Path.rename"
    monkeypatch.setattr(owner, _refuse(number))
    with caplog.at_level(logging.WARNING):
        _stored(tmp_path)
    (warning,) = caplog.messages
    assert warning.startswith("the speed is not cached: ")
    assert warning.endswith(os.strerror(number))
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_modes_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Path, "chmod", _refuse(errno.EPERM))
    _stored(tmp_path)
    assert _cache(tmp_path).read("model", _OF) == _Speed(12.5)
    assert not caplog.messages


def test_two_writers_at_once_leave_a_whole_entry(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Readers see one entry or the other at any time, and no draft is left."""
    entries = [_Speed(1.0, "short"), _Speed(2.0, "long" * 50_000)]
    _cache(tmp_path).write("model", _OF, entries[0])
    both = threading.Barrier(len(entries) + 1)

    def write(entry: _Speed) -> None:
        cache = _cache(tmp_path)
        both.wait()
        for _ in range(50):
            cache.write("model", _OF, entry)

    writers = [threading.Thread(target=write, args=(entry,)) for entry in entries]
    for writer in writers:
        writer.start()
    both.wait()
    seen = []
    while any(writer.is_alive() for writer in writers):
        seen.append(_cache(tmp_path).read("model", _OF))
    for writer in writers:
        writer.join()
    seen.append(_cache(tmp_path).read("model", _OF))
    assert all(entry in entries for entry in seen)
    assert len(list(tmp_path.iterdir())) == 1
    assert not caplog.messages
