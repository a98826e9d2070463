"""Where the admin socket lies, and whose folder that must be."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from corral.errors import ConfigError, StartError
from corral.supervisor import admin, admin_folder


def test_the_place_follows_the_port() -> None:
    runtime = {"XDG_RUNTIME_DIR": "/run/user/7"}
    assert admin_folder.default_paths(runtime, 8001)[0] == Path("/run/user/7/corral/8001.sock")
    own = [Path(f"{base}/corral-{os.geteuid()}/8002.sock") for base in ("/tmp", "/var/tmp")]
    assert admin_folder.default_paths({}, 8002) == own
    assert admin_folder.default_paths({"XDG_RUNTIME_DIR": "relative"}, 8002) == own


def test_a_named_socket_is_taken_and_its_home_is_the_askers() -> None:
    environ = {"HOME": "/home/ada", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert admin.find_socket(environ, 1, "~/corral.sock") == Path("/home/ada/corral.sock")
    assert admin.find_socket(environ, 1, "/tmp/x.sock") == Path("/tmp/x.sock")
    assert admin.find_socket(environ, 1, "") == Path("/run/user/7/corral/1.sock")


def test_a_folder_of_our_own_is_made_and_taken(tmp_path: Path) -> None:
    folder = tmp_path / "corral"
    admin_folder.make_private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    admin_folder.make_private_folder(folder)


def test_a_folder_that_others_can_enter_is_not_taken(tmp_path: Path) -> None:
    folder = tmp_path / "corral"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(ConfigError, match="not ours alone"):
        admin_folder.make_private_folder(folder)


def test_a_link_to_somewhere_else_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "corral").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="not ours alone"):
        admin_folder.make_private_folder(tmp_path / "corral")


def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="something else of that name"):
        admin.bind(path)
    assert path.read_text() == "precious"


def test_a_living_socket_is_not_replaced_and_a_dead_one_is(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with admin.bind(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(ConfigError, match="another server listens there"):
            admin.bind(path)
    assert path.exists()
    admin.bind(path).close()


def test_sockets_of_dead_servers_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, alive = tmp_path / "40001.sock", tmp_path / "40002.sock"
    admin.bind(dead).close()
    (tmp_path / "40003.sock").write_text("no socket")
    with contextlib.closing(admin.bind(alive)):
        admin_folder.sweep(tmp_path)
        assert dead.exists(), "it may be about to listen"
        now_s = time.time()
        monkeypatch.setattr(time, "time", lambda: now_s + 120)
        admin_folder.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["40002.sock", "40003.sock"]


def test_no_server_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no server answers at"):
        admin.ask(tmp_path / "none.sock", admin.Request(command="status"))


def test_a_path_too_long_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="AF_UNIX path too long"):
        admin.bind(tmp_path / ("x" * 200))


def test_a_socket_that_accepts_nobody_holds_nothing_up(tmp_path: Path) -> None:
    folder = tmp_path / "corral"
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        full.bind(str(folder / "1.sock"))
        full.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                waiting.setblocking(False)
                waiting.connect(str(folder / "1.sock"))
        began_s = time.monotonic()
        admin.find_socket({"XDG_RUNTIME_DIR": str(tmp_path)}, 1)
        assert time.monotonic() - began_s < 20


@pytest.mark.parametrize("command", ["status", "look", "reload", "mode", "trace"])
def test_a_server_that_stands_still_is_told(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "LOOK_WITHIN_S", 0.1)
    path = tmp_path / "admin.sock"
    # The kernel takes connections for it, as for a process that is stopped.
    with admin.bind(path) as silent:
        silent.settimeout(5)
        with pytest.raises(StartError, match=r"does not answer within 0\.1 s"):
            admin.ask(path, admin.Request(command=command))
        first, _ = silent.accept()
        with first:
            asked = first.recv(1000).decode()
    # It may wake up: nobody waits for a change any more, so none has been asked for.
    assert not any(change in asked for change in ("reload", "mode", "trace"))
