"""Machines in archives: unpacked for the while, and nothing beside."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from support.machines import ARCHIVES

from corral.errors import ConfigError
from corral.planning.topology import read_machine
from corral.system.archive import machine_root


def test_an_archive_is_read_as_its_folder_and_is_gone_afterwards() -> None:
    with machine_root(ARCHIVES / "16em64t-4s2c2t-offlines.tar.bz2") as root:
        assert read_machine(root, live=False).offline_cpus == (2, 5, 13, 14)
        kept = root
    assert not kept.exists()


def test_a_folder_and_a_folder_around_it(tmp_path: Path) -> None:
    (tmp_path / "machine" / "sys").mkdir(parents=True)
    with machine_root(tmp_path) as outer, machine_root(tmp_path / "machine") as inner:
        assert outer == inner == tmp_path / "machine"


def test_what_leads_out_of_an_archive_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as archive:
        out = tarfile.TarInfo("m/sys/out")
        out.type, out.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(out)
        escaping = tarfile.TarInfo("../escaped")
        escaping.size = 1
        archive.addfile(escaping, io.BytesIO(b"x"))
        inside = tarfile.TarInfo("m/sys/inside")
        inside.size = 1
        archive.addfile(inside, io.BytesIO(b"x"))
    with machine_root(path) as root:
        assert [entry.name for entry in (root / "sys").iterdir()] == ["inside"]
    assert not (tmp_path / "escaped").exists()


def _link(archive: tarfile.TarFile, name: str, target: str) -> None:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE, target
    archive.addfile(link)


def test_links_are_made_where_they_end_inside(tmp_path: Path) -> None:
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as archive:
        _link(archive, "m/sys/before", "../proc/text")
        text = tarfile.TarInfo("m/proc/text")
        text.size = 1
        archive.addfile(text, io.BytesIO(b"x"))
        _link(archive, "m/sys/circle", "circle")
        _link(archive, "m/sys/up", "../../..")
        # Inside when it is made, outside as soon as "later" is there.
        _link(archive, "m/sys/turns", "later/../text")
        _link(archive, "m/sys/later", "../..")
        _link(archive, "m/sys/turns/below", "before")
    with machine_root(path) as root:
        assert {entry.name for entry in (root / "sys").iterdir()} == {"before", "circle", "later"}
        assert (root / "sys" / "before").read_text() == "x"
        assert not (root.parent.parent / "text").exists()


def test_what_is_neither_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    for path, words in (("text", "no archive of a machine"), ("gone", "no such folder")):
        with pytest.raises(ConfigError, match=words) as raised, machine_root(tmp_path / path):
            pass
        assert "\n" not in str(raised.value)
