"""Wherever HOME, /tmp and the cache lie: a cache is had, or one line names CORRAL_CACHE."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from support.matrix_model import write_matrix_model
from support.surroundings import CORRAL, SOMEBODY, Surroundings, folder_for

from corral_client import Client

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")

_PROBE = [sys.executable, "-m", "support.cache_probe"]
#: the machine's own, so that nothing of the tests stays in it
_OWN_VAR_TMP = ["mkdir -p $D/v", "chmod 1777 $D/v", "mount --bind $D/v /var/tmp"]
_OURS = f"/var/tmp/corral-{SOMEBODY}/cache"


def somebody(name: str, *steps: str, prefix: Sequence[str] = ()) -> Surroundings:
    """A user without a name, in group 0 (OpenShift), on a machine where something was done."""
    become = ("setpriv", "--reuid", f"{SOMEBODY}", "--regid", "0", "--clear-groups")
    mount = ("--mount", "--propagation", "private")
    return Surroundings(name, steps, mount, {}, (*become, *prefix), opened=True)


def _no_folder(*paths: str) -> list[str]:
    return [f"mount -t tmpfs -o ro none {path}" for path in paths]


#: an environment is a line: its variables, and the cache that is had; None: refused in one line
HOMES: list[tuple[dict[str, str], str | None]] = [
    ({"HOME": "/"}, _OURS),
    ({}, _OURS),
    ({"HOME": ""}, _OURS),
    ({"HOME": "relative"}, _OURS),
    ({"HOME": "/root"}, _OURS),
    ({"HOME": "/nowhere"}, _OURS),
    ({"HOME": "/dev/null"}, _OURS),
    ({"HOME": "/proc"}, _OURS),
    ({"HOME": "$D/\udcff"}, _OURS),
    ({"HOME": "$D/home"}, "$D/home/.cache/corral"),
    ({"HOME": "$D/a b:é"}, "$D/a b:é/.cache/corral"),
    ({"HOME": "/", "TMPDIR": "$D/home"}, f"$D/home/corral-{SOMEBODY}/cache"),
    ({"HOME": "/", "TMPDIR": "/nowhere"}, _OURS),
    ({"HOME": "/", "XDG_CACHE_HOME": "$D/home"}, "$D/home/corral"),
    ({"HOME": "$D/home", "XDG_CACHE_HOME": "relative"}, "$D/home/.cache/corral"),
    ({"HOME": "$D/home", "XDG_CACHE_HOME": "/root"}, "$D/home/.cache/corral"),
    ({"HOME": "/", "CORRAL_CACHE": "$D/home/named"}, "$D/home/named"),
    ({"HOME": "$D/home", "CORRAL_CACHE": "~/~"}, "$D/home/~"),
    ({"CORRAL_CACHE": "~/c"}, None),
    ({"CORRAL_CACHE": "/root/c"}, None),
    ({"CORRAL_CACHE": "/proc/c"}, None),
    ({"CORRAL_CACHE": "/dev/null/c"}, None),
    ({"CORRAL_CACHE": "$D/\udcff"}, None),
    ({"CORRAL_CACHE": "x" * 5000}, None),
]
_LONGEST = "x" * 200
_UMASKS = ["0", "077", "777"]


def _probed(
    around: Surroundings, folder: Path, environs: Sequence[Mapping[str, str]]
) -> list[dict[str, object]]:
    filled = [
        {name: value.replace("$D", str(folder)) for name, value in env.items()} for env in environs
    ]
    done = around.run(folder, [*_PROBE, json.dumps(filled)], cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_a_cache_is_had_or_refused_in_one_line() -> None:
    with folder_for(SOMEBODY) as folder:
        (folder / "home").mkdir()
        os.chown(folder / "home", SOMEBODY, 0)
        rows = _probed(somebody("", *_OWN_VAR_TMP), folder, [env for env, _ in HOMES])
        for (env, cache), row in zip(HOMES, rows, strict=True):
            if cache is None:
                said = str(row["artefact"])
                assert said.startswith("refused: --cache-dir "), (env, row)
                assert "CORRAL_CACHE" in said
                assert "\n" not in said
            else:
                assert row["folder"] == cache.replace("$D", str(folder)), (env, row)
                assert (row["artefact"], row["curve"]) == ("stored", "cached"), (env, row)
                assert bool(row["warning"]) is (cache == _OURS or "corral-" in cache), (env, row)


@pytest.mark.parametrize("command", ["prepare", "serve"])
def test_a_command_names_the_variable_and_not_an_option_that_nobody_gave(command: str) -> None:
    around = Surroundings("", env={"CORRAL_CACHE": "$D/\udcff"})
    with folder_for() as folder:
        done = around.run(folder, [*CORRAL, command, "--model", "resnet50"])
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("corral: CORRAL_CACHE: ")
        # An option that is given goes before the variable.
        words = [command, "--cache-dir", str(folder), "--model", "none"]
        assert "no model 'none'" in around.run(folder, [*CORRAL, *words]).stderr


def test_a_model_below_a_working_folder_without_a_name_is_refused_in_one_line() -> None:
    with folder_for() as folder:
        odd = folder / "\udcff"
        odd.mkdir()
        write_matrix_model(odd / "m.onnx")
        words = ["serve", "--backend", "onnxruntime", "--model", "m.onnx", "--cache-dir", "/tmp/c"]
        done = Surroundings("").run(folder, [*CORRAL, *words], cwd=odd)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert line.startswith("corral: --model m.onnx: b'")
        assert line.endswith("is not UTF-8")


#: what is done to the machine, and whether OpenShift's user finds a cache on it
MACHINES = [
    (["mount -t tmpfs -o ro none /var/tmp"], f"/tmp/corral-{SOMEBODY}/cache"),
    (["mkdir -m 777 $D/v/corral-" + str(SOMEBODY)], f"/tmp/corral-{SOMEBODY}/cache"),
    (["ln -s / $D/v/corral-" + str(SOMEBODY)], f"/tmp/corral-{SOMEBODY}/cache"),
    (["mkdir -m 700 $D/v/corral-" + str(SOMEBODY)], f"/tmp/corral-{SOMEBODY}/cache"),
    (_no_folder("/var/tmp", "/tmp"), None),
]


@pytest.mark.parametrize(("steps", "cache"), MACHINES, ids=[steps[0] for steps, _ in MACHINES])
def test_a_temporary_folder_is_ours_alone_or_another_is_taken(
    steps: list[str], cache: str | None
) -> None:
    with folder_for(SOMEBODY) as folder:
        own = ["mkdir -p $D/t $D/v", "chmod 1777 $D/t $D/v", "mount --bind $D/v /var/tmp"]
        # The interpreter may lie below /tmp's folders of the test; the mounts come last.
        around = somebody("", *own, *steps, "mount --bind $D/t /tmp" if cache else "true")
        (row,) = _probed(around, folder, [{"HOME": "/"}])
        if cache is None:
            assert row["usable"] is False
            assert "CORRAL_CACHE" in str(row["warning"])
        else:
            assert row["folder"] == cache
            assert row["artefact"] == "stored"


@pytest.mark.parametrize("umask", _UMASKS)
def test_no_umask_locks_us_out_or_lets_strangers_in(umask: str) -> None:
    with folder_for(SOMEBODY) as folder:
        around = somebody("", f"umask {umask}")
        env = {"CORRAL_CACHE": f"$D/{_LONGEST}/{_LONGEST}"}
        (row,) = _probed(around, folder, [env])
        assert (row["artefact"], row["curve"]) == ("stored", "cached")
        modes = row["modes"]
        assert isinstance(modes, list)
        for mode in modes:
            assert int(mode, 8) & 0o700 == 0o700
            assert not int(mode, 8) & 0o002


def test_prepare_and_serve_as_a_user_without_a_name() -> None:
    """The whole way, as OpenShift starts a container."""
    with folder_for(SOMEBODY) as folder:
        write_matrix_model(folder / "m.onnx")
        around = somebody("", *_OWN_VAR_TMP)
        env = [f"PATH={os.environ['PATH']}", "HOME=/", "CORRAL_OFFLINE=1"]
        words = ["--backend", "onnxruntime", "--precision", "fp32", "--model", f"{folder}/m.onnx"]
        done = around.run(folder, ["env", "-i", *env, *CORRAL, "prepare", *words])
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{_OURS}/artefacts/m-fp32-")
        assert "CORRAL_CACHE" in done.stderr
        with around.server(folder) as server, Client(f"127.0.0.1:{server.port}") as client:
            assert client.ready()
            assert server.stop() == 0
            assert "Traceback" not in server.stderr


def test_where_nothing_can_be_written_a_model_is_refused_in_one_line() -> None:
    with folder_for(SOMEBODY) as folder:
        write_matrix_model(folder / "m.onnx")
        around = somebody("", *_no_folder("/var/tmp", "/dev/shm"), "mount -o remount,bind,ro /")
        words = ["--backend", "onnxruntime", "--model", f"{folder}/m.onnx"]
        done = around.run(folder, ["env", "HOME=/", *CORRAL, "prepare", *words])
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "CORRAL_CACHE" in done.stderr
