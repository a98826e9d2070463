"""A user's own model file: what is read from it, and what bad ones are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, load, numpy_helper, save
from support.ports_model import write_pair

from corral.artifacts import build
from corral.backends.calibration import Calibration
from corral.backends.onnxruntime.build import make_plain
from corral.backends.registry import resolve_mode
from corral.errors import ConfigError, ModelError
from corral.models import custom, photos, registry
from corral.models.onnx_header import Port
from corral.models.ports import read_shapes, settle
from corral.protocol import response
from corral.settings import BackendName, TorchMode
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
    spec = registry.get(str(_write(tmp_path / "my model.onnx", ["n", 7])))
    assert spec.name == "my_model"
    assert spec.signature.input_shapes == {Datatype.FP32: (7,)}
    assert spec.signature.output_shape == (4,)
    assert spec.views == ("tensor",)
    assert spec.label_names == ("0", "1", "2", "3")


@pytest.mark.parametrize(("given", "shown"), [((), ""), ((7,), "7"), ((2, 2), "2,2")])
def test_a_shape_that_the_header_contradicts_is_told_before_an_engine_is_asked(
    tmp_path: Path, given: tuple[int, ...], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "m.onnx", ["n", 4], output_shape=["n", "k"])
    monkeypatch.setattr(custom, "ask", lambda *_: pytest.fail("an engine was asked"))
    said = rf"'in0' is \[\?,4\], .* cannot be \[{shown}\]: correct --shape, or \[shapes\] or side"
    with pytest.raises(ModelError, match=said):
        custom.read(path, {"in0": given})


@pytest.mark.parametrize(
    ("shape", "output", "toml", "changed"),
    [
        (["n", 4], ["n", 4], "", []),
        (["n", 5], ["n", 4], "", ["inputs"]),
        (["n", 4], ["n", 5], "", ["labels", "outputs"]),
        (["n", 4], ["n", 4], "name = 'other'", ["name"]),
        (["n", 4], ["n", 4], "labels = ['a', 'b', 'c', 'd']", ["labels"]),
    ],
)
def test_what_a_frontend_goes_by_is_compared_in_words(
    tmp_path: Path,
    shape: list[int | str],
    output: list[int | str],
    toml: str,
    changed: list[str],
) -> None:
    path = _write(tmp_path / "m.onnx", ["n", 4], output_shape=["n", 4])
    first = custom.read(path)
    _write(path, shape, output_shape=output)
    path.with_suffix(".toml").write_text(toml)
    assert custom.read(path).changed_from(first) == changed


def test_several_inputs_and_outputs_keep_the_files_names(tmp_path: Path) -> None:
    write_pair(tmp_path / "pair.onnx")
    signature = custom.read(tmp_path / "pair.onnx").signature
    ids, scale = signature.inputs
    assert (ids.name, ids.datatype, ids.shape) == ("ids", Datatype.INT64, (4,))
    assert (scale.name, scale.datatype, scale.shape) == ("scale", Datatype.FP32, (1,))
    assert [spec.name for spec in signature.outputs] == ["best", "scores"]
    assert (signature.input_bytes, signature.output_bytes) == ({Datatype.INT64: 36}, 28)
    assert not signature.plain
    assert signature.views == ("tensor",)


def test_one_input_of_integers_is_as_plain_as_one_of_floats(tmp_path: Path) -> None:
    signature = custom.read(_write(tmp_path / "m.onnx", ["n", 7], kind=INT64)).signature
    assert signature.plain
    assert signature.input_shapes == {Datatype.INT64: (7,)}
    assert signature.input_names == ("input", "in0")
    assert signature.output_names == ("output", "out")


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_of_none_or_less_is_any(tmp_path: Path, batch: int) -> None:
    spec = custom.read(_write(tmp_path / "m.onnx", [batch, 7], output_shape=[batch, 4]))
    assert spec.fixed_batch is None
    with pytest.raises(ModelError, match=r"\[\?,\?\]; only the first dimension may be dynamic"):
        custom.read(_write(tmp_path / "n.onnx", [batch, batch]))


@pytest.mark.parametrize("output_shape", [[2, 4], ["n", 4]])
def test_a_fixed_batch_is_told(tmp_path: Path, output_shape: list[int | str]) -> None:
    path = _write(tmp_path / "m.onnx", [2, 7], output_shape=output_shape)
    spec = custom.read(path)
    assert spec.fixed_batch == 2
    assert spec.signature.input_shapes == {Datatype.FP32: (7,)}
    assert custom.read(_write(tmp_path / "n.onnx", ["n", 7])).fixed_batch is None
    path = _write(tmp_path / "o.onnx", ["n", 7], output_shape=[2, 4])
    assert custom.read(path).fixed_batch == 2


def test_an_item_without_values_is_named(tmp_path: Path) -> None:
    port = Port("out", "FP32", (None, 0, 4))
    with pytest.raises(ModelError, match=r"'out' has no values .* without that output"):
        settle(tmp_path / "m.onnx", [Port("in", "FP32", (None, 7))], [port], {})


def test_notes_bring_pictures_and_labels(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.onnx", ["n", 3, 8, 8])
    (tmp_path / "m.toml").write_text(
        'name = "pets"\nlabels = ["a", "b", "c", "d"]\n[preprocessing]\nresize = 10\n'
        "mean = [1, 2, 3]\nstd = [4, 5, 6]\n"
    )
    spec = custom.read(path)
    assert spec.name == "pets"
    assert spec.label_names == ("a", "b", "c", "d")
    assert spec.signature.input_shapes == {Datatype.FP32: (3, 8, 8), Datatype.UINT8: (8, 8, 3)}
    assert (spec.recipe.resize, spec.recipe.crop, spec.recipe.mean) == (10, 8, (1.0, 2.0, 3.0))
    assert spec.views == ("tensor", "uint8", "image")


def test_an_output_with_sides_of_one_is_a_list_of_classes(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.onnx", ["n", 7], output_shape=["n", 4, 1, 1])
    (tmp_path / "m.toml").write_text('labels = ["a", "b", "c", "d"]')
    spec = custom.read(path)
    assert (spec.classes, spec.label_names) == (4, ("a", "b", "c", "d"))


def test_an_output_of_more_sides_is_flattened(tmp_path: Path) -> None:
    spec = custom.read(_write(tmp_path / "m.onnx", ["n", 7], output_shape=["n", 4, 8, 8]))
    assert (spec.classes, spec.label_names) == (256, ())
    logits = np.arange(512, dtype=np.float32).tobytes()
    found = response.classification(logits, spec.classes, 1, spec.label_names or ())
    assert found[4:18] == b"255.000000:255"


def test_a_model_of_pixels_is_served_as_such(tmp_path: Path) -> None:
    spec = custom.read(_write(tmp_path / "m.onnx", ["n", 8, 8, 3], kind=UINT8))
    assert spec.native is Datatype.UINT8
    assert Datatype.FP32 not in spec.signature.input_shapes


def test_pixels_are_pictures_only_where_the_notes_say_so(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.onnx", ["n", 224, 224, 3], kind=UINT8)
    assert custom.read(path).views == ("tensor",)
    assert not custom.read(path).signature.takes_pictures
    (tmp_path / "m.toml").write_text("[preprocessing]\nresize = 256\n")
    assert custom.read(path).views == ("tensor", "uint8", "image")


@pytest.mark.parametrize(
    ("kind", "shape", "expected"),
    [(UINT8, ["n", 8, 8, 3], (1, 8, 8, 3)), (FLOAT, ["n", 3, 8, 8], (1, 3, 8, 8))],
)
def test_it_is_calibrated_on_what_it_takes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: int,
    shape: list[int | str],
    expected: tuple[int, ...],
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    monkeypatch.setattr(photos, "crops", lambda purpose, count, size: pixels)
    path = _write(tmp_path / "m.onnx", shape, kind=kind)
    (tmp_path / "m.toml").write_text("[preprocessing]\nresize = 8\nstd = [2, 2, 2]\n")
    seen = list(Calibration(custom.read(path), lambda step, share: None, synthetic=True))
    assert [picture.shape for picture in seen] == [expected] * 2
    if kind == UINT8:
        assert seen[1].dtype == np.uint8
        np.testing.assert_array_equal(seen[1][0], pixels[1])
    else:
        assert seen[1].dtype == np.float32
        np.testing.assert_array_equal(seen[1][0], pixels[1].transpose(2, 0, 1) / 2)


def test_other_preprocessing_is_another_artefact(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.onnx", ["n", 3, 8, 8])
    keys = set()
    for notes in ("", "[preprocessing]\nresize = 8\n", "[preprocessing]\nresize = 9\n"):
        (tmp_path / "m.toml").write_text(notes)
        spec = custom.read(path)
        weights = spec.find_weights("auto", tmp_path, True)
        keys.add(build.make_order(spec, weights, "int8", frozenset()).key)
    assert len(keys) == 3


# --- weights in other files ---


def _write_split(path: Path, value: float, *, in_node: bool = False) -> Path:
    """A graph whose one constant lies in ``w.bin`` beside it."""
    weights = numpy_helper.from_array(np.full((7, 4), value, np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    if in_node:
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=weights))
    ports = [helper.make_tensor_value_info("x", FLOAT, ["n", 7])]
    answer = helper.make_tensor_value_info("y", FLOAT, ["n", 4])
    graph = helper.make_graph(nodes, "g", ports, [answer], [] if in_node else [weights])
    path.with_name("w.bin").unlink(missing_ok=True)
    save(
        helper.make_model(graph),
        path,
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
        convert_attribute=True,
    )
    return path


@pytest.mark.parametrize("in_node", [False, True])
def test_weights_in_another_file_are_a_part_of_the_digest(tmp_path: Path, in_node: bool) -> None:
    path = _write_split(tmp_path / "m.onnx", 1.0, in_node=in_node)
    before = path.read_bytes()
    first = custom.read(path).find_weights("auto", tmp_path, True).digest
    assert custom.read(path).find_weights("auto", tmp_path, True).digest == first
    _write_split(path, 2.0, in_node=in_node)
    assert path.read_bytes() == before
    assert custom.read(path).find_weights("auto", tmp_path, True).digest != first


def test_weights_that_are_missing_or_elsewhere_are_named(tmp_path: Path) -> None:
    path = _write_split(tmp_path / "m.onnx", 1.0)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelError, match=r"m\.onnx: its weights 'w\.bin' are missing"):
        custom.read(path).find_weights("auto", tmp_path, True)
    path.write_bytes(path.read_bytes().replace(b"w.bin", b"../wb"))
    with pytest.raises(ModelError, match=r"m\.onnx: its weights '\.\./wb' lie outside its folder"):
        custom.read(path).find_weights("auto", tmp_path, True)


def test_weights_that_are_cut_are_named(tmp_path: Path) -> None:
    path = _write_split(tmp_path / "m.onnx", 1.0)
    weights = tmp_path / "w.bin"
    size = weights.stat().st_size
    weights.write_bytes(weights.read_bytes()[:-1])
    said = rf"m\.onnx: its weights w\.bin have {size - 1} bytes, and it takes {size}: they are cut"
    with pytest.raises(ModelError, match=said):
        custom.read(path).find_weights("auto", tmp_path, True)


def test_an_irs_weights_that_are_cut_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.xml"
    const = (
        '<layer id="9" name="w" type="Const"><data element_type="f32" shape="3" offset="8" '
        'size="12" /></layer></layers>'
    )
    path.write_text(_ir("<dim>-1</dim><dim>5</dim>").replace("</layers>", const))
    weights = tmp_path / "m.bin"
    weights.write_bytes(bytes(20))
    custom.read(path)
    weights.write_bytes(bytes(19))
    with pytest.raises(
        ModelError, match=r"m\.xml: its weights m\.bin have 19 bytes, and it takes 20"
    ):
        custom.read(path)


@pytest.mark.parametrize(
    ("datatype", "name"), [(TensorProto.COMPLEX64, "COMPLEX64"), (TensorProto.INT4, "INT4")]
)
def test_a_datatype_that_is_not_served_is_named(tmp_path: Path, datatype: int, name: str) -> None:
    ports = [helper.make_tensor_value_info(port, datatype, ["n", 4]) for port in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", *[[p] for p in ports]
    )
    save(helper.make_model(graph), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=f"its input 'x' is {name}, which is not served"):
        custom.read(tmp_path / "m.onnx")


def test_an_old_file_is_made_plain() -> None:
    weights = numpy_helper.from_array(np.ones((7, 4), np.float32), "w")
    # The weights come first among the inputs.
    ports = [
        helper.make_tensor_value_info("w", FLOAT, [7, 4]),
        helper.make_tensor_value_info("x", FLOAT, [-1, 7]),
    ]
    answer = helper.make_tensor_value_info("y", FLOAT, [0, 4])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", ports, [answer], [weights])
    model: ModelProto = helper.make_model(graph, ir_version=3)
    make_plain(model)
    assert [port.name for port in model.graph.input] == ["x"]
    assert model.ir_version == 4
    for port, size in ((model.graph.input[0], 7), (model.graph.output[0], 4)):
        batch, item = port.type.tensor_type.shape.dim
        assert (batch.dim_param, batch.HasField("dim_value"), item.dim_value) == ("n", False, size)


@pytest.mark.parametrize(
    ("details", "cause"),
    [
        ({"shape": None}, "rank of its input 'in0' is dynamic"),
        ({"shape": ["n", 3], "inputs": 0}, "has no input"),
        ({"shape": ["n", 3], "kind": TensorProto.STRING}, "'in0' is STRING, which is not served"),
        ({"shape": ["n", 3, "h"]}, r"\[\?,3,\?\]; only the first dimension"),
        ({"shape": [2, 3], "output_shape": [3, 4]}, "a batch of 2 and its output 'out' one of 3"),
        ({"shape": ["n", 3], "output_shape": [99, 4]}, "any size and its output 'out' one of 99"),
        ({"shape": ["n", 3], "output_shape": [3]}, "of any size and its output 'out' one of 3"),
    ],
)
def test_what_cannot_be_served_is_named_with_its_cause(
    tmp_path: Path, details: dict[str, object], cause: str
) -> None:
    path = _write(tmp_path / "bad.onnx", **details)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=cause) as caught:
        custom.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sizes", ["", "0", "-1", "1.5", "\u0663", "2147483648", 5000 * "9"])
def test_a_shape_on_the_command_line_is_of_whole_numbers(sizes: str) -> None:
    assert read_shapes(["x=y=3, 0224"]) == {"x=y": (3, 224)}
    with pytest.raises(ConfigError, match=r"^--shape x=.*: NAME=3,224,224, one item of") as refused:
        read_shapes([f"x=3,{sizes}"])
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize("value", ["abc", "-5", "", "1e3", 30 * "9"])
def test_weights_at_what_is_no_number_are_told(tmp_path: Path, key: str, value: str) -> None:
    path = _write_split(tmp_path / "m.onnx", 1.0)
    model = load(path, load_external_data=False)
    entries = {entry.key: entry for entry in model.graph.initializer[0].external_data}
    entries[key].value = value
    # Where a shape is open, an engine would be asked, which says it in its own way.
    for size in (4, 0):
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = size
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ModelError) as refused:
            custom.read(path).find_weights("auto", tmp_path, True)
        assert str(refused.value) == (
            f"--model {path}: the {key} of 'w' in its weights 'w.bin' is {value[:40]!r}, and no "
            "number of bytes: export it anew"
        )


@pytest.mark.parametrize("name", ["m.pdmodel", "m.pb", "m.tflite", "m.pt", "m.pt2", "saved"])
def test_an_empty_file_is_told_so(tmp_path: Path, name: str) -> None:
    path = file = tmp_path / name
    if name == "saved":
        path.mkdir()
        file = path / "saved_model.pb"
    file.touch()
    with pytest.raises(ModelError, match=f"--model {file}: the file is empty; copy it again, or "):
        custom.read(path)


@pytest.mark.parametrize("name", ["junk.onnx", "junk.xml", "junk.bin2"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 99, b"<html/>", b"hello"])
def test_a_file_that_is_no_model(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"not an") as caught:
        custom.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("labels = [", "not TOML"),
        ("colour = 1", "colour"),
        ("[shapes]\nin0 = [" + 5000 * "9" + "]", "m.toml: a whole number in it has more than 4300"),
        ('labels = ["one"]', "1 labels for 4 classes"),
        ("[preprocessing]\nresize = 4", "resize must be 8"),
        ('name = "../../etc/passwd"', "name: up to 100 letters"),
        ('name = ""', "name: up to 100 letters"),
        ('name = ".."', "name: up to 100 letters"),
        ('[datatypes]\nin0 = "FP16"', "FP16 of input 'in0', which is FP32 in m.onnx"),
        ('[datatypes]\nids = "FP32"', "FP32 of input 'ids', which is none of in0 in m.onnx"),
    ],
)
def test_wrong_notes_are_one_line(tmp_path: Path, text: str, cause: str) -> None:
    path = _write(tmp_path / "m.onnx", ["n", 3, 8, 8])
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(ModelError, match=cause) as caught:
        custom.read(path)
    assert "m.toml" in str(caught.value)


@pytest.mark.parametrize(("encoding", "taken"), [("utf-8-sig", True), ("utf-16", False)])
def test_notes_and_labels_are_in_utf_8(tmp_path: Path, encoding: str, taken: bool) -> None:
    """Windows' editors put a mark in front of UTF-8, or write UTF-16."""
    path = _write(tmp_path / "m.onnx", ["n", 3, 8, 8])
    names = tmp_path / "names.txt"
    names.write_text("ä\nb\nc\nd\n", encoding)
    for notes in (encoding, "utf-8"):
        (tmp_path / "m.toml").write_text('labels = "names.txt"\n', notes)
        if taken:
            assert custom.read(path).label_names == ("ä", "b", "c", "d")
            continue
        with pytest.raises(ModelError, match="not in UTF-8") as caught:
            custom.read(path)
        assert "m.toml" in str(caught.value)


def test_a_datatype_that_the_file_says_itself_may_be_said_again(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.onnx", ["n", 3, 8, 8])
    (tmp_path / "m.toml").write_text('[datatypes]\nin0 = "FP32"\n')
    assert custom.read(path).signature.native is Datatype.FP32


def _ir(dims: str) -> str:
    """The XML of an IR whose input and output have those dimensions."""
    layer = (
        '<layer id="{i}" name="{n}" type="{t}">{d}<{p}>'
        '<port id="0" precision="FP32">{s}</port></{p}></layer>'
    )
    data = '<data shape="?,5" element_type="f32" />'
    return '<net name="m" version="11"><layers>{}{}</layers></net>'.format(
        layer.format(i=0, n="x", t="Parameter", d=data, p="output", s=dims),
        layer.format(i=1, n="y", t="Result", d="", p="input", s=dims),
    )


def test_an_ir_is_read_without_openvino(tmp_path: Path) -> None:
    path = tmp_path / "m.xml"
    path.write_text(_ir("<dim>-1</dim><dim>5</dim>"))
    with pytest.raises(ModelError, match=r"m\.bin are missing"):
        custom.read(path)
    (tmp_path / "m.bin").write_bytes(b"")
    spec = custom.read(path)
    assert spec.signature.input_shapes == {Datatype.FP32: (5,)}
    assert spec.signature.output_shape == (5,)


_ENTITY = '<!DOCTYPE net [<!ENTITY a "aaaa">]>'


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (_ir("<dim>n</dim><dim>5</dim>").encode(), "a dimension is no number"),
        (_ir("<dim></dim><dim>5</dim>").encode(), "a dimension is no number"),
        (('<?xml version="1.0" encoding="cp932"?>' + _ir("")).encode(), "is a scalar"),
        ((_ENTITY + _ir("<dim>1</dim>")).encode(), "not an OpenVINO IR"),
        ((_ENTITY + _ir("<dim>1</dim>")).encode("utf-16"), "not an OpenVINO IR"),
        ((_ENTITY + _ir("<dim>1</dim>")).encode("utf-16-le"), "not an OpenVINO IR"),
    ],
)
def test_an_ir_that_is_none_is_one_line(tmp_path: Path, content: bytes, cause: str) -> None:
    path = tmp_path / "m.xml"
    path.write_bytes(content)
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(ModelError, match=cause) as caught:
        custom.read(path)
    assert str(path) in str(caught.value)


def test_names_need_not_be_utf_8(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.onnx", ["n", 7], inputs=2)
    path.write_bytes(path.read_bytes().replace(b"in0", b"\xff\xfe\xfd"))
    with pytest.raises(ModelError, match="is not UTF-8, and nobody could ask for it"):
        custom.read(path)


@pytest.mark.parametrize("method", ["is_file", "read_text"])
def test_a_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    path = tmp_path / "m.xml"
    path.write_text(_ir("<dim>1</dim>"))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with (
        monkeypatch.context() as patched,
        pytest.raises(ModelError, match="Permission denied") as e,
    ):
        patched.setattr(Path, method, refuse)
        custom.read(path)
    assert str(e.value) == f"--model {path}: Permission denied"


def test_a_name_that_is_too_long_for_a_file() -> None:
    with pytest.raises(ModelError, match="File name too long"):
        registry.get("m" * 300 + ".onnx")
    with pytest.raises(ConfigError, match="no model"):
        registry.get("m" * 300)


def test_modes_of_torch() -> None:
    assert resolve_mode(TorchMode.AUTO, BackendName.TORCH, "int8") is TorchMode.COMPILE
    assert resolve_mode(TorchMode.AUTO, BackendName.IPEX, "fp32") is TorchMode.TRACED
    with pytest.raises(ConfigError, match="INT8 on torch runs in the mode compile only"):
        resolve_mode(TorchMode.EAGER, BackendName.TORCH, "int8")
    assert resolve_mode(TorchMode.COMPILE, BackendName.IPEX, "bf16") is TorchMode.COMPILE
    with pytest.raises(ConfigError, match="INT8 on ipex runs in the mode traced only"):
        resolve_mode(TorchMode.COMPILE, BackendName.IPEX, "int8")
