"""Layouts, colours and sizes that a model's TOML file tells."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from corral.errors import ModelError
from corral.images.decode import decode
from corral.models.notes import make_recipe, read_notes, with_side
from corral.models.onnx_header import Port
from corral.models.pictures import normalise
from corral.tensors import Datatype, Recipe, TensorSpec

_NCHW = (TensorSpec("x", Datatype.FP32, (3, 8, 8)),)
_NHWC = (TensorSpec("x", Datatype.FP32, (8, 8, 3)),)
_GREY = (TensorSpec("x", Datatype.FP32, (1, 8, 8)),)


def _recipe(tmp_path: Path, text: str, inputs: tuple[TensorSpec, ...] = _NCHW) -> Recipe:
    (tmp_path / "m.toml").write_text(f"[preprocessing]\n{text}")
    given = read_notes(tmp_path / "m.onnx").preprocessing
    assert given is not None
    return make_recipe(tmp_path / "m.onnx", given, inputs)


def test_a_scale_is_folded_into_mean_and_std(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, "scale = 0.5\nmean = [1, 2, 3]\nstd = 4")
    assert recipe.mean == (2.0, 4.0, 6.0)
    assert recipe.std == (8.0, 8.0, 8.0)
    assert (recipe.resize, recipe.crop, recipe.layout) == (8, 8, "NCHW")


def test_the_layout_is_told_by_the_shape(tmp_path: Path) -> None:
    assert _recipe(tmp_path, "", _NHWC).layout == "NHWC"
    grey = _recipe(tmp_path, 'colors = "GREY"\nmean = 3', _GREY)
    assert (grey.channels, grey.mean) == (1, (3.0, 3.0, 3.0))


@pytest.mark.parametrize(
    ("shape", "item"),
    [
        ((None, None, None, 3), (32, 32, 3)),
        ((None, 3, None, None), (3, 32, 32)),
        ((None, None, None, None), (3, 32, 32)),
        (None, (3, 32, 32)),
        ((None, 5, None, None), (3, 32, 32)),
    ],
)
def test_a_side_is_laid_out_as_the_file_has_it(
    tmp_path: Path, shape: tuple[int | None, ...] | None, item: tuple[int, ...]
) -> None:
    (tmp_path / "m.toml").write_text("[preprocessing]\nside = 32\n")
    notes = read_notes(tmp_path / "m.onnx")
    assert with_side([Port("x", "FP32", shape)], notes, {}) == {"x": item}


@pytest.mark.parametrize(
    ("text", "inputs", "cause"),
    [
        ('layout = "NHWC"', _NCHW, r"is for pictures, \[n,side,side,3\]"),
        ('colors = "GREY"', _NCHW, r"\[n,1,side,side\] or \[n,side,side,1\]"),
        ('colors = "BGR"', (TensorSpec("x", Datatype.UINT8, (8, 8, 3)),), "are for an FP32 input"),
        ("mean = [1, 2]", _NCHW, "mean has 2 values for 3 channels"),
        ("std = 0", _NCHW, "std must be above 0, not 0"),
        *(
            (f"{key} = {value}", _NCHW, f"{key} .*make no number of a pixel")
            for key in ("mean", "std", "scale")
            for value in ("nan", "inf", "1e300", "1e-300")
            if (key, value) not in {("mean", "1e-300"), ("scale", "nan")}
        ),
        ("std = 1e-45", _NCHW, "make no number of a pixel"),
        ("mean = [0, 0, -inf]", _NCHW, "make no number of a pixel"),
        ("resize = 7", _NCHW, "resize must be 8 or more, not 7"),
        ('resize = 9\nresize_mode = "stretch"', _NCHW, "resize is for resize_mode crop"),
        ("pad = [1, 2, 300]", _NCHW, "pad is R, G, B"),
        ("side = 9", _NCHW, "is for pictures"),
        ('colors = "pink"', _NCHW, "colors`; it takes BGR, GREY, RGB"),
        ('layout = "chw"', _NCHW, "layout`; it takes NCHW, NHWC"),
        ("crop = 8", _NCHW, "preprocessing`; there are resize, mean, std, scale, interpolation"),
        ("", (*_NCHW, *_NHWC), "is for one input of pictures"),
    ],
)
def test_what_does_not_fit_the_file_is_one_line(
    tmp_path: Path, text: str, inputs: tuple[TensorSpec, ...], cause: str
) -> None:
    with pytest.raises(ModelError, match=cause) as caught:
        _recipe(tmp_path, text, inputs)
    assert "m.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_came_later_changes_no_artefacts_name() -> None:
    assert str(Recipe()) == (
        "Recipe(resize=256, crop=224, interpolation='bilinear', mean=(123.675, 116.28, 103.53), "
        "std=(58.395, 57.12, 57.375))"
    )
    assert "colors='BGR'" in str(Recipe(colors="BGR"))


def test_colours_and_layouts_of_a_tensor() -> None:
    pixels = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(1, 2, 2, 3)
    plain = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    bgr = normalise(pixels, Recipe(colors="BGR", layout="NHWC", **plain))  # type: ignore[arg-type]
    np.testing.assert_array_equal(bgr, pixels[..., ::-1])
    grey = normalise(pixels, Recipe(colors="GREY", **plain))  # type: ignore[arg-type]
    assert grey.shape == (1, 1, 2, 2)
    assert grey[0, 0, 0, 0] == pytest.approx(0.587 + 2 * 0.114)


def _png(width: int, height: int) -> memoryview:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 100, 50)).save(file, "PNG")
    return memoryview(file.getvalue())


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40), (3, 1), (500, 1)])
def test_a_letterbox_keeps_the_shape_and_pads_the_rest(width: int, height: int) -> None:
    recipe = Recipe(resize=16, crop=16, resize_mode="letterbox", pad=(1, 2, 3))
    pixels = decode(_png(width, height), recipe, 10**6)
    assert pixels.shape == (16, 16, 3)
    inside = (pixels == (200, 100, 50)).all(axis=2)
    beside = (pixels == (1, 2, 3)).all(axis=2)
    assert (inside | beside).all()
    across, down = round(16 * width / max(width, height)), round(16 * height / max(width, height))
    assert inside.sum() == max(1, across) * max(1, down)
    rows, columns = np.nonzero(inside)
    assert abs((rows.min() + rows.max()) / 2 - 7.5) <= 0.5
    assert abs((columns.min() + columns.max()) / 2 - 7.5) <= 0.5


def test_a_stretched_picture_fills_the_input() -> None:
    pixels = decode(_png(40, 10), Recipe(resize=16, crop=16, resize_mode="stretch"), 10**6)
    assert (pixels == (200, 100, 50)).all()


def test_a_toml_that_is_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.toml").symlink_to("..data/m.toml")
    with pytest.raises(ModelError, match=r"m\.toml: the link leads nowhere"):
        read_notes(tmp_path / "m.onnx")


@pytest.mark.parametrize("datatype", ["int64", "INT65", "BYTES"])
def test_a_datatype_that_is_none_is_told_with_those_that_there_are(
    tmp_path: Path, datatype: str
) -> None:
    (tmp_path / "m.toml").write_text(f'[datatypes]\nids = "{datatype}"\n')
    with pytest.raises(ModelError, match=rf"m\.toml: .*'{datatype}' of 'ids'; there are FP32, "):
        read_notes(tmp_path / "m.pt")
