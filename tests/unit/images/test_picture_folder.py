"""A user's own pictures: folders by class, CSVs, heaps, and what is wrong with them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support.own_pictures import draw_picture

from corral.errors import ConfigError, PictureError
from corral.images import picture_folder
from corral.tensors import Recipe

_CLASSES = ("tiger cat", "crane", "crane", "Egyptian cat")
_RECIPE = Recipe(resize=8, crop=8)


def test_folders_are_classes_by_label_or_number(tmp_path: Path) -> None:
    for name in ("Tiger_Cat/a.png", "3/b.png", "1/deeper/c.PNG"):
        draw_picture(tmp_path / name)
    (tmp_path / "3" / "notes.txt").write_text("no picture")
    found = picture_folder.read(tmp_path, "evaluate", _CLASSES)
    by_name = {
        file.name: label for file, label in zip(found.files, found.labels or (), strict=True)
    }
    assert by_name == {"a.png": 0, "b.png": 3, "c.PNG": 1}


def test_links_to_folders_are_classes_and_hidden_folders_are_none(tmp_path: Path) -> None:
    draw_picture(tmp_path / "elsewhere" / "a.png")
    draw_picture(tmp_path / "set" / "3" / "b.png")
    draw_picture(tmp_path / "set" / "3" / ".ipynb_checkpoints" / "b-checkpoint.png")
    draw_picture(tmp_path / "set" / ".cache" / "c.png")
    (tmp_path / "set" / "crane").symlink_to("../set")
    (tmp_path / "set" / "Tiger cat").symlink_to("../elsewhere")
    found = picture_folder.read(tmp_path / "set", "evaluate", _CLASSES)
    names = [str(file.relative_to(tmp_path / "set")) for file in found.files]
    assert dict(zip(names, found.labels or (), strict=True)) == {"3/b.png": 3, "Tiger cat/a.png": 0}
    # Where there is nothing else, it is what was meant.
    (tmp_path / "set" / "3" / "b.png").unlink()
    assert len(picture_folder.read(tmp_path / "set" / "3", "--calibration", ())) == 1


def test_pictures_that_calibrate_and_judge_are_told(tmp_path: Path) -> None:
    for name in ("0/a.png", "0/b.png", "1/c.png"):
        draw_picture(tmp_path / "all" / name)
    draw_picture(tmp_path / "some" / "d.png")
    judging = picture_folder.read(tmp_path / "all", "--evaluation", _CLASSES)
    calibrating = picture_folder.read(tmp_path / "some", "--calibration", ())
    assert not judging.told_seen(calibrating)
    (tmp_path / "some" / "e.png").symlink_to("../all/0/b.png")
    calibrating = picture_folder.read(tmp_path / "some", "--calibration", ())
    told = judging.told_seen(calibrating)
    assert f"--evaluation {tmp_path}/all: 1 of its 3 pictures are of --calibration" in told


@pytest.mark.parametrize("written", ["Rot Caf\u00e9", "rot_cafe\u0301"])
def test_an_accent_may_be_a_character_of_its_own(tmp_path: Path, written: str) -> None:
    draw_picture(tmp_path / written / "a.png")
    for label in ("Rot Caf\u00e9", "Rot Cafe\u0301"):
        assert picture_folder.read(tmp_path, "evaluate", ("x", label)).labels == (1,)


def test_files_that_are_left_out_are_told_with_their_endings(tmp_path: Path) -> None:
    draw_picture(tmp_path / "0" / "a.png")
    for name in ("b.webp", "c.WEBP", "d.tif", "e", ".hidden", "f.1", "g.2", "h.3", "i.4"):
        (tmp_path / "0" / name).write_bytes(b"x")
    found = picture_folder.read(tmp_path, "--evaluation", _CLASSES)
    assert found.left_out[".webp"] == 2
    assert found.spread(1).left_out == found.left_out
    told = found.told_left_out()
    assert told.startswith(f"--evaluation {tmp_path}: 8 files are left out, for only JPEG and PNG")
    assert ": 2 .webp, 1 " in told
    assert told.endswith(", 2 others")
    assert "1 without an ending" in told


def test_a_folder_of_other_pictures_alone_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"no JPEG or PNG in it; 1 file is left out.*1 \.webp$"):
        picture_folder.read(tmp_path, "evaluate", _CLASSES)
    draw_picture(tmp_path / "b.png")
    (tmp_path / "a.webp").unlink()
    assert not picture_folder.read(tmp_path, "evaluate", _CLASSES).told_left_out()


def test_a_heap_has_no_labels(tmp_path: Path) -> None:
    draw_picture(tmp_path / "a.png")
    draw_picture(tmp_path / "x" / "b.png")
    assert picture_folder.read(tmp_path, "--evaluation", _CLASSES).labels is None
    assert picture_folder.read(tmp_path / "x", "--calibration", ()).labels is None


def test_strays_beside_the_folders_of_classes_are_left_out_with_a_word(tmp_path: Path) -> None:
    for name in ("stray.png", "0/a.png", "1/b.png"):
        draw_picture(tmp_path / name)
    found = picture_folder.read(tmp_path, "--evaluation", _CLASSES)
    assert (found.labels, found.strays) == ((0, 1), 1)
    (told,) = found.told()
    assert told.endswith(": 1 picture is left out, for it lies beside the folders of classes")
    assert picture_folder.read(tmp_path, "--calibration", ()).told() == []
    (tmp_path / "stray.png").unlink()
    assert picture_folder.read(tmp_path, "--evaluation", _CLASSES).told() == []


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("a.png", "0/a.png"), "for as many or more of them lie in no folder"),
        (("a.png", "0/a.png", "x/b.png"), "for some lie in no folder, and no class is called 'x'"),
        (("a.png", "b.png"), ""),
    ],
)
def test_pictures_in_folders_that_have_no_labels_say_why(
    tmp_path: Path, names: tuple[str, ...], why: str
) -> None:
    for name in names:
        draw_picture(tmp_path / name)
    found = picture_folder.read(tmp_path, "--evaluation", _CLASSES)
    assert (len(found), found.labels) == (len(names), None)
    assert why in "".join(found.told())
    assert bool(found.told()) is bool(why)


def test_wordnets_numbers_in_their_order_are_the_classes(tmp_path: Path) -> None:
    for name in ("n00000007", "n00000003", "n00000011", "n00000002"):
        draw_picture(tmp_path / name / "a.png")
    found = picture_folder.read(tmp_path, "evaluate", _CLASSES)
    labels = {f.parent.name: n for f, n in zip(found.files, found.labels or (), strict=True)}
    assert labels == {"n00000002": 0, "n00000003": 1, "n00000007": 2, "n00000011": 3}


@pytest.mark.parametrize(("odd", "said"), [("link", "leads nowhere"), ("pipe", "is no file")])
def test_a_picture_that_is_no_file_is_told_and_not_passed_over(
    tmp_path: Path, odd: str, said: str
) -> None:
    draw_picture(tmp_path / "0" / "a.png")
    if odd == "link":
        (tmp_path / "0" / "b.jpg").symlink_to("../blobs/gone")
    else:
        os.mkfifo(tmp_path / "0" / "b.jpg")
    with pytest.raises(ConfigError, match=f"b.jpg: .*{said}"):
        picture_folder.read(tmp_path, "evaluate", _CLASSES)


@pytest.mark.parametrize("rest", ["", " tench, Tinca tinca"])
def test_wordnets_numbers_in_the_labels_say_which_class_a_folder_is(
    tmp_path: Path, rest: str
) -> None:
    for name in ("n00000007", "n00000003", "n00000011"):
        draw_picture(tmp_path / name / "1.jpg")
    classes = [f"{name}{rest}" for name in ("n00000011", "n00000003", "n00000007")]
    pictures = picture_folder.read(tmp_path, "--evaluation", classes)
    labels = dict(zip([f.parent.name for f in pictures.files], pictures.labels or (), strict=True))
    assert labels == {"n00000011": 0, "n00000003": 1, "n00000007": 2}


@pytest.mark.parametrize(
    "head",
    ["", "file,label\n", "\ufeffpath,class\n", "image_path, target\r\n", "\n \nname,label\n"],
)
def test_a_csv_names_files_and_labels(tmp_path: Path, head: str) -> None:
    draw_picture(tmp_path / "in" / "a, b.png")
    draw_picture(tmp_path / "c.png")
    (tmp_path / "list.csv").write_text(f'{head}"in/a, b.png",Egyptian cat\nc.png,0\n', "utf-8")
    found = picture_folder.read(tmp_path / "list.csv", "evaluate", _CLASSES)
    assert [file.name for file in found.files] == ["a, b.png", "c.png"]
    assert found.labels == (3, 0)


@pytest.mark.parametrize("between", [", ", ";", "\t"])
def test_a_csv_may_be_a_spreadsheet_s(tmp_path: Path, between: str) -> None:
    draw_picture(tmp_path / "a.png")
    draw_picture(tmp_path / " b.png")
    text = f"a.png{between}Tiger Cat\n\n \n b.png{between}3\n"
    (tmp_path / "list.csv").write_text(text, "utf-8")
    found = picture_folder.read(tmp_path / "list.csv", "evaluate", _CLASSES)
    assert [file.name for file in found.files] == ["a.png", " b.png"]
    assert found.labels == (0, 3)


def test_classes_that_differ_by_case_alone_are_told_apart_as_they_are_written(
    tmp_path: Path,
) -> None:
    for name in ("Cat", "cat", "a_b", "-1"):
        draw_picture(tmp_path / name / "a.png")
    classes = ("cat", "Cat", "a-b", "a_b", "-1")
    found = picture_folder.read(tmp_path, "evaluate", classes)
    labels = {f.parent.name: n for f, n in zip(found.files, found.labels or (), strict=True)}
    assert labels == {"cat": 0, "Cat": 1, "a_b": 3, "-1": 4}
    draw_picture(tmp_path / "CAT" / "a.png")
    _refused(tmp_path, "'CAT' are classes 0 and 1; name them by number", classes)


def test_crops_are_what_a_client_s_picture_becomes(tmp_path: Path) -> None:
    draw_picture(tmp_path / "a.png", 77)
    found = picture_folder.read(tmp_path, "evaluate", ())
    np.testing.assert_array_equal(found.crop(0, _RECIPE), np.full((8, 8, 3), 77, np.uint8))


def test_spread_keeps_first_to_last_and_labels(tmp_path: Path) -> None:
    for number in range(10):
        draw_picture(tmp_path / str(number % 2) / f"{number}.png")
    found = picture_folder.read(tmp_path, "evaluate", _CLASSES)
    few = found.spread(4)
    assert len(few) == 4
    assert set(few.labels or ()) == {0, 1}
    assert found.spread(10) is found


def test_the_digest_knows_content_and_labels(tmp_path: Path) -> None:
    path = draw_picture(tmp_path / "0" / "a.png")
    first = picture_folder.read(tmp_path, "evaluate", _CLASSES).digest()
    assert picture_folder.read(tmp_path, "evaluate", _CLASSES).digest() == first
    path.write_bytes(path.read_bytes() + b"x")
    changed = picture_folder.read(tmp_path, "evaluate", _CLASSES).digest()
    assert changed != first
    (tmp_path / "0").rename(tmp_path / "1")
    assert picture_folder.read(tmp_path, "evaluate", _CLASSES).digest() != changed


@pytest.mark.parametrize("size_bytes", [0, 300 * 2**10])
def test_the_digest_knows_other_pictures_of_the_same_name_size_and_time(
    tmp_path: Path, size_bytes: int
) -> None:
    def digest(folder: str, colour: int) -> str:
        path = draw_picture(tmp_path / folder / "0" / "a.png", colour)
        path.write_bytes(path.read_bytes().ljust(size_bytes, b"\0"))
        os.utime(path, (1e9, 1e9))
        return picture_folder.read(tmp_path / folder, "evaluate", _CLASSES).digest()

    first = digest("one", 9)
    sizes = {(tmp_path / "one" / "0" / "a.png").stat().st_size}
    assert digest("one", 8) != first
    assert {(tmp_path / "one" / "0" / "a.png").stat().st_size} == sizes
    # What was copied elsewhere is the same.
    assert digest("other", 9) == first


def test_files_whose_names_are_not_utf8_are_pictures_as_others(tmp_path: Path) -> None:
    draw_picture(tmp_path / "0" / os.fsdecode(b"\xff.png"))
    found = picture_folder.read(tmp_path, "evaluate", _CLASSES)
    assert found.digest()
    found.files[0].unlink()
    with pytest.raises(PictureError, match=os.strerror(2)):
        found.digest()


def _refused(path: Path, words: str, classes: tuple[str, ...] = _CLASSES) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        picture_folder.read(path, "evaluate", classes)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path / "none", "no such folder or CSV file")
    _refused(tmp_path, "no JPEG or PNG in it")


def test_a_folder_that_no_label_matches_is_refused(tmp_path: Path) -> None:
    draw_picture(tmp_path / "dogs" / "a.png")
    _refused(tmp_path, "no class is called 'dogs'; a label or a number from 0 to 3")


@pytest.mark.parametrize("name", ["4", "-1", "1.0", "\u0663"])
def test_a_number_that_is_no_class_is_refused(tmp_path: Path, name: str) -> None:
    draw_picture(tmp_path / name / "a.png")
    if name == "\u0663":
        assert picture_folder.read(tmp_path, "evaluate", _CLASSES).labels == (3,)
    else:
        _refused(tmp_path, "no class is called")


@pytest.mark.parametrize("name", ["-1", "+1"])
def test_a_sign_is_no_hyphen_of_a_class_that_is_called_by_its_number(
    tmp_path: Path, name: str
) -> None:
    draw_picture(tmp_path / name / "a.png")
    with pytest.raises(ConfigError, match="no class is called"):
        picture_folder.read(tmp_path, "evaluate", ("0", "1", "2"))


def test_a_label_of_two_classes_is_refused(tmp_path: Path) -> None:
    draw_picture(tmp_path / "Crane" / "a.png")
    _refused(tmp_path, "'Crane' are classes 1 and 2; name them by number")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no pictures in it"),
        (b"file,label\n", "no pictures in it"),
        (b"a.png\n", "line 1 is no file,label"),
        (b"a.png,0\nb.png,0\n", "line 2: no such file 'b.png'"),
        (b"file,label\n\n\na.png,0\n\nb.png,0\n", "line 6: no such file 'b.png'"),
        (b"a.png,0\n" + 5000 * b"b" + b",0\n", "line 2: no such file 'b{200}'"),
        (b"a.png,wolf\n", "no class is called 'wolf'"),
        (b"a.png," + 5000 * b"9", "no class is called '9{100}'"),
        (b'"a.png,0\n', "neither a folder nor a CSV"),
        (b"\xff\xd8\xff\xe0 a JPEG", "neither a folder nor a CSV"),
    ],
)
def test_a_csv_that_is_none_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    draw_picture(tmp_path / "a.png")
    (tmp_path / "list.csv").write_bytes(content)
    _refused(tmp_path / "list.csv", words)


def test_a_model_without_classes_takes_no_csv(tmp_path: Path) -> None:
    draw_picture(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("a.png,0\n")
    _refused(tmp_path / "list.csv", "no scores of classes", ())


def test_where_labels_do_not_matter_a_csv_names_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_picture(tmp_path / name)
    (tmp_path / "list.csv").write_text("a.png,0\nb.png,no class\n")
    found = picture_folder.read(tmp_path / "list.csv", "--calibration", (), labelled=False)
    assert ([file.name for file in found.files], found.labels) == (["a.png", "b.png"], None)


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = draw_picture(tmp_path / "a.png")
    path.write_bytes(path.read_bytes()[:40] if content is None else content)
    found = picture_folder.read(tmp_path, "evaluate", ())
    with pytest.raises(PictureError, match=r"evaluate .*a\.png: "):
        found.crop(0, _RECIPE)
    path.unlink()
    with pytest.raises(PictureError, match=f"a.png: {os.strerror(2)}"):
        found.crop(0, _RECIPE)
