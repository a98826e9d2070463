"""The artefact cache: keys, atomic writes, damage, one writer at a time."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral.artifacts import order
from corral.artifacts import store as artefact
from corral.artifacts.order import Order
from corral.artifacts.store import Artefact
from corral.errors import ModelError, PassingError


def _order(**ingredients: str) -> Order:
    return Order(
        model="tiny",
        precision="fp32",
        synthetic=True,
        weights="made up",
        ingredients={"weights": "abc", **ingredients},
    )


def _write(xml: Path) -> None:
    xml.write_text("<net/>")
    xml.with_suffix(".bin").write_bytes(b"weights" * 1000)


def _store(cache: Path, order: Order) -> Artefact:
    with artefact.exclusive(cache, order, pytest.fail):
        return artefact.store(cache, order, _write)


def test_key_depends_on_every_ingredient_and_not_on_order() -> None:
    keys = {
        _order().key,
        _order(weights="abd").key,
        _order(openvino="2026.4").key,
        _order(overflow_fix="enable").key,
        Order(
            model="tiny",
            precision="int8",
            synthetic=True,
            weights="",
            ingredients={"weights": "abc"},
        ).key,
    }
    assert len(keys) == 5
    assert order.artefact_key({"a": "1", "b": "2"}) == order.artefact_key({"b": "2", "a": "1"})


def test_a_remark_is_found_again(tmp_path: Path) -> None:
    def write(xml: Path) -> str:
        _write(xml)
        return "no layer stays in INT8"

    assert _store(tmp_path, _order()).remark == ""
    order = _order(weights="others")
    with artefact.exclusive(tmp_path, order, pytest.fail):
        stored = artefact.store(tmp_path, order, write)
    assert stored.remark == "no layer stays in INT8"
    assert artefact.find(tmp_path, order) == stored


def test_what_another_process_replaces_meanwhile_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = _store(tmp_path, _order())
    whole = artefact._fault

    def replaced(folder: Path, *others: Any) -> str:
        found = whole(folder, *others)
        (folder / "meta.json").unlink()
        return found

    monkeypatch.setattr(artefact, "_fault", replaced)
    assert artefact.find(tmp_path, _order()) == stored


def test_description_is_not_part_of_the_key() -> None:
    other = Order(
        model="tiny",
        precision="fp32",
        synthetic=True,
        weights="in other words",
        ingredients={"weights": "abc"},
    )
    assert other.key == _order().key


def test_versions_of_installed_and_missing() -> None:
    found = order.versions(("msgspec", "no-such-distribution"))
    assert found["no-such-distribution"] == "absent"
    assert found["msgspec"][0].isdigit()


def test_stored_is_found(tmp_path: Path) -> None:
    order = _order()
    assert artefact.find(tmp_path, order) is None
    stored = _store(tmp_path, order)
    assert artefact.find(tmp_path, order) == stored
    assert stored.path.is_absolute()
    assert stored.path == tmp_path / "artefacts" / f"tiny-fp32-{order.key[:12]}" / "model.xml"
    assert (stored.model, stored.precision, stored.synthetic) == ("tiny", "fp32", True)
    assert stored.key == order.key
    assert artefact.find(tmp_path, _order(openvino="next")) is None


def test_stored_can_be_read_by_other_users(tmp_path: Path) -> None:
    folder = _store(tmp_path, _order()).path.parent
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.bin", b"weights" * 999),
        ("model.bin", b"weightz" * 1000),
        ("model.xml", b""),
        ("meta.json", b"{"),
        ("meta.json", b"\xff"),
        ("meta.json", b'{"key": "\xff"}'),
        ("model.bin", None),
        ("meta.json", None),
    ],
)
def test_damage_is_a_warning_and_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, content: bytes | None
) -> None:
    order = _order()
    folder = _store(tmp_path, order).path.parent
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert artefact.find(tmp_path, order) is None
    assert "damaged" in caplog.text
    mended = _store(tmp_path, order)
    assert artefact.find(tmp_path, order) == mended
    assert mended.path.with_suffix(".bin").read_bytes() == b"weights" * 1000


def test_entry_of_another_key_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    order = _order()
    meta = _store(tmp_path, order).path.parent / "meta.json"
    fields = json.loads(meta.read_text())
    meta.write_text(json.dumps({**fields, "key": order.key[:12] + "0" * 52}))
    assert artefact.find(tmp_path, order) is None
    assert "something else" in caplog.text


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    order = _order()

    def fail(xml: Path) -> None:
        _write(xml)
        raise ModelError("no such layer")

    with artefact.exclusive(tmp_path, order, pytest.fail), pytest.raises(ModelError):
        artefact.store(tmp_path, order, fail)
    assert [entry.suffix for entry in (tmp_path / "artefacts").iterdir()] == [".lock"]


def test_drafts_of_the_dead_are_removed(tmp_path: Path) -> None:
    order = _order()
    dead = tmp_path / "artefacts" / f".{order.folder_name}.dead"
    dead.mkdir(parents=True)
    (dead / "model.bin").write_bytes(b"half")
    _store(tmp_path, order)
    assert not dead.exists()


def test_full_disk_is_one_line(tmp_path: Path) -> None:
    order = _order()

    def fill(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with (
        artefact.exclusive(tmp_path, order, pytest.fail),
        pytest.raises(ModelError, match="No space left on device"),
    ):
        artefact.store(tmp_path, order, fill)


def test_unusable_cache_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ModelError, match="--cache-dir"),
        artefact.exclusive(tmp_path / "file", _order(), pytest.fail),
    ):
        pass


def test_second_start_waits_for_the_first(tmp_path: Path) -> None:
    order = _order()
    waiting = threading.Event()
    found: list[Artefact | None] = []

    def second() -> None:
        with artefact.exclusive(tmp_path, order, waiting.set):
            found.append(artefact.find(tmp_path, order))

    with artefact.exclusive(tmp_path, order, pytest.fail):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        assert not found
        stored = artefact.store(tmp_path, order, _write)
    thread.join(10)
    assert found == [stored]


# --- file systems that lack something: NFS, CIFS, Lustre ---


def _refuse(number: int) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_it_is_stored_with_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    monkeypatch.setattr("fcntl.flock", _refuse(number))
    order = _order()
    others = tmp_path / "artefacts" / f".{order.folder_name}.of-another-process"
    others.mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        stored = _store(tmp_path, order)
    (warning,) = caplog.messages
    assert "no locks" in warning
    assert os.strerror(number) in warning
    assert artefact.find(tmp_path, order) == stored
    # Without a lock, its writer may be alive.
    assert others.exists()


def test_a_lock_that_fails_while_waiting_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([errno.EAGAIN, errno.ENOLCK])
    monkeypatch.setattr("fcntl.flock", lambda *_: _refuse(next(answers))())
    waited: list[bool] = []
    with artefact.exclusive(tmp_path, _order(), lambda: waited.append(True)):
        artefact.store(tmp_path, _order(), _write)
    assert waited == [True]
    assert "no locks" in caplog.text


def test_a_lock_that_breaks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", _refuse(errno.EIO))
    with (
        pytest.raises(PassingError, match=r"--cache-dir .*Input/output error"),
        artefact.exclusive(tmp_path, _order(), pytest.fail),
    ):
        pass


@pytest.mark.parametrize(
    ("function", "number"),
    [
        ("pathlib.Path.chmod", errno.EPERM),
        ("pathlib.Path.chmod", errno.EOPNOTSUPP),
        ("os.fsync", errno.EINVAL),
        ("os.fsync", errno.ENOSYS),
    ],
)
def test_without_modes_or_syncs_it_is_stored_with_one_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    function: str,
    number: int,
) -> None:
    order = _order()
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(function, _refuse(number))
        stored = _store(tmp_path, order)
    (warning,) = caplog.messages
    assert os.strerror(number) in warning
    assert artefact.find(tmp_path, order) == stored
    names = {entry.name for entry in (tmp_path / "artefacts").iterdir()}
    assert names == {order.folder_name, f".{order.folder_name}.lock"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_sync_that_fails_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("os.fsync", _refuse(number))
    with pytest.raises(PassingError, match=os.strerror(number)):
        _store(tmp_path, _order())
    assert artefact.find(tmp_path, _order()) is None


@pytest.mark.parametrize("late", [False, True], ids=["before it is placed", "while it is placed"])
def test_two_without_locks_leave_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    """The other start stores the same while this one writes, or between its look and its rename."""
    order = _order()
    rename = Path.rename
    begun: list[bool] = []

    def other() -> None:
        if not begun:
            begun.append(True)
            artefact.store(tmp_path, order, _write)

    def write(xml: Path) -> None:
        _write(xml)
        if not late:
            other()

    def late_rename(source: Path, target: Path) -> Path:
        other()
        return rename(source, target)

    if late:
        monkeypatch.setattr(Path, "rename", late_rename)
    monkeypatch.setattr("fcntl.flock", _refuse(errno.ENOLCK))
    with artefact.exclusive(tmp_path, order, pytest.fail):
        stored = artefact.store(tmp_path, order, write)
    assert begun
    assert artefact.find(tmp_path, order) == stored
    names = {entry.name for entry in (tmp_path / "artefacts").iterdir()}
    assert names == {order.folder_name, f".{order.folder_name}.lock"}


def test_what_was_made_where_more_was_installed_is_found(tmp_path: Path) -> None:
    """An image's build stage has torch, the image has not."""
    made = _store(tmp_path, _order(torch="2.13.0", openvino="2026.1"))
    here = _order(torch="absent", openvino="2026.1")
    assert here.key != made.key
    found = artefact.find(tmp_path, here)
    assert found is not None
    assert (found.path, found.key) == (made.path, made.key)


@pytest.mark.parametrize(
    "ingredients",
    [
        {"torch": "absent", "openvino": "2026.2"},
        {"torch": "absent", "openvino": "2026.1", "weights": "other"},
        {"torch": "absent"},
        {"torch": "2.14.0", "openvino": "2026.1"},
    ],
)
def test_what_is_here_must_have_made_it(tmp_path: Path, ingredients: dict[str, str]) -> None:
    _store(tmp_path, _order(torch="2.13.0", openvino="2026.1"))
    assert artefact.find(tmp_path, _order(**ingredients)) is None


@pytest.mark.parametrize(
    ("made", "wanted", "serves"),
    [("enable", "disable", True), ("disable", "enable", False), ("enable", "enable", True)],
)
def test_an_image_for_narrow_sums_serves_on_wide_ones_and_not_the_other_way_round(
    tmp_path: Path, made: str, wanted: str, *, serves: bool
) -> None:
    _store(tmp_path, _order(torch="2.13.0", overflow_fix=made))
    found = artefact.find(tmp_path, _order(torch="absent", overflow_fix=wanted))
    assert (found is not None) is serves
    # Where it can be made, the CPU's own is.
    other = artefact.find(tmp_path, _order(torch="2.13.0", overflow_fix=wanted))
    assert (other is not None) is (made == wanted)


@pytest.mark.parametrize(("made", "wanted"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_an_image_whose_layers_were_searched_with_other_arithmetic_serves(
    tmp_path: Path, made: str, wanted: str
) -> None:
    _store(tmp_path, _order(torch="2.13.0", left_out=made))
    assert artefact.find(tmp_path, _order(torch="absent", left_out=wanted)) is not None
    assert artefact.find(tmp_path, _order(torch="2.13.0", left_out=wanted)) is None


def test_damage_of_what_was_made_elsewhere_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = _store(tmp_path, _order(torch="2.13.0"))
    made.path.chmod(0o644)
    made.path.write_text("other")
    assert artefact.find(tmp_path, _order(torch="absent")) is None
    assert "is damaged" in caplog.text
