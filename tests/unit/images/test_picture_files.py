"""A user's own pictures count once each, and what cannot be read is told by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.own_pictures import draw_picture

from corral.errors import ConfigError
from corral.images import picture_folder

_CLASSES = ("tiger cat", "crane", "crane", "Egyptian cat")


def test_a_picture_that_lies_in_two_places_counts_once(tmp_path: Path) -> None:
    first = draw_picture(tmp_path / "0" / "a.png", 7)
    for name in ("0/b.png", "0/c.PNG"):
        draw_picture(tmp_path / name, 7)
    (tmp_path / "0" / "d.png").symlink_to("a.png")
    other = draw_picture(tmp_path / "1" / "e.png", 8)
    found = picture_folder.read(tmp_path, "--evaluation", _CLASSES)
    assert (found.files, found.labels, found.copies) == ((first, other), (0, 1), 3)
    (told,) = found.told()
    assert told.startswith(f"--evaluation {tmp_path}: 3 files are left out, for they are copies")
    with pytest.raises(ConfigError, match="2 pictures beside 3 copies; 3 or more different ones"):
        found.check_count(3)
    found.check_count(2)
    # Nothing was left out of them that would be another picture.
    heap = picture_folder.read(tmp_path, "--calibration", (), labelled=False)
    assert (heap.files, heap.labels, heap.copies) == ((first, other), None, 3)


def test_a_csv_s_pictures_count_once_too(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_picture(tmp_path / name, 7)
    (tmp_path / "list.csv").write_text("a.png,0\nb.png,0\na.png,0\n")
    found = picture_folder.read(tmp_path / "list.csv", "evaluate", _CLASSES)
    assert (len(found), found.labels, found.copies) == (1, (0,), 2)


def test_a_picture_under_two_labels_is_left_out_and_both_are_named(tmp_path: Path) -> None:
    for name in ("0/a.png", "3/b.png", "3/c.png"):
        draw_picture(tmp_path / name, 7)
    right = draw_picture(tmp_path / "1" / "d.png", 8)
    found = picture_folder.read(tmp_path, "evaluate", _CLASSES)
    assert (found.files, found.labels, found.copies, found.torn) == ((right,), (1,), 0, 3)
    (told,) = found.told()
    one, other = f"{tmp_path}/0/a.png is 'tiger cat'", f"{tmp_path}/3/b.png is 'Egyptian cat'"
    assert told.endswith(
        f"3 files are left out, for one picture has several labels: {one} and {other}"
    )
    # Where labels do not matter, they are copies.
    assert picture_folder.read(tmp_path, "--calibration", (), labelled=False).copies == 2
    right.unlink()
    with pytest.raises(
        ConfigError, match=r"every picture has several labels: .*a\.png is 'tiger cat'"
    ):
        picture_folder.read(tmp_path, "evaluate", _CLASSES)


def test_large_files_of_one_size_are_told_apart_by_their_ends(tmp_path: Path) -> None:
    for name, end in (("0/a.png", b"x"), ("0/b.png", b"y"), ("0/c.png", b"y")):
        path = draw_picture(tmp_path / name, 7)
        path.write_bytes(path.read_bytes().ljust(300 * 2**10, b"\0") + end)
    found = picture_folder.read(tmp_path, "evaluate", _CLASSES)
    assert ([file.name for file in found.files], found.copies) == (["a.png", "b.png"], 1)


@pytest.mark.parametrize("closed", ["0", "0/deeper", "0/a.png", "link", "open"])
def test_what_may_not_be_read_is_told_by_name(tmp_path: Path, closed: str) -> None:
    for name in ("0/a.png", "0/deeper/b.png", "1/c.png"):
        draw_picture(tmp_path / "set" / name)
    modes = {"link": 0o000, "open": 0o444}
    if closed == "link":
        draw_picture(tmp_path / "elsewhere" / "in" / "d.png")
        (tmp_path / "set" / "Tiger cat").symlink_to("../elsewhere/in")
        path, said = tmp_path / "elsewhere", tmp_path / "set" / "Tiger cat"
    elif closed == "open":
        # Its names can be listed, and nothing more.
        path, said = tmp_path / "set" / "1", tmp_path / "set" / "1" / "c.png"
    else:
        path = said = tmp_path / "set" / closed
    path.chmod(modes.get(closed, 0o000))
    try:
        for option in ("evaluate", "--calibration"):
            told = _as_somebody(tmp_path / "set", option)
            assert told.startswith(f"{option} {tmp_path}/set: {said}: Permission denied; make it")
    finally:
        path.chmod(0o755)
    assert not _as_somebody(tmp_path / "set", "evaluate")


def test_a_closed_folder_that_would_be_left_out_anyway_is_no_fault(tmp_path: Path) -> None:
    draw_picture(tmp_path / "0" / "a.png")
    (tmp_path / "0" / ".cache").mkdir(mode=0o000)
    (tmp_path / "0" / "notes.txt").write_text("no picture")
    (tmp_path / "0" / "notes.txt").chmod(0o000)
    assert not _as_somebody(tmp_path, "evaluate")


def test_a_folder_that_may_not_be_listed_is_told(tmp_path: Path) -> None:
    draw_picture(tmp_path / "set" / "0" / "a.png")
    (tmp_path / "set").chmod(0o000)
    told = _as_somebody(tmp_path / "set", "evaluate")
    assert told.startswith(f"evaluate {tmp_path}/set: Permission denied; make it readable")


def test_a_link_to_nothing_may_be_a_class(tmp_path: Path) -> None:
    draw_picture(tmp_path / "0" / "a.png")
    (tmp_path / "Egyptian cat").symlink_to("../gone")
    with pytest.raises(ConfigError, match="Egyptian cat: the link leads nowhere; make it readable"):
        picture_folder.read(tmp_path, "evaluate", _CLASSES)


def _as_somebody(path: Path, option: str) -> str:
    """What ``read`` refuses a path with, without root's right to read everything; "" where not."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom corral.errors import ConfigError\n"
        "from corral.images import picture_folder\n"
        "try: picture_folder.read(Path(sys.argv[1]), sys.argv[2], ('tiger cat', 'crane'))\n"
        "except ConfigError as error: print(error)\n"
    )
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*drop, sys.executable, "-c", program, str(path), option],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.rstrip("\n")
