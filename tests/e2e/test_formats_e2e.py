"""Files that other people's tools wrote, served by path, with a request answered each."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from support.loaded_engine import load
from support.running_server import StartServer

from corral.backends.openvino.read import read_file
from corral.errors import ModelError
from corral.models.asking import Question
from corral.settings import BackendName
from corral.worker.warmup import compile_batch
from corral_client import Client

# torch is imported by three processes on the way: slow beside other tests.
pytestmark = pytest.mark.timeout(300)

#: tests/support/write_formats.py wrote them with the frameworks themselves
FORMATS = Path(__file__).parents[1] / "data" / "models" / "formats"
_FEW = ("--workers", "1", "--max-batch", "2")

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


def _reference(name: str) -> Pair:
    with np.load(FORMATS / name) as found:
        return found["x"], found["y"]


@pytest.mark.parametrize(
    ("model", "reference"),
    [
        ("saved", "tensorflow.npz"),
        ("frozen.pb", "tensorflow.npz"),
        ("lite.tflite", "tensorflow.npz"),
        ("net.pdmodel", "paddle.npz"),
        ("keras_tf2onnx.onnx", "keras_tf2onnx.npz"),
        ("paddle2onnx.onnx", "paddle.npz"),
        pytest.param("keras_export.onnx", "keras_tf2onnx.npz", marks=pytest.mark.long),
    ],
)
def test_a_file_is_served_without_its_framework(
    real_server: StartServer, model: str, reference: str
) -> None:
    x, y = _reference(reference)
    path = FORMATS / model
    with real_server("--model", str(path), *_FEW, ready=False) as server:
        server.wait_until_ready(timeout_s=240)
        with Client(f"127.0.0.1:{server.port}", model=path.stem) as client:
            np.testing.assert_allclose(client.infer(x), y, atol=1e-5)


@pytest.mark.parametrize(
    "backend", ["openvino", pytest.param("onnxruntime", marks=pytest.mark.long)]
)
def test_a_folder_as_optimum_writes_it_is_served(real_server: StartServer, backend: str) -> None:
    x, y = _reference("optimum.npz")
    # optimum leaves every side open, and says in config.json how large pictures are.
    # The file in it is called model.onnx.
    asked = ("--model", str(FORMATS / "vit"), "--model-name", "vit", "--backend", backend)
    with real_server(*asked, "--shape", "pixel_values=3,32,32", *_FEW, ready=False) as server:
        server.wait_until_ready(timeout_s=240)
        with Client(f"127.0.0.1:{server.port}", model="vit") as client:
            np.testing.assert_allclose(client.infer(x), y, atol=1e-5)


def test_a_saved_model_of_two_inputs_goes_by_its_signatures_names(
    real_server: StartServer,
) -> None:
    ids = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.int64)
    scale = np.array([[0.5], [-1]], np.float32)
    with real_server("--model", str(FORMATS / "pair"), *_FEW, ready=False) as server:
        server.wait_until_ready(timeout_s=240)
        with Client(f"127.0.0.1:{server.port}", model="pair") as client:
            found = client.infer_all({"ids": ids, "scale": scale})
    assert found["scores"].tolist() == [[5.0], [-26.0]]
    assert found["best"].tolist() == [[0], [1]]


def _torch(folder: Path) -> tuple[object, Pair]:
    import torch
    from torch import nn

    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()
    x = torch.rand(2, 3, 16, 16)
    return network, (x.numpy(), network(x).detach().numpy())


def _exported(folder: Path) -> tuple[Path, Pair, list[str]]:
    import torch

    network, (x, y) = _torch(folder)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(network, (torch.from_numpy(x),), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder / "exported.pt2")
    return folder / "exported.pt2", (x, y), []


def _scripted(folder: Path) -> tuple[Path, Pair, list[str]]:
    import torch

    network, pair = _torch(folder)
    torch.jit.save(torch.jit.script(network), folder / "scripted.pt")
    return folder / "scripted.pt", pair, ["--shape", "input=3,16,16"]


def _symbolic(folder: Path) -> tuple[Path, Pair, list[str]]:
    """As optimum exports it: every dimension of the picture a symbol, the output's rank open."""
    import onnx

    network, pair = _torch(folder)
    _export(network, folder / "symbolic.onnx", {0: "b", 1: "c", 2: "h", 3: "w"})
    model = onnx.load(folder / "symbolic.onnx")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, folder / "symbolic.onnx")
    return folder / "symbolic.onnx", pair, ["--shape", "pixel_values=3,16,16"]


def _export(network: object, file: Path, axes: dict[int, str]) -> None:
    import torch

    torch.onnx.export(
        network,
        (torch.zeros(1, 3, 16, 16),),
        str(file),
        input_names=["pixel_values"],
        output_names=["logits"],
        dynamic_axes={"pixel_values": axes},
        opset_version=17,
        dynamo=False,
    )


@pytest.mark.parametrize("make", [_exported, _scripted, _symbolic])
def test_what_torch_writes_is_served(
    real_server: StartServer,
    tmp_path: Path,
    make: Callable[[Path], tuple[Path, Pair, list[str]]],
) -> None:
    path, (x, y), options = make(tmp_path)
    with real_server("--model", str(path), *options, *_FEW, ready=False) as server:
        server.wait_until_ready(timeout_s=240)
        with Client(f"127.0.0.1:{server.port}", model=path.stem) as client:
            np.testing.assert_allclose(client.infer(x), y, atol=1e-5)


def _scripts(file: Path, *lines: str) -> Path:
    """Saves a module of such a source; one name may be taken once in a process."""
    import torch

    module = type(file.stem, (torch.jit.ScriptModule,), {})()
    module.define("\n    ".join((*lines, "")))
    torch.jit.save(module, file)
    return file


def test_a_scripted_module_of_several_inputs_is_read_in_their_order(tmp_path: Path) -> None:
    """The module itself is no input: it took the first one's shape and datatype."""
    file = _scripts(
        tmp_path / "Several.pt",
        "def forward(self, ids, scale):",
        "return ids.to(scale.dtype).sum(1, keepdim=True) * scale, ids",
    )
    model = read_file(Question(str(file), [("ids", (3,)), ("scale", (2,))], {"ids": "INT64"}))
    told = [
        (p.any_name, str(p.partial_shape), p.element_type.get_type_name()) for p in model.inputs
    ]
    assert told == [("ids", "[?,3]", "i64"), ("scale", "[?,2]", "f32")]


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("int", [("x", (3,))]),
        ("List[Tensor]", [("x", (3,)), ("other", (3,))]),
        ("Optional[int]", [("x", (3,))]),
        ("int = 2", [("x", (3,)), ("other", (3,))]),
    ],
)
def test_an_argument_that_is_no_tensor_is_told(
    tmp_path: Path, kind: str, shapes: list[tuple[str, tuple[int, ...]]]
) -> None:
    stem = "".join(filter(str.isalpha, kind)).title()
    file = _scripts(
        tmp_path / f"{stem}{len(shapes)}.pt", f"def forward(self, x, other: {kind}):", "return x"
    )
    told = f"its input 'other' is {kind.removesuffix(' = 2')} and no tensor, which is not served"
    with pytest.raises(ModelError, match=re.escape(told)):
        read_file(Question(str(file), shapes, {}))


@pytest.mark.parametrize("given", [["x"], ["x", "mask"]])
def test_an_argument_that_may_be_left_out_is_an_input_where_it_has_a_shape(
    tmp_path: Path, given: list[str]
) -> None:
    import openvino

    file = _scripts(
        tmp_path / f"Left{len(given)}.pt",
        "def forward(self, x, mask: Optional[Tensor] = None, times: int = 2):",
        "if mask is not None:",
        "    x = x * mask",
        "return (x * times).sum(1, keepdim=True)",
    )
    model = read_file(Question(str(file), [(name, (3,)) for name in given], {}))
    assert [port.any_name for port in model.inputs] == given
    x = np.array([[1, 2, 4], [8, 16, 32]], np.float32)
    mask = np.array([[1, 0, 1], [0, 1, 1]], np.float32)
    (y,) = openvino.compile_model(model, "CPU")([x, mask][: len(given)]).values()
    expected = x * mask if "mask" in given else x
    np.testing.assert_array_equal(y, 2 * expected.sum(1, keepdims=True))


def test_an_argument_that_may_be_nothing_and_has_no_default_needs_a_shape(tmp_path: Path) -> None:
    file = _scripts(
        tmp_path / "Needs.pt", "def forward(self, x, mask: Optional[Tensor]):", "return x"
    )
    with pytest.raises(ModelError, match="without the batch: --shape mask=3,224,224, or"):
        read_file(Question(str(file), [("x", (3,))], {}))


def test_a_branch_that_is_never_taken_keeps_no_script_out(tmp_path: Path) -> None:
    """As of a part that has a mask to leave out: the whole leaves it out."""
    file = _scripts(
        tmp_path / "Branch.pt",
        "def forward(self, x):",
        "mask: Optional[Tensor] = None",
        "if mask is not None:",
        "    x = x * mask",
        "return x + 1",
    )
    model = read_file(Question(str(file), [("x", (3,))], {}))
    assert [port.any_name for port in model.inputs] == ["x"]


def test_a_script_that_is_not_read_is_told_with_the_way_out(tmp_path: Path) -> None:
    file = _scripts(
        tmp_path / "Unread.pt",
        "def forward(self, x):",
        "return x.digamma()",
    )
    with pytest.raises(ModelError, match=r"digamma.*\); save it by torch.export.*'Unread.pt2'"):
        read_file(Question(str(file), [("x", (3,))], {}))


@pytest.mark.parametrize("is_older", [False, True])
def test_an_ir_goes_by_its_tensors_names(tmp_path: Path, *, is_older: bool) -> None:
    """Its layers may have others, which no engine finds: of two ports, and of integers."""
    import openvino as ov
    from openvino import opset13

    first = opset13.parameter([-1, 4], np.float32, "Parameter_1")
    first.output(0).get_tensor().set_names({"ids:0"})
    second = opset13.parameter([-1, 4], np.float32, "Parameter_2")
    second.output(0).get_tensor().set_names({"x"})
    difference = opset13.subtract(first, second)
    difference.output(0).get_tensor().set_names({"z", "a,b"})
    file = tmp_path / "m.xml"
    model = ov.Model([difference, opset13.relu(second)], [first, second], "m")
    ov.save_model(model, file, compress_to_fp16=False)
    if is_older:
        file.write_text(re.sub(r' output_names="[^"]*"', "", file.read_text()))
    loaded = load(str(file), BackendName.OPENVINO, tmp_path, [1])
    signature = loaded.signature
    assert [spec.name for spec in signature.inputs] == ["ids:0", "x"]
    assert signature.outputs[0].name == "a,b"
    compile_batch(loaded.engine, loaded.region, signature.native, 1)
    for value, place in zip((5, 2), loaded.region.all_inputs(signature.native, 1), strict=True):
        place[:] = value
    loaded.engine.run(signature.native, 1)
    assert [answer[0, 0] for answer in loaded.region.all_outputs(1)] == [3, 2]


def _cut(folder: Path) -> list[str]:
    (folder / "cut.tflite").write_bytes((FORMATS / "lite.tflite").read_bytes()[:900])
    return ["--model", str(folder / "cut.tflite")]


def _cut_paddle(folder: Path) -> list[str]:
    shutil.copy(FORMATS / "net.pdmodel", folder)
    (folder / "net.pdiparams").write_bytes((FORMATS / "net.pdiparams").read_bytes()[:-100])
    return ["--model", str(folder / "net.pdmodel")]


def _no_variables(folder: Path) -> list[str]:
    shutil.copy(FORMATS / "saved" / "saved_model.pb", folder)
    return ["--model", str(folder)]


def _no_shape(folder: Path) -> list[str]:
    path, _, _ = _scripted(folder)
    return ["--model", str(path)]


def _open_shape(folder: Path) -> list[str]:
    path, _, _ = _symbolic(folder)
    return ["--model", str(path)]


def _wrong_shape(folder: Path) -> list[str]:
    path, _, _ = _symbolic(folder)
    return ["--model", str(path), "--shape", "pixel_values=4,16,16"]


def _wrong_name(folder: Path) -> list[str]:
    path, _, _ = _symbolic(folder)
    return ["--model", str(path), "--shape", "pixels=3,16,16"]


def _notes_that_do_not_fit(folder: Path) -> list[str]:
    shutil.copy(FORMATS / "lite.tflite", folder / "lite.tflite")
    (folder / "lite.toml").write_text('[preprocessing]\nlayout = "NCHW"\n')
    return ["--model", str(folder / "lite.tflite")]


def _weights_alone(folder: Path) -> list[str]:
    import torch

    torch.save(torch.nn.Linear(4, 2).state_dict(), folder / "weights.pth")
    return ["--model", str(folder / "weights.pth")]


def _script_of_other_channels(folder: Path) -> list[str]:
    import torch

    module = torch.nn.Conv2d(3, 2, 3).eval()
    torch.jit.trace(module, torch.zeros(1, 3, 8, 8)).save(str(folder / "conv.pt"))
    return ["--model", str(folder / "conv.pt"), "--shape", "input=4,8,8"]


def _cut_script(folder: Path) -> list[str]:
    (folder / "cut.pt").write_bytes(b"PK\3\4" + bytes(200))
    return ["--model", str(folder / "cut.pt"), "--shape", "x=3"]


def _program_called_script(folder: Path) -> list[str]:
    import torch

    program = torch.export.export(torch.nn.Linear(4, 2), (torch.zeros(1, 4),))
    torch.export.save(program, folder / "program.pt2")
    (folder / "program.pt2").rename(folder / "program.pt")
    return ["--model", str(folder / "program.pt")]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (_cut, ": it is cut, damaged or of another kind; copy it again"),
        (_cut_paddle, "net.pdmodel: Failed to read weight header for linear_0.b_0: it is cut, "),
        (_no_variables, "its variables are missing; copy a SavedModel's folder whole"),
        (_weights_alone, "no network; save that by torch.export.save("),
        (_script_of_other_channels, "input=4,8,8 (RuntimeError: Given groups=1"),
        (_cut_script, "it is empty, cut or of another kind; copy it again"),
        (_program_called_script, "it holds an exported program: call it program.pt2"),
        (_no_shape, "--shape input=3,224,224"),
        (_open_shape, "--shape pixel_values=3,224,224, or [shapes] in symbolic.toml"),
        (_wrong_shape, "the graph does not take pixel_values=4,16,16"),
        (_wrong_name, "in symbolic.toml); it has pixel_values, logits"),
        (_notes_that_do_not_fit, "lite.toml: [preprocessing] is for pictures, [n,3,side,side]"),
    ],
)
def test_what_cannot_be_served_is_one_line_with_the_way_out(
    tmp_path: Path, make: Callable[[Path], list[str]], text: str
) -> None:
    command = [sys.executable, "-m", "corral", "plan", *make(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert text in done.stderr


def test_an_output_whose_rows_hang_on_the_values_is_refused(tmp_path: Path) -> None:
    numbers = {"most": np.array(40), "overlap": np.float32(0.5), "least": np.float32(0.1)}
    graph = helper.make_graph(
        [helper.make_node("NonMaxSuppression", ["boxes", "scores", *numbers], ["chosen"])],
        "g",
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["n", 60, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 1, 60]),
        ],
        # Its rows look like a batch.
        [helper.make_tensor_value_info("chosen", TensorProto.INT64, ["rows", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "chosen.onnx"
    onnx.save(model, path)
    command = [sys.executable, "-m", "corral", "serve", "--dry-run", "--model", str(path)]
    command += ["--backend", "openvino", "--precision", "fp32", "--cache-dir", str(tmp_path / "c")]
    command += ["--port", "0", "--http-port", "0", "--metrics-port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 2, done.stderr
    assert "output chosen has another shape for other values" in done.stderr.splitlines()[-1]
