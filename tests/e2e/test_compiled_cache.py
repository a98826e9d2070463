"""What OpenVINO compiles is kept, and loaded where it is the same and answers the same."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from support.worker_boot import model_boot, worker_boot

from corral.backends.openvino.runtime import OpenVINOBackend
from corral.backends.telemetry import silence_telemetry
from corral.ipc.region import Region, create_region
from corral.settings import BackendName, Settings
from corral.tensors import Datatype, Recipe, Signature

_RECIPE = Recipe(resize=36, crop=32, mean=(120.0, 110.0, 100.0), std=(60.0, 50.0, 40.0))
_COMPILED = [(Datatype.FP32, 1), (Datatype.FP32, 2), (Datatype.UINT8, 1)]

_Answers = list[NDArray[np.float32]]


@pytest.fixture
def xml(tmp_path: Path) -> Path:
    silence_telemetry()
    import openvino as ov
    from openvino import opset13 as ops

    image = ops.parameter([-1, 3, -1, -1], np.float32, name="input")
    kernel = np.random.default_rng(3).normal(size=(6, 3, 3, 3)).astype(np.float32)
    convolved = ops.convolution(image, ops.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1])
    logits = ops.reduce_mean(ops.relu(convolved), ops.constant([2, 3]), keep_dims=False)
    path = tmp_path / "tiny-fp32-0123456789ab" / "model.xml"
    path.parent.mkdir()
    ov.save_model(ov.Model([logits], [image]), path, compress_to_fp16=False)
    return path


def _start(
    xml: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe = _RECIPE, threads: int = 1
) -> tuple[int, _Answers, dict[str, str]]:
    """Loads and compiles as a worker does: compilations, answers, and what it says of itself."""
    signature = Signature({Datatype.FP32: (3, 32, 32), Datatype.UINT8: (32, 32, 3)}, (6,), recipe)
    cache_dir = str(xml.parents[1])
    boot = worker_boot(
        signature,
        Settings.flat(backend=BackendName.OPENVINO, cache_dir=cache_dir),
        model_boot(str(xml)),
        sizes=[1, 2],
        threads=threads,
    )
    region = Region(create_region(signature, 2), signature, 2)
    backend, made = OpenVINOBackend(), []
    backend.load(boot)
    shaped = backend._shaped

    def counted(datatype: Datatype, inputs: Any) -> Any:
        made.append(datatype)
        return shaped(datatype, inputs)

    monkeypatch.setattr(backend, "_shaped", counted)
    answers = []
    for datatype, count in _COMPILED:
        inputs = region.inputs(datatype, count)
        inputs[...] = np.random.default_rng(1).integers(0, 200, inputs.shape)
        before = inputs.copy()
        backend.compile(datatype, inputs, region.outputs(count))
        assert np.array_equal(inputs, before)
        backend.run(datatype, count)
        answers.append(region.outputs(count).copy())
    return len(made), answers, backend.describe()


def _files(xml: Path) -> list[Path]:
    return sorted((xml.parents[1] / "openvino").glob("*"))


def test_a_second_start_compiles_nothing_and_answers_the_same(
    xml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _start(xml, monkeypatch)
    assert first[0] == len(_COMPILED) == len(_files(xml))
    times = [file.stat().st_mtime_ns for file in _files(xml)]
    made, answers, said = _start(xml, monkeypatch)
    assert made == 0
    assert [file.stat().st_mtime_ns for file in _files(xml)] == times
    assert said == first[2]
    for one, other in zip(first[1], answers, strict=True):
        assert np.array_equal(one, other)


def test_pixels_that_become_the_input_otherwise_are_compiled_anew(
    xml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _start(xml, monkeypatch)
    other = dataclasses.replace(_RECIPE, mean=(0.0, 0.0, 0.0))
    made, answers, _ = _start(xml, monkeypatch, other)
    assert made == 1
    assert not np.allclose(answers[2], _start(xml, monkeypatch)[1][2])
    assert _start(xml, monkeypatch, threads=2)[0] == len(_COMPILED)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _rewrite(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = msgspec.msgpack.decode(file.read_bytes()[32:])
    change(content)
    written = msgspec.msgpack.encode(content)
    file.write_bytes(hashlib.sha256(written).digest() + written)


def _answers_otherwise(content: dict[str, Any]) -> None:
    content["sample"] = [np.full(6, 0.5, np.float32).tobytes()]


def _of_something_else(content: dict[str, Any]) -> None:
    content["ingredients"]["cpu"] = "another"


def _is_none(content: dict[str, Any]) -> None:
    content["exported"] = b"<xml>no model</xml>"


@pytest.mark.parametrize(
    "spoil",
    [
        _cut,
        _flip,
        functools.partial(_rewrite, change=_answers_otherwise),
        functools.partial(_rewrite, change=_of_something_else),
        functools.partial(_rewrite, change=_is_none),
    ],
    ids=["cut off", "a bit flipped", "answers otherwise", "of something else", "no model"],
)
def test_what_cannot_be_believed_is_compiled_and_written_again(
    xml: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    _, answers, _ = _start(xml, monkeypatch)
    spoil(_files(xml)[0])
    made, again, _ = _start(xml, monkeypatch)
    assert made == 1
    for one, other in zip(answers, again, strict=True):
        assert np.array_equal(one, other)
    assert _start(xml, monkeypatch)[0] == 0


def test_where_nothing_can_be_written_each_start_compiles(
    xml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (xml.parents[1] / "openvino").write_text("no folder")
    for _ in range(2):
        assert _start(xml, monkeypatch)[0] == len(_COMPILED)


def test_what_holds_its_weights_is_not_kept(xml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.backends.openvino.compiled_cache._MOST_BYTES", 1000)
    assert _start(xml, monkeypatch)[0] == len(_COMPILED)
    assert not _files(xml)
