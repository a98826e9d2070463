"""A user's own model file: what is read from it, and what bad ones are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto, helper, save

from corral import models
from corral.backends.torch import resolve_mode
from corral.config import TorchMode
from corral.errors import ConfigError, ModelError
from corral.models import own
from corral.tensors import Datatype

FLOAT, INT64, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8


def _write(
    path: Path,
    shape: list[int | str] | None = None,
    *,
    kind: int = FLOAT,
    inputs: int = 1,
    output_shape: list[int | str] | None = None,
) -> Path:
    """A graph that nothing runs: an identity from its first input, declared as told."""
    ports = [helper.make_tensor_value_info(f"in{i}", kind, shape) for i in range(inputs)]
    answer = helper.make_tensor_value_info("out", FLOAT, output_shape or ["n", 4])
    nodes = [helper.make_node("Identity", ["in0"], ["out"])]
    save(helper.make_model(helper.make_graph(nodes, "g", ports, [answer])), path)
    return path


def test_shapes_and_datatypes_come_from_the_file(tmp_path: Path) -> None:
    spec = models.get(str(_write(tmp_path / "my model.onnx", ["n", 7])))
    assert spec.name == "my_model"
    assert spec.signature.input_shapes == {Datatype.FP32: (7,)}
    assert spec.signature.output_shape == (4,)
    assert spec.views == ("tensor",)
    assert spec.label_names == ("0", "1", "2", "3")


@pytest.mark.parametrize("output_shape", [[2, 4], ["n", 4]])
def test_a_fixed_batch_is_told(tmp_path: Path, output_shape: list[int | str]) -> None:
    path = _write(tmp_path / "m.onnx", [2, 7], output_shape=output_shape)
    spec = own.read(path)
    assert spec.fixed_batch == 2
    assert spec.signature.input_shapes == {Datatype.FP32: (7,)}
    assert own.read(_write(tmp_path / "n.onnx", ["n", 7])).fixed_batch is None


def test_notes_bring_pictures_and_labels(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.onnx", ["n", 3, 8, 8])
    (tmp_path / "m.toml").write_text(
        'name = "pets"\nlabels = ["a", "b", "c", "d"]\n[preprocessing]\nresize = 10\n'
        "mean = [1, 2, 3]\nstd = [4, 5, 6]\n"
    )
    spec = own.read(path)
    assert spec.name == "pets"
    assert spec.label_names == ("a", "b", "c", "d")
    assert spec.signature.input_shapes == {Datatype.FP32: (3, 8, 8), Datatype.UINT8: (8, 8, 3)}
    assert (spec.recipe.resize, spec.recipe.crop, spec.recipe.mean) == (10, 8, (1.0, 2.0, 3.0))
    assert spec.views == ("tensor", "uint8", "image")


def test_a_model_of_pixels_is_served_as_such(tmp_path: Path) -> None:
    spec = own.read(_write(tmp_path / "m.onnx", ["n", 8, 8, 3], kind=UINT8))
    assert spec.native is Datatype.UINT8
    assert Datatype.FP32 not in spec.signature.input_shapes


@pytest.mark.parametrize(
    ("details", "cause"),
    [
        ({"shape": None}, "rank of its input 'in0' is dynamic"),
        ({"shape": ["n", 3], "inputs": 2}, r"2 inputs \(in0, in1\), not one"),
        ({"shape": ["n", 3], "kind": INT64}, "its input is INT64, not FP32 or UINT8"),
        ({"shape": ["n", 3, "h"]}, r"\[\?,3,\?\]; only the first dimension"),
        ({"shape": [2, 3], "output_shape": [3, 4]}, "a batch of 2 and its output 'out' one of 3"),
        ({"shape": ["n", 3], "output_shape": [3, 4]}, "of any size and its output 'out' one of 3"),
    ],
)
def test_what_cannot_be_served_is_named_with_its_cause(
    tmp_path: Path, details: dict[str, object], cause: str
) -> None:
    path = _write(tmp_path / "bad.onnx", **details)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=cause) as caught:
        own.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["junk.onnx", "junk.xml", "junk.bin2"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 99, b"<html/>", b"hello"])
def test_a_file_that_is_no_model(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"not an|neither an") as caught:
        own.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("labels = [", "not TOML"),
        ("colour = 1", "colour"),
        ('labels = ["one"]', "1 labels for 4 classes"),
        ("[preprocessing]\nresize = 4", "resize must be 8"),
    ],
)
def test_wrong_notes_are_one_line(tmp_path: Path, text: str, cause: str) -> None:
    path = _write(tmp_path / "m.onnx", ["n", 3, 8, 8])
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(ModelError, match=cause) as caught:
        own.read(path)
    assert "m.toml" in str(caught.value)


def test_an_ir_is_read_without_openvino(tmp_path: Path) -> None:
    layer = (
        '<layer id="{i}" name="{n}" type="{t}">{d}<{p}>'
        '<port id="0" precision="FP32">{s}</port></{p}></layer>'
    )
    dims = "<dim>-1</dim><dim>5</dim>"
    data = '<data shape="?,5" element_type="f32" />'
    text = '<net name="m" version="11"><layers>{}{}</layers></net>'.format(
        layer.format(i=0, n="x", t="Parameter", d=data, p="output", s=dims),
        layer.format(i=1, n="y", t="Result", d="", p="input", s=dims),
    )
    path = tmp_path / "m.xml"
    path.write_text(text)
    with pytest.raises(ModelError, match=r"m\.bin are missing"):
        own.read(path)
    (tmp_path / "m.bin").write_bytes(b"")
    spec = own.read(path)
    assert spec.signature.input_shapes == {Datatype.FP32: (5,)}
    assert spec.signature.output_shape == (5,)


def test_modes_of_torch() -> None:
    assert resolve_mode(TorchMode.AUTO, False, "int8") is TorchMode.COMPILE
    assert resolve_mode(TorchMode.AUTO, True, "fp32") is TorchMode.TRACED
    with pytest.raises(ConfigError, match="INT8 on torch runs in the mode compile only"):
        resolve_mode(TorchMode.EAGER, False, "int8")
    with pytest.raises(ConfigError, match="ipex runs eager or traced"):
        resolve_mode(TorchMode.COMPILE, True, "fp32")
