"""``corral-client infer`` with inputs from files and made up, against a model that echoes them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from corral_client import calls, cli, model_inputs
from corral_client.calls import Inputs
from corral_client.pages import ModelMetadata, TensorMetadata
from corral_protos import open_inference_pb2 as pb


class _Echo:
    """A client whose server answers each input as it came, under its own name."""

    def __init__(self, metadata: ModelMetadata) -> None:
        self._metadata = metadata

    def __enter__(self) -> _Echo:
        return self

    def __exit__(self, *_: object) -> None: ...

    def statistics(self) -> list[Any]:
        return []

    def metadata(self, model: str) -> ModelMetadata:
        return dataclasses.replace(self._metadata, name=model)

    def infer_all(
        self, inputs: Mapping[str, Inputs], *, outputs: Sequence[str], model: str
    ) -> dict[str, NDArray[Any]]:
        call = calls.infer_all(inputs, outputs, model, None, None)
        request = pb.ModelInferRequest.FromString(call.message)
        wanted = [output.name for output in request.outputs] or [*inputs]
        answer = pb.ModelInferResponse(model_name=model)
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            if tensor.name in wanted:
                answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
                answer.raw_output_contents.append(raw)
        return call.read(answer.SerializeToString())


def _serve(monkeypatch: pytest.MonkeyPatch, **datatypes: str) -> None:
    specs = tuple(TensorMetadata(name, kind, (-1, 4)) for name, kind in datatypes.items())
    metadata = ModelMetadata("", ("1",), "", specs, specs, {})
    monkeypatch.setattr(cli, "_connect", lambda _: _Echo(metadata))


@dataclasses.dataclass
class Done:
    code: int
    out: str
    err: str


def command(*words: str | Path) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run([*map(str, words), "--model", "toy"])
    return Done(code, out.getvalue(), err.getvalue())


def test_the_command_sends_what_a_model_of_several_inputs_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _serve(monkeypatch, ids="INT64", scale="BF16", ok="BOOL")
    ids, scale = np.arange(4), np.array([[1.5, -2, 3.00390625, np.nan]], np.float32)
    ok = np.array([True, False, True, True])
    for name, array in (("ids", ids), ("scale", scale), ("ok", ok)):
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "all.npz", ids=ids, scale=scale, ok=ok)
    named = [f"{name}={tmp_path / name}.npy" for name in ("ids", "scale", "ok")]
    saved = tmp_path / "answers.npz"
    for files in (named, [tmp_path / "all.npz"]):
        done = command("infer", *files, "--save", saved)
        assert (done.code, done.err) == (0, "")
        assert "input   ids  int64 [1,4]\n" in done.out
        assert "output  scale  float32 [1,4]" in done.out
        with np.load(saved) as answers:
            np.testing.assert_array_equal(answers["ids"], [ids])
            np.testing.assert_array_equal(answers["ok"], [ok])
            # Rounded to BF16, halves to even.
            np.testing.assert_array_equal(answers["scale"], [[1.5, -2, 3, np.nan]])
    done = command("infer", *named, "--output", "scale", "--json")
    shown = json.loads(done.out)
    assert shown["inputs"]["ids"] == {"datatype": "INT64", "shape": [1, 4]}
    assert list(shown["outputs"]) == ["scale"]
    assert shown["outputs"]["scale"]["data"] == [1.5, -2, 3, None]
    done = command("infer", "--random", "--items", "3", "--save", saved)
    assert done.code == 0, done.err
    with np.load(saved) as answers:
        assert {name: a.shape for name, a in answers.items()} == dict.fromkeys(
            ("ids", "scale", "ok"), (3, 4)
        )


def test_the_only_input_goes_by_the_name_that_it_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server may know it by its file's name, too."""
    _serve(monkeypatch, input="FP32")
    np.save(tmp_path / "a=b.npy", np.zeros(4, np.float32))
    for word in (f"pixel_values={tmp_path}/a=b.npy", f"{tmp_path}/a=b.npy"):
        assert command("infer", word).code == 0
    done = command("infer", f"x={tmp_path}/a=b.npy", f"y={tmp_path}/a=b.npy")
    assert (done.code, done.err) == (2, "corral-client: no input 'x'; toy takes input\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{ids}"], "toy takes ids, mask: say ids=FILE.npy"),
        (["ids={ids}"], "the input 'mask' is missing; toy takes ids, mask"),
        (["ids={ids}", "mask={ids}", "extra={ids}"], "no input 'extra'; toy takes ids, mask"),
        (["ids={ids}", "ids={ids}"], "'ids' comes twice"),
        (["ids={ids}", "mask={floats}"], "the input 'mask' takes INT64, and this is float32"),
        (["ids={npz}", "mask={ids}"], "names inside; leave ids= out"),
        (["{npz}"], "no input 'arr_0'"),
        (["ids={text}"], "no array of numbers as numpy.save writes it"),
        (["{cut}"], "no archive of arrays as numpy.savez writes it"),
        (["ids={home}/none.npy"], "none.npy: No such file"),
        (["--random", "--output", "y"], "no output 'y'; toy gives ids, mask"),
        (["--random", "uint8"], "no picture: say --random alone"),
        (["--random", "--save", "{home}/none/a.npz"], "a.npz: No such file"),
    ],
)
def test_names_and_files_that_do_not_fit_are_one_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    says: str,
) -> None:
    _serve(monkeypatch, ids="INT64", mask="INT64")
    np.save(tmp_path / "ids.npy", np.arange(4))
    np.save(tmp_path / "floats.npy", np.zeros(4, np.float32))
    np.savez(tmp_path / "positional.npz", np.arange(4))
    (tmp_path / "text").write_text("no array")
    (tmp_path / "cut").write_bytes((tmp_path / "positional.npz").read_bytes()[:60])
    places = {
        "ids": tmp_path / "ids.npy",
        "floats": tmp_path / "floats.npy",
        "npz": tmp_path / "positional.npz",
        "text": tmp_path / "text",
        "cut": tmp_path / "cut",
        "home": tmp_path,
    }
    done = command("infer", *(w.format(**places) for w in words))
    assert done.code == 2
    assert says in done.err
    assert done.err.count("\n") == 1


def test_made_up_pictures_lie_as_the_model_has_them() -> None:
    def shape(datatype: str, item: Sequence[int], kind: str) -> tuple[str, tuple[int, ...]]:
        spec = TensorMetadata("input", datatype, (-1, *item))
        made = model_inputs.made_up(ModelMetadata("m", (), "", (spec,), (), {}), kind, 2)["input"]
        return made.datatype, made.shape

    assert shape("FP32", (3, 8, 9), "") == ("FP32", (2, 3, 8, 9))
    assert shape("FP32", (3, 8, 9), "uint8") == ("UINT8", (2, 8, 9, 3))
    assert shape("FP32", (1, 8, 8), "uint8") == ("UINT8", (2, 8, 8, 1))
    assert shape("FP32", (8, 8, 3), "fp32") == ("FP32", (2, 8, 8, 3))
    assert shape("UINT8", (8, 8, 3), "fp32") == ("FP32", (2, 3, 8, 8))
    assert shape("UINT8", (8, 8, 3), "") == ("UINT8", (2, 8, 8, 3))
    assert shape("FP32", (-1, -1, -1), "uint8") == ("UINT8", (2, 224, 224, 3))
    assert shape("BYTES", (1,), "uint8") == ("UINT8", (2, 224, 224, 3))
    assert shape("FP16", (5,), "") == ("FP16", (2, 5))
    with pytest.raises(model_inputs.Unfit, match="takes BYTES"):
        shape("BYTES", (1,), "")
