"""Files may be called anything: model, cache, settings, sockets, TLS files, tokens, pictures."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.certificates import Authority, private
from support.matrix_model import write_matrix_model
from support.running_server import Server, environment
from support.surroundings import CORRAL, folder_for

_TOKEN = "first-token-0123456789"
_CLIENT = Path(sys.executable).with_name("corral-client")
#: a kind of path is a line: the folder's name, and how it is written in the settings
PATHS = [
    ("a b  c", "{}"),
    ("a:b,c;d=e", "{}"),
    ("é ß 日本 😀", "{}"),
    ("%41 100% #x ?y=&z {models} %s", "{}"),
    ("'\"$HOME`*[!]", "{}"),
    ("-", "{}"),
    ("long" * 10, "{}"),
    ("relative", "."),
    ("home", "~"),
]


@pytest.fixture
def base() -> Iterator[Path]:
    with folder_for(prefix="c-") as folder:
        yield folder


def _settings(folder: Path, shown: str) -> Path:
    """Fills a folder with all that a server can be given, and names it in a settings file."""
    authority = Authority(folder)
    pair = authority.issue("server", "localhost", "127.0.0.1")
    tokens = private(folder / "tokens", _TOKEN)
    (folder / "real.onnx").unlink(missing_ok=True)
    write_matrix_model(folder / "real.onnx")
    (folder / "m.onnx").symlink_to("real.onnx")
    file = folder / "settings.toml"
    values = {
        "model": f"{shown}/m.onnx",
        "cache-dir": f"{shown}/cache",
        "tls-cert": f"{shown}/{pair.cert.name}",
        "tls-key": f"{shown}/{pair.key.name}",
        "auth-token-file": f"{shown}/{tokens.name}",
        "unix-socket": f"{shown}/u",
        "admin-socket": f"{shown}/a",
    }
    # JSON's strings are TOML's.
    lines = (
        f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items()
    )
    file.write_text("".join(lines), "utf-8")
    return file


@contextlib.contextmanager
def _serving(folder: Path, config: str, env: dict[str, str]) -> Iterator[Server]:
    command = [*CORRAL, "serve", "--backend", "null", "--workers", "1", "--port", "0"]
    command += ["--metrics-port", "0", f"--config={config}"]
    # Started there, as somebody would who names what lies there.
    server = Server(["sh", "-c", 'cd "$0" && exec "$@"', str(folder), *command], env)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.end()


def _run(command: list[str], folder: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60,
        errors="surrogateescape",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "shown"), PATHS, ids=[name for name, _ in PATHS])
def test_everything_lies_in_an_odd_folder(base: Path, name: str, shown: str) -> None:
    folder = base / name
    folder.mkdir()
    written = shown.replace("{}", str(folder))
    config = _settings(folder, written)
    env = {**environment(), "HOME": str(folder)}
    given = str(config) if shown == "{}" else f"{shown}/{config.name}"
    with _serving(folder, given, env) as server:
        secure = ["--ca", str(folder / "ca.pem"), "--token-file", str(folder / "tokens")]
        tcp = [str(_CLIENT), "metadata", "--json", *secure, "--url", f"localhost:{server.port}"]
        assert json.loads(_run(tcp, folder, env))["name"] == "m"
        status = [*CORRAL, "status", "--json", f"--admin-socket={written}/a"]
        assert json.loads(_run(status, folder, env))["model"] == "m"
        assert server.stop() == 0
        assert "Traceback" not in server.stderr
    assert not (folder / "u").exists()


def test_the_client_takes_sockets_and_pictures_of_any_name(base: Path) -> None:
    """Its own words are escaped where the locale cannot show them."""
    folder = base / "a b%20é"
    folder.mkdir()
    picture = folder / os.fsdecode(b"p \xff\n\xc3\xa9.png")
    with io.BytesIO() as encoded:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(encoded, "PNG")
        picture.write_bytes(encoded.getvalue())
    env = {**environment(), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [*CORRAL, "serve", "--backend", "null", "--workers", "1", "--port", "0"]
    command += ["--metrics-port", "0", f"--unix-socket={folder}/u", "--model=efficientnet_lite0"]
    server = Server(command, env)
    try:
        server.wait_until_ready()
        for form in ([], ["--json"], ["--http"]):
            words = [str(_CLIENT), "classify", *form, "--url", f"unix:{folder}/u", str(picture)]
            assert _run(words, folder, env)
    finally:
        server.end()
