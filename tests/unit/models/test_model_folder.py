"""The one model below a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from corral.errors import ModelError
from corral.models import custom, model_folder, registry

DATA = Path(__file__).parents[2] / "data" / "models"


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["model.onnx"], "model.onnx"),
        (["model.onnx", "model.toml", "labels.txt", "README.md"], "model.onnx"),
        (["resnet/1/model.onnx"], "resnet/1/model.onnx"),
        (["resnet/2/model.xml", "resnet/2/model.bin"], "resnet/2/model.xml"),
        (["1/model.onnx", "2/model.onnx", "10/model.onnx"], "10/model.onnx"),
        (["resnet/9/old.onnx", "resnet/11/new.onnx"], "resnet/11/new.onnx"),
        (["model.onnx", "config.xml"], "model.onnx"),
        (["model.onnx", "..2026_11_26/model.onnx", ".cache/model.onnx"], "model.onnx"),
        (["1/model.onnx"], "1/model.onnx"),
    ],
)
def test_the_one_model_is_found(tmp_path: Path, names: list[str], found: str) -> None:
    _touch(tmp_path, *names)
    assert model_folder.find(tmp_path) == tmp_path / found


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        ([], "no model.onnx"),
        (["model.xml"], "no model.onnx"),
        (["a.onnx", "b.onnx"], "has 2 models (a.onnx, b.onnx), not one; name one of them"),
        (["a/1/m.onnx", "a/2/m.onnx", "b/1/m.onnx"], "has 2 models (a/2/m.onnx, b/1/m.onnx)"),
        ([f"m{n}.onnx" for n in range(6)], "and 2 more"),
    ],
)
def test_none_or_several_are_one_line(tmp_path: Path, names: list[str], cause: str) -> None:
    _touch(tmp_path, *names)
    with pytest.raises(ModelError) as caught:
        model_folder.find(tmp_path)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_link_into_a_hidden_folder_is_followed(tmp_path: Path) -> None:
    """A ConfigMap's layout: plain names lead to folders that are somebody's own business."""
    _touch(tmp_path, "..2026/model.onnx")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "model.onnx").symlink_to("..data/model.onnx")
    assert model_folder.find(tmp_path) == tmp_path / "model.onnx"


def test_a_loop_of_links_comes_to_an_end(tmp_path: Path) -> None:
    _touch(tmp_path, "1/model.onnx")
    (tmp_path / "1" / "again").symlink_to(tmp_path)
    with pytest.raises(ModelError, match=r"has [0-9]+ models"):
        model_folder.find(tmp_path)


def test_a_folder_that_is_no_models_folder_is_not_walked_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_folder, "_MOST_FILES", 5)
    _touch(tmp_path, *(f"{n}.txt" for n in range(6)))
    with pytest.raises(ModelError, match="more than 5 files"):
        model_folder.find(tmp_path)


def test_model_takes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "mine" / "3"
    home.mkdir(parents=True)
    for name in ("colours.onnx", "colours.toml", "colours.txt"):
        shutil.copy(DATA / name, home / name)
    spec = registry.get(str(tmp_path / "mine"))
    assert spec.file == home / "colours.onnx"
    assert spec.label_names == ("red", "green", "blue")
    monkeypatch.chdir(tmp_path)
    assert custom.is_path("mine")
    assert registry.get("mine").file == home / "colours.onnx"
