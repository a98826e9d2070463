"""corral evaluate as a user runs it, and a guard that judges on a user's labelled pictures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

_MODELS = Path(__file__).parents[1] / "data" / "models"
_COLOURS = {"red": (200, 40, 40), "green": (40, 190, 50), "blue": (50, 60, 210)}


def _pictures(folder: Path, each: int) -> Path:
    """Labelled pictures, mostly of one colour; one red lies among the blue."""
    random = np.random.default_rng(2)
    for label, colour in _COLOURS.items():
        (folder / label).mkdir(parents=True)
        for number in range(each):
            shown = _COLOURS["red"] if (label, number) == ("blue", 0) else colour
            pixels = np.clip(np.array(shown) + random.normal(0, 25, (40, 40, 3)), 0, 255)
            picture = Image.fromarray(pixels.astype(np.uint8))
            picture.save(folder / label / f"{number}.png")
    return folder


def _corral(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    model = tmp_path / "colours.onnx"
    for file in _MODELS.glob("colours.*"):
        shutil.copy(file, tmp_path)
    return _run(tmp_path, model, *words)


def _run(tmp_path: Path, model: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "corral", *words, "--model", str(model)],
        env={**os.environ, "CORRAL_CACHE": str(tmp_path / "cache"), "CORRAL_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_an_evaluation_is_a_table_json_and_a_page(tmp_path: Path) -> None:
    # Names of files need not be UTF-8.
    folder = _pictures(tmp_path / os.fsdecode(b"pictures\xff"), 8)
    (folder / "red" / os.fsdecode(b"a.\xfe")).write_text("no picture")
    words = ("evaluate", str(folder), "--backend", "openvino", "--precision", "fp32")
    done = _corral(tmp_path, *words, "--json", "--html", str(tmp_path / "page.html"))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (row,) = found["rows"]
    assert (found["pictures"], found["classes_seen"], row["candidate"]) == (24, 3, "openvino fp32")
    assert (row["top1"]["right"], row["top1"]["of"], row["top5"]) == (23, 24, None)
    assert row["confusions"] == [{"label": "blue", "taken_for": "red", "times": 1}]
    assert row["images_per_s"] > 0
    assert (found["source"], found["left_out"]) == (f"{tmp_path}/pictures\\udcff", {".\\udcfe": 1})
    assert "95.8% (79.8 to 99.3)" in (tmp_path / "page.html").read_text()


def test_the_guard_goes_by_a_user_s_labels(tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "pictures", 8)
    (folder / "red" / "0.png").rename(folder / "red" / os.fsdecode(b"\xff.png"))
    done = _corral(
        tmp_path, "prepare", "--backend", "openvino", "--precision", "int8",
        "--evaluation", str(folder), "--calibration", str(folder),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (entry,) = (tmp_path / "cache" / "guard").glob("*.json")
    content = json.loads(entry.read_text())["content"]
    assert (content["labelled"], content["pictures"]) == (True, 24)
    assert content["accuracy"] == pytest.approx(23 / 24)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "wolves"), "no class is called 'wolves'"),
        (("evaluate", "broken", "--backend", "openvino", "--precision", "fp32"), "0.png: "),
        (
            ("prepare", "--precision", "int8", "--calibration", "heap"),
            "1 picture beside 29 copies; 20 or more different ones",
        ),
        (("prepare", "--precision", "int8", "--evaluation", "heap"), "1 picture beside 29 copies"),
        (("evaluate", "torn"), "torn/blue/0.png is 'blue' and torn/red/0.png is 'red'"),
    ],
)
def test_bad_pictures_end_it_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    good = _pictures(tmp_path / "good", 1) / "red" / "0.png"
    heap = [f"heap/{number}.png" for number in range(30)]
    torn = ["torn/red/0.png", "torn/blue/0.png"]
    for name in ("wolves/wolves/0.png", "broken/red/0.png", *heap, *torn):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(good, tmp_path / name)
    (tmp_path / "broken" / "red" / "0.png").write_bytes(good.read_bytes()[:60])
    done = _corral(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    # A worker's log lines may stand before it.
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def _means(folder: Path, last: onnx.NodeProto, datatype: int, shape: list[int | str]) -> Path:
    """A model that answers with something of each colour's mean, "scores"."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["scores"], axes=[2, 3], keepdims=0), last],
        "means",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("y", datatype, shape)],
        [helper.make_tensor("bound", TensorProto.FLOAT, [], [0.5])],
    )
    path = folder / "means.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    labels = 'labels = ["red", "green", "blue"]\n' if shape[-1] == 3 else ""
    text = f"{labels}[preprocessing]\nresize = 36\nstd = [255, 255, 255]\n"
    path.with_suffix(".toml").write_text(text)
    return path


@pytest.mark.parametrize(
    ("last", "datatype", "shape", "told"),
    [
        (("Greater", ["scores", "bound"]), TensorProto.BOOL, ["n", 3], "y BOOL [n,3]"),
        (("ArgMax", ["scores"]), TensorProto.INT64, ["n", 1], "y INT64 [n,1]"),
    ],
    ids=["truths", "numbers"],
)
def test_what_is_no_score_of_classes_is_refused_in_one_line(
    tmp_path: Path,
    last: tuple[str, list[str]],
    datatype: int,
    shape: list[int | str],
    told: str,
) -> None:
    folder = _pictures(tmp_path / "pictures", 1)
    extra = {"axis": 1} if last[0] == "ArgMax" else {}
    path = _means(tmp_path, helper.make_node(*last, ["y"], **extra), datatype, shape)
    done = _run(tmp_path, path, "evaluate", str(folder), "--backend", "onnxruntime")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].endswith(
        f"answers with {told}; evaluate needs scores of classes: one output of floats, [n,classes]"
    )


def test_scores_of_another_float_are_scores(tmp_path: Path) -> None:
    folder = _pictures(tmp_path / "pictures", 2)
    last = helper.make_node("Cast", ["scores"], ["y"], to=TensorProto.FLOAT16)
    path = _means(tmp_path, last, TensorProto.FLOAT16, ["n", 3])
    words = ("evaluate", str(folder), "--backend", "onnxruntime", "--precision", "fp32", "--json")
    done = _run(tmp_path, path, *words)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["top1"]["right"], row["top1"]["of"]) == (5, 6)
